#include "cli/place.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/status_macros.h"
#include "storage/dsn.h"
#include "wal/log_directory.h"

namespace taskwal::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kLinksMax = 40;

// What an open would end at, through links to what is not there yet as well.
fs::path PlaceOf(const std::string& name) {
  std::error_code failed;
  fs::path path = fs::absolute(name, failed);
  for (int i = 0; i < kLinksMax && fs::is_symlink(path, failed); ++i) {
    path = path.parent_path() / fs::read_symlink(path, failed);
  }
  fs::path place = fs::weakly_canonical(path, failed);
  if (failed) place = path.lexically_normal();
  return place.has_filename() ? place : place.parent_path();  // without a slash at its end
}

// What `file` is, or is below, in that directory: of "w/a/b" in "w" it is "a". Empty where it is
// not inside.
std::string FirstNameInside(const std::string& file, const std::string& directory) {
  const fs::path place = PlaceOf(directory);
  for (fs::path below = PlaceOf(file); below.has_relative_path(); below = below.parent_path()) {
    if (below.parent_path() == place) return below.filename().string();
  }
  return {};
}

// By name and not by what is there: the log makes its files as it needs them, over whatever stands
// in their place.
bool IsLogsOwn(std::string_view name) {
  constexpr std::array<std::string_view, 7> kFiles{
      "LOCK",         "STATE",     "RING", wal::kReserveFileName, wal::kMetricsFileName,
      "dead-letters", "quarantine"};
  for (const std::string_view unfinished : {".tmp", ".salvage"}) {
    if (name.ends_with(unfinished)) name.remove_suffix(unfinished.size());
  }
  return std::find(kFiles.begin(), kFiles.end(), name) != kFiles.end() ||
         wal::ParseSegmentName(name).has_value() || wal::ParseSpareName(name).has_value();
}

}  // namespace

bool IsSame(const std::string& a, const std::string& b) {
  std::error_code failed;
  if (fs::equivalent(a, b, failed) && !failed) return true;
  return PlaceOf(a) == PlaceOf(b);
}

bool IsInside(const std::string& file, const std::string& directory) {
  const fs::path place = PlaceOf(directory);
  for (fs::path above = PlaceOf(file); above.has_relative_path(); above = above.parent_path()) {
    if (above == place) return true;
  }
  return false;
}

Status CheckDatabasePlaces(const std::vector<TargetOptions>& targets, const std::string& wal_dir) {
  for (const TargetOptions& target : targets) {
    TASKWAL_ASSIGN(const storage::Dsn dsn, storage::ParseDsn(target.dsn));
    if (dsn.kind != storage::Dsn::Kind::kSqlite) continue;
    const std::string name = FirstNameInside(dsn.path, wal_dir);
    if (!IsLogsOwn(name)) continue;
    return Status::InvalidArgument("--db " + target.dsn +
                                   " is in the place of a file of the log (" + name + " in " +
                                   wal_dir + "): name another file");
  }
  return Status::Ok();
}

}  // namespace taskwal::cli
