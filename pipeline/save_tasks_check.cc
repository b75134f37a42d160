#include "pipeline/save_tasks_check.h"

#include <string>

#include "base/status_macros.h"
#include "storage/operation.h"

namespace taskwal::pipeline {

Status CheckSaveTasks(std::span<const Task> tasks) {
  if (tasks.empty()) return Status::InvalidArgument("SaveTasks needs at least one task");
  for (const Task& task : tasks) TASKWAL_TRY(storage::CheckTask(task));
  const std::uint64_t bytes = storage::EncodedBytes(tasks);
  if (bytes <= kSaveTasksBytesMax) return Status::Ok();
  return Status::InvalidArgument("SaveTasks of " + std::to_string(bytes) + " bytes, above " +
                                 std::to_string(kSaveTasksBytesMax) + ": save fewer at once");
}

}  // namespace taskwal::pipeline
