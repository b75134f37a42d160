// The one logger (spdlog). Changes of state only, as key=value; never a line per record.
#pragma once

#include <spdlog/spdlog.h>

#include <memory>

namespace taskwal {

// The logger in force: given by SetLogger, else one that writes warnings and errors to stderr.
spdlog::logger& Logger();
// Shared ownership is spdlog's own way with loggers.
void SetLogger(std::shared_ptr<spdlog::logger> logger);

}  // namespace taskwal
