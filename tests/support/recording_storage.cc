#include "tests/support/recording_storage.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/status_macros.h"

namespace taskwal {
namespace {

template <typename T>
bool Matches(const std::optional<T>& wanted, const T& value) {
  return !wanted || *wanted == value;
}

bool Matches(const TaskQuery& query, const Task& task) {
  const bool has_status =
      query.statuses.empty() ||
      std::find(query.statuses.begin(), query.statuses.end(), task.status) != query.statuses.end();
  return has_status && Matches(query.dag_id, task.dag_id) && Matches(query.node_id, task.node_id);
}

bool Matches(const ActivityQuery& query, const Activity& activity) {
  return Matches(query.task_id, activity.task_id) && Matches(query.dag_id, activity.dag_id) &&
         Matches(query.node_id, activity.node_id) && Matches(query.action, activity.action);
}

// The part of `rows` that the page asks for; page tokens are offsets.
template <typename Row>
std::pair<std::vector<Row>, std::string> Cut(std::vector<Row> rows, const Paging& paging) {
  std::sort(rows.begin(), rows.end(), [&paging](const Row& a, const Row& b) {
    const bool is_before = std::tie(a.created_at, a.id) < std::tie(b.created_at, b.id);
    return paging.newest_first != is_before;
  });
  const std::size_t from = paging.after.empty() ? 0 : std::stoul(paging.after);
  const std::size_t to = std::min<std::size_t>(rows.size(), from + paging.limit);
  const std::string next = to < rows.size() ? std::to_string(to) : "";
  return {std::vector<Row>(rows.begin() + static_cast<std::ptrdiff_t>(from),
                           rows.begin() + static_cast<std::ptrdiff_t>(to)),
          next};
}

Status CheckFlushed(const Paging& paging) {
  if (paging.consistency == Consistency::kFlushed) return {};
  return Status::Unavailable("an eventual query may miss what was acknowledged");
}

}  // namespace

void RecordingStorage::SetFault(Fault fault) {
  MutexLock lock(mutex_);
  fault_ = std::move(fault);
  attempted_ = 0;
}

void RecordingStorage::Clear() {
  SetFault({});
  MutexLock lock(mutex_);
  calls_.clear();
  waits_.clear();
  kept_.clear();
  tasks_.clear();
  activities_.clear();
}

std::vector<std::string> RecordingStorage::calls() {
  MutexLock lock(mutex_);
  return calls_;
}

std::vector<WaitFor> RecordingStorage::waits() {
  MutexLock lock(mutex_);
  return waits_;
}

std::vector<std::string> RecordingStorage::kept() {
  MutexLock lock(mutex_);
  return kept_;
}

std::vector<Activity> RecordingStorage::activities(std::string_view action) {
  MutexLock lock(mutex_);
  std::vector<Activity> found;
  for (const Activity& activity : activities_) {
    if (activity.action == action) found.push_back(activity);
  }
  return found;
}

bool RecordingStorage::AwaitCall(std::string_view call) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  MutexLock lock(mutex_);
  while (std::find(calls_.begin(), calls_.end(), call) == calls_.end()) {
    if (!called_.WaitUntil(mutex_, until)) return false;
  }
  return true;
}

std::string RecordingStorage::StatusOf(std::string_view id) {
  MutexLock lock(mutex_);
  const auto found = tasks_.find(id);
  return found == tasks_.end() ? "absent" : std::string(TaskStatusName(found->second.status));
}

Result<Ack> RecordingStorage::Record(const std::string& call, const WriteOptions& options) {
  ++attempted_;
  if (fault_) TASKWAL_TRY(fault_(attempted_, call));
  calls_.push_back(call);
  waits_.push_back(options.wait);
  if (options.keep) kept_.push_back(call);
  called_.NotifyAll();
  return Ack{calls_.size()};
}

void RecordingStorage::Put(const Task& task) {
  const Time now = Now();
  Task& row = tasks_[task.id];
  const std::optional<Time> created = row.created_at;
  row = task;
  if (!row.created_at) row.created_at = created.value_or(now);
  if (!row.updated_at) row.updated_at = now;
}

Result<Ack> RecordingStorage::SaveTask(const Task& task, const WriteOptions& options) {
  MutexLock lock(mutex_);
  const std::string call = "save " + task.id + " " + std::string(TaskStatusName(task.status));
  TASKWAL_ASSIGN(const Ack ack, Record(call, options));
  Put(task);
  return ack;
}

Result<Ack> RecordingStorage::SaveTasks(std::span<const Task> tasks, const WriteOptions& options) {
  MutexLock lock(mutex_);
  TASKWAL_ASSIGN(const Ack ack, Record("save " + std::to_string(tasks.size()) + " tasks", options));
  for (const Task& task : tasks) Put(task);
  return ack;
}

Result<Ack> RecordingStorage::UpdateTaskStatus(std::string_view id, TaskStatus status,
                                               std::string_view error,
                                               const WriteOptions& options) {
  MutexLock lock(mutex_);
  const std::string call =
      "status " + std::string(id) + " " + std::string(TaskStatusName(status));
  TASKWAL_ASSIGN(const Ack ack, Record(call, options));
  const auto found = tasks_.find(id);
  if (found == tasks_.end()) return ack;
  Task& row = found->second;
  const Time now = Now();
  row.status = status;
  row.error = error;
  row.updated_at = now;
  if (status == TaskStatus::kRunning) row.started_at = now;
  if (status == TaskStatus::kPending) row.started_at.reset();
  row.completed_at.reset();
  if (IsTerminal(status)) row.completed_at = now;
  return ack;
}

Result<Ack> RecordingStorage::DeleteTask(std::string_view id, const WriteOptions& options) {
  MutexLock lock(mutex_);
  TASKWAL_ASSIGN(const Ack ack, Record("delete " + std::string(id), options));
  if (const auto found = tasks_.find(id); found != tasks_.end()) tasks_.erase(found);
  return ack;
}

Result<Ack> RecordingStorage::DeleteTasksByDag(std::string_view dag_id,
                                               const WriteOptions& options) {
  MutexLock lock(mutex_);
  TASKWAL_ASSIGN(const Ack ack, Record("delete dag " + std::string(dag_id), options));
  std::erase_if(tasks_, [dag_id](const auto& entry) { return entry.second.dag_id == dag_id; });
  return ack;
}

Result<ActivityAck> RecordingStorage::LogActivity(const Activity& activity,
                                                  const WriteOptions& options) {
  MutexLock lock(mutex_);
  const std::string& of = activity.task_id.empty() ? activity.dag_id : activity.task_id;
  TASKWAL_ASSIGN(const Ack ack, Record("log " + activity.action + " " + of, options));
  Activity& row = activities_.emplace_back(activity);
  if (row.id.empty()) row.id = "activity-" + std::to_string(ack.lsn);
  row.created_at = Now();
  return ActivityAck{ack.lsn, row.id};
}

Status RecordingStorage::Wait(std::uint64_t, WaitFor, Durability, std::chrono::milliseconds) {
  return {};
}

Result<Task> RecordingStorage::GetTask(std::string_view id, const CallLimits&) {
  MutexLock lock(mutex_);
  const auto found = tasks_.find(id);
  if (found != tasks_.end()) return found->second;
  return Status::NotFound("no task " + std::string(id));
}

Result<TaskPage> RecordingStorage::QueryTasks(const TaskQuery& query, const CallLimits&) {
  TASKWAL_TRY(CheckFlushed(query.paging));
  MutexLock lock(mutex_);
  std::vector<Task> rows;
  for (const auto& [id, task] : tasks_) {
    if (Matches(query, task)) rows.push_back(task);
  }
  auto [page, next] = Cut(std::move(rows), query.paging);
  return TaskPage{std::move(page), std::move(next)};
}

Result<ActivityPage> RecordingStorage::QueryActivities(const ActivityQuery& query,
                                                       const CallLimits&) {
  TASKWAL_TRY(CheckFlushed(query.paging));
  MutexLock lock(mutex_);
  std::vector<Activity> rows;
  for (const Activity& activity : activities_) {
    if (Matches(query, activity)) rows.push_back(activity);
  }
  auto [page, next] = Cut(std::move(rows), query.paging);
  return ActivityPage{std::move(page), std::move(next)};
}

Result<StoredCounts> RecordingStorage::Count(const CallLimits&) {
  MutexLock lock(mutex_);
  StoredCounts counts;
  counts.tasks = tasks_.size();
  counts.activities = activities_.size();
  return counts;
}

Result<TaskPage> RecordingStorage::ResumableTasks(Paging paging, const CallLimits& limits) {
  TaskQuery query;
  query.statuses = {TaskStatus::kRunning};
  query.paging = std::move(paging);
  return QueryTasks(query, limits);
}

Result<std::uint64_t> RecordingStorage::CleanupOldTasks(Time, std::vector<TaskStatus>,
                                                        const CallLimits&) {
  return std::uint64_t{0};
}
Result<std::uint64_t> RecordingStorage::CleanupOldActivityLogs(Time, const CallLimits&) {
  return std::uint64_t{0};
}
Status RecordingStorage::Ping(const CallLimits&) { return {}; }
Status RecordingStorage::Flush(std::chrono::milliseconds) { return {}; }
Status RecordingStorage::Shutdown(ShutdownMode, std::chrono::milliseconds) { return {}; }
Status RecordingStorage::Close() { return {}; }
Stats RecordingStorage::GetStats() { return {}; }

}  // namespace taskwal
