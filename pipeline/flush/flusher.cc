#include "pipeline/flush/flusher.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "base/threads.h"
#include "pipeline/error_hook.h"
#include "pipeline/flush/flusher_impl.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;

constexpr auto kReaderPoll = std::chrono::milliseconds(50);
constexpr std::chrono::nanoseconds kNoContactPause = std::chrono::seconds(1);
constexpr auto kRetireEvery = std::chrono::seconds(1);
constexpr std::uint64_t kRetireBatches = 1000;
constexpr std::size_t kPartitionBytesMin = 64u << 10;

std::uint32_t WorkersMax(const wal::Log& log, const storage::Backend& backend,
                         const Options& options) {
  // What others may have open was settled with what was to be the flusher's.
  const std::uint32_t most = options.max_open_conns > 0 ? FlushConnections(backend, options)
                                                        : backend.writers_max();
  return std::max(1u, std::min(most, log.state().partitions));
}

PartitionQueues::Limits LimitsOf(const wal::Log& log, const storage::Backend& backend,
                                 const Options& options) {
  PartitionQueues::Limits limits;
  limits.partitions = log.state().partitions;
  limits.workers = std::clamp(options.worker_count, 1u, WorkersMax(log, backend, options));
  // A sixth of the bound; the rest is for frames, and for the batches in hand: decoded, composed
  // and bound to statements, where a large record is there several times.
  limits.partition_bytes = std::max<std::size_t>(options.memory_bytes / 6 / limits.partitions,
                                                 kPartitionBytesMin);
  limits.bytes = limits.partition_bytes * limits.partitions;
  limits.batch_records = std::max(options.batch_size, 1u);
  limits.batch_bytes = options.batch_bytes;
  limits.due_records = std::max(options.max_buffer_size, 1u);
  limits.due_age = options.flush_interval;
  limits.linger = options.flush_linger;
  limits.work_stealing = options.work_stealing;
  return limits;
}

}  // namespace
Flusher::Impl::Impl(wal::Log& log_in, storage::Backend& backend_in, DeadLetters& letters_in,
                    Clock& clock_in, const Options& options_in, FileSystem& fs_in,
                    FlushTarget target_in)
    : log(log_in),
      backend(backend_in),
      letters(letters_in),
      clock(clock_in),
      options(options_in),
      fs(fs_in),
      target(std::move(target_in)),
      queues(LimitsOf(log_in, backend_in, options_in)),
      breaker(BreakerLimitsOf(options), [this](BreakerState from, BreakerState to) {
        TellBreaker(from, to);
      }),
      sizer(options),
      setting{backend, queues, letters, breaker, counters, guard, connections, clock, options,
              [this](std::uint64_t stamp) { log.RaiseStamp(stamp); }, target.keep_share,
              target.number, target.gauge, &sizer, target.is_last},
      feeder(log, queues, letters, counters, clock, options, target),
      retry(options),
      random(Random::FromSystem()) {
  const wal::LogState state = wal::StateOfTarget(log.state(), target.number);
  Random seeds = Random::FromSystem();
  // As many as there may ever be; only those that own partitions have threads and connections.
  for (std::uint32_t i = 0; i < WorkersMax(log, backend, options); ++i) {
    workers.push_back(std::make_unique<FlushWorker>(setting, i, seeds.Next()));
  }
  // Until the database is met, what STATE confirms holds for the database that it names.
  const bool is_confirmed = !state.copied && !backend.is_volatile() && !state.db_id.IsZero();
  const Lsn settled = is_confirmed ? std::max(state.flushed_lsn, state.first_lsn - 1)
                                   : state.first_lsn - 1;
  queues.Reset(std::vector<Lsn>(state.partitions, settled), std::vector<Lsn>(state.partitions, 0));
  start = retired = settled;
  retired_at = clock.Now();
}

void Flusher::Impl::TellBreaker(BreakerState from, BreakerState to) const {
  // A trial that fails changes nothing that anybody should hear of.
  const bool is_news = from == BreakerState::kClosed || to == BreakerState::kClosed;
  Logger().log(is_news ? spdlog::level::warn : spdlog::level::debug,
               "flusher event=breaker db={} from={} to={}", backend.name(),
               BreakerStateName(from), BreakerStateName(to));
  if (!options.on_breaker) return;
  options.on_breaker({backend.name(), std::string(BreakerStateName(from)),
                      std::string(BreakerStateName(to))});
}
// --- steps -------------------------------------------------------------------------------------

bool Flusher::Impl::EnterStep() {
  MutexLock lock(mutex);
  if (phase != Phase::kRunning) return false;
  ++in_step;
  return true;
}

void Flusher::Impl::LeaveStep() {
  MutexLock lock(mutex);
  --in_step;
  phase_changed.NotifyAll();
}

bool Flusher::Impl::ReaderStep() {
  bool has_contact = false;
  {
    MutexLock lock(mutex);
    if (phase == Phase::kFenced) return false;
    has_contact = phase == Phase::kRunning;
  }
  if (!has_contact) {
    const Monotonic now = clock.Now();
    if (now < ContactAt(now) || !breaker.Allow(now, queues.awaited_lsn() > 0)) return false;
    return Contact().ok();
  }
  bool has_read = false;
  {
    const InStep step(*this);
    has_read = step.ok() && feeder.Step();
  }
  MaybeRetire(false);
  return has_read;
}

// The reader must not end silently, whatever happens: it goes on where it was.
bool Flusher::Impl::TryReaderStep() {
  try {
    return ReaderStep();
  } catch (const std::exception& e) {
    ReaderThrew(e.what());
  } catch (...) {
    ReaderThrew("an exception of unknown type");
  }
  return false;
}

void Flusher::Impl::ReaderThrew(const std::string& what) {
  const Time now = clock.WallNow();
  counters.Update([&](FlusherStats& stats) { stats.CountError(what, now); });
  if (counters.RaiseAlarm(FlushCounters::kReader, what)) {
    Logger().error("flusher event=reader_threw error=\"{}\"", what);
  }
  TellError(options, {"reader", backend.name(), 0, what});
}

std::pair<FlushWorker::Turn, std::chrono::nanoseconds> Flusher::Impl::WorkerStep(
    std::size_t index) {
  FlushWorker& worker = *workers[index];
  FlushWorker::Turn turn = FlushWorker::Turn::kIdle;
  std::chrono::nanoseconds wait = kNoContactPause;
  {
    const InStep step(*this);
    if (!step.ok()) return {turn, wait};
    turn = worker.Step();
    wait = worker.NextTurnIn();
  }
  if (turn == FlushWorker::Turn::kMeetAgain) MeetAgain();
  if (turn == FlushWorker::Turn::kFenced) Fence(worker.fenced());
  return {turn, wait};
}

// What is settled may leave the disk; not asked at every batch, as nothing goes before a segment is
// full.
void Flusher::Impl::MaybeRetire(bool now) {
  {
    MutexLock lock(mutex);
    if (phase == Phase::kFenced || !was_met || before_setback) return;
  }
  const std::uint64_t batches = counters.flush_operations();
  const bool is_due = batches - retired_batches >= kRetireBatches ||
                      clock.Now() - retired_at >= kRetireEvery;
  if (!is_due && !now) return;
  const auto [settled, watermarks] = queues.Positions();
  if (settled == retired) return;
  const std::vector<Lsn> none;
  // The watermarks of a database that forgets must not be missed in the next one.
  const Status status = log.Retire(settled, backend.is_volatile() ? none : watermarks,
                                   target.number);
  if (!status.ok()) {
    Logger().warn("flusher event=retire_failed lsn={} error=\"{}\"", settled, status.ToString());
  }
  retired = settled;
  retired_batches = batches;
  retired_at = clock.Now();
}

// --- threads -----------------------------------------------------------------------------------

void Flusher::Impl::RunReader(const std::stop_token& stop) {
  for (;;) {
    // Before looking for a stop: Stop asks first and wakes then.
    const std::uint64_t seen = queues.change();
    if (stop.stop_requested()) return;
    if (TryReaderStep()) continue;
    Phase now_in;
    {
      MutexLock lock(mutex);
      now_in = phase;
    }
    if (now_in == Phase::kRunning) {
      feeder.WaitForMore(kReaderPoll, stop);
    } else if (now_in == Phase::kFenced) {
      queues.WaitForChange(seen, kNoContactPause);
    } else {
      const Monotonic now = clock.Now();
      queues.WaitForChange(seen, ContactAt(now) - now);
    }
  }
}

void Flusher::Impl::RunWorker(const std::stop_token& stop, std::size_t index) {
  for (;;) {
    const std::uint64_t seen = queues.change();
    if (stop.stop_requested() || TryRetireWorker(index)) return;
    const auto [turn, wait] = WorkerStep(index);
    if (turn != FlushWorker::Turn::kProgress) queues.WaitForChange(seen, wait);
  }
}

// True when the worker owns nothing any more and its thread is to end.
bool Flusher::Impl::TryRetireWorker(std::size_t index) {
  if (index < queues.workers()) return false;
  const InStep step(*this);
  if (!step.ok() || !workers[index]->Retire()) return false;
  MutexLock lock(mutex);
  // It may have been called back meanwhile.
  if (index < queues.workers()) return false;
  is_running[index] = false;
  return true;
}

// Their stacks are kept until they are joined. Those that have not ended are not waited for: they
// may hang in a call of the database.
std::vector<std::jthread> Flusher::Impl::TakeEnded() {
  std::vector<std::jthread> over;
  for (const std::thread::id id : std::exchange(ended, {})) {
    const auto thread = std::find_if(threads.begin(), threads.end(),
                                     [id](const auto& one) { return one.get_id() == id; });
    over.push_back(std::move(*thread));
    threads.erase(thread);
  }
  return over;
}

Status Flusher::Impl::Spawn(std::function<void()> body) {
  TASKWAL_ASSIGN(std::jthread thread, StartThread<std::jthread>([this, body = std::move(body)] {
                   body();
                   Ended();
                 }));
  ++running;
  threads.push_back(std::move(thread));
  return Status::Ok();
}

// Where not all can be started it is left at those that are running: they get all the partitions.
Status Flusher::Impl::StartWorkers() {
  std::vector<std::jthread> over;  // joined at the end, without the lock
  MutexLock lock(mutex);
  over = TakeEnded();
  if (!is_started || stopping.stop_requested()) return Status::Ok();
  is_running.resize(workers.size());
  const std::uint32_t all = queues.workers();
  for (std::uint32_t i = 0; i < all; ++i) {
    if (is_running[i]) continue;
    const Status started = Spawn([this, i] { RunWorker(stopping.get_token(), i); });
    if (!started.ok()) {
      if (i > 0) queues.SetWorkers(i);
      return Status::Unavailable(backend.name() + ": " + std::to_string(i) + " of " +
                                 std::to_string(all) + " workers run: " + started.message());
    }
    is_running[i] = true;
  }
  return Status::Ok();
}

void Flusher::Impl::Ended() {
  MutexLock lock(mutex);
  ended.push_back(std::this_thread::get_id());
  --running;
  phase_changed.NotifyAll();
}

bool Flusher::Impl::IsRunning() {
  MutexLock lock(mutex);
  return running > 0;
}

bool Flusher::Impl::StopBy(std::optional<std::chrono::steady_clock::time_point> until) {
  stopping.request_stop();
  queues.Wake();
  if (IsRunning()) log.WakeReaders();  // else the log may be gone
  std::vector<std::jthread> over;
  {
    MutexLock lock(mutex);
    bool in_time = true;
    while (running > 0 && in_time) {
      in_time = until ? phase_changed.WaitUntil(mutex, *until) : (phase_changed.Wait(mutex), true);
    }
    if (running > 0) return false;
    over.swap(threads);
    ended.clear();
  }
  over.clear();
  {
    MutexLock lock(mutex);
    if (is_stopped) return true;
    is_stopped = true;
  }
  MaybeRetire(true);
  queues.Interrupt();
  return true;
}

// --- the interface -----------------------------------------------------------------------------

std::uint32_t FlushConnections(const storage::Backend& backend, const Options& options) {
  std::uint32_t most = std::min(options.worker_count, backend.writers_max());
  if (options.max_open_conns > 0) most = std::min(most, std::max(options.max_open_conns, 2u) - 1);
  return std::max(1u, most);
}

Flusher::Flusher(wal::Log& log, storage::Backend& backend, DeadLetters& letters, Clock& clock,
                 const Options& options, FileSystem& fs, FlushTarget target)
    : impl_(std::make_unique<Impl>(log, backend, letters, clock, options, fs,
                                   std::move(target))) {}

Flusher::~Flusher() { Stop(); }

Status Flusher::MeetAgain() {
  // One that forgets has nothing to be caught up with.
  if (impl_->backend.is_volatile()) return Status::Ok();
  impl_->MeetAgain();
  return impl_->Contact();
}

Status Flusher::Contact() {
  // Counted as a request; at open the breaker lets everything through.
  static_cast<void>(impl_->breaker.Allow(impl_->clock.Now(), true));
  return impl_->Contact();
}

Lsn Flusher::FixStart(bool is_read) {
  MutexLock lock(impl_->mutex);
  impl_->is_start_fixed = true;
  impl_->is_backlog_read = is_read;
  return impl_->start;
}

void Flusher::StartBooksAt(Lsn lsn) {
  impl_->feeder.CountAsRegained(lsn);
  MutexLock lock(impl_->mutex);
  impl_->is_start_fixed = true;
  impl_->start = lsn;
  impl_->are_books_at_end = true;
  // A first contact made since FixStart has counted what it found as part of a backlog.
  impl_->counters.Update([found = impl_->found_at_contact](FlusherStats& stats) {
    stats.regained += found;
  });
}

Status Flusher::Start() {
  Impl& impl = *impl_;
  {
    MutexLock lock(impl.mutex);
    if (impl.stopping.stop_requested()) return Status::Ok();
    if (!impl.is_started) {
      TASKWAL_TRY(impl.Spawn([&impl] { impl.RunReader(impl.stopping.get_token()); }));
      impl.is_started = true;
    }
  }
  return impl.StartWorkers();
}

void Flusher::Stop() { impl_->StopBy(std::nullopt); }

bool Flusher::StopBy(std::chrono::steady_clock::time_point until) { return impl_->StopBy(until); }

bool Flusher::IsInCall() const {
  MutexLock lock(impl_->mutex);
  return impl_->in_step > 0 || impl_->phase == Impl::Phase::kContacting;
}

bool Flusher::Step() {
  bool has_worked = impl_->TryReaderStep();
  for (std::size_t i = 0; i < impl_->workers.size(); ++i) {
    const FlushWorker::Turn turn = impl_->WorkerStep(i).first;
    has_worked = has_worked || turn == FlushWorker::Turn::kProgress ||
                 turn == FlushWorker::Turn::kMeetAgain;
  }
  return has_worked;
}

wal::Lsn Flusher::flushed_lsn() const { return impl_->queues.settled_lsn(); }

wal::Lsn Flusher::flushed_lsn(std::uint32_t partition) const {
  return impl_->queues.settled_lsn(partition);
}

Status Flusher::WaitFlushed(wal::Lsn lsn, const wal::Deadline& deadline) {
  if (impl_->queues.WaitSettled(lsn, deadline, impl_->clock)) return Status::Ok();
  TASKWAL_TRY(health());
  const std::string alarm = impl_->counters.Snapshot().alarm;
  return Status::Unavailable("not in the database in time" + (alarm.empty() ? "" : ": " + alarm));
}

FlusherStats Flusher::GetStats() const {
  FlusherStats stats;
  impl_->counters.Transfer([&] {
    stats = impl_->counters.Snapshot();
    stats.unsettled = impl_->queues.Unsettled();
    stats.read_lsn = impl_->queues.next_lsn() - 1;
  });
  stats.breaker_state = BreakerStateName(impl_->breaker.state());
  return stats;
}

void Flusher::ResetBreaker() {
  impl_->breaker.Reset();
  impl_->queues.Wake();
}

void Flusher::PinBatchSize(std::optional<std::uint32_t> records) {
  impl_->sizer.Pin(records);
  impl_->queues.SetBatchRecords(impl_->sizer.size());
}

Status Flusher::SetWorkerCount(std::uint32_t workers) {
  const auto most = static_cast<std::uint32_t>(impl_->workers.size());
  impl_->queues.SetWorkers(std::clamp(workers, 1u, most));
  return impl_->StartWorkers();
}

TargetFlow Flusher::Flow() const {
  TargetFlow flow;
  flow.batch_size = impl_->sizer.Snapshot();
  flow.breaker = impl_->breaker.Snapshot(impl_->clock.Now());
  const std::uint32_t active = impl_->queues.workers();
  auto workers = impl_->counters.workers();
  for (std::uint32_t i = 0; i < active; ++i) workers[i].index = i;
  for (auto& [index, worker] : workers) {
    worker.active = index < active;
    flow.workers.push_back(worker);
  }
  const PartitionQueues::Fill fill = impl_->queues.fill();
  flow.queued_records = fill.records;
  flow.queued_bytes = fill.bytes;
  flow.queue_utilization = fill.utilization;
  return flow;
}

void Flusher::ResetTimes() { impl_->counters.ResetTimes(); }

Status Flusher::health() const {
  MutexLock lock(impl_->mutex);
  return impl_->fenced;
}

}  // namespace taskwal::pipeline
