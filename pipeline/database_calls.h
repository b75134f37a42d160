// Calls that go to the database and not through the log: queries and clean-up. Keeps a few sessions
// open between calls; a call takes one for itself, so no lock is held while the database works, and
// a session that failed is thrown away. Where there may be no more of them, a call waits for one to
// be given back. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "storage/backend.h"
#include "taskwal/options.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

struct ConnectionLimits {
  std::uint32_t open_max = 0;                 // in use or kept; 0: no limit
  std::uint32_t idle_max = 4;                 // kept
  std::chrono::milliseconds lifetime{0};      // an older one is replaced before its use; 0: never
  std::chrono::milliseconds wait_max{30000};  // for one to be given back
};
// What the options leave to calls beside `workers` connections of the flusher.
ConnectionLimits ConnectionLimitsOf(const Options& options, std::uint32_t workers);

class DatabaseCalls {
 public:
  explicit DatabaseCalls(storage::Backend& backend, const ConnectionLimits& limits = {});
  ~DatabaseCalls();

  // Reads: kInvalidArgument (the query), kNotFound, or kUnavailable for whatever else went wrong.
  Result<storage::Session::StoredTask> GetTask(std::string_view id);
  Result<TaskPage> QueryTasks(const TaskQuery& query);
  Result<TaskPage> ResumableTasks(const Paging& paging);
  Result<ActivityPage> QueryActivities(const ActivityQuery& query);
  Result<StoredCounts> Count();
  Result<std::uint64_t> HighestStamp();
  Status Ping();

  // Small deletes until nothing old is left; tasks that `skip` names stay. What was deleted before
  // a failure stays deleted.
  using Skip = std::function<Result<bool>(const std::string& id)>;
  Result<std::uint64_t> CleanupTasks(Time before, std::span<const TaskStatus> statuses,
                                     const Skip& skip);
  Result<std::uint64_t> CleanupActivities(Time before);

  // As Session::Apply; its time_max bounds the wait for a connection, too.
  Result<storage::ApplyResult> Apply(storage::Batch batch);

 private:
  template <typename Call>
  auto With(std::chrono::milliseconds wait_max, Monotonic end, Call&& call)
      -> std::invoke_result_t<Call, storage::Session&>;
  template <typename Call>
  auto Read(Call&& call) -> std::invoke_result_t<Call, storage::Session&>;
  struct Connection {
    std::unique_ptr<storage::Session> session;  // null: still to be opened
    Monotonic opened_at{};
  };
  // A kept one, or the right to open one; kUnavailable when there was neither in time.
  Result<Connection> Take(std::chrono::milliseconds wait_max) EXCLUDES(mutex_);
  Status Open(Connection* connection) const;
  void GiveBack(Connection connection) EXCLUDES(mutex_);
  void LetGo(Connection connection) EXCLUDES(mutex_);

  storage::Backend& backend_;
  const ConnectionLimits limits_;
  Mutex mutex_;
  CondVar freed_;
  std::vector<Connection> idle_ GUARDED_BY(mutex_);
  std::uint32_t open_ GUARDED_BY(mutex_) = 0;  // in use or kept
};

}  // namespace taskwal::pipeline
