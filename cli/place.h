// Whether two names mean one place: links and ".." are seen through, whether a file is there or yet
// to be made. Opens, makes and changes nothing.
#pragma once

#include <string>

namespace taskwal::cli {

bool IsSame(const std::string& a, const std::string& b);
// Also true of the directory itself.
bool IsInside(const std::string& file, const std::string& directory);

}  // namespace taskwal::cli
