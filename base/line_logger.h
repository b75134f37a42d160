// The log for a program that has more than lines to show on stderr.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/logging.h"

namespace taskwal {

// For SetLogger: warnings and errors as the logger that is there without one writes them, each line
// handed to `put`. Any thread; `put` is not called twice at once.
std::shared_ptr<spdlog::logger> MakeLineLogger(std::function<void(std::string_view line)> put);

}  // namespace taskwal
