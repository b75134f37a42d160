// The queries of TaskStorage by the names engines know.
#include "taskwal/task_storage.h"

#include <string>
#include <utility>

namespace taskwal {

Result<TaskPage> TaskStorage::TasksByDag(std::string_view dag_id, Paging paging,
                                         const CallLimits& limits) {
  TaskQuery query;
  query.dag_id = std::string(dag_id);
  query.paging = std::move(paging);
  return QueryTasks(query, limits);
}

Result<TaskPage> TaskStorage::TasksByStatus(TaskStatus status, Paging paging,
                                            const CallLimits& limits) {
  TaskQuery query;
  query.statuses = {status};
  query.paging = std::move(paging);
  return QueryTasks(query, limits);
}

Result<TaskPage> TaskStorage::PendingTasks(Paging paging, const CallLimits& limits) {
  return TasksByStatus(TaskStatus::kPending, std::move(paging), limits);
}

Result<ActivityPage> TaskStorage::ActivitiesByTask(std::string_view task_id, Paging paging,
                                                   const CallLimits& limits) {
  ActivityQuery query;
  query.task_id = std::string(task_id);
  query.paging = std::move(paging);
  return QueryActivities(query, limits);
}

Result<ActivityPage> TaskStorage::ActivitiesByDag(std::string_view dag_id, Paging paging,
                                                  const CallLimits& limits) {
  ActivityQuery query;
  query.dag_id = std::string(dag_id);
  query.paging = std::move(paging);
  return QueryActivities(query, limits);
}

Status TaskStorage::SetTargetHealth(std::string_view name, bool) {
  return Status::NotFound("there is no target " + std::string(name));
}

Status TaskStorage::OnShutdown(std::string name, std::function<void()>, std::chrono::milliseconds) {
  return Status::InvalidArgument("this storage runs no shutdown handlers: " + name);
}

bool TaskStorage::IsShutdown() { return false; }

Control* TaskStorage::GetControl() { return nullptr; }

DeadLetterControl* TaskStorage::GetDeadLetters() { return nullptr; }

Metrics* TaskStorage::GetMetrics() { return nullptr; }

}  // namespace taskwal
