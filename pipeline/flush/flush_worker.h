// One worker of the flusher: takes batches of its partitions, composes them and commits rows and
// watermarks in one transaction, over a connection of its own or one that another worker has handed
// on (worker_connections.h). What is refused is bisected by LSN until the one row is found, which
// goes to the dead letters; whatever else fails is tried again until it succeeds.
//
//   take ─▶ [ connect, recheck ] ─▶ apply the first part ─┬─ committed ─▶ settle, next part
//              ▲                                          ├─ refused, several records ─▶ two halves
//              └── pause (backoff, breaker) ◀─────────────┼─ refused, one ─▶ aside, for a pause
//                                                         │     in the end: dead letter
//                                                         ├─ out of time ─▶ give the batch back
//                                                         └─ anything else: the same part again
//
// What is set aside is the refused record and what the batch has of its partition behind it; the
// other partitions go on, with this batch and the next.
//
// A batch has Options::batch_timeout from when it is taken; each part that refusals leave of it has
// as long. What is given back is taken again, by whoever comes first: less at once, if it was cut.
//
// Steps are called by one thread at a time, and only between two contacts with the database.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/flush/batch_sizer.h"
#include "pipeline/flush/circuit_breaker.h"
#include "pipeline/flush/database_contact.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/flush_counters.h"
#include "pipeline/flush/letter_retry.h"
#include "pipeline/flush/log_identity.h"
#include "pipeline/flush/partition_queues.h"
#include "pipeline/flush/poison_guard.h"
#include "pipeline/flush/retry_policy.h"
#include "pipeline/flush/worker_connections.h"
#include "storage/backend.h"
#include "taskwal/options.h"

namespace taskwal::pipeline {

// What the workers of one flusher share; outlives them.
struct FlushSetting {
  storage::Backend& backend;
  PartitionQueues& queues;
  DeadLetters& letters;
  CircuitBreaker& breaker;
  FlushCounters& counters;
  PoisonGuard& guard;
  WorkerConnections& connections;
  Clock& clock;
  const Options& options;
  std::function<void(std::uint64_t)> raise_stamp;  // told the highest stamp in the database
  // Where tasks live in several databases: takes out of an operation those at home elsewhere.
  std::function<void(storage::OperationBody*)> keep_share{};
  std::uint16_t target = 0;  // its number
  // Told of every transaction; may be null.
  LoadGauge* gauge = nullptr;
  BatchSizer* sizer = nullptr;
  std::function<bool(wal::Lsn)> is_last{};  // as FlushTarget's
};

class FlushWorker {
 public:
  FlushWorker(FlushSetting& setting, std::uint32_t index, std::uint64_t seed);
  ~FlushWorker();

  // After each contact; what was in hand is read anew from the log. `session` may be null.
  void Begin(const LogIdentity& identity, std::unique_ptr<storage::Session> session);

  enum class Turn : std::uint8_t {
    kIdle,       // nothing is due
    kProgress,
    kPaused,     // backing off, or the breaker is open
    kMeetAgain,  // the database went back: only a new contact helps
    kFenced,     // for good: see fenced()
  };
  Turn Step();
  // How long Step has nothing to do, if nothing changes.
  [[nodiscard]] std::chrono::nanoseconds NextTurnIn() const;
  [[nodiscard]] const Status& fenced() const { return fenced_; }
  // No more batches are to come: its connection is closed, its alarm is over, and what it has set
  // aside is others'. False while there is a batch in hand.
  bool Retire();
  // Before a contact.
  void Disconnect();

 private:
  // A run of the batch in hand: [begin, end).
  struct Part {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  // A refused record, first, and what comes behind it.
  struct Aside {
    std::vector<QueuedRecord*> records;
    std::uint32_t refusals = 0;
    std::optional<Time> first_refused;
    Monotonic refused_at{};
    std::chrono::milliseconds pause{0};
    bool idempotent = false;
    std::uint64_t batch_records = 0;
  };

  bool TakeBatch(Monotonic now);
  bool TakeUp(Monotonic now);
  void SetAside(std::chrono::milliseconds pause);
  [[nodiscard]] Monotonic DueAt(const Aside& aside) const;
  void CountInHand();
  [[nodiscard]] std::vector<Part> PartsOfBatch() const;
  Turn Work();
  void Recovered();
  void EndAlarm() const;
  Turn Fence(const std::string& why);
  Turn ApplyPart();
  Turn Refused(const Status& why);
  Status RefusedAlone(const Status& why);
  Turn Failed(const Status& why);
  Turn GaveWay(const Status& why);
  Turn Threw(const std::string& what);
  [[nodiscard]] bool IsOverdue(Monotonic now) const;
  [[nodiscard]] std::chrono::milliseconds TimeLeft(Monotonic now) const;
  void GiveBack(Monotonic now);
  bool Split();
  void Settle(std::uint64_t duplicates);
  void CountError(const Status& why, bool answers);
  void CountSettled(const FlushEvent& event, std::uint64_t duplicates);
  [[nodiscard]] bool IsDueElsewhere() const;
  [[nodiscard]] Monotonic PausedUntil() const;

  Result<storage::Batch> Compose(const Part& part, std::uint64_t* duplicates);
  [[nodiscard]] std::vector<storage::WatermarkMove> MovesOf(const Part& part) const;
  void Tell(const FlushEvent& event) const;
  [[nodiscard]] FlushEvent EventOf(const Part& part, const Status& status) const;

  // --- flush_worker_connection.cc
  [[nodiscard]] bool HasOldConnection(Monotonic now) const;
  void TakeHanded();
  void ShareConnection();
  [[nodiscard]] Monotonic ConnectsAt() const;
  void AskForConnection();
  void HasOpened();
  Turn RefusedConnection(const Status& why);
  Turn Connect();
  Turn Compare();
  Turn Judge(Standing standing);
  [[nodiscard]] Monotonic LookAt(Monotonic now) const;
  Turn Look(Monotonic now);

  // --- flush_worker_letters.cc
  // Nothing where the record is no retry.
  static std::optional<RetryRecord> RetryIn(const QueuedRecord& record);
  Status TakeRetry(QueuedRecord& record, const RetryRecord& retry, RetryComposer* retries,
                   std::vector<storage::Operation>* operations);
  Result<bool> GoesToLetters(QueuedRecord& record, const storage::OperationBody& body);
  Status LetterRefused(QueuedRecord& record, const Status& why, std::uint32_t attempts);
  [[nodiscard]] Status CheckRoom(bool is_refused) const;
  Status AddLetter(QueuedRecord& record, const std::string& error, std::uint32_t attempts,
                   const std::string& guard_mark = {});

  FlushSetting& setting_;
  const std::uint32_t index_;
  const RetryPolicy retry_;
  Random random_;

  LogIdentity identity_;
  std::unique_ptr<storage::Session> session_;
  Status fenced_;

  std::vector<QueuedRecord*> batch_;    // in hand, in LSN order; settled parts are gone
  std::vector<Part> parts_;             // still to be applied, the next one last
  std::uint64_t batch_records_ = 0;     // as it was taken
  bool is_full_ = false;                // there was more, as it was taken
  std::vector<storage::WatermarkMove> attempt_;  // sent, outcome unknown
  std::uint64_t attempt_rows_ = 0;      // in it
  bool idempotent_ = false;             // of the batch in hand
  std::vector<Aside> asides_;
  std::uint32_t refusals_ = 0;          // of the single record in hand
  std::optional<Time> first_refused_;   // of the batch in hand

  CircuitBreaker::Period allowed_in_ = 0;  // the call in hand
  std::uint32_t failures_ = 0;          // in a row
  Monotonic failed_at_{};
  std::chrono::milliseconds pause_{0};
  Monotonic started_at_{};              // of the transaction in hand
  Monotonic connected_at_{};
  Monotonic looked_at_{};               // an answer of the database, or a contact
  Monotonic begun_at_{};                // the batch in hand was taken, or the database answered
  bool is_cut_ = false;                 // its last transaction, by Options::batch_timeout
  bool may_land_ = false;               // a commit was sent, and never answered
  Monotonic rests_until_{};             // takes nothing before
};

}  // namespace taskwal::pipeline
