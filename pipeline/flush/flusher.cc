#include "pipeline/flush/flusher.h"

#include <algorithm>
#include <exception>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/flush/batch_sizer.h"
#include "pipeline/flush/circuit_breaker.h"
#include "pipeline/flush/database_contact.h"
#include "pipeline/flush/flush_counters.h"
#include "pipeline/flush/flush_worker.h"
#include "pipeline/flush/log_feeder.h"
#include "pipeline/flush/partition_queues.h"
#include "pipeline/flush/retry_policy.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;

constexpr auto kReaderPoll = std::chrono::milliseconds(50);
constexpr std::chrono::nanoseconds kShortestPause = std::chrono::milliseconds(10);
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
  // A quarter of the bound; the rest is for frames, and for the batches in hand: decoded, composed
  // and bound to statements.
  limits.partition_bytes = std::max<std::size_t>(options.memory_bytes / 4 / limits.partitions,
                                                 kPartitionBytesMin);
  limits.batch_records = std::max(options.batch_size, 1u);
  limits.batch_bytes = options.batch_bytes;
  limits.due_records = std::max(options.max_buffer_size, 1u);
  limits.due_age = options.flush_interval;
  limits.linger = options.flush_linger;
  limits.work_stealing = options.work_stealing;
  return limits;
}

}  // namespace

// Lock order: none of the parts calls another under its own lock. `mutex` guards the phase alone.
struct Flusher::Impl {
  using BreakerState = CircuitBreaker::State;

  Impl(wal::Log& log_in, storage::Backend& backend_in, DeadLetters& letters_in, Clock& clock_in,
       const Options& options_in, FileSystem& fs_in, FlushTarget target_in);

  //   no contact ─▶ contacting ─▶ running        fenced: for good
  //       ▲  ▲───────────┘           │
  //       └────── database went back ┘
  enum class Phase : std::uint8_t { kNoContact, kContacting, kRunning, kFenced };

  Status Contact();
  Status TryContact();
  Status NoteSetback(const pipeline::Contact& contact);
  void Adopt(pipeline::Contact contact);
  Status ContactFailed(const Status& status);
  [[nodiscard]] Monotonic ContactAt(Monotonic now) const;

  // While one lives no contact is made; not ok() where there is none to work with.
  class InStep {
   public:
    explicit InStep(Impl& impl) : impl_(impl), ok_(impl.EnterStep()) {}
    ~InStep() {
      if (ok_) impl_.LeaveStep();
    }
    InStep(const InStep&) = delete;
    InStep& operator=(const InStep&) = delete;
    [[nodiscard]] bool ok() const { return ok_; }

   private:
    Impl& impl_;
    const bool ok_;
  };
  bool EnterStep();
  void LeaveStep();
  bool ReaderStep();
  bool TryReaderStep();
  std::pair<FlushWorker::Turn, std::chrono::nanoseconds> WorkerStep(std::size_t index);
  void MeetAgain();
  void Fence(const Status& why);
  void MaybeRetire(bool now);
  void TellBreaker(BreakerState from, BreakerState to) const;

  void RunReader(const std::stop_token& stop);
  void RunWorker(const std::stop_token& stop, std::size_t index);
  bool TryRetireWorker(std::size_t index);
  void StartWorkers() EXCLUDES(mutex);
  void Ended() EXCLUDES(mutex);
  bool StopBy(std::optional<std::chrono::steady_clock::time_point> until) EXCLUDES(mutex);

  wal::Log& log;
  storage::Backend& backend;
  DeadLetters& letters;
  Clock& clock;
  const Options options;
  FileSystem& fs;
  const FlushTarget target;

  PartitionQueues queues;
  CircuitBreaker breaker;
  BatchSizer sizer;
  FlushCounters counters;
  FlushSetting setting;
  LogFeeder feeder;                                   // the reader thread's
  std::vector<std::unique_ptr<FlushWorker>> workers;  // each its thread's
  const RetryPolicy retry;

  mutable Mutex mutex;
  CondVar phase_changed;
  Phase phase GUARDED_BY(mutex) = Phase::kNoContact;
  std::uint32_t in_step GUARDED_BY(mutex) = 0;
  Status fenced GUARDED_BY(mutex);
  bool was_met GUARDED_BY(mutex) = false;
  bool is_stopped GUARDED_BY(mutex) = false;
  std::uint32_t contact_failures GUARDED_BY(mutex) = 0;
  Monotonic contact_failed_at GUARDED_BY(mutex){};
  std::chrono::milliseconds contact_pause GUARDED_BY(mutex){0};
  Random random GUARDED_BY(mutex);

  // The reader thread's, and Stop's behind it.
  Lsn retired = 0;
  std::uint64_t retired_batches = 0;
  Monotonic retired_at{};

  // A thread for each worker that runs, and the reader's; they end by themselves, told to or (a
  // worker) when it owns nothing any more.
  std::vector<bool> is_running GUARDED_BY(mutex);  // by worker
  std::uint32_t running GUARDED_BY(mutex) = 0;     // threads
  bool is_started GUARDED_BY(mutex) = false;
  std::stop_source stopping;
  std::vector<std::jthread> threads GUARDED_BY(mutex);
};

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
      setting{backend, queues, letters, breaker, counters, clock, options,
              [this](std::uint64_t stamp) { log.RaiseStamp(stamp); }, target.keep_share,
              target.number, target.gauge, &sizer},
      feeder(log, queues, letters, counters, clock, options, target.number),
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
  retired = settled;
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

// --- contact -----------------------------------------------------------------------------------

Status Flusher::Impl::Contact() {
  {
    MutexLock lock(mutex);
    while (phase == Phase::kContacting) phase_changed.Wait(mutex);
    if (phase == Phase::kRunning) return Status::Ok();
    if (phase == Phase::kFenced) return fenced;
    phase = Phase::kContacting;
    while (in_step > 0) phase_changed.Wait(mutex);
  }
  Status status;
  try {
    status = TryContact();
  } catch (const std::exception& e) {
    status = ContactFailed(Status::Unavailable(backend.name() + ": " + e.what()));
  } catch (...) {
    status = ContactFailed(Status::Unavailable(backend.name() + ": an exception of unknown type"));
  }
  {
    MutexLock lock(mutex);
    phase = status.ok() ? Phase::kRunning : Phase::kNoContact;
    phase_changed.NotifyAll();
  }
  if (status.code() == StatusCode::kFenced) Fence(status);
  queues.Wake();
  return status;
}

Status Flusher::Impl::TryContact() {
  wal::LogState confirmed = wal::StateOfTarget(log.state(), target.number);
  bool was_met_before = false;
  {
    MutexLock lock(mutex);
    was_met_before = was_met;
  }
  if (was_met_before) {
    // STATE is behind what this process has seen committed.
    std::tie(confirmed.flushed_lsn, confirmed.watermarks) = queues.Positions();
  }
  // Theirs are as good as lost, and one is needed here.
  for (auto& worker : workers) worker->Disconnect();
  const ContactParties parties{log, backend, fs, options.wal_dir, target.number,
                               target.may_take_identity, target.databases};
  auto contact = ContactDatabase(parties, confirmed);
  if (!contact.ok()) return ContactFailed(contact.status());
  if (contact->went_back) {
    const Status noted = NoteSetback(*contact);
    if (!noted.ok()) return ContactFailed(noted);
  }
  Adopt(std::move(contact).value());
  return Status::Ok();
}

// The database is behind what it had confirmed: segments that were settled are needed again, and
// what is gone of them is declared before the watermark passes it.
Status Flusher::Impl::NoteSetback(const pipeline::Contact& contact) {
  const Lsn settled = *std::min_element(contact.start.begin(), contact.start.end());
  TASKWAL_TRY(log.Retire(settled, contact.stored, target.number));
  if (contact.missing.empty()) return Status::Ok();
  DeadLetter loss;
  loss.kind = DeadLetter::Kind::kLoss;
  loss.wal_id = contact.identity.OwnerOf(contact.missing.from);
  loss.lsns = contact.missing;
  loss.target = target.number;
  loss.backend = backend.name();
  loss.error = backend.name() + ": the database went back behind what it had confirmed, and LSN " +
               std::to_string(contact.missing.from) + " to " + std::to_string(contact.missing.to) +
               " are not in the log any more";
  loss.first_failed = loss.last_failed = clock.WallNow();
  TASKWAL_TRY(letters.Add(loss));
  counters.RaiseAlarm(FlushCounters::kMissing, loss.error);
  return Status::Ok();
}

void Flusher::Impl::Adopt(pipeline::Contact contact) {
  breaker.OnSuccess(clock.Now());
  queues.Reset(contact.start, contact.stored);
  feeder.Start(contact.identity);
  for (auto& worker : workers) worker->Begin(contact.identity, std::move(contact.session));
  const Lsn start = *std::min_element(contact.start.begin(), contact.start.end()) + 1;
  counters.Update([&](FlusherStats& stats) {
    stats.database_available = true;
    if (stats.start_lsn == 0) stats.start_lsn = start;
    if (!contact.missing.empty()) stats.losses.push_back(contact.missing);
  });
  if (counters.ClearAlarm(FlushCounters::kContact)) {
    Logger().info("flusher event=database_is_back db={} start_lsn={}", backend.name(), start);
  }
  MutexLock lock(mutex);
  was_met = true;
  contact_failures = 0;
}

Status Flusher::Impl::ContactFailed(const Status& status) {
  const Monotonic now = clock.Now();
  breaker.OnFailure(now);
  if (target.gauge != nullptr) target.gauge->OnFailed();
  counters.Update([](FlusherStats& stats) {
    ++stats.flush_errors;
    stats.database_available = false;
  });
  if (counters.RaiseAlarm(FlushCounters::kContact, status.message())) {
    Logger().warn("flusher event=no_contact db={} error=\"{}\"", backend.name(), status.ToString());
  }
  {
    MutexLock lock(mutex);
    contact_pause = retry.Delay(++contact_failures, random);
    contact_failed_at = now;
  }
  // Whatever else it is called (a schema that is too new, say), it may be over at the next try.
  if (status.code() == StatusCode::kFenced) return status;
  return Status::Unavailable(status.message());
}

Monotonic Flusher::Impl::ContactAt(Monotonic now) const {
  const bool is_urgent = queues.awaited_lsn() > 0;
  const Monotonic at = breaker.next_trial(now, is_urgent);
  MutexLock lock(mutex);
  if (contact_failures == 0) return at;
  const auto pause = is_urgent ? std::min(contact_pause, kUrgentRetry) : contact_pause;
  return std::max(at, contact_failed_at + pause);
}

void Flusher::Impl::Fence(const Status& why) {
  {
    MutexLock lock(mutex);
    if (phase == Phase::kFenced) return;
    phase = Phase::kFenced;
    fenced = why;
    phase_changed.NotifyAll();
  }
  counters.Update([](FlusherStats& stats) { stats.database_available = false; });
  counters.RaiseAlarm(FlushCounters::kReader, why.message());
  Logger().error("flusher event=fenced error=\"{}\"", why.ToString());
  queues.Interrupt();
}

void Flusher::Impl::MeetAgain() {
  MutexLock lock(mutex);
  if (phase == Phase::kRunning) phase = Phase::kNoContact;
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
    if (counters.RaiseAlarm(FlushCounters::kReader, e.what())) {
      Logger().error("flusher event=reader_threw error=\"{}\"", e.what());
    }
    return false;
  }
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
  // Half-open, with another worker's trial out, the next turn may look due at once.
  if (turn == FlushWorker::Turn::kPaused) wait = std::max(wait, kShortestPause);
  if (turn == FlushWorker::Turn::kMeetAgain) MeetAgain();
  if (turn == FlushWorker::Turn::kFenced) Fence(worker.fenced());
  return {turn, wait};
}

// What is settled may leave the disk; not asked at every batch, as nothing goes before a segment is
// full.
void Flusher::Impl::MaybeRetire(bool now) {
  {
    MutexLock lock(mutex);
    if (phase == Phase::kFenced || !was_met) return;
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
      feeder.WaitForMore(kReaderPoll);
    } else if (now_in == Phase::kFenced) {
      queues.WaitForChange(seen, kNoContactPause);
    } else {
      const Monotonic now = clock.Now();
      queues.WaitForChange(seen, std::max(ContactAt(now) - now, kShortestPause));
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

void Flusher::Impl::StartWorkers() {
  MutexLock lock(mutex);
  if (!is_started || stopping.stop_requested()) return;
  is_running.resize(workers.size());
  for (std::size_t i = 0; i < queues.workers(); ++i) {
    if (is_running[i]) continue;
    is_running[i] = true;
    ++running;
    threads.emplace_back([this, i] {
      RunWorker(stopping.get_token(), i);
      Ended();
    });
  }
}

void Flusher::Impl::Ended() {
  MutexLock lock(mutex);
  --running;
  phase_changed.NotifyAll();
}

bool Flusher::Impl::StopBy(std::optional<std::chrono::steady_clock::time_point> until) {
  stopping.request_stop();
  queues.Wake();
  std::vector<std::jthread> ended;
  {
    MutexLock lock(mutex);
    bool in_time = true;
    while (running > 0 && in_time) {
      in_time = until ? phase_changed.WaitUntil(mutex, *until) : (phase_changed.Wait(mutex), true);
    }
    if (running > 0) return false;
    ended.swap(threads);
  }
  ended.clear();
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

Status Flusher::Contact() {
  // Counted as a request; at open the breaker lets everything through.
  static_cast<void>(impl_->breaker.Allow(impl_->clock.Now(), true));
  return impl_->Contact();
}

void Flusher::Start() {
  Impl& impl = *impl_;
  {
    MutexLock lock(impl.mutex);
    if (impl.is_started || impl.stopping.stop_requested()) return;
    impl.is_started = true;
    ++impl.running;
    impl.threads.emplace_back([&impl] {
      impl.RunReader(impl.stopping.get_token());
      impl.Ended();
    });
  }
  impl.StartWorkers();
}

void Flusher::Stop() { impl_->StopBy(std::nullopt); }

bool Flusher::StopBy(std::chrono::steady_clock::time_point until) { return impl_->StopBy(until); }

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
  FlusherStats stats = impl_->counters.Snapshot();
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

void Flusher::SetWorkerCount(std::uint32_t workers) {
  const auto most = static_cast<std::uint32_t>(impl_->workers.size());
  impl_->queues.SetWorkers(std::clamp(workers, 1u, most));
  impl_->StartWorkers();
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
