// The flusher: follows the log up to its durable position and brings the records of one target into
// its database in exactly-once batches; other targets' records it passes over. Start-up, catch-up
// after an outage and crash recovery are all this one path.
//
//   TailReader ─▶ queues by partition (bounded) ─▶ workers: compose, Apply(batch + watermarks)
//                                                    └▶ refused rows: bisect by LSN ─▶ dead letters
//
// One reader; each worker owns a session and whole partitions. A partition that fills its bound is
// left behind and served by a catch-up reader, so that the others go on. Written as steps (Step)
// with threads as thin shells (Start).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/missing_records.h"
#include "storage/backend.h"
#include "taskwal/control.h"
#include "taskwal/options.h"
#include "taskwal/stats.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

class LoadGauge;

struct FlusherStats {
  std::uint64_t applied = 0;          // settled in the database since open, or found there
  std::uint64_t already_there = 0;    // of these: found there already
  std::uint64_t dead_lettered = 0;    // since open
  std::uint64_t lost = 0;             // LSNs declared lost since open
  std::uint64_t voids = 0;            // LSNs that never were a record
  // Records of this target that its reader has met, each once = applied + dead_lettered +
  // unsettled + those of `lost` that are not lost_unread.
  std::uint64_t read = 0;
  std::uint64_t unsettled = 0;        // of these, neither settled nor lost
  wal::Lsn read_lsn = 0;              // all up to here has been met
  std::uint64_t lost_unread = 0;      // of lost: nothing of them was ever read
  // Of what was read or lost: brought again, as the database went back behind where this flusher
  // began.
  std::uint64_t regained = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t flush_operations = 0; // transactions committed
  std::uint64_t flush_errors = 0;     // attempts that failed
  std::uint64_t rows_written = 0;     // after composition
  std::uint64_t bytes_flushed = 0;    // of records brought, as encoded
  LatencySummary flush_time;
  std::optional<Time> last_flush_time;
  std::string last_error;             // of an attempt that failed or was refused
  std::optional<Time> last_error_time;
  void CountError(std::string_view why, Time at) {
    ++flush_errors;
    last_error = why;
    last_error_time = at;
  }
  bool database_available = false;
  std::string breaker_state = "closed";
  std::string alarm;                  // empty when all is well
  std::vector<wal::LsnRange> losses;  // declared since open, by damage of the log
  std::vector<MissingRecords> missing;  // by a database that went back
  wal::Lsn start_lsn = 0;             // where flushing began at first contact; 0: none yet
};

// Which of several databases it is.
struct FlushTarget {
  std::uint16_t number = 0;
  // Takes out of an operation over many tasks those at home elsewhere. Empty: all are here.
  std::function<void(storage::OperationBody*)> keep_share;
  // Of a task's key (storage::KeyOf). Empty: all are here.
  std::function<bool(std::uint64_t key)> is_home;
  // Asked before a copied directory takes an identity of its own; kUnavailable: later. Empty: yes.
  std::function<Status()> may_take_identity;
  // All that the log feeds, as `--db` takes them: for messages. Empty: this one.
  std::vector<std::string> databases;
  LoadGauge* gauge = nullptr;  // told of every transaction; may be null, and outlives the flusher
  // Of an operation that every target has to do, settled here: true for the last of them. Empty:
  // there are no others.
  std::function<bool(wal::Lsn)> is_last;
};

// Connections that the flusher of a log will have, at most; max_open_conns leaves one to others.
std::uint32_t FlushConnections(const storage::Backend& backend, const Options& options);

class Flusher {
 public:
  // All references outlive it. `fs`: where the log's directory (Options::wal_dir) lives.
  Flusher(wal::Log& log, storage::Backend& backend, DeadLetters& letters, Clock& clock,
          const Options& options, FileSystem& fs = FileSystem::Real(), FlushTarget target = {});
  ~Flusher();  // as Stop()

  // First contact with the database: connects, settles identity and epoch, reads the watermarks.
  // Tried again by every Step until it succeeds. kUnavailable: later. kFenced: for good (the
  // message names the `taskwal adopt` command).
  Status Contact();
  // The same once more: what the database lacks though it was flushed is known then, and is no
  // longer flushed. Errors as Contact. Nothing where the database forgets (memory:).
  Status MeetAgain();
  // Where what it tells of itself begins: behind this LSN, whatever is found to be settled there.
  // Fixed by the first call, before Start; until then it moves with the first contact. `is_read`:
  // what it has to do has been counted by reading it, not by its LSNs.
  wal::Lsn FixStart(bool is_read);
  // The same, set: what is read up to there is no part of any count before it is read.
  void StartBooksAt(wal::Lsn lsn);
  // Starts the reader and worker threads. kUnavailable when the system gives no more of them: those
  // that it gave are at work, and more may be asked for again.
  Status Start();
  void Stop();    // ends them after the batch in flight; nothing is lost. Idempotent
  // The same, but for those that hang in a call when the time is over: false. Stop, at the latest
  // the destructor, waits for them.
  bool StopBy(std::chrono::steady_clock::time_point until);
  // Whether a thread is in the midst of something: of a call that may hang, for all that is known.
  [[nodiscard]] bool IsInCall() const;
  // One turn without threads: true when it made progress.
  bool Step();

  // Everything up to here is in the database or in dead letters, in every partition.
  [[nodiscard]] wal::Lsn flushed_lsn() const;
  // The same for one partition: at least flushed_lsn(). Grows when it settles.
  [[nodiscard]] wal::Lsn flushed_lsn(std::uint32_t partition) const;
  // While somebody waits, backoff and an open breaker try again at least every 5 s, and batches go
  // at once. kUnavailable on the deadline or after Stop, kFenced when flushing ended for good.
  Status WaitFlushed(wal::Lsn lsn, const wal::Deadline& deadline);
  [[nodiscard]] FlusherStats GetStats() const;
  void ResetTimes();  // the latencies start over

  // --- while it runs
  void ResetBreaker();
  // Nothing: the controller decides again.
  void PinBatchSize(std::optional<std::uint32_t> records);
  // At least 1; bounded by the backend and the partitions, and with max_open_conns by worker_count.
  // A worker that is too many ends after the batch in its hands. kUnavailable when the system gives
  // no more threads: it is left at those that run.
  Status SetWorkerCount(std::uint32_t workers);
  [[nodiscard]] TargetFlow Flow() const;   // but for the name
  // OK, or why flushing ended for good (kFenced).
  [[nodiscard]] Status health() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::pipeline
