#include "wal/log_directory.h"

#include <algorithm>
#include <charconv>

#include "base/status_macros.h"

namespace taskwal::wal {

namespace {

constexpr std::size_t kDigitsMin = 8;

std::string Numbered(std::string_view before, std::uint64_t number, std::string_view after) {
  std::string digits = std::to_string(number);
  if (digits.size() < kDigitsMin) digits.insert(0, kDigitsMin - digits.size(), '0');
  return std::string(before).append(digits).append(after);
}

std::optional<std::uint64_t> ParseNumbered(std::string_view name, std::string_view before,
                                           std::string_view after) {
  if (!name.starts_with(before) || !name.ends_with(after)) return std::nullopt;
  if (name.size() < before.size() + after.size()) return std::nullopt;
  const std::string_view digits =
      name.substr(before.size(), name.size() - before.size() - after.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number == 0) {
    return std::nullopt;
  }
  // One spelling per number, or one segment could be there twice.
  if (Numbered(before, number, after) != name) return std::nullopt;
  return number;
}

}  // namespace

std::string SegmentName(std::uint64_t number) { return Numbered("wal-", number, ".log"); }

std::optional<std::uint64_t> ParseSegmentName(std::string_view name) {
  return ParseNumbered(name, "wal-", ".log");
}

std::string SpareName(std::uint64_t number) { return Numbered("spare-", number, ""); }

std::optional<std::uint64_t> ParseSpareName(std::string_view name) {
  return ParseNumbered(name, "spare-", "");
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && path.back() != '/') path += '/';
  return path.append(name);
}

Result<std::vector<std::uint64_t>> ListSegments(FileSystem& fs, const std::string& directory) {
  TASKWAL_ASSIGN(const std::vector<DirectoryEntry> entries, fs.List(directory));
  std::vector<std::uint64_t> numbers;
  for (const DirectoryEntry& entry : entries) {
    const auto number = ParseSegmentName(entry.name);
    if (number && !entry.is_directory) numbers.push_back(*number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

Status WithAdviceOnRoom(FileSystem& fs, const std::string& directory, Status failed) {
  if (failed.code() != StatusCode::kUnavailable) return failed;
  const auto space = fs.Space(directory);
  const bool lacks_inodes = space.ok() && space->lacks_inodes;
  return Status::Unavailable(
      failed.message() + ": " + (lacks_inodes ? "no inodes are left" : "there is no room") +
      " on the disk that holds " + directory +
      ", and nothing in there can go: make room elsewhere on it (never remove a wal-* file) and "
      "try again");
}

}  // namespace taskwal::wal
