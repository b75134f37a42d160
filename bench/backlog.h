// Logs with records that no database has yet.
#pragma once

#include <cstdint>
#include <string>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::bench {

// Each makes the directory, appends, closes the log: all sealed. At most a ring's worth in memory.
Status MakeActivityLog(const std::string& directory, std::uint64_t activities);
// Saves of `tasks` different tasks in turns, each turn `in_a_row` saves of one of them.
struct TaskLogPlan {
  std::uint64_t saves = 0;
  std::uint64_t tasks = 0;
  std::uint64_t in_a_row = 1;
};
Status MakeTaskLog(const std::string& directory, const TaskLogPlan& plan);

}  // namespace taskwal::bench
