// Short forms for batches and rows, for the tests of backends.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "storage/backend.h"

namespace taskwal::storage {

inline Time After(std::int64_t seconds) {
  return Time(std::chrono::seconds(1795240800 + seconds));
}

inline Task MakeTask(const std::string& id, const std::string& dag_id = "run-1",
                     TaskStatus status = TaskStatus::kPending, Time time = After(0)) {
  Task task;
  task.id = id;
  task.dag_id = dag_id;
  task.status = status;
  task.created_at = time;
  task.updated_at = time;
  return task;
}

inline Activity MakeActivity(const std::string& id, const std::string& task_id = "t",
                             Time time = After(0)) {
  Activity activity;
  activity.id = id;
  activity.task_id = task_id;
  activity.dag_id = "run-1";
  activity.created_at = time;
  return activity;
}

// `log` decides only where another one has a save of the same stamp.
inline TaskChange Put(const Task& task, Origin origin, bool gives_created_at = false,
                      const Uuid& log = {}) {
  TaskChange change;
  change.id = task.id;
  change.task = task;
  change.origin = origin;
  change.created_rank = MakeCreatedRank(gives_created_at, {origin.stamp, log, origin.lsn});
  return change;
}

inline TaskChange Replace(const Task& task, Origin origin, bool gives_created_at = false,
                          const Uuid& log = {}) {
  TaskChange change = Put(task, origin, gives_created_at, log);
  change.kind = TaskChange::Kind::kReplace;
  return change;
}

inline TaskChange Patch(const std::string& id, const StatusPatch& patch, Origin origin) {
  TaskChange change;
  change.kind = TaskChange::Kind::kPatch;
  change.id = id;
  change.patch = patch;
  change.origin = origin;
  return change;
}

inline TaskChange Delete(const std::string& id, Origin origin) {
  TaskChange change;
  change.kind = TaskChange::Kind::kDelete;
  change.id = id;
  change.origin = origin;
  return change;
}

inline StatusPatch MakePatch(TaskStatus status, const std::string& error = "",
                             Time time = After(9)) {
  StatusPatch patch;
  patch.status = status;
  patch.error = error;
  patch.updated_at = time;
  return patch;
}

}  // namespace taskwal::storage
