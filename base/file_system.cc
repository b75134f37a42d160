#include "base/file_system.h"

#include "base/status_macros.h"

namespace taskwal {
namespace {

std::string DirectoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status WriteSynced(FileSystem& fs, const std::string& path, std::string_view content) {
  TASKWAL_ASSIGN(const auto file, fs.OpenWritable(path, /*create=*/true));
  // An earlier attempt may have left a longer file.
  TASKWAL_TRY(file->Truncate(0));
  TASKWAL_TRY(file->Write(0, std::as_bytes(std::span(content))));
  return file->Sync();
}

}  // namespace

Result<std::string> ReadFile(FileSystem& fs, const std::string& path) {
  TASKWAL_ASSIGN(const auto file, fs.OpenReadable(path));
  TASKWAL_ASSIGN(const std::uint64_t size, file->Size());
  std::string content(size, '\0');
  TASKWAL_ASSIGN(const std::size_t count,
                 file->Read(0, std::as_writable_bytes(std::span(content))));
  content.resize(count);
  return content;
}

Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content) {
  const std::string temporary = path + ".tmp";
  Status written = WriteSynced(fs, temporary, content);
  // Crash here: the old content stands, and the next attempt overwrites the temporary file.
  if (written.ok()) written = fs.Rename(temporary, path);
  if (!written.ok()) {
    IgnoreStatus(fs.Remove(temporary), "the write has failed already; a leftover is overwritten");
    return written;
  }
  return fs.SyncDirectory(DirectoryOf(path));
}

}  // namespace taskwal
