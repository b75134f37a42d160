// Logs with records that no database has yet.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::bench {

// Each makes the directory, appends, closes the log: all sealed. At most a ring's worth in memory.
Status MakeActivityLog(const std::string& directory, std::uint64_t activities);
// Saves of `tasks` different tasks, over and over.
Status MakeTaskLog(const std::string& directory, std::uint64_t saves, std::uint64_t tasks);

}  // namespace taskwal::bench
