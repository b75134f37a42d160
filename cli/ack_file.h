// A storage that writes down what another one has acknowledged, one JSON object a line, as soon as
// it is: what must be found again after whatever happens next.
//   {"lsn":7,"task_id":"run/a","status":"running"}    {"lsn":8,"activity_id":"0192…"}
// A kill may cut the last line: the kernel takes a write up to a page's end first. Such a line
// tells nothing; a later opening ends it, so that each line of its own stands alone.
//
// Reads and everything else are the other's. Any thread, as the other one.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "base/mutex.h"
#include "base/posix_file.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::cli {

class AckFile final : public TaskStorage {
 public:
  // Behind what the file holds already. `storage` outlives it. A FIFO that nobody reads yet is
  // waited for; kClosed where a stop is requested meanwhile. `late`: requested, a reader that takes
  // nothing is no longer waited for.
  static Result<std::unique_ptr<AckFile>> Open(TaskStorage& storage, const std::string& path,
                                               const std::stop_token& stop, std::stop_token late);

  // Of the first write to the file that failed: lines are missing from there on.
  Status written();

  Result<Ack> SaveTask(const Task& task, const WriteOptions& options) override;
  Result<Ack> SaveTasks(std::span<const Task> tasks, const WriteOptions& options) override;
  Result<Ack> UpdateTaskStatus(std::string_view id, TaskStatus status, std::string_view error,
                               const WriteOptions& options) override;
  Result<Ack> DeleteTask(std::string_view id, const WriteOptions& options) override;
  Result<Ack> DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) override;
  Result<ActivityAck> LogActivity(const Activity& activity, const WriteOptions& options) override;
  Status Wait(std::uint64_t lsn, WaitFor what, Durability level,
              std::chrono::milliseconds timeout) override;

  Result<Task> GetTask(std::string_view id, const CallLimits& limits) override {
    return storage_.GetTask(id, limits);
  }
  Result<TaskPage> QueryTasks(const TaskQuery& query, const CallLimits& limits) override {
    return storage_.QueryTasks(query, limits);
  }
  Result<ActivityPage> QueryActivities(const ActivityQuery& query,
                                       const CallLimits& limits) override {
    return storage_.QueryActivities(query, limits);
  }
  Result<StoredCounts> Count(const CallLimits& limits) override { return storage_.Count(limits); }
  Result<TaskPage> ResumableTasks(Paging paging, const CallLimits& limits) override {
    return storage_.ResumableTasks(std::move(paging), limits);
  }
  Result<std::uint64_t> CleanupOldTasks(Time before, std::vector<TaskStatus> statuses,
                                        const CallLimits& limits) override {
    return storage_.CleanupOldTasks(before, std::move(statuses), limits);
  }
  Result<std::uint64_t> CleanupOldActivityLogs(Time before, const CallLimits& limits) override {
    return storage_.CleanupOldActivityLogs(before, limits);
  }
  Status Ping(const CallLimits& limits) override { return storage_.Ping(limits); }
  Status Flush(std::chrono::milliseconds timeout) override { return storage_.Flush(timeout); }
  Status Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) override {
    return storage_.Shutdown(mode, timeout);
  }
  Status Close() override { return storage_.Close(); }
  Stats GetStats() override { return storage_.GetStats(); }

 private:
  AckFile(TaskStorage& storage, std::string path, UniqueFd fd, std::stop_token late);

  // Notes a call's line. Acknowledgements come in log order: one that was waited for is one of
  // all before it, whose calls asked for no more than their place.
  void Note(std::uint64_t lsn, std::string line, const WriteOptions& options);
  void WriteUpTo(std::uint64_t lsn) REQUIRES(mutex_);
  [[nodiscard]] bool AwaitReader() const;

  TaskStorage& storage_;
  const std::string path_;
  const UniqueFd fd_;
  const std::size_t write_bytes_;  // of one write: a pipe that is ready takes that much at once
  const std::stop_token late_;
  Mutex mutex_;
  std::map<std::uint64_t, std::string> pending_ GUARDED_BY(mutex_);  // by LSN
  Status written_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::cli
