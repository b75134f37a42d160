#include "cli/place.h"

#include <filesystem>
#include <system_error>

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

}  // namespace taskwal::cli
