#include "pipeline/direct_task_storage.h"

#include <algorithm>
#include <utility>

#include "base/random.h"
#include "base/status_macros.h"
#include "base/threads.h"
#include "pipeline/activity_context.h"
#include "pipeline/activity_id.h"
#include "pipeline/flush/batch.h"
#include "pipeline/save_tasks_check.h"
#include "storage/operation.h"

namespace taskwal::pipeline {
namespace {

// Of handlers in an immediate shutdown, and of calls that were left behind.
constexpr std::chrono::milliseconds kMoment{500};
constexpr std::chrono::hours kYear{24 * 366};
// Rows name an origin like all others: the zero UUID for all that is written without a log, with
// the stamps as LSNs. wal_checkpoints has a row of it, so that they grow over restarts as well.
constexpr Uuid kNoLog{};

}  // namespace

DirectTaskStorage::DirectTaskStorage(std::unique_ptr<storage::Backend> backend, Clock& clock,
                                     Options options)
    : clock_(clock),
      options_(std::move(options)),
      logger_(options_.logger),
      backend_(std::move(backend)),
      database_(std::make_unique<DatabaseCalls>(*backend_, ConnectionLimitsOf(options_, 0))),
      handlers_(options_, clock_) {}

Result<std::unique_ptr<DirectTaskStorage>> DirectTaskStorage::Open(
    std::unique_ptr<storage::Backend> backend, Clock& clock, Options options) {
  std::unique_ptr<DirectTaskStorage> storage(
      new DirectTaskStorage(std::move(backend), clock, std::move(options)));
  TASKWAL_ASSIGN(const std::uint64_t highest, storage->database_->RegisterOrigin(kNoLog));
  storage->stamp_.store(highest);
  return storage;
}

DirectTaskStorage::~DirectTaskStorage() {
  IgnoreStatus(Close(), "handlers were told of");
  if (database_->AwaitAll(std::chrono::steady_clock::now() + kMoment)) return;
  // What a call has left behind uses both until it returns.
  struct Left {  // the last ends first
    std::unique_ptr<storage::Backend> backend;
    std::unique_ptr<DatabaseCalls> database;
  };
  EndElsewhere(std::make_unique<Left>(Left{std::move(backend_), std::move(database_)}));
}

Status DirectTaskStorage::CheckOpen() const {
  return open_.load() ? Status::Ok() : Status::Closed("the storage is closed");
}

Result<std::uint64_t> DirectTaskStorage::Apply(storage::OperationBody body,
                                               const WriteOptions& options) {
  TASKWAL_TRY(CheckOpen());
  if (options.stop.stop_requested()) {
    return Status::Overloaded("told to stop before its transaction");
  }
  const auto now = static_cast<std::uint64_t>(
      std::max<std::int64_t>(clock_.WallNow().time_since_epoch().count(), 1));
  std::uint64_t last = stamp_.load();
  std::uint64_t lsn = 0;
  do {
    lsn = std::max(last + 1, now);
  } while (!stamp_.compare_exchange_weak(last, lsn));

  std::vector<storage::Operation> operations;
  operations.push_back({lsn, lsn, std::move(body)});
  ComposedRows rows = Compose(std::move(operations), kNoLog);
  storage::Batch batch;
  batch.wal_id = kNoLog;
  batch.dag_deletes = std::move(rows.dag_deletes);
  batch.tasks = std::move(rows.tasks);
  batch.activities = std::move(rows.activities);
  batch.idempotent = true;
  CallLimits limits{options.timeout, options.stop};
  if (limits.timeout == std::chrono::milliseconds(0)) limits.timeout.reset();
  const auto result = database_->Apply(std::move(batch), DatabaseCalls::EndOf(limits));
  if (!result.ok()) {
    errors_.fetch_add(1);
    if (result.status().code() != StatusCode::kInDoubt) return result.status();
    return Status::InDoubt(result.status().message(), lsn);
  }
  applied_.fetch_add(1);
  duplicates_.fetch_add(result->duplicates);
  return lsn;
}

Result<Ack> DirectTaskStorage::SaveTask(const Task& task, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckTask(task));
  TASKWAL_ASSIGN(const std::uint64_t lsn,
                 Apply(storage::SaveTaskOp{task, clock_.WallNow(), Protects(options)}, options));
  return Ack{lsn};
}

Result<Ack> DirectTaskStorage::SaveTasks(std::span<const Task> tasks,
                                         const WriteOptions& options) {
  TASKWAL_TRY(CheckSaveTasks(tasks));
  TASKWAL_ASSIGN(const std::uint64_t lsn,
                 Apply(storage::SaveTasksOp{{tasks.begin(), tasks.end()}, clock_.WallNow(),
                                            Protects(options)},
                       options));
  return Ack{lsn};
}

Result<Ack> DirectTaskStorage::UpdateTaskStatus(std::string_view id, TaskStatus status,
                                                std::string_view error,
                                                const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckStatusUpdate(id, error, status));
  TASKWAL_ASSIGN(const std::uint64_t lsn,
                 Apply(storage::UpdateStatusOp{std::string(id), status, std::string(error),
                                               clock_.WallNow(), Protects(options)},
                       options));
  return Ack{lsn};
}

Result<Ack> DirectTaskStorage::DeleteTask(std::string_view id, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  TASKWAL_ASSIGN(const std::uint64_t lsn,
                 Apply(storage::DeleteTaskOp{std::string(id), clock_.WallNow()}, options));
  return Ack{lsn};
}

Result<Ack> DirectTaskStorage::DeleteTasksByDag(std::string_view dag_id,
                                                const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckId("dag_id", dag_id, true));
  TASKWAL_ASSIGN(const std::uint64_t lsn,
                 Apply(storage::DeleteDagOp{std::string(dag_id), clock_.WallNow()}, options));
  return Ack{lsn};
}

Result<ActivityAck> DirectTaskStorage::LogActivity(const Activity& activity,
                                                   const WriteOptions& options) {
  if (activity.level < options_.min_activity_level && !options.keep) {
    TASKWAL_TRY(CheckOpen());
    filtered_.fetch_add(1);
    return ActivityAck{};
  }
  storage::LogActivityOp op{activity};
  if (HasContext()) {
    if (auto data = WithContext(activity.data)) op.activity.data = std::move(data);
  }
  TASKWAL_TRY(storage::CheckActivity(op.activity));
  const Time now = clock_.WallNow();
  if (!op.activity.created_at) op.activity.created_at = now;
  std::string made;
  if (activity.id.empty()) {
    thread_local Random random = Random::FromSystem();
    ActivityIdText text;
    made = std::string(MakeActivityId(now, random, &text));
    op.activity.id = made;
  }
  TASKWAL_ASSIGN(const std::uint64_t lsn, Apply(std::move(op), options));
  return ActivityAck{lsn, std::move(made)};
}

Status DirectTaskStorage::Wait(std::uint64_t lsn, WaitFor, Durability, std::chrono::milliseconds) {
  if (lsn != 0 && lsn <= stamp_.load()) return Status::Ok();
  return Status::InvalidArgument("LSN " + std::to_string(lsn) + " was never given out");
}

Result<Task> DirectTaskStorage::GetTask(std::string_view id, const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  TASKWAL_ASSIGN(auto row, database_->GetTask(id, DatabaseCalls::EndOf(limits)));
  return std::move(row.task);
}

Result<TaskPage> DirectTaskStorage::QueryTasks(const TaskQuery& query, const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->QueryTasks(query, DatabaseCalls::EndOf(limits));
}

Result<ActivityPage> DirectTaskStorage::QueryActivities(const ActivityQuery& query,
                                                        const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->QueryActivities(query, DatabaseCalls::EndOf(limits));
}

Result<StoredCounts> DirectTaskStorage::Count(const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->Count(DatabaseCalls::EndOf(limits));
}

Result<TaskPage> DirectTaskStorage::ResumableTasks(Paging paging, const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->ResumableTasks(paging, DatabaseCalls::EndOf(limits));
}

Result<std::uint64_t> DirectTaskStorage::CleanupOldTasks(Time before,
                                                         std::vector<TaskStatus> statuses,
                                                         const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->CleanupTasks(
      before, statuses, [](const std::string&) { return false; }, DatabaseCalls::EndOf(limits));
}

Result<std::uint64_t> DirectTaskStorage::CleanupOldActivityLogs(Time before,
                                                                const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->CleanupActivities(before, DatabaseCalls::EndOf(limits));
}

Status DirectTaskStorage::Ping(const CallLimits& limits) {
  TASKWAL_TRY(CheckOpen());
  return database_->Ping(DatabaseCalls::EndOf(limits));
}

Status DirectTaskStorage::Flush(std::chrono::milliseconds) { return CheckOpen(); }

std::vector<std::string> DirectTaskStorage::RunHandlers(ShutdownMode mode,
                                                        std::chrono::milliseconds timeout) {
  const Monotonic now = clock_.Now();
  if (mode == ShutdownMode::kFlushPending) {
    return handlers_.RunTogether(now + options_.shutdown_timeout);
  }
  return handlers_.RunInTurn(now + (mode == ShutdownMode::kImmediate ? kMoment : timeout));
}

Status DirectTaskStorage::Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) {
  if (!is_closing_.exchange(true)) {
    std::string left;
    timeout = std::min<std::chrono::milliseconds>(timeout, kYear);
    for (const std::string& name : RunHandlers(mode, timeout)) {
      left += (left.empty() ? "" : ", ") + name;
    }
    open_.store(false);
    MutexLock lock(mutex_);
    closed_with_ = Status::Ok();
    if (!left.empty()) {
      closed_with_ = Status::Unavailable("left behind, as it does not return: " + left);
    }
  }
  MutexLock lock(mutex_);
  return closed_with_;
}

Status DirectTaskStorage::OnShutdown(std::string name, std::function<void()> handler,
                                     std::chrono::milliseconds timeout) {
  return handlers_.Add(std::move(name), std::move(handler), timeout);
}

Status DirectTaskStorage::Close() {
  return Shutdown(ShutdownMode::kGraceful, options_.shutdown_timeout);
}

Stats DirectTaskStorage::GetStats() {
  Stats stats;
  stats.applied = applied_.load();
  stats.accepted = stats.applied;
  stats.duplicates = duplicates_.load();
  stats.filtered = filtered_.load();
  stats.entries_buffered = stats.accepted;
  stats.entries_flushed = stats.applied;
  stats.flush_operations = stats.applied;
  stats.flush_errors = errors_.load();
  stats.end_lsn = stats.durable_lsn = stats.flushed_lsn = stamp_.load();
  stats.breaker_state = "closed";
  stats.database_available = open_.load();
  return stats;
}

}  // namespace taskwal::pipeline
