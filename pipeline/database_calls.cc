#include "pipeline/database_calls.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace taskwal::pipeline {
namespace {

constexpr std::size_t kIdleSessionsMax = 4;
constexpr std::uint32_t kCleanupBatch = 500;

const Status& StatusOf(const Status& status) { return status; }
template <typename T>
const Status& StatusOf(const Result<T>& result) {
  return result.status();
}

// The call was at fault (or the row), not the connection.
bool KeepsSession(StatusCode code) {
  return code == StatusCode::kOk || code == StatusCode::kInvalidArgument ||
         code == StatusCode::kNotFound || code == StatusCode::kRejected;
}

Status CheckStatuses(std::span<const TaskStatus> statuses) {
  if (std::all_of(statuses.begin(), statuses.end(), IsTerminal)) return Status::Ok();
  return Status::InvalidArgument("clean-up takes completed, failed and cancelled tasks only");
}

}  // namespace

DatabaseCalls::DatabaseCalls(storage::Backend& backend) : backend_(backend) {}
DatabaseCalls::~DatabaseCalls() = default;

std::unique_ptr<storage::Session> DatabaseCalls::TakeIdle() {
  MutexLock lock(mutex_);
  if (idle_.empty()) return nullptr;
  auto session = std::move(idle_.back());
  idle_.pop_back();
  return session;
}

void DatabaseCalls::GiveBack(std::unique_ptr<storage::Session> session) {
  MutexLock lock(mutex_);
  if (idle_.size() < kIdleSessionsMax) idle_.push_back(std::move(session));
}

template <typename Call>
auto DatabaseCalls::With(Call&& call) -> std::invoke_result_t<Call, storage::Session&> {
  // A kept session may have gone stale: what fails on one is tried again, on a fresh one at last.
  for (;;) {
    std::unique_ptr<storage::Session> session = TakeIdle();
    const bool is_kept = session != nullptr;
    if (!is_kept) {
      TASKWAL_ASSIGN(session, backend_.Connect());
    }
    auto result = call(*session);
    const StatusCode code = StatusOf(result).code();
    if (KeepsSession(code)) GiveBack(std::move(session));
    if (code != StatusCode::kUnavailable || !is_kept) return result;
  }
}

template <typename Call>
auto DatabaseCalls::Read(Call&& call) -> std::invoke_result_t<Call, storage::Session&> {
  auto result = With(std::forward<Call>(call));
  const Status& status = StatusOf(result);
  if (KeepsSession(status.code())) return result;
  return Status::Unavailable(status.message());
}

Result<storage::Session::StoredTask> DatabaseCalls::GetTask(std::string_view id) {
  return Read([&](storage::Session& session) { return session.GetTask(id); });
}

Result<TaskPage> DatabaseCalls::QueryTasks(const TaskQuery& query) {
  return Read([&](storage::Session& session) { return session.QueryTasks(query); });
}

Result<TaskPage> DatabaseCalls::ResumableTasks(const Paging& paging) {
  return Read([&](storage::Session& session) { return session.ResumableTasks(paging); });
}

Result<ActivityPage> DatabaseCalls::QueryActivities(const ActivityQuery& query) {
  return Read([&](storage::Session& session) { return session.QueryActivities(query); });
}

Result<StoredCounts> DatabaseCalls::Count() {
  return Read([](storage::Session& session) { return session.Count(); });
}

Result<std::uint64_t> DatabaseCalls::HighestStamp() {
  return Read([](storage::Session& session) { return session.HighestStamp(); });
}

Status DatabaseCalls::Ping() {
  return Read([](storage::Session& session) { return session.Ping(); });
}

Result<std::uint64_t> DatabaseCalls::CleanupTasks(Time before, std::span<const TaskStatus> statuses,
                                                  const Skip& skip) {
  TASKWAL_TRY(CheckStatuses(statuses));
  std::uint64_t gone = 0;
  std::string after;
  for (;;) {
    TASKWAL_ASSIGN(const std::vector<std::string> old, Read([&](storage::Session& session) {
                     return session.OldTasks(before, statuses, after, kCleanupBatch);
                   }));
    if (old.empty()) return gone;
    after = old.back();
    std::vector<std::string> ids;
    for (const std::string& id : old) {
      TASKWAL_ASSIGN(const bool stays, skip(id));
      if (!stays) ids.push_back(id);
    }
    if (ids.empty()) continue;
    TASKWAL_ASSIGN(const std::uint64_t deleted, Read([&](storage::Session& session) {
                     return session.DeleteTasks(ids, before, statuses);
                   }));
    gone += deleted;
  }
}

Result<std::uint64_t> DatabaseCalls::CleanupActivities(Time before) {
  std::uint64_t gone = 0;
  for (;;) {
    TASKWAL_ASSIGN(const std::uint64_t deleted, Read([&](storage::Session& session) {
                     return session.DeleteOldActivities(before, kCleanupBatch);
                   }));
    if (deleted == 0) return gone;
    gone += deleted;
  }
}

Result<storage::ApplyResult> DatabaseCalls::Apply(const storage::Batch& batch) {
  return With([&](storage::Session& session) { return session.Apply(batch); });
}

}  // namespace taskwal::pipeline
