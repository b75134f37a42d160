#include "pipeline/flush/flusher.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/error_hook.h"
#include "pipeline/flush/backlog_count.h"
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
  Status DeclareMissing(const pipeline::Contact& contact);
  Status DeclareUnknownPast(const wal::LogState& confirmed);
  Status DeclareGone(std::span<const MissingRecords> missing, const LogIdentity& identity,
                     const std::string& reason);
  Status VoidClears(const pipeline::Contact& contact);
  void Adopt(pipeline::Contact contact);
  void LoadGuard(Lsn settled);
  bool IsFirstContact() EXCLUDES(mutex);
  Lsn StartOfBooks(Lsn settled) EXCLUDES(mutex);
  void CountFound(Lsn from, Lsn to);
  void NoteFound(std::uint64_t records) EXCLUDES(mutex);
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
  void ReaderThrew(const std::string& what);
  std::pair<FlushWorker::Turn, std::chrono::nanoseconds> WorkerStep(std::size_t index);
  void MeetAgain();
  void Fence(const Status& why);
  void MaybeRetire(bool now);
  bool IsSetbackSeenTwice(const wal::LogState& confirmed, const std::vector<Lsn>& stored)
      EXCLUDES(mutex);
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
  PoisonGuard guard;
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
  Lsn start GUARDED_BY(mutex) = 0;  // see FixStart
  bool is_start_fixed GUARDED_BY(mutex) = false;
  bool is_backlog_read GUARDED_BY(mutex) = false;
  bool are_books_at_end GUARDED_BY(mutex) = false;        // see StartBooksAt
  std::uint64_t found_at_contact GUARDED_BY(mutex) = 0;  // records, by CountFound
  // What was confirmed, flushed position and watermarks, before the database was first seen behind
  // it. Nothing is retired meanwhile.
  std::optional<std::pair<Lsn, std::vector<Lsn>>> before_setback GUARDED_BY(mutex);
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
      setting{backend, queues, letters, breaker, counters, guard, clock, options,
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
  const auto positions = queues.Positions();
  {
    MutexLock lock(mutex);
    // STATE is behind what this process has seen committed.
    if (was_met) std::tie(confirmed.flushed_lsn, confirmed.watermarks) = positions;
    if (before_setback) std::tie(confirmed.flushed_lsn, confirmed.watermarks) = *before_setback;
  }
  // Theirs are as good as lost, and one is needed here.
  for (auto& worker : workers) worker->Disconnect();
  const auto before_taking_identity = [&]() -> Status {
    if (target.may_take_identity) TASKWAL_TRY(target.may_take_identity());
    return DeclareUnknownPast(confirmed);
  };
  const ContactParties parties{log, backend, fs, options.wal_dir, target.number,
                               before_taking_identity, target.databases,
                               [&](const std::vector<Lsn>& stored) {
                                 return IsSetbackSeenTwice(confirmed, stored);
                               }};
  auto contact = ContactDatabase(parties, confirmed);
  if (!contact.ok()) return ContactFailed(contact.status());
  if (contact->went_back) {
    const Status noted = NoteSetback(*contact);
    if (!noted.ok()) return ContactFailed(noted);
  }
  Adopt(std::move(contact).value());
  return Status::Ok();
}

// A cluster's node may answer with what it had a moment ago, even where reads are to be causal
// (Jepsen, MariaDB Galera Cluster 12.1.2): nothing is replayed or called lost before a second look,
// a pause later, says the same.
bool Flusher::Impl::IsSetbackSeenTwice(const wal::LogState& confirmed,
                                       const std::vector<Lsn>& stored) {
  {
    MutexLock lock(mutex);
    if (before_setback) return true;
    before_setback.emplace(confirmed.flushed_lsn, confirmed.watermarks);
  }
  // Until then nobody who waits or reads is told that what may be gone is there, nor that it is
  // settled before it has been declared.
  queues.Reset(stored, stored);
  return false;
}

// The database is behind what it had confirmed: what the log does not hold any more is declared
// before the watermark passes it.
Status Flusher::Impl::NoteSetback(const pipeline::Contact& contact) {
  if (contact.missing.empty()) {
    Logger().warn("flusher event=database_went_back db={} action=replay", backend.name());
  } else {
    TASKWAL_TRY(DeclareMissing(contact));
  }
  TASKWAL_TRY(VoidClears(contact));
  const Lsn settled = *std::min_element(contact.start.begin(), contact.start.end());
  // Crash before this: the setback is seen again, and declared again. Behind it no open takes for
  // settled what is still to be brought again, and none gives up the segments that hold it.
  TASKWAL_TRY(log.SetState([&](wal::LogState* state) {
    wal::NoteFlushed(target.number, settled, contact.stored, state);
  }));
  return log.Retire(settled, contact.stored, target.number);
}

Status Flusher::Impl::DeclareMissing(const pipeline::Contact& contact) {
  const std::string missing = MissingText(contact.missing);
  Logger().error(
      "flusher event=database_went_back db={} action=replay missing_from={} missing_to={} "
      "missing=\"{}\" reason=\"confirmed before, and not in the log any more\"",
      backend.name(), contact.missing.front().lsns.from, contact.missing.back().lsns.to, missing);
  return DeclareGone(contact.missing, contact.identity,
                     "the database went back behind what it had confirmed, and LSN ");
}

// STATE was rebuilt (its flushed position is behind the oldest record kept, as no other's is), and
// the database does not know the log: nothing says that what is older was ever brought anywhere.
// Before the directory takes an identity of its own, which settles that.
Status Flusher::Impl::DeclareUnknownPast(const wal::LogState& confirmed) {
  if (confirmed.flushed_lsn + 1 >= confirmed.first_lsn) return Status::Ok();
  const MissingRecords past{{confirmed.flushed_lsn + 1, confirmed.first_lsn - 1}, {}};
  Logger().error("flusher event=records_missing db={} missing=\"{}\" reason=\"STATE was damaged\"",
                 backend.name(), MissingText({&past, 1}));
  LogIdentity identity;
  identity.wal_id = confirmed.wal_id;
  identity.former = confirmed.former;
  TASKWAL_TRY(DeclareGone({&past, 1}, identity, "STATE was damaged, and LSN "));
  counters.Update([&](FlusherStats& stats) {
    const auto known = std::find(stats.missing.begin(), stats.missing.end(), past);
    if (known == stats.missing.end()) stats.missing.push_back(past);
  });
  return Status::Ok();
}

Status Flusher::Impl::DeclareGone(std::span<const MissingRecords> missing,
                                  const LogIdentity& identity, const std::string& reason) {
  const std::string what = backend.name() + ": " + reason;
  const std::string why = " are not in the log any more";
  DeadLetter loss;
  loss.kind = DeadLetter::Kind::kLoss;
  loss.target = target.number;
  loss.backend = backend.name();
  loss.first_failed = loss.last_failed = clock.WallNow();
  for (const MissingRecords& part : missing) {
    loss.wal_id = identity.OwnerOf(part.lsns.from);
    loss.lsns = part.lsns;
    loss.metadata.clear();
    if (!part.partitions.empty()) loss.metadata[kLossPartitions] = PartitionsText(part);
    loss.error = what + MissingText({&part, 1}) + why;
    // Crash between two: all are declared again, which changes nothing of those that are there.
    TASKWAL_TRY(letters.Add(loss));
  }
  counters.RaiseAlarm(FlushCounters::kMissing, what + MissingText(missing) + why);
  return Status::Ok();
}

// Saves behind a lettered one that the database had and has not any more, nor the log: what follows
// them would go to the row from before the letter.
Status Flusher::Impl::VoidClears(const pipeline::Contact& contact) {
  const auto partitions = static_cast<std::uint32_t>(contact.start.size());
  const wal::LsnRange gone{1, *std::max_element(contact.start.begin(), contact.start.end())};
  return letters.VoidClears(gone, [&](const std::string& task, Lsn lsn) {
    const std::uint64_t key = storage::KeyOf(task);
    const std::uint32_t partition = wal::PartitionOf(key, partitions);
    const bool is_skipped = contact.found[partition] < lsn && lsn <= contact.start[partition];
    return is_skipped && (!target.is_home || target.is_home(key));
  });
}

void Flusher::Impl::Adopt(pipeline::Contact contact) {
  breaker.OnSuccess(clock.Now());
  queues.Reset(contact.start, contact.stored);
  const Lsn settled = *std::min_element(contact.start.begin(), contact.start.end());
  const Lsn books = StartOfBooks(settled);
  CountFound(books, settled);
  if (IsFirstContact()) {
    queues.KnowAsSettled(settled);
    LoadGuard(settled);
  }
  feeder.Start(contact.identity, std::max(books, settled));
  for (auto& worker : workers) worker->Begin(contact.identity, std::move(contact.session));
  counters.Update([&](FlusherStats& stats) {
    stats.database_available = true;
    if (stats.start_lsn == 0) stats.start_lsn = settled + 1;
    stats.missing.insert(stats.missing.end(), contact.missing.begin(), contact.missing.end());
  });
  if (counters.ClearAlarm(FlushCounters::kContact)) {
    Logger().info("flusher event=database_is_back db={} start_lsn={}", backend.name(), settled + 1);
  }
  MutexLock lock(mutex);
  was_met = true;
  before_setback.reset();
  contact_failures = 0;
}

// A database that refused everything before is not taken for another one now.
void Flusher::Impl::LoadGuard(Lsn settled) {
  const auto newest = letters.NewestRejected(target.number);
  if (newest.ok()) {
    guard.Load(*newest, settled);
  } else {
    Logger().warn("flusher event=letters_unreadable error=\"{}\"", newest.status().message());
  }
}

bool Flusher::Impl::IsFirstContact() {
  MutexLock lock(mutex);
  return !was_met;
}

// Where they begin, or at a later contact `settled`.
Lsn Flusher::Impl::StartOfBooks(Lsn settled) {
  MutexLock lock(mutex);
  if (was_met) return settled;
  if (!is_start_fixed) start = settled;
  return start;
}

// What counted as pending while the database was away, and was there: brought by an earlier process
// behind the last STATE. Before any of it may be retired.
void Flusher::Impl::CountFound(Lsn from, Lsn to) {
  if (from >= to) return;
  bool is_read = false;
  {
    MutexLock lock(mutex);
    is_read = is_backlog_read;
  }
  BacklogCount found;
  found.records = found.lost = to - from;
  if (is_read) {
    auto counted = CountBacklog(log, {{target.number, from}}, to);
    if (!counted.ok()) {
      Logger().warn("flusher event=backlog_unreadable error=\"{}\"", counted.status().message());
      return;
    }
    found = std::move(counted).value();
  }
  // In the files of several targets nobody knows whose a record was that cannot be read.
  const std::uint64_t unreadable = target.is_home ? 0 : found.lost;
  const std::uint64_t records = found.by_target[target.number] + unreadable;
  NoteFound(records);
  if (target.gauge == nullptr) return;
  const auto others = std::count_if(found.shared.begin(), found.shared.end(), [&](Lsn lsn) {
    return target.is_last && !target.is_last(lsn);
  });
  const std::uint64_t released =
      found.records + (is_read ? unreadable : 0) - static_cast<std::uint64_t>(others);
  target.gauge->OnSettled(released, found.bytes);
}

void Flusher::Impl::NoteFound(std::uint64_t records) {
  MutexLock lock(mutex);
  found_at_contact += records;
  const std::uint64_t regained = are_books_at_end ? records : 0;
  counters.Update([&](FlusherStats& stats) {
    stats.read += records;
    stats.applied += records;
    stats.already_there += records;
    stats.regained += regained;
  });
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
    ReaderThrew(e.what());
  } catch (...) {
    ReaderThrew("an exception of unknown type");
  }
  return false;
}

void Flusher::Impl::ReaderThrew(const std::string& what) {
  const Time now = clock.WallNow();
  counters.Update([&](FlusherStats& stats) {
    ++stats.flush_errors;
    stats.last_error = what;
    stats.last_error_time = now;
  });
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
      feeder.WaitForMore(kReaderPoll);
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
