// Calls that go to the database and not through the log: queries and clean-up. Keeps a few sessions
// open between calls; a call takes one for itself, so no lock is held while the database works, and
// a session that failed is thrown away. Where there may be no more of them, a call waits for one to
// be given back. A call with an end (a deadline, a stop) is back by then: see BoundedCalls. Any
// thread.
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
#include "base/uuid.h"
#include "pipeline/bounded_calls.h"
#include "storage/backend.h"
#include "taskwal/options.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"
#include "wal/log.h"

namespace taskwal::pipeline {

struct ConnectionLimits {
  std::uint32_t open_max = 0;                 // in use or kept; 0: no limit
  std::uint32_t idle_max = 4;                 // kept
  std::chrono::milliseconds lifetime{0};      // an older one is replaced before its use; 0: never
  std::chrono::milliseconds wait_max{30000};  // for one to be given back
  // A kept one that was not asked for so long is, before its use: whether it still speaks to the
  // database that was met.
  std::chrono::milliseconds check_after{10000};
};
// What the options leave to calls beside `workers` connections of the flusher.
ConnectionLimits ConnectionLimitsOf(const Options& options, std::uint32_t workers);

class DatabaseCalls {
 public:
  using End = wal::Deadline;  // by the machine's clock
  static End EndOf(const CallLimits& limits);  // of a call that begins now

  explicit DatabaseCalls(storage::Backend& backend, const ConnectionLimits& limits = {});
  ~DatabaseCalls();  // waits for what was left behind: see AwaitAll

  // Reads: kInvalidArgument (the query), kNotFound, or kUnavailable for whatever else went wrong.
  Result<storage::Session::StoredTask> GetTask(std::string_view id, const End& end = {});
  Result<TaskPage> QueryTasks(const TaskQuery& query, const End& end = {});
  Result<TaskPage> ResumableTasks(const Paging& paging, const End& end = {});
  Result<ActivityPage> QueryActivities(const ActivityQuery& query, const End& end = {});
  Result<StoredCounts> Count(const End& end = {});
  // Makes an origin known that has one partition and no log; the highest stamp stored here.
  Result<std::uint64_t> RegisterOrigin(const Uuid& id);
  Status Ping(const End& end = {});

  // Small deletes until nothing old is left; tasks that `skip` names stay. What was deleted before
  // a failure stays deleted.
  using Skip = std::function<Result<bool>(const std::string& id)>;
  Result<std::uint64_t> CleanupTasks(Time before, std::span<const TaskStatus> statuses,
                                     const Skip& skip, const End& end = {});
  Result<std::uint64_t> CleanupActivities(Time before, const End& end = {});

  // As Session::Apply. At its end kUnavailable: it was not begun, and will not be; or kInDoubt: it
  // may still take effect.
  Result<storage::ApplyResult> Apply(storage::Batch batch, const End& end = {});

  // Whether by then nothing is under way that was left behind.
  bool AwaitAll(Monotonic until) { return bounded_.AwaitAll(until); }
  [[nodiscard]] bool IsUnderway() const { return bounded_.IsUnderway(); }

 private:
  template <typename Call>
  auto With(Monotonic end, Call&& call) -> std::invoke_result_t<Call, storage::Session&>;
  template <typename Call>
  auto By(const End& end, Call call) -> std::invoke_result_t<Call, storage::Session&>;
  template <typename Call>
  auto Read(const End& end, Call call) -> std::invoke_result_t<Call, storage::Session&>;
  [[nodiscard]] std::string WhyOver(const End& end) const;
  struct Connection {
    std::unique_ptr<storage::Session> session;  // null: still to be opened
    Monotonic opened_at{};
    Monotonic checked_at{};
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
  BoundedCalls bounded_;  // ends first: what was left behind uses all of this
};

}  // namespace taskwal::pipeline
