#include "pipeline/database_calls.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/threads.h"

namespace taskwal::pipeline {
namespace {

constexpr std::uint32_t kCleanupBatch = 500;
// A bounded call gets that much more than what it is busy with, whose own word at the end of the
// time says more.
constexpr std::chrono::milliseconds kLastWord{2};
constexpr std::chrono::hours kAsGoodAsNone{24 * 366};

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

ConnectionLimits ConnectionLimitsOf(const Options& options, std::uint32_t workers) {
  ConnectionLimits limits;
  // One is always left to calls.
  if (options.max_open_conns > 0) {
    limits.open_max = std::max(options.max_open_conns, workers + 1) - workers;
  }
  limits.idle_max = options.max_idle_conns;
  limits.lifetime = options.conn_max_lifetime;
  limits.wait_max = options.database_timeout;
  limits.check_after = options.health_check_interval;
  return limits;
}

DatabaseCalls::End DatabaseCalls::EndOf(const CallLimits& limits) {
  if (!limits.timeout || *limits.timeout >= kAsGoodAsNone) return {Monotonic::max(), limits.stop};
  return {Clock::Real().Now() + *limits.timeout, limits.stop};
}

DatabaseCalls::DatabaseCalls(storage::Backend& backend, const ConnectionLimits& limits)
    : backend_(backend), limits_(limits) {}
DatabaseCalls::~DatabaseCalls() = default;

Result<DatabaseCalls::Connection> DatabaseCalls::Take(std::chrono::milliseconds wait_max) {
  const auto until = std::chrono::steady_clock::now() + wait_max;
  bool in_time = true;
  MutexLock lock(mutex_);
  for (;;) {
    if (!idle_.empty()) {
      Connection kept = std::move(idle_.back());
      idle_.pop_back();
      return kept;
    }
    if (limits_.open_max == 0 || open_ < limits_.open_max) {
      ++open_;
      return Connection{};
    }
    if (!in_time) break;
    in_time = freed_.WaitUntil(mutex_, until);
  }
  return Status::Unavailable(backend_.name() + ": all " + std::to_string(limits_.open_max) +
                             " connections for calls are in use (max_open_conns)");
}

// Where it is not open yet, or has been for too long.
Status DatabaseCalls::Open(Connection* connection) const {
  const Monotonic now = Clock::Real().Now();
  const bool is_old =
      limits_.lifetime.count() > 0 && now - connection->opened_at > limits_.lifetime;
  if (connection->session != nullptr && !is_old) {
    if (now - connection->checked_at < limits_.check_after) return Status::Ok();
    connection->checked_at = now;
    return connection->session->Ping();
  }
  connection->session.reset();
  TASKWAL_ASSIGN(connection->session, backend_.Connect());
  connection->opened_at = connection->checked_at = now;
  return Status::Ok();
}

void DatabaseCalls::GiveBack(Connection connection) {
  {
    MutexLock lock(mutex_);
    if (idle_.size() < limits_.idle_max) {
      idle_.push_back(std::move(connection));
      freed_.NotifyOne();
      return;
    }
  }
  LetGo(std::move(connection));
}

void DatabaseCalls::LetGo(Connection connection) {
  connection.session.reset();  // before another may be opened in its place
  MutexLock lock(mutex_);
  --open_;
  freed_.NotifyOne();
}

// Its wait for a connection ends by then, too.
template <typename Call>
auto DatabaseCalls::With(Monotonic end, Call&& call)
    -> std::invoke_result_t<Call, storage::Session&> {
  using std::chrono::milliseconds;
  milliseconds wait_max = limits_.wait_max;
  if (end != Monotonic::max()) {
    wait_max = std::min(wait_max, std::chrono::ceil<milliseconds>(end - Clock::Real().Now()));
  }
  TASKWAL_ASSIGN(Connection connection, Take(wait_max));
  const Monotonic opened_at = connection.opened_at;
  const auto ask = [&]() -> std::invoke_result_t<Call, storage::Session&> {
    // Backends catch what their drivers throw; what they miss must not end the process.
    try {
      TASKWAL_TRY(Open(&connection));
      return call(*connection.session);
    } catch (const std::exception& e) {
      return Status::InDoubt(backend_.name() + ": " + e.what(), 0);
    } catch (...) {
      return Status::InDoubt(backend_.name() + ": an exception of unknown type", 0);
    }
  };
  auto result = ask();
  const bool was_kept = connection.session != nullptr && connection.opened_at == opened_at;
  const bool is_in_time = end == Monotonic::max() || Clock::Real().Now() < end;
  if (was_kept && is_in_time && StatusOf(result).code() == StatusCode::kUnavailable) {
    // It may have gone stale, and all the others that are kept with it. Each of them would take a
    // deadline of its own to say so, so a fresh one is next.
    std::vector<Connection> kept;
    {
      MutexLock lock(mutex_);
      kept.swap(idle_);
    }
    for (Connection& other : kept) LetGo(std::move(other));
    connection.session.reset();
    result = ask();
  }
  if (connection.session != nullptr && KeepsSession(StatusOf(result).code())) {
    GiveBack(std::move(connection));
  } else {
    LetGo(std::move(connection));
  }
  return result;
}

// kInDoubt by the end: it has been begun.
template <typename Call>
auto DatabaseCalls::By(const End& end, Call call)
    -> std::invoke_result_t<Call, storage::Session&> {
  using Answer = std::invoke_result_t<Call, storage::Session&>;
  if (!IsBounded(end)) return With(end.at, call);
  if (BoundedCalls::IsOver(end)) return Status::Unavailable(WhyOver(end));
  enum class Turn : std::uint8_t { kWaiting, kBegun, kGivenUp };
  const auto turn = std::make_shared<std::atomic<Turn>>(Turn::kWaiting);
  End wait = end;
  if (wait.at != Monotonic::max()) wait.at += kLastWord;
  auto ask = [this, at = end.at, turn, call = std::move(call)]() mutable {
    return With(at, [&](storage::Session& session) -> Answer {
      Turn was = Turn::kWaiting;
      const bool is_first = turn->compare_exchange_strong(was, Turn::kBegun);
      if (!is_first && was == Turn::kGivenUp) return Status::Unavailable("given up");
      return call(session);
    });
  };
  std::optional<Answer> answer;
  switch (bounded_.Run(wait, std::move(ask), &answer)) {
    case BoundedCalls::Outcome::kBack: return *std::move(answer);
    case BoundedCalls::Outcome::kOver: break;
    case BoundedCalls::Outcome::kNoThread:
      return Status::Unavailable(backend_.name() + ": " + NoMoreThreads().message() +
                                 ": the call was not begun");
  }
  Turn was = Turn::kWaiting;
  const bool was_begun = !turn->compare_exchange_strong(was, Turn::kGivenUp);
  if (!was_begun) return Status::Unavailable(WhyOver(end));
  return Status::InDoubt(WhyOver(end) + ", and there is no answer yet", 0);
}

std::string DatabaseCalls::WhyOver(const End& end) const {
  return backend_.name() +
         (end.stop.stop_requested() ? ": the call was told to stop" : ": the call's time is over");
}

template <typename Call>
auto DatabaseCalls::Read(const End& end, Call call)
    -> std::invoke_result_t<Call, storage::Session&> {
  auto result = By(end, std::move(call));
  const Status& status = StatusOf(result);
  if (KeepsSession(status.code())) return result;
  return Status::Unavailable(status.message());
}

// What is asked is copied: it may be left behind.

Result<storage::Session::StoredTask> DatabaseCalls::GetTask(std::string_view id, const End& end) {
  return Read(end, [id = std::string(id)](storage::Session& session) {
    return session.GetTask(id);
  });
}

Result<TaskPage> DatabaseCalls::QueryTasks(const TaskQuery& query, const End& end) {
  return Read(end, [query](storage::Session& session) { return session.QueryTasks(query); });
}

Result<TaskPage> DatabaseCalls::ResumableTasks(const Paging& paging, const End& end) {
  return Read(end, [paging](storage::Session& session) { return session.ResumableTasks(paging); });
}

Result<ActivityPage> DatabaseCalls::QueryActivities(const ActivityQuery& query, const End& end) {
  return Read(end, [query](storage::Session& session) { return session.QueryActivities(query); });
}

Result<StoredCounts> DatabaseCalls::Count(const End& end) {
  return Read(end, [](storage::Session& session) { return session.Count(); });
}

Result<std::uint64_t> DatabaseCalls::RegisterOrigin(const Uuid& id) {
  return Read({}, [id](storage::Session& session) -> Result<std::uint64_t> {
    TASKWAL_ASSIGN(storage::LogRow row, session.ReadLog(id));
    if (row.watermarks.empty()) {
      const Status registered = session.RegisterLog(id, 0, std::array<storage::Lsn, 1>{}).status();
      // Or somebody else has done it in the same moment.
      if (!registered.ok()) {
        TASKWAL_ASSIGN(row, session.ReadLog(id));
        if (row.watermarks.empty()) return registered;
      }
    }
    return session.HighestStamp();
  });
}

Status DatabaseCalls::Ping(const End& end) {
  return Read(end, [](storage::Session& session) { return session.Ping(); });
}

Result<std::uint64_t> DatabaseCalls::CleanupTasks(Time before, std::span<const TaskStatus> statuses,
                                                  const Skip& skip, const End& end) {
  TASKWAL_TRY(CheckStatuses(statuses));
  const std::vector<TaskStatus> chosen(statuses.begin(), statuses.end());
  std::uint64_t gone = 0;
  std::string after;
  for (;;) {
    TASKWAL_ASSIGN(const std::vector<std::string> old,
                   Read(end, [before, chosen, after](storage::Session& session) {
                     return session.OldTasks(before, chosen, after, kCleanupBatch);
                   }));
    if (old.empty()) return gone;
    after = old.back();
    std::vector<std::string> ids;
    for (const std::string& id : old) {
      TASKWAL_ASSIGN(const bool stays, skip(id));
      if (!stays) ids.push_back(id);
    }
    if (ids.empty()) continue;
    TASKWAL_ASSIGN(const std::uint64_t deleted,
                   Read(end, [before, chosen, ids](storage::Session& session) {
                     return session.DeleteTasks(ids, before, chosen);
                   }));
    gone += deleted;
  }
}

Result<std::uint64_t> DatabaseCalls::CleanupActivities(Time before, const End& end) {
  std::uint64_t gone = 0;
  for (;;) {
    TASKWAL_ASSIGN(const std::uint64_t deleted, Read(end, [before](storage::Session& session) {
                     return session.DeleteOldActivities(before, kCleanupBatch);
                   }));
    if (deleted == 0) return gone;
    gone += deleted;
  }
}

Result<storage::ApplyResult> DatabaseCalls::Apply(storage::Batch batch, const End& end) {
  using std::chrono::milliseconds;
  auto apply = [batch = std::move(batch), at = end.at](storage::Session& session) mutable {
    if (at != Monotonic::max()) {
      const auto left = std::chrono::floor<milliseconds>(at - Clock::Real().Now());
      batch.time_max = std::max(left, milliseconds(1));
    }
    return session.Apply(batch);
  };
  return By(end, std::move(apply));
}

}  // namespace taskwal::pipeline
