#include "pipeline/wal_task_storage.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/logging.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "base/threads.h"
#include "pipeline/activity_context.h"
#include "pipeline/activity_id.h"
#include "pipeline/save_tasks_check.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;

constexpr auto kYear = std::chrono::hours(24 * 366);
constexpr auto kDrainSlice = std::chrono::seconds(1);
// How often it is looked whether calls are inside yet.
constexpr auto kCallsSlice = std::chrono::milliseconds(1);
// Threads get this long to end. Those in the midst of a call, which may hang, no longer than the
// deadline; but the least in any case, as most calls do come back.
constexpr std::chrono::nanoseconds kStopGrace = std::chrono::milliseconds(500);
constexpr std::chrono::nanoseconds kStopGraceLeast = std::chrono::milliseconds(10);
constexpr std::string_view kDatabaseCall = "a database call";

// Per thread, so that making an id takes no lock.
std::string_view MakeId(Time now, ActivityIdText* text) {
  thread_local Random random = Random::FromSystem();
  return MakeActivityId(now, random, text);
}

std::string ListOf(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
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

// When the call began, where that will be asked: reading the clock takes its time. To be asked
// first: to check 128 MiB takes its time, too.
Monotonic WalTaskStorage::StartOf(const WriteOptions& options) const {
  const bool is_process = options.durability.value_or(options_.durability) != Durability::kDisk;
  const bool returns_at_once = is_process && options.wait != WaitFor::kApplied;
  return !options.timeout || returns_at_once ? Monotonic{} : clock_.Now();
}

// Of its waiting, once it has an LSN. Without a timeout of the call's own, a sync takes as long as
// it takes.
wal::Deadline WalTaskStorage::EndOf(const WriteOptions& options, Monotonic start) const {
  if (options.timeout && *options.timeout < kYear) return {start + *options.timeout, options.stop};
  const bool has_end = !options.timeout && options.wait == WaitFor::kApplied;
  return has_end ? MakeDeadline(options_.block_timeout, options.stop)
                 : wal::Deadline{Monotonic::max(), options.stop};
}

WalTaskStorage::Place WalTaskStorage::HomeOf(std::string_view task_id) {
  return {storage::KeyOf(task_id), 0, Place::Rule::kHome};
}

template <typename Encode>
Result<wal::Lsn> WalTaskStorage::Append(OperationType type, Place* place, std::size_t bytes,
                                        Time now, const WriteOptions& options, Encode&& encode,
                                        std::int32_t rank) {
  const CallGate::Pass pass(gate_);
  if (!pass.is_open()) return ClosedError();
  if (place->rule == Place::Rule::kHome) place->target = targets_->HomeOf(place->key);
  const StageTimer timer(IsSampled() ? Timed(&times_.append) : nullptr, clock_);
  const wal::RecordHeader header{static_cast<std::uint8_t>(type), place->target, place->key,
                                 log_->NextStamp(now)};
  const Durability level = options.durability.value_or(options_.durability);
  const wal::Deadline end =
      log_->IsLarge(bytes) ? EndOf(options, clock_.Now()) : wal::Deadline{};
  const auto append = [&](const wal::Deadline& room_until) -> Result<wal::Lsn> {
    auto room = log_->Reserve(header, bytes, level, room_until);
    if (!room.ok()) return room.status();
    // Not before it has its LSN: a call that is refused uses no turn, and one that has waited goes
    // to whoever is healthy now.
    if (place->rule == Place::Rule::kTurn) place->target = targets_->NextForActivity();
    room->header.target = place->target;
    targets_->CountAppended(place->target);
    encode(room->body);
    const wal::Lsn lsn = room->lsn;
    TASKWAL_TRY(log_->Publish(std::move(room).value(), end));
    return lsn;
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
  return lsn;
}

Result<LetterDesk::Sent> WalTaskStorage::AppendRetry(const wal::RecordHeader& header,
                                                     std::span<const std::byte> body,
                                                     bool goes_home,
                                                     std::chrono::milliseconds timeout,
                                                     const std::stop_token& stop) {
  WriteOptions options;
  options.durability = Durability::kDisk;
  options.timeout = timeout;
  options.stop = stop;
  Place place{header.key, header.target, goes_home ? Place::Rule::kHome : Place::Rule::kGiven};
  TASKWAL_ASSIGN(const wal::Lsn lsn,
                 Append(static_cast<OperationType>(header.type), &place, body.size(),
                        clock_.WallNow(), options, [&](std::span<std::byte> into) {
                          std::copy(body.begin(), body.end(), into.begin());
                        }));
  return LetterDesk::Sent{lsn, place.target};
}

Status WalTaskStorage::Settle(wal::Lsn lsn, std::uint16_t target, const WriteOptions& options,
                              Monotonic start) {
  const Durability level = options.durability.value_or(options_.durability);
  Status settled;
  if (options.wait == WaitFor::kApplied) {
    settled = targets_->WaitFlushedIn(target, lsn, EndOf(options, start));
    if (settled.ok()) settled = log_->CheckKept(lsn);
  } else if (options.wait == WaitFor::kAcknowledged && level == Durability::kDisk) {
    const StageTimer timer(Timed(&times_.commit), clock_);
    settled = log_->WaitDurable(lsn, EndOf(options, start));
  }
  if (settled.ok()) return settled;
  return Status::InDoubt(settled.message(), lsn);
}

Result<Ack> WalTaskStorage::SaveTask(const Task& task, const WriteOptions& options) {
  const Monotonic start = StartOf(options);
  TASKWAL_TRY(storage::CheckTask(task));
  const Time now = clock_.WallNow();
  Place home = HomeOf(task.id);
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kTaskUpdate, &home, storage::EncodedBytes(task), now, options,
             [&](std::span<std::byte> into) {
               storage::Encode(task, now, into, Protects(options));
             }));
  TASKWAL_TRY(Settle(lsn, home.target, options, start));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::SaveTasks(std::span<const Task> tasks, const WriteOptions& options) {
  const Monotonic start = StartOf(options);
  TASKWAL_TRY(CheckSaveTasks(tasks));
  const Time now = clock_.WallNow();
  Place all{storage::KeyOf(tasks.front().id), targets_->ForAll()};
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kBatchUpdate, &all, storage::EncodedBytes(tasks), now, options,
             [&](std::span<std::byte> into) {
               storage::Encode(tasks, now, into, Protects(options));
             }));
  TASKWAL_TRY(Settle(lsn, all.target, options, start));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::UpdateTaskStatus(std::string_view id, TaskStatus status,
                                             std::string_view error, const WriteOptions& options) {
  const Monotonic start = StartOf(options);
  TASKWAL_TRY(storage::CheckStatusUpdate(id, error, status));
  const Time now = clock_.WallNow();
  Place home = HomeOf(id);
  TASKWAL_ASSIGN(const wal::Lsn lsn,
                 Append(OperationType::kStatusUpdate, &home,
                        storage::EncodedStatusUpdateBytes(id, error), now, options,
                        [&](std::span<std::byte> into) {
                          storage::EncodeStatusUpdate(id, {status, Protects(options)}, error, now,
                                                      into);
                        }));
  TASKWAL_TRY(Settle(lsn, home.target, options, start));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::DeleteTask(std::string_view id, const WriteOptions& options) {
  const Monotonic start = StartOf(options);
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  const Time now = clock_.WallNow();
  Place home = HomeOf(id);
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kTaskDelete, &home, storage::EncodedNameBytes(id), now, options,
             [&](std::span<std::byte> into) { storage::EncodeName(id, now, into); }));
  TASKWAL_TRY(Settle(lsn, home.target, options, start));
  return Ack{lsn};
}

Result<Ack> WalTaskStorage::DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) {
  const Monotonic start = StartOf(options);
  TASKWAL_TRY(storage::CheckId("dag_id", dag_id, true));
  const Time now = clock_.WallNow();
  Place all{storage::KeyOf(dag_id), targets_->ForAll()};
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kDagDelete, &all, storage::EncodedNameBytes(dag_id), now, options,
             [&](std::span<std::byte> into) { storage::EncodeName(dag_id, now, into); }));
  overlay_->NoteDagDelete(lsn);
  TASKWAL_TRY(Settle(lsn, all.target, options, start));
  return Ack{lsn};
}

Result<ActivityAck> WalTaskStorage::LogActivity(const Activity& activity,
                                                const WriteOptions& options) {
  if (activity.level < options_.min_activity_level && !options.keep) {
    if (!gate_.is_open()) return ClosedError();
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
  const Monotonic start = StartOf(options);
  TASKWAL_TRY(storage::CheckActivity(activity));
  const Time now = clock_.WallNow();
  ActivityIdText made;
  const std::string_view id = activity.id.empty() ? MakeId(now, &made) : activity.id;
  const std::string_view owner = activity.task_id.empty() ? activity.dag_id : activity.task_id;
  Place next{storage::KeyOf(owner), 0, Place::Rule::kTurn};
  TASKWAL_ASSIGN(
      const wal::Lsn lsn,
      Append(OperationType::kActivityLog, &next, storage::EncodedBytes(activity, id), now, options,
             [&](std::span<std::byte> into) {
               storage::Encode(activity, id, activity.created_at.value_or(now), into);
             },
             options.keep ? kTaskRank : activity.priority));
  TASKWAL_TRY(Settle(lsn, next.target, options, start));
  return ActivityAck{lsn, activity.id.empty() ? std::string(id) : std::string()};
}

Status WalTaskStorage::Wait(std::uint64_t lsn, WaitFor what, Durability level,
                            std::chrono::milliseconds timeout) {
  if (lsn == 0 || lsn > log_->end_lsn()) {
    return Status::InvalidArgument("LSN " + std::to_string(lsn) + " was never given out");
  }
  if (what == WaitFor::kApplied) {
    TASKWAL_TRY(targets_->WaitFlushed(lsn, MakeDeadline(timeout, {})));
    return log_->CheckKept(lsn);
  }
  if (what == WaitFor::kAppended || level != Durability::kDisk) return Status::Ok();
  const StageTimer timer(Timed(&times_.commit), clock_);
  return log_->WaitDurable(lsn, MakeDeadline(timeout, {}));
}

// --- reading
// -----------------------------------------------------------------------------------------

Status WalTaskStorage::CheckReadable(Consistency consistency, const CallLimits& limits) {
  if (!readable_.load()) return ClosedError();
  if (consistency == Consistency::kEventual) return Status::Ok();
  const auto timeout = limits.timeout.value_or(options_.database_timeout);
  return targets_->WaitFlushed(log_->end_lsn(), MakeDeadline(timeout, limits.stop));
}

Result<Task> WalTaskStorage::GetTask(std::string_view id, const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable());
  TASKWAL_TRY(storage::CheckId("task_id", id, true));
  const StageTimer timer(Timed(&times_.read), clock_);
  return overlay_->GetTask(id, end);
}

Result<TaskPage> WalTaskStorage::QueryTasks(const TaskQuery& query, const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable(query.paging.consistency, limits));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->QueryTasks(query, end);
}

Result<TaskPage> WalTaskStorage::ResumableTasks(Paging paging, const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable(paging.consistency, limits));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->ResumableTasks(paging, end);
}

Result<ActivityPage> WalTaskStorage::QueryActivities(const ActivityQuery& query,
                                                     const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable(query.paging.consistency, limits));
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->QueryActivities(query, end);
}

Result<StoredCounts> WalTaskStorage::Count(const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable());
  const StageTimer timer(Timed(&times_.read), clock_);
  return queries_->Count(end);
}

// --- clean-up
// ----------------------------------------------------------------------------------------

Result<std::uint64_t> WalTaskStorage::CleanupOldTasks(Time before,
                                                      std::vector<TaskStatus> statuses,
                                                      const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable());
  // What the log still holds of a task comes after the row: the row is no measure of its age.
  return queries_->CleanupTasks(
      before, statuses,
      [&](const std::string& id) { return overlay_->HasUnflushed(id, end); }, end);
}

Result<std::uint64_t> WalTaskStorage::CleanupOldActivityLogs(Time before,
                                                             const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable());
  return queries_->CleanupActivities(before, end);
}

Status WalTaskStorage::Ping(const CallLimits& limits) {
  const auto end = DatabaseCalls::EndOf(limits);
  TASKWAL_TRY(CheckReadable());
  return queries_->Ping(end);
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
  if (stats.alarm.empty() && log.lacks_segment) stats.alarm = "the log is full: " + log.full_reason;
  if (stats.alarm.empty()) stats.alarm = LetterAlarm(stats.dead_letters);
  return stats;
}

Status WalTaskStorage::SetTargetHealth(std::string_view name, bool in_service) {
  TASKWAL_TRY(CheckReadable());
  return targets_->SetHealth(name, in_service);
}

Status WalTaskStorage::Rebalance(std::chrono::milliseconds drain_timeout,
                                 const MoveProgress& on_progress) {
  TASKWAL_TRY(CheckReadable());
  const wal::Deadline deadline = MakeDeadline(drain_timeout, {});
  const bool was_open = gate_.Shut();
  Status ready = AwaitCalls(deadline);
  if (ready.ok()) ready = Drain(ShutdownMode::kGraceful, deadline);
  // What a broken log cannot bring is brought by the next open, to the homes of now.
  if (ready.ok() && targets_->flushed_lsn() < log_->end_lsn()) ready = log_->health();
  if (ready.ok()) ready = targets_->CatchUp(deadline);
  // One that was cut short leaves the door shut: an update must not come to the new home of a task
  // before the task does. The next open goes on with it.
  if (ready.ok()) TASKWAL_TRY(targets_->Rebalance(deadline, on_progress));
  MutexLock lock(mutex_);
  // A shutdown may have come meanwhile.
  if (was_open && life_ == Life::kOpen) gate_.Open();
  return ready;
}

// A call that came through the door before it was shut may wait for room, its home chosen.
Status WalTaskStorage::AwaitCalls(const wal::Deadline& deadline) const {
  while (!gate_.IsEmpty()) {
    if (clock_.Now() >= deadline.at) {
      return Status::Unavailable("calls are under way that wait for room");
    }
    std::this_thread::sleep_for(kCallsSlice);
  }
  return Status::Ok();
}

// --- the end
// -----------------------------------------------------------------------------------------

Status WalTaskStorage::Flush(std::chrono::milliseconds timeout) {
  TASKWAL_TRY(CheckReadable());
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

// Some of the time is kept for what hangs, so that it is over with all that by the deadline.
wal::Deadline WalTaskStorage::DeadlineOf(ShutdownMode mode, std::chrono::milliseconds timeout) {
  if (mode != ShutdownMode::kGraceful) return {};
  const auto kept = std::min<std::chrono::nanoseconds>(kStopGrace, timeout / 2);
  return {MakeDeadline(timeout, {}).at - kept, {}};
}

// For another shutdown that came first.
Monotonic WalTaskStorage::WaitsUntil(ShutdownMode mode, std::chrono::milliseconds timeout) const {
  switch (mode) {
    case ShutdownMode::kGraceful: return MakeDeadline(timeout, {}).at;
    case ShutdownMode::kImmediate: return clock_.Now() + kStopGrace;
    case ShutdownMode::kFlushPending: break;
  }
  return Monotonic::max();
}

std::vector<std::string> WalTaskStorage::RunHandlers(ShutdownMode mode,
                                                     const wal::Deadline& deadline) {
  const Monotonic now = clock_.Now();
  const bool are_together = mode == ShutdownMode::kFlushPending;
  const Monotonic until = mode == ShutdownMode::kImmediate ? now + kStopGrace : deadline.at;
  return are_together ? handlers_.RunTogether(now + options_.shutdown_timeout)
                      : handlers_.RunInTurn(until);
}

// Returns what hangs: it is left to its thread. Nothing that it may still do touches the directory,
// and what a database call has committed by then is found by the next open.
std::vector<std::string> WalTaskStorage::StopThreads(std::optional<Monotonic> end) {
  targets_->StopBy({});  // told before they are waited for
  const bool may_hang = targets_->IsInCall() || !callbacks_->Underway().empty();
  const auto grace = end && may_hang ? std::clamp<std::chrono::nanoseconds>(
                                           *end - clock_.Now(), kStopGraceLeast, kStopGrace)
                                     : kStopGrace;
  const auto until = std::chrono::steady_clock::now() + grace;
  const bool has_monitor_ended = monitor_ == nullptr || monitor_->StopBy(until);
  const bool have_targets_ended = targets_->StopBy(until);
  letters_->Close();
  is_hung_ = !has_monitor_ended || !have_targets_ended;
  if (!is_hung_) return {};
  std::vector<std::string> hanging = callbacks_->Underway();
  const bool is_callback = std::any_of(hanging.begin(), hanging.end(), [](const auto& name) {
    return name != "on_pressure";  // the monitor's
  });
  if (!have_targets_ended && !is_callback) hanging.emplace_back(kDatabaseCall);
  return hanging;
}

// What a hung thread uses stays until it returns: the thread that waits for it owns it.
void WalTaskStorage::LeaveBehind() {
  if (!is_hung_) return;
  metrics_.reset();
  desk_.reset();
  control_.reset();
  overlay_.reset();
  queries_.reset();
  struct Left {  // the last ends first
    std::unique_ptr<wal::Log> log;
    std::unique_ptr<DeadLetters> letters;
    std::unique_ptr<LoadGauge> gauge;
    std::unique_ptr<Admission> admission;
    std::unique_ptr<TargetSet> targets;
    std::unique_ptr<MonitorThread> monitor;
  };
  EndElsewhere(std::make_unique<Left>(Left{std::move(log_), std::move(letters_),
                                           std::move(gauge_), std::move(admission_),
                                           std::move(targets_), std::move(monitor_)}));
}

// What is left is safe in the log: the seal covers even its last record.
Status WalTaskStorage::StopParts(const Status& drained, std::vector<std::string> hanging,
                                 std::optional<Monotonic> until) {
  for (std::string& name : StopThreads(until)) hanging.push_back(std::move(name));
  WriteMetricsFile(true);
  Status sealed = log_->Close([this] { return targets_->turns(); });
  readable_.store(false);
  std::string left = ListOf(hanging);
  if (!left.empty()) Logger().error("shutdown event=left_behind what=\"{}\"", left);
  if (!left.empty()) left = "; left behind, as it does not return: " + left;
  const wal::Lsn flushed = targets_->flushed_lsn();
  const wal::Lsn end = log_->end_lsn();
  // Not "try again", as of a call that found no room.
  if (sealed.code() == StatusCode::kOverloaded) return Status::IoError(sealed.message());
  if (!sealed.ok()) return sealed;
  if (flushed < end && drained.code() == StatusCode::kFenced) return drained;
  if (flushed < end) {
    const std::string why = drained.ok() ? std::string() : " (" + drained.message() + ")";
    return Status::Unavailable("not drained: LSN " + std::to_string(flushed + 1) + " to " +
                               std::to_string(end) + " are not in the database yet, and safe in " +
                               options_.wal_dir + why + left);
  }
  // A database call that hangs is nothing to anybody once everything is there; the user's code is.
  const bool is_users = !hanging.empty() && hanging.front() != kDatabaseCall;
  if (is_users) return Status::Unavailable("everything is in the database" + left);
  return Status::Ok();
}

Status WalTaskStorage::Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) {
  {
    MutexLock lock(mutex_);
    const Monotonic until = WaitsUntil(mode, timeout);
    while (life_ == Life::kClosing) {
      const std::chrono::nanoseconds left = until - clock_.Now();
      if (left.count() <= 0) return Status::Unavailable("another shutdown is still under way");
      changed_.WaitFor(mutex_, std::min<std::chrono::nanoseconds>(left, kDrainSlice));
    }
    if (life_ == Life::kClosed) return closed_with_;
    life_ = Life::kClosing;
  }
  std::optional<Monotonic> end;
  if (mode == ShutdownMode::kGraceful) end = MakeDeadline(timeout, {}).at;
  const wal::Deadline deadline = DeadlineOf(mode, timeout);
  std::vector<std::string> hanging = RunHandlers(mode, deadline);
  gate_.Shut();
  admission_->Close();
  const Status result = StopParts(Drain(mode, deadline), std::move(hanging), end);
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
  if (readable_.load()) IgnoreStatus(Close(), "what is not drained is safe in the log");
  // A bounded call may have begun while the log was being closed.
  if (targets_ != nullptr && !targets_->StopBy({})) is_hung_ = true;
  LeaveBehind();
}

}  // namespace taskwal::pipeline
