// Options::wal_enabled = false: every call is one database transaction, and returns when it is
// committed. For development: nothing is buffered, and nothing works while the database is away.
// Options::database_timeout bounds every call; a call's own timeout (but 0) or stop may end it
// before, as kInDoubt where its transaction has begun by then. Any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/logging.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "pipeline/database_calls.h"
#include "pipeline/shutdown_handlers.h"
#include "storage/backend.h"
#include "taskwal/options.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

class DirectTaskStorage final : public TaskStorage {
 public:
  // kUnavailable when the database does not answer.
  static Result<std::unique_ptr<DirectTaskStorage>> Open(std::unique_ptr<storage::Backend> backend,
                                                         Clock& clock, Options options = {});

  ~DirectTaskStorage() override;

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
  Status OnShutdown(std::string name, std::function<void()> handler,
                    std::chrono::milliseconds timeout) override;
  bool IsShutdown() override { return is_closing_.load(); }
  Stats GetStats() override;

 private:
  DirectTaskStorage(std::unique_ptr<storage::Backend> backend, Clock& clock, Options options);
  Status CheckOpen() const;
  bool Protects(const WriteOptions& options) const {
    return options_.protect_terminal_status && !options.reset;
  }
  // One transaction; the LSN it was given.
  Result<std::uint64_t> Apply(storage::OperationBody body, const WriteOptions& options);
  std::vector<std::string> RunHandlers(ShutdownMode mode, std::chrono::milliseconds timeout);

  Clock& clock_;
  const Options options_;
  const LoggerLease logger_;  // ends behind all that logs
  std::unique_ptr<storage::Backend> backend_;
  std::unique_ptr<DatabaseCalls> database_;
  std::atomic<std::uint64_t> stamp_{0};
  ShutdownHandlers handlers_;
  std::atomic<bool> open_{true}, is_closing_{false};
  Mutex mutex_;
  Status closed_with_ GUARDED_BY(mutex_) = Status::Unavailable("another shutdown is under way");
  std::atomic<std::uint64_t> applied_{0}, duplicates_{0}, errors_{0}, filtered_{0};
};

}  // namespace taskwal::pipeline
