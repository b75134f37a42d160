#include "recovery/quarantine.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "wal/log_directory.h"

namespace taskwal::recovery {

namespace {

constexpr std::size_t kCopyBytes = 1u << 20;

std::string QuarantineOf(const std::string& directory) {
  return wal::JoinPath(directory, "quarantine");
}

Status CopyBytes(const ReadableFile& source, const FilePart& part, WritableFile& target) {
  std::vector<std::byte> buffer(kCopyBytes);
  for (std::uint64_t at = part.from; at < part.to;) {
    const auto room = std::span(buffer).first(std::min<std::uint64_t>(kCopyBytes, part.to - at));
    TASKWAL_ASSIGN(const std::size_t count, source.Read(at, room));
    if (count == 0) break;
    TASKWAL_TRY(target.Write(at - part.from, room.first(count)));
    at += count;
  }
  return target.Sync();
}

}  // namespace

Status CopyToQuarantine(FileSystem& fs, const std::string& directory, const FilePart& part,
                        const std::string& name) {
  const std::string quarantine = QuarantineOf(directory);
  const std::string path = wal::JoinPath(quarantine, name);
  TASKWAL_TRY(fs.MakeDirectories(quarantine));
  TASKWAL_ASSIGN(const auto source, fs.OpenReadable(wal::JoinPath(directory, part.file)));
  TASKWAL_ASSIGN(const auto target, fs.OpenWritable(path + ".tmp", true));
  TASKWAL_TRY(target->Truncate(0));
  TASKWAL_TRY(CopyBytes(*source, part, *target));
  TASKWAL_TRY(fs.Rename(path + ".tmp", path));
  return fs.SyncDirectory(quarantine);
}

Result<std::string> MoveToQuarantine(FileSystem& fs, const std::string& directory,
                                     const std::string& file) {
  const std::string quarantine = QuarantineOf(directory);
  TASKWAL_TRY(fs.MakeDirectories(quarantine));
  TASKWAL_ASSIGN(std::string name, FreeQuarantineName(fs, directory, file));
  TASKWAL_TRY(fs.Rename(wal::JoinPath(directory, file), wal::JoinPath(quarantine, name)));
  TASKWAL_TRY(fs.SyncDirectory(quarantine));
  TASKWAL_TRY(fs.SyncDirectory(directory));
  return name;
}

Result<std::string> FreeQuarantineName(FileSystem& fs, const std::string& directory,
                                       const std::string& file) {
  std::string name = file;
  for (int copy = 2;; ++copy) {
    const auto stat = fs.Stat(wal::JoinPath(QuarantineOf(directory), name));
    if (!stat.ok() && stat.status().code() == StatusCode::kNotFound) return name;
    if (!stat.ok()) return stat.status();
    name = file + "." + std::to_string(copy);
  }
}

Result<std::uint64_t> HighestQuarantined(FileSystem& fs, const std::string& directory) {
  const auto entries = fs.List(QuarantineOf(directory));
  if (!entries.ok()) {
    if (entries.status().code() == StatusCode::kNotFound) return std::uint64_t{0};
    return entries.status();
  }
  constexpr std::string_view kEnd = ".log";
  std::uint64_t highest = 0;
  for (const DirectoryEntry& entry : *entries) {
    const std::size_t end = entry.name.find(kEnd);
    if (end == std::string::npos) continue;
    const auto number = wal::ParseSegmentName(entry.name.substr(0, end + kEnd.size()));
    highest = std::max(highest, number.value_or(0));
  }
  return highest;
}

}  // namespace taskwal::recovery
