#include "base/file_system.h"

#include <algorithm>

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

constexpr std::size_t kChunkBytes = 64u << 10;
constexpr std::size_t kUnsizedBytesMax = 256u << 20;

Result<std::string> ReadUpToEnd(const ReadableFile& file, const std::string& path) {
  std::string content;
  for (std::size_t begin = 0; begin <= kUnsizedBytesMax; begin = content.size()) {
    content.resize(begin + kChunkBytes);
    TASKWAL_ASSIGN(const std::size_t count,
                   file.Read(begin, std::as_writable_bytes(std::span(content).subspan(begin))));
    content.resize(begin + count);
    if (count < kChunkBytes) return content;
  }
  return Status::InvalidArgument("cannot read " + path + ": it has no end within 256 MiB");
}

// What a file of one byte takes of most disks.
constexpr std::uint64_t kBlockBytes = 4096;

std::uint64_t InBlocks(std::uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

// Up to the end of a block that is its own anyway, and by what was `cut` off: the next content may
// be longer, or another one follows this one.
void FillRoom(FileSystem& fs, const std::string& path, std::uint64_t cut) {
  const auto stat = fs.Stat(path);
  const std::uint64_t size = stat.ok() ? stat->size : 0;
  const std::uint64_t wanted = InBlocks(size) + cut;
  if (wanted == size) return;
  const auto file = fs.OpenWritable(path, /*create=*/true);
  const std::string zeros(wanted - size, '\0');
  if (!file.ok()) return;
  IgnoreStatus((*file)->Write(size, std::as_bytes(std::span(zeros))),
               "what somebody else has taken meanwhile is theirs");
}

}  // namespace

Status FileSystem::Exchange(const std::string& a, const std::string& b) {
  return Status::IoError("cannot exchange " + a + " and " + b + ": not supported");
}

Result<std::string> ReadFile(FileSystem& fs, const std::string& path) {
  TASKWAL_ASSIGN(const auto file, fs.OpenReadable(path));
  TASKWAL_ASSIGN(const std::uint64_t size, file->Size());
  if (size == 0) return ReadUpToEnd(*file, path);
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

Status WriteFileInPlaceOf(FileSystem& fs, const std::string& room, const std::string& path,
                          std::string_view content) {
  // The room is what `path` was before: it must not be that on disk any more.
  TASKWAL_TRY(fs.SyncDirectory(DirectoryOf(path)));
  TASKWAL_ASSIGN(const FileStat before, fs.Stat(room));
  const std::uint64_t taken = std::min(InBlocks(content.size()), InBlocks(before.size));
  {
    TASKWAL_ASSIGN(const auto file, fs.OpenWritable(room, /*create=*/false));
    // Cut behind it, not before: what is given back may be somebody else's the next moment.
    TASKWAL_TRY(file->Write(0, std::as_bytes(std::span(content))));
    TASKWAL_TRY(file->Truncate(content.size()));
    TASKWAL_TRY(file->Sync());
  }
  // Crash here: the old content stands, and the room may be written over again.
  const bool is_kept = fs.Exchange(path, room).ok();
  // Nothing there yet, or no such call: the room is used up.
  if (!is_kept) TASKWAL_TRY(fs.Rename(room, path));
  TASKWAL_TRY(fs.SyncDirectory(DirectoryOf(path)));
  FillRoom(fs, room, InBlocks(before.size) - taken);
  return Status::Ok();
}

}  // namespace taskwal
