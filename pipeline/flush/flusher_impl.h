// The parts of a flusher and what its files share: flusher.cc has the steps, the threads and the
// interface, flusher_contact.cc the meeting with the database. For these two alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/random.h"
#include "pipeline/flush/batch_sizer.h"
#include "pipeline/flush/circuit_breaker.h"
#include "pipeline/flush/database_contact.h"
#include "pipeline/flush/flush_counters.h"
#include "pipeline/flush/flush_worker.h"
#include "pipeline/flush/flusher.h"
#include "pipeline/flush/log_feeder.h"
#include "pipeline/flush/partition_queues.h"
#include "pipeline/flush/poison_guard.h"
#include "pipeline/flush/retry_policy.h"
#include "pipeline/flush/worker_connections.h"

namespace taskwal::pipeline {

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
  void LoadGuard(wal::Lsn settled);
  bool IsFirstContact() EXCLUDES(mutex);
  wal::Lsn StartOfBooks(wal::Lsn settled) EXCLUDES(mutex);
  void CountFound(wal::Lsn from, wal::Lsn to);
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
  bool IsSetbackSeenTwice(const wal::LogState& confirmed, const std::vector<wal::Lsn>& stored)
      EXCLUDES(mutex);
  void TellBreaker(BreakerState from, BreakerState to) const;

  void RunReader(const std::stop_token& stop);
  void RunWorker(const std::stop_token& stop, std::size_t index);
  bool TryRetireWorker(std::size_t index);
  std::vector<std::jthread> TakeEnded() REQUIRES(mutex);
  Status Spawn(std::function<void()> body) REQUIRES(mutex);
  Status StartWorkers() EXCLUDES(mutex);
  void Ended() EXCLUDES(mutex);
  bool IsRunning() EXCLUDES(mutex);
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
  WorkerConnections connections;
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
  wal::Lsn start GUARDED_BY(mutex) = 0;  // see FixStart
  bool is_start_fixed GUARDED_BY(mutex) = false;
  bool is_backlog_read GUARDED_BY(mutex) = false;
  bool are_books_at_end GUARDED_BY(mutex) = false;        // see StartBooksAt
  std::uint64_t found_at_contact GUARDED_BY(mutex) = 0;  // records, by CountFound
  // What was confirmed, flushed position and watermarks, before the database was first seen behind
  // it. Nothing is retired meanwhile.
  std::optional<std::pair<wal::Lsn, std::vector<wal::Lsn>>> before_setback GUARDED_BY(mutex);
  Monotonic setback_again_at GUARDED_BY(mutex){};  // no second look before
  bool is_stopped GUARDED_BY(mutex) = false;
  std::uint32_t contact_failures GUARDED_BY(mutex) = 0;
  Monotonic contact_failed_at GUARDED_BY(mutex){};
  std::chrono::milliseconds contact_pause GUARDED_BY(mutex){0};
  Random random GUARDED_BY(mutex);

  // The reader thread's, and Stop's behind it.
  wal::Lsn retired = 0;
  std::uint64_t retired_batches = 0;
  Monotonic retired_at{};

  // A thread for each worker that runs, and the reader's; they end by themselves, told to or (a
  // worker) when it owns nothing any more.
  std::vector<bool> is_running GUARDED_BY(mutex);  // by worker
  std::uint32_t running GUARDED_BY(mutex) = 0;     // threads
  bool is_started GUARDED_BY(mutex) = false;
  std::stop_source stopping;
  std::vector<std::jthread> threads GUARDED_BY(mutex);
  std::vector<std::thread::id> ended GUARDED_BY(mutex);  // of these
};

}  // namespace taskwal::pipeline
