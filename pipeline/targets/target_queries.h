// Queries and clean-up over all targets. Pages of several databases become one in the order of
// (created_at, id), with the same tokens: every database is asked for what follows the token.
// Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "pipeline/database_calls.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

class TargetQueries {
 public:
  using End = DatabaseCalls::End;  // of the whole call
  struct Database {
    std::uint16_t target = 0;
    std::string name;        // for messages
    DatabaseCalls* calls = nullptr;
  };
  // `home_of`: target of a task's id; where a task is found twice, the row of its home counts.
  TargetQueries(std::vector<Database> databases,
                std::function<std::uint16_t(const std::string& id)> home_of);

  // Each needs an answer of every database: kUnavailable names the one that is away.
  Result<TaskPage> QueryTasks(const TaskQuery& query, const End& end = {});
  Result<TaskPage> ResumableTasks(const Paging& paging, const End& end = {});
  Result<ActivityPage> QueryActivities(const ActivityQuery& query, const End& end = {});
  Result<StoredCounts> Count(const End& end = {});
  Status Ping(const End& end = {});

  // As DatabaseCalls, in every database that answers; then the first error.
  Result<std::uint64_t> CleanupTasks(Time before, std::span<const TaskStatus> statuses,
                                     const DatabaseCalls::Skip& skip, const End& end = {});
  Result<std::uint64_t> CleanupActivities(Time before, const End& end = {});

 private:
  [[nodiscard]] Status Named(const Database& database, const Status& status) const;
  template <typename Ask>
  Result<TaskPage> MergeTasks(const Paging& paging, Ask&& ask);
  template <typename Ask>
  Result<std::uint64_t> SumOf(Ask&& ask);

  const std::vector<Database> databases_;
  const std::function<std::uint16_t(const std::string&)> home_of_;
};

}  // namespace taskwal::pipeline
