// A TaskStorage in memory that records every mutation, can fail any of them, and keeps rows as the
// contract says. Its time goes on by one microsecond per call. Any thread may call it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "taskwal/task_storage.h"

namespace taskwal {

class RecordingStorage : public TaskStorage {
 public:
  // Asked before each mutation with its number (from 1) and text. An error: nothing is kept.
  using Fault = std::function<Status(std::uint64_t number, const std::string& call)>;

  void SetFault(Fault fault);
  // Forgets everything, the fault included.
  void Clear();
  // "save d/a pending", "status d/a running", "log task_started d/a", "log dag_started d".
  std::vector<std::string> calls();
  // What each call waited for, in the same order.
  std::vector<WaitFor> waits();
  // Those with WriteOptions::keep.
  std::vector<std::string> kept();
  std::vector<Activity> activities(std::string_view action);
  // Blocks until that call was made; false after 30 s.
  bool AwaitCall(std::string_view call);
  // "completed", or "absent".
  std::string StatusOf(std::string_view id);

  Result<Ack> SaveTask(const Task& task, const WriteOptions& options) override;
  Result<Ack> SaveTasks(std::span<const Task> tasks, const WriteOptions& options) override;
  Result<Ack> UpdateTaskStatus(std::string_view id, TaskStatus status, std::string_view error,
                               const WriteOptions& options) override;
  Result<Ack> DeleteTask(std::string_view id, const WriteOptions& options) override;
  Result<Ack> DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) override;
  Result<ActivityAck> LogActivity(const Activity& activity, const WriteOptions& options) override;
  Status Wait(std::uint64_t lsn, WaitFor what, Durability level,
              std::chrono::milliseconds timeout) override;
  Result<Task> GetTask(std::string_view id, const CallLimits& limits = {}) override;
  // kUnavailable for a query that does not ask for Consistency::kFlushed: whoever resumes must.
  Result<TaskPage> QueryTasks(const TaskQuery& query, const CallLimits& limits = {}) override;
  Result<ActivityPage> QueryActivities(const ActivityQuery& query,
                                       const CallLimits& limits = {}) override;
  Result<StoredCounts> Count(const CallLimits& limits = {}) override;
  Result<TaskPage> ResumableTasks(Paging paging, const CallLimits& limits = {}) override;
  Result<std::uint64_t> CleanupOldTasks(Time before, std::vector<TaskStatus> statuses,
                                        const CallLimits& limits = {}) override;
  Result<std::uint64_t> CleanupOldActivityLogs(Time before, const CallLimits& limits = {}) override;
  Status Ping(const CallLimits& limits = {}) override;
  Status Flush(std::chrono::milliseconds timeout) override;
  Status Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) override;
  Status Close() override;
  Stats GetStats() override;

 private:
  // Counts and records the call, or gives the fault's error.
  Result<Ack> Record(const std::string& call, const WriteOptions& options) REQUIRES(mutex_);
  void Put(const Task& task) REQUIRES(mutex_);
  Time Now() REQUIRES(mutex_) { return Time(std::chrono::microseconds(++now_)); }

  Mutex mutex_;
  CondVar called_;
  Fault fault_ GUARDED_BY(mutex_);
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
  std::vector<WaitFor> waits_ GUARDED_BY(mutex_);
  std::vector<std::string> kept_ GUARDED_BY(mutex_);
  std::map<std::string, Task, std::less<>> tasks_ GUARDED_BY(mutex_);
  std::vector<Activity> activities_ GUARDED_BY(mutex_);  // in order of created_at
  std::uint64_t attempted_ GUARDED_BY(mutex_) = 0;
  std::int64_t now_ GUARDED_BY(mutex_) = 0;
};

}  // namespace taskwal
