// Whether two names mean one place: links and ".." are seen through, whether a file is there or yet
// to be made. Opens, makes and changes nothing.
#pragma once

#include <string>
#include <vector>

#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::cli {

bool IsSame(const std::string& a, const std::string& b);
// Also true of the directory itself.
bool IsInside(const std::string& file, const std::string& directory);

// No SQLite database may be in the place of a file that the log keeps itself, and would make over
// it. kInvalidArgument says which. Any other name in the directory is the user's choice.
Status CheckDatabasePlaces(const std::vector<TargetOptions>& targets, const std::string& wal_dir);

}  // namespace taskwal::cli
