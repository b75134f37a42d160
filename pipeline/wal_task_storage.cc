#include "pipeline/wal_task_storage.h"

#include <algorithm>
#include <utility>

#include "base/random.h"
#include "base/status_macros.h"
#include "pipeline/activity_id.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;

constexpr auto kYear = std::chrono::hours(24 * 366);
constexpr auto kDrainSlice = std::chrono::seconds(1);

// Per thread, so that making an id takes no lock.
std::string_view MakeId(Time now, ActivityIdText* text) {
  thread_local Random random = Random::FromSystem();
  return MakeActivityId(now, random, text);
}

Status ClosedError() { return Status::Closed("the storage is closed"); }

}  // namespace

// --- writing
// ---------------------------------------------------------------------------------------

wal::Deadline WalTaskStorage::MakeDeadline(std::chrono::milliseconds timeout,
                                           const std::stop_token& stop) const {
  if (timeout >= kYear) return {Monotonic::max(), stop};
  return {clock_.Now() + timeout, stop};
}

template <typename Encode>
Result<wal::Lsn> WalTaskStorage::Append(OperationType type, std::uint64_t key, std::size_t bytes,
                                        Time now, const WriteOptions& options, Encode&& encode) {
  if (!accepting_.load()) return ClosedError();
  const wal::RecordHeader header{static_cast<std::uint8_t>(type), 0, key, log_->NextStamp(now)};
  const Durability level = options.durability.value_or(options_.durability);
  // There is room nearly always: the clock is read for a deadline only where there is none.
  Result<wal::Lsn> lsn = log_->Append(header, bytes, level, {Monotonic::min(), {}}, encode);
  if (lsn.ok() || lsn.status().code() != StatusCode::kOverloaded) return lsn;
  const auto timeout = options.timeout.value_or(options_.block_timeout);
  if (timeout.count() > 0) {
    lsn = log_->Append(header, bytes, level, MakeDeadline(timeout, options.stop), encode);
  }
  if (!lsn.ok() && lsn.status().code() == StatusCode::kOverloaded) dropped_.fetch_add(1);
  return lsn;
}

// Without a timeout of the call's own, a sync is waited for as long as it takes.
Status WalTaskStorage::Settle(wal::Lsn lsn, const WriteOptions& options) {
  const Durability level = options.durability.value_or(options_.durability);
  Status settled;
  if (options.wait == WaitFor::kApplied) {
    const auto timeout = options.timeout.value_or(options_.block_timeout);
    settled = flusher_->WaitFlushed(lsn, MakeDeadline(timeout, options.stop));
  } else if (options.wait == WaitFor::kAcknowledged && level == Durability::kDisk) {
    const wal::Deadline deadline = options.timeout ? MakeDeadline(*options.timeout, options.stop)
                                                   : wal::Deadline{Monotonic::max(), options.stop};
    settled = log_->WaitDurable(lsn, deadline);
  }
  if (settled.ok()) return settled;
  return Status::InDoubt(settled.message(), lsn);
}

Result<Ack> WalTaskStorage::SaveTask(const Task& task, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckTask(task));
  const Time now = clock_.WallNow();
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kTaskUpdate, storage::KeyOf(task.id), storage::EncodedBytes(task), now,
             options, [&](std::span<std::byte> into) { storage::Encode(task, now, into); }));
  TASKWAL_TRY(Settle(lsn, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::SaveTasks(std::span<const Task> tasks, const WriteOptions& options) {
  if (tasks.empty()) return Status::InvalidArgument("SaveTasks needs at least one task");
  for (const Task& task : tasks) TASKWAL_TRY(storage::CheckTask(task));
  const Time now = clock_.WallNow();
  TASKWAL_ASSIGN(const wal::Lsn lsn,
                 Append(OperationType::kBatchUpdate, storage::KeyOf(tasks.front().id),
                        storage::EncodedBytes(tasks), now, options,
                        [&](std::span<std::byte> into) { storage::Encode(tasks, now, into); }));
  TASKWAL_TRY(Settle(lsn, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::UpdateTaskStatus(std::string_view id, TaskStatus status,
                                             std::string_view error, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckStatusUpdate(id, error, status));
  const Time now = clock_.WallNow();
  TASKWAL_ASSIGN(const wal::Lsn lsn, Append(OperationType::kStatusUpdate, storage::KeyOf(id),
                                            storage::EncodedStatusUpdateBytes(id, error), now,
                                            options, [&](std::span<std::byte> into) {
                                              storage::EncodeStatusUpdate(id, status, error, now,
                                                                          into);
                                            }));
  TASKWAL_TRY(Settle(lsn, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::DeleteTask(std::string_view id, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  const Time now = clock_.WallNow();
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kTaskDelete, storage::KeyOf(id), storage::EncodedNameBytes(id), now,
             options, [&](std::span<std::byte> into) { storage::EncodeName(id, now, into); }));
  TASKWAL_TRY(Settle(lsn, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckId("dag_id", dag_id, true));
  const Time now = clock_.WallNow();
  TASKWAL_ASSIGN(const wal::Lsn lsn, Append(OperationType::kDagDelete, storage::KeyOf(dag_id),
                                            storage::EncodedNameBytes(dag_id), now, options,
                                            [&](std::span<std::byte> into) {
                                              storage::EncodeName(dag_id, now, into);
                                            }));
  overlay_->NoteDagDelete(lsn);
  TASKWAL_TRY(Settle(lsn, options));
  return Ack{lsn};
}

Result<ActivityAck> WalTaskStorage::LogActivity(const Activity& activity,
                                                const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckActivity(activity));
  const Time now = clock_.WallNow();
  ActivityIdText made;
  const std::string_view id = activity.id.empty() ? MakeId(now, &made) : activity.id;
  const std::string_view owner = activity.task_id.empty() ? activity.dag_id : activity.task_id;
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kActivityLog, storage::KeyOf(owner),
             storage::EncodedBytes(activity, id), now, options, [&](std::span<std::byte> into) {
               storage::Encode(activity, id, activity.created_at.value_or(now), into);
             }));
  TASKWAL_TRY(Settle(lsn, options));
  return ActivityAck{lsn, activity.id.empty() ? std::string(id) : std::string()};
}

Status WalTaskStorage::Wait(std::uint64_t lsn, WaitFor what, Durability level,
                            std::chrono::milliseconds timeout) {
  if (lsn == 0 || lsn > log_->end_lsn()) {
    return Status::InvalidArgument("LSN " + std::to_string(lsn) + " was never given out");
  }
  if (what == WaitFor::kApplied) return flusher_->WaitFlushed(lsn, MakeDeadline(timeout, {}));
  if (what == WaitFor::kAppended || level != Durability::kDisk) return Status::Ok();
  return log_->WaitDurable(lsn, MakeDeadline(timeout, {}));
}

// --- reading
// -----------------------------------------------------------------------------------------

Status WalTaskStorage::CheckReadable(Consistency consistency) {
  if (!readable_.load()) return ClosedError();
  if (consistency == Consistency::kEventual) return Status::Ok();
  return flusher_->WaitFlushed(log_->end_lsn(),
                               MakeDeadline(options_.database_timeout, std::stop_token()));
}

Result<Task> WalTaskStorage::GetTask(std::string_view id) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  return overlay_->GetTask(id);
}

Result<TaskPage> WalTaskStorage::QueryTasks(const TaskQuery& query) {
  TASKWAL_TRY(CheckReadable(query.paging.consistency));
  return database_->QueryTasks(query);
}

Result<TaskPage> WalTaskStorage::ResumableTasks(Paging paging) {
  TASKWAL_TRY(CheckReadable(paging.consistency));
  return database_->ResumableTasks(paging);
}

Result<ActivityPage> WalTaskStorage::QueryActivities(const ActivityQuery& query) {
  TASKWAL_TRY(CheckReadable(query.paging.consistency));
  return database_->QueryActivities(query);
}

Result<StoredCounts> WalTaskStorage::Count() {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return database_->Count();
}

// --- clean-up
// ----------------------------------------------------------------------------------------

Result<std::uint64_t> WalTaskStorage::CleanupOldTasks(Time before,
                                                      std::vector<TaskStatus> statuses) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  // What the log still holds of a task comes after the row: the row is no measure of its age.
  return database_->CleanupTasks(
      before, statuses, [this](const std::string& id) { return overlay_->HasUnflushed(id); });
}

Result<std::uint64_t> WalTaskStorage::CleanupOldActivityLogs(Time before) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return database_->CleanupActivities(before);
}

Status WalTaskStorage::Ping() {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return database_->Ping();
}

// --- statistics
// --------------------------------------------------------------------------------------

Stats WalTaskStorage::GetStats() {
  // The flusher's counters first: what it counts was given an LSN before, so nothing goes negative.
  const FlusherStats flush = flusher_->GetStats();
  const wal::LogStats log = log_->GetStats();
  const wal::Lsn base = flush.start_lsn > 0 ? flush.start_lsn - 1 : flushed_at_open_;
  const std::uint64_t settled = flush.applied + flush.dead_lettered + flush.lost;
  Stats stats;
  stats.accepted = std::max(log.end_lsn - std::min(base + flush.voids, log.end_lsn), settled);
  stats.applied = flush.applied;
  stats.dead_lettered = flush.dead_lettered;
  stats.lost = flush.lost;
  stats.pending = stats.accepted - settled;
  stats.dropped = dropped_.load();
  stats.duplicates = flush.duplicates;
  stats.end_lsn = log.end_lsn;
  stats.durable_lsn = log.durable_lsn;
  stats.flushed_lsn = flusher_->flushed_lsn();
  stats.entries_buffered = stats.accepted;
  stats.entries_flushed = stats.applied;
  stats.flush_operations = flush.flush_operations;
  stats.flush_time = flush.flush_time;
  stats.flush_errors = flush.flush_errors;
  stats.recovery_operations = recovered_at_open_;
  stats.recovery_errors = damaged_at_open_;
  stats.last_flush_time = flush.last_flush_time;
  stats.segments = log.segments;
  stats.log_bytes = log.log_bytes;
  stats.bytes_written = log.bytes_written;
  stats.writes = log.writes;
  stats.syncs = log.syncs;
  stats.ring_utilization = log.ring_utilization;
  stats.database_available = flush.database_available;
  stats.breaker_state = flush.breaker_state;
  stats.alarm = flush.alarm;
  return stats;
}

// --- the end
// -----------------------------------------------------------------------------------------

Status WalTaskStorage::Flush(std::chrono::milliseconds timeout) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return flusher_->WaitFlushed(log_->end_lsn(), MakeDeadline(timeout, {}));
}

// A call that was under way when the door closed may still append, and a log that breaks meanwhile
// has an end that never comes: both are looked at again and again.
Status WalTaskStorage::Drain(ShutdownMode mode, const wal::Deadline& deadline) {
  if (mode == ShutdownMode::kImmediate) return Status::Ok();
  for (;;) {
    const wal::Lsn end = log_->health().ok() ? log_->end_lsn() : log_->durable_lsn();
    if (flusher_->flushed_lsn() >= end) return Status::Ok();
    const Monotonic look_again = clock_.Now() + kDrainSlice;
    const Status flushed =
        flusher_->WaitFlushed(end, {std::min(deadline.at, look_again), deadline.stop});
    if (flushed.ok()) continue;
    if (flushed.code() != StatusCode::kUnavailable || clock_.Now() >= deadline.at) return flushed;
  }
}

// What is left is safe in the log: the seal covers even its last record.
Status WalTaskStorage::StopParts(const Status& drained) {
  EndThreads();
  flusher_->Stop();
  const Status sealed = log_->Close();
  readable_.store(false);
  const wal::Lsn flushed = flusher_->flushed_lsn();
  const wal::Lsn end = log_->end_lsn();
  if (!sealed.ok()) return sealed;
  if (flushed >= end) return Status::Ok();
  if (drained.code() == StatusCode::kFenced) return drained;
  std::string why = drained.ok() ? std::string() : " (" + drained.message() + ")";
  return Status::Unavailable("not drained: LSN " + std::to_string(flushed + 1) + " to " +
                             std::to_string(end) + " are not in the database yet, and safe in " +
                             options_.wal_dir + why);
}

Status WalTaskStorage::Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) {
  {
    MutexLock lock(mutex_);
    while (life_ == Life::kClosing) changed_.Wait(mutex_);
    if (life_ == Life::kClosed) return closed_with_;
    life_ = Life::kClosing;
  }
  accepting_.store(false);
  const wal::Deadline deadline =
      mode == ShutdownMode::kGraceful ? MakeDeadline(timeout, {}) : wal::Deadline{};
  const Status result = StopParts(Drain(mode, deadline));
  MutexLock lock(mutex_);
  life_ = Life::kClosed;
  closed_with_ = result;
  changed_.NotifyAll();
  return result;
}

Status WalTaskStorage::Close() {
  return Shutdown(ShutdownMode::kGraceful, options_.shutdown_timeout);
}

WalTaskStorage::~WalTaskStorage() {
  if (accepting_.load()) IgnoreStatus(Close(), "what is not drained is safe in the log");
  EndThreads();
}

}  // namespace taskwal::pipeline
