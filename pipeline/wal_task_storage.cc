#include "pipeline/wal_task_storage.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/logging.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "pipeline/activity_context.h"
#include "pipeline/activity_id.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;

constexpr auto kYear = std::chrono::hours(24 * 366);
constexpr auto kDrainSlice = std::chrono::seconds(1);
// What is under way when the time is over gets this long to come back.
constexpr auto kStopGrace = std::chrono::milliseconds(500);

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

WalTaskStorage::Place WalTaskStorage::HomeOf(std::string_view task_id) const {
  const std::uint64_t key = storage::KeyOf(task_id);
  return {key, targets_->HomeOf(key)};
}

template <typename Encode>
Result<wal::Lsn> WalTaskStorage::Append(OperationType type, const Place& place, std::size_t bytes,
                                        Time now, const WriteOptions& options, Encode&& encode,
                                        std::int32_t rank) {
  if (!accepting_.load()) return ClosedError();
  const StageTimer timer(IsSampled() ? Timed(&times_.append) : nullptr, clock_);
  const wal::RecordHeader header{static_cast<std::uint8_t>(type), place.target, place.key,
                                 log_->NextStamp(now)};
  const Durability level = options.durability.value_or(options_.durability);
  const auto append = [&](const wal::Deadline& deadline) {
    return log_->Append(header, bytes, level, deadline, encode);
  };
  Result<wal::Lsn> lsn = wal::Lsn{0};
  // There is room nearly always: the clock is read for a deadline only where there is none.
  const bool is_open = admission_->is_open();
  if (is_open) lsn = append({Monotonic::min(), {}});
  if (!is_open || lsn.status().code() == StatusCode::kOverloaded) [[unlikely]] {
    const auto timeout = options.timeout.value_or(options_.block_timeout);
    lsn = admission_->Enter({rank, bytes, timeout, options.stop, options.only_if_room},
                            std::cref(append));
  }
  if (lsn.ok()) targets_->CountAppended(place.target);
  return lsn;
}

Result<wal::Lsn> WalTaskStorage::AppendEncoded(const wal::RecordHeader& header,
                                               std::span<const std::byte> body,
                                               const WriteOptions& options) {
  return Append(static_cast<OperationType>(header.type), {header.key, header.target}, body.size(),
                clock_.WallNow(), options, [&](std::span<std::byte> into) {
                  std::copy(body.begin(), body.end(), into.begin());
                });
}

// Without a timeout of the call's own, a sync is waited for as long as it takes.
Status WalTaskStorage::Settle(wal::Lsn lsn, std::uint16_t target, const WriteOptions& options) {
  const Durability level = options.durability.value_or(options_.durability);
  Status settled;
  if (options.wait == WaitFor::kApplied) {
    const auto timeout = options.timeout.value_or(options_.block_timeout);
    settled = targets_->WaitFlushedIn(target, lsn, MakeDeadline(timeout, options.stop));
  } else if (options.wait == WaitFor::kAcknowledged && level == Durability::kDisk) {
    const wal::Deadline deadline = options.timeout ? MakeDeadline(*options.timeout, options.stop)
                                                   : wal::Deadline{Monotonic::max(), options.stop};
    const StageTimer timer(Timed(&times_.commit), clock_);
    settled = log_->WaitDurable(lsn, deadline);
  }
  if (settled.ok()) return settled;
  return Status::InDoubt(settled.message(), lsn);
}

Result<Ack> WalTaskStorage::SaveTask(const Task& task, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckTask(task));
  const Time now = clock_.WallNow();
  const Place home = HomeOf(task.id);
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kTaskUpdate, home, storage::EncodedBytes(task), now, options,
             [&](std::span<std::byte> into) {
               storage::Encode(task, now, into, Protects(options));
             }));
  TASKWAL_TRY(Settle(lsn, home.target, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::SaveTasks(std::span<const Task> tasks, const WriteOptions& options) {
  if (tasks.empty()) return Status::InvalidArgument("SaveTasks needs at least one task");
  for (const Task& task : tasks) TASKWAL_TRY(storage::CheckTask(task));
  const Time now = clock_.WallNow();
  const Place all{storage::KeyOf(tasks.front().id), targets_->ForAll()};
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kBatchUpdate, all, storage::EncodedBytes(tasks), now, options,
             [&](std::span<std::byte> into) {
               storage::Encode(tasks, now, into, Protects(options));
             }));
  TASKWAL_TRY(Settle(lsn, all.target, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::UpdateTaskStatus(std::string_view id, TaskStatus status,
                                             std::string_view error, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckStatusUpdate(id, error, status));
  const Time now = clock_.WallNow();
  const Place home = HomeOf(id);
  TASKWAL_ASSIGN(const wal::Lsn lsn,
                 Append(OperationType::kStatusUpdate, home,
                        storage::EncodedStatusUpdateBytes(id, error), now, options,
                        [&](std::span<std::byte> into) {
                          storage::EncodeStatusUpdate(id, {status, Protects(options)}, error, now,
                                                      into);
                        }));
  TASKWAL_TRY(Settle(lsn, home.target, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::DeleteTask(std::string_view id, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  const Time now = clock_.WallNow();
  const Place home = HomeOf(id);
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kTaskDelete, home, storage::EncodedNameBytes(id), now, options,
             [&](std::span<std::byte> into) { storage::EncodeName(id, now, into); }));
  TASKWAL_TRY(Settle(lsn, home.target, options));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckId("dag_id", dag_id, true));
  const Time now = clock_.WallNow();
  const Place all{storage::KeyOf(dag_id), targets_->ForAll()};
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kDagDelete, all, storage::EncodedNameBytes(dag_id), now, options,
             [&](std::span<std::byte> into) { storage::EncodeName(dag_id, now, into); }));
  overlay_->NoteDagDelete(lsn);
  TASKWAL_TRY(Settle(lsn, all.target, options));
  return Ack{lsn};
}

Result<ActivityAck> WalTaskStorage::LogActivity(const Activity& activity,
                                                const WriteOptions& options) {
  if (activity.level < options_.min_activity_level) {
    if (!accepting_.load()) return ClosedError();
    filtered_.fetch_add(1, std::memory_order_relaxed);
    return ActivityAck{};
  }
  if (!HasContext()) return AppendActivity(activity, options);
  Activity in_context = activity;
  if (auto data = WithContext(activity.data)) in_context.data = std::move(data);
  return AppendActivity(in_context, options);
}

Result<ActivityAck> WalTaskStorage::AppendActivity(const Activity& activity,
                                                   const WriteOptions& options) {
  TASKWAL_TRY(storage::CheckActivity(activity));
  const Time now = clock_.WallNow();
  ActivityIdText made;
  const std::string_view id = activity.id.empty() ? MakeId(now, &made) : activity.id;
  const std::string_view owner = activity.task_id.empty() ? activity.dag_id : activity.task_id;
  const Place next{storage::KeyOf(owner), targets_->NextForActivity()};
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kActivityLog, next, storage::EncodedBytes(activity, id), now, options,
             [&](std::span<std::byte> into) {
               storage::Encode(activity, id, activity.created_at.value_or(now), into);
             },
             activity.priority));
  TASKWAL_TRY(Settle(lsn, next.target, options));
  return ActivityAck{lsn, activity.id.empty() ? std::string(id) : std::string()};
}

Status WalTaskStorage::Wait(std::uint64_t lsn, WaitFor what, Durability level,
                            std::chrono::milliseconds timeout) {
  if (lsn == 0 || lsn > log_->end_lsn()) {
    return Status::InvalidArgument("LSN " + std::to_string(lsn) + " was never given out");
  }
  if (what == WaitFor::kApplied) return targets_->WaitFlushed(lsn, MakeDeadline(timeout, {}));
  if (what == WaitFor::kAppended || level != Durability::kDisk) return Status::Ok();
  const StageTimer timer(Timed(&times_.commit), clock_);
  return log_->WaitDurable(lsn, MakeDeadline(timeout, {}));
}

// --- reading
// -----------------------------------------------------------------------------------------

Status WalTaskStorage::CheckReadable(Consistency consistency) {
  if (!readable_.load()) return ClosedError();
  if (consistency == Consistency::kEventual) return Status::Ok();
  return targets_->WaitFlushed(log_->end_lsn(),
                               MakeDeadline(options_.database_timeout, std::stop_token()));
}

Result<Task> WalTaskStorage::GetTask(std::string_view id) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  const StageTimer timer(Timed(&times_.read), clock_);
  return overlay_->GetTask(id);
}

Result<TaskPage> WalTaskStorage::QueryTasks(const TaskQuery& query) {
  TASKWAL_TRY(CheckReadable(query.paging.consistency));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->QueryTasks(query);
}

Result<TaskPage> WalTaskStorage::ResumableTasks(Paging paging) {
  TASKWAL_TRY(CheckReadable(paging.consistency));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->ResumableTasks(paging);
}

Result<ActivityPage> WalTaskStorage::QueryActivities(const ActivityQuery& query) {
  TASKWAL_TRY(CheckReadable(query.paging.consistency));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->QueryActivities(query);
}

Result<StoredCounts> WalTaskStorage::Count() {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->Count();
}

// --- clean-up
// ----------------------------------------------------------------------------------------

Result<std::uint64_t> WalTaskStorage::CleanupOldTasks(Time before,
                                                      std::vector<TaskStatus> statuses) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  // What the log still holds of a task comes after the row: the row is no measure of its age.
  return queries_->CleanupTasks(
      before, statuses, [this](const std::string& id) { return overlay_->HasUnflushed(id); });
}

Result<std::uint64_t> WalTaskStorage::CleanupOldActivityLogs(Time before) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return queries_->CleanupActivities(before);
}

Status WalTaskStorage::Ping() {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return queries_->Ping();
}

// --- statistics
// --------------------------------------------------------------------------------------

Stats WalTaskStorage::GetStats() {
  Stats stats;
  targets_->FillStats(&stats);
  const wal::LogStats log = log_->GetStats();
  stats.drops = admission_->drops();
  stats.dropped = stats.drops.total();
  stats.filtered = filtered_.load();
  stats.end_lsn = log.end_lsn;
  stats.durable_lsn = log.durable_lsn;
  stats.recovery_operations = recovered_at_open_;
  stats.recovery_errors = damaged_at_open_;
  stats.segments = log.segments;
  stats.log_bytes = log.log_bytes;
  stats.bytes_written = log.bytes_written;
  stats.writes = log.writes;
  stats.syncs = log.syncs;
  stats.ring_utilization = log.ring_utilization;
  stats.segments_active = log.segments_active;
  stats.segments_flushing = log.segments_flushing;
  stats.segments_flushed = log.segments - log.segments_active - log.segments_flushing;
  stats.append_time = times_.append.Summary();
  stats.commit_time = times_.commit.Summary();
  stats.sync_time = log.sync_time;
  stats.read_time = times_.read.Summary();
  const LetterStats letters = letters_->GetStats();
  stats.dead_letters = {letters.open,       letters.open_bytes, letters.oldest,
                        letters.added,      letters.retried,    letters.superseded,
                        letters.purged,     letters.expired};
  if (stats.alarm.empty()) stats.alarm = LetterAlarm(stats.dead_letters);
  return stats;
}

Status WalTaskStorage::SetTargetHealth(std::string_view name, bool in_service) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return targets_->SetHealth(name, in_service);
}

Status WalTaskStorage::Rebalance(std::chrono::milliseconds drain_timeout,
                                 const MoveProgress& on_progress) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  const wal::Deadline deadline = MakeDeadline(drain_timeout, {});
  accepting_.store(false);
  const Status drained = Drain(ShutdownMode::kGraceful, deadline);
  if (drained.ok()) TASKWAL_TRY(targets_->Rebalance(deadline, on_progress));
  accepting_.store(true);
  return drained;
}

// --- the end
// -----------------------------------------------------------------------------------------

Status WalTaskStorage::Flush(std::chrono::milliseconds timeout) {
  TASKWAL_TRY(CheckReadable(Consistency::kEventual));
  return targets_->WaitFlushed(log_->end_lsn(), MakeDeadline(timeout, {}));
}

// A call that was under way when the door closed may still append, and a log that breaks meanwhile
// has an end that never comes: both are looked at again and again.
Status WalTaskStorage::Drain(ShutdownMode mode, const wal::Deadline& deadline) {
  if (mode == ShutdownMode::kImmediate) return Status::Ok();
  for (;;) {
    const wal::Lsn end = log_->health().ok() ? log_->end_lsn() : log_->durable_lsn();
    if (targets_->flushed_lsn() >= end) return Status::Ok();
    const Monotonic look_again = clock_.Now() + kDrainSlice;
    const Status flushed =
        targets_->WaitFlushed(end, {std::min(deadline.at, look_again), deadline.stop});
    if (flushed.ok()) continue;
    if (flushed.code() != StatusCode::kUnavailable || clock_.Now() >= deadline.at) return flushed;
  }
}

void WalTaskStorage::RunHandlers(ShutdownMode mode, const wal::Deadline& deadline) {
  const Monotonic now = clock_.Now();
  if (mode == ShutdownMode::kFlushPending) {
    handlers_.RunTogether(now + options_.shutdown_timeout);
  } else {
    handlers_.RunInTurn(mode == ShutdownMode::kImmediate ? now + kStopGrace : deadline.at);
  }
}

// A call that does not come back is left to its thread: nothing it may still do touches the
// directory, and what it has committed by then is found by the next open.
void WalTaskStorage::StopTargets() {
  is_hung_ = !targets_->StopBy(std::chrono::steady_clock::now() + kStopGrace);
  if (is_hung_) Logger().error("shutdown event=left_behind reason=\"a database call hangs\"");
  letters_->Close();
}

// What a hung call uses stays until it returns: the thread that waits for it owns it.
void WalTaskStorage::LeaveBehind() {
  if (!is_hung_) return;
  metrics_.reset();
  desk_.reset();
  control_.reset();
  overlay_.reset();
  queries_.reset();
  std::thread([log = std::move(log_), letters = std::move(letters_), gauge = std::move(gauge_),
               admission = std::move(admission_), targets = std::move(targets_)]() mutable {
    targets.reset();
  }).detach();
}

// What is left is safe in the log: the seal covers even its last record.
Status WalTaskStorage::StopParts(const Status& drained) {
  EndThreads();
  StopTargets();
  WriteMetricsFile(true);
  const Status sealed = log_->Close();
  readable_.store(false);
  const wal::Lsn flushed = targets_->flushed_lsn();
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
  const wal::Deadline deadline =
      mode == ShutdownMode::kGraceful ? MakeDeadline(timeout, {}) : wal::Deadline{};
  RunHandlers(mode, deadline);
  accepting_.store(false);
  admission_->Close();
  const Status result = StopParts(Drain(mode, deadline));
  MutexLock lock(mutex_);
  life_ = Life::kClosed;
  closed_with_ = result;
  changed_.NotifyAll();
  return result;
}

Status WalTaskStorage::OnShutdown(std::string name, std::function<void()> handler,
                                  std::chrono::milliseconds timeout) {
  return handlers_.Add(std::move(name), std::move(handler), timeout);
}

bool WalTaskStorage::IsShutdown() {
  MutexLock lock(mutex_);
  return life_ != Life::kOpen;
}

Status WalTaskStorage::Close() {
  return Shutdown(ShutdownMode::kGraceful, options_.shutdown_timeout);
}

WalTaskStorage::~WalTaskStorage() {
  if (accepting_.load()) IgnoreStatus(Close(), "what is not drained is safe in the log");
  EndThreads();
  LeaveBehind();
}

}  // namespace taskwal::pipeline
