// What one SaveTasks call may be, with a log and without.
#pragma once

#include <cstdint>
#include <span>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::pipeline {

// What every database takes as one transaction in bounded memory; the log would hold more.
inline constexpr std::uint64_t kSaveTasksBytesMax = 128u << 20;

// kInvalidArgument, with the reason.
Status CheckSaveTasks(std::span<const Task> tasks);

}  // namespace taskwal::pipeline
