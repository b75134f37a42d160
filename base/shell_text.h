// Words for commands that a message tells its reader to run.
#pragma once

#include <string>
#include <string_view>

namespace taskwal {

// One word to a POSIX shell: as it is where nothing in it means anything to one, else quoted.
std::string ShellQuote(std::string_view word);

}  // namespace taskwal
