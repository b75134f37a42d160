// Calls that go to the database and not through the log: queries and clean-up. Keeps a few sessions
// open between calls; a call takes one for itself, so no lock is held while the database works, and
// a session that failed is thrown away. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "storage/backend.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

class DatabaseCalls {
 public:
  explicit DatabaseCalls(storage::Backend& backend);
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

  // As Session::Apply.
  Result<storage::ApplyResult> Apply(const storage::Batch& batch);

 private:
  template <typename Call>
  auto With(Call&& call) -> std::invoke_result_t<Call, storage::Session&>;
  template <typename Call>
  auto Read(Call&& call) -> std::invoke_result_t<Call, storage::Session&>;
  std::unique_ptr<storage::Session> TakeIdle();
  void GiveBack(std::unique_ptr<storage::Session> session);

  storage::Backend& backend_;
  Mutex mutex_;
  std::vector<std::unique_ptr<storage::Session>> idle_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::pipeline
