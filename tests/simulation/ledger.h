// What callers were told, held against what became of it. Each task belongs to one caller, who
// makes its calls one after another: so the order of calls is the order of LSNs, and the legal
// states of a task are those after a prefix of its operations. Not thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "storage/backend.h"
#include "taskwal/task.h"
#include "tests/simulation/coverage.h"
#include "wal/record.h"

namespace taskwal {

[[nodiscard]] bool Covers(const std::vector<wal::LsnRange>& ranges, wal::Lsn lsn);

struct PlannedOperation {
  enum class Kind : std::uint8_t { kSave, kBatch, kStatus, kDelete, kDagDelete, kActivity };
  Kind kind = Kind::kSave;
  std::vector<std::string> tasks;  // ids; of an activity none
  std::string version;             // in processing_state or as the message: never used twice
  TaskStatus status = TaskStatus::kPending;
  std::string error;
  std::string activity_id;  // empty: the storage makes one
  std::optional<Time> created_at;  // of a save that gives it: before Ledger::kGivenUntil
  bool is_poison = false;
  bool protects = false;    // reopens no task that has ended
  bool is_of_disk = false;  // its durability level: kept by the buffer until it is on the disk
};

class Ledger {
 public:
  // A created_at before it was given; later ones are those of calls.
  static constexpr Time kGivenUntil = std::chrono::sys_days(std::chrono::year(2000) / 1 / 1);

  explicit Ledger(Coverage& coverage) : coverage_(coverage) {}

  // --- what callers do ---------------------------------------------------------------------------
  using Number = std::size_t;
  Number Begin(PlannedOperation operation, Time now);  // from now on it may have happened
  void Acknowledge(Number number, wal::Lsn lsn);  // survives a kill
  void Durable(wal::Lsn lsn);                     // it and all before survive a power cut
  void Awaited(wal::Lsn lsn);                     // the same, and its caller was told so
  void Refuse(Number number);                     // has not happened and never will
  void Doubt(Number number, wal::Lsn lsn);        // has an LSN, may have been lost
  void Committed(const storage::Batch& batch);
  // Brought again, behind the watermark, and dropped for its id alone: only a letter that is
  // retried, or what a failover took with it, is brought twice.
  void Repeated(const storage::Batch::ActivityRow& row);
  // A failover: what these brought is not in the database any more. What the log does not hold any
  // more may be declared lost. Rows that a rebalance had moved are in no log: of their tasks
  // nothing can be told any more.
  void Undone(std::span<const storage::Batch> batches);
  // What a caller may find when it reads its own task; nothing: cannot be told.
  struct Row {
    bool exists = false;
    std::string version;
    TaskStatus status = TaskStatus::kPending;
    std::string error;
    bool is_held = false;  // a lettered save: partial operations follow it
    std::optional<Time> created_at;  // where a save gave it
    // Given by a save that is refused, unless the next one replaces it in the same transaction.
    std::optional<Time> held_created_at;
    friend auto operator<=>(const Row&, const Row&) = default;
  };
  [[nodiscard]] std::optional<std::set<Row>> Readable(const std::string& task_id) const;
  static Row RowOf(const Task& task);
  static std::string Text(const Row& row);

  // --- what the world does -----------------------------------------------------------------------
  // The process that has the log open since it was opened last could not read its own files: what a
  // failed sync took of what was begun in it, and nobody was owed, may be declared lost.
  void FilesWereUnreadable() { unread_.insert(opens_); }
  // Bits flip, or files go. Only what stands behind `named`, which nothing calls synced at this
  // moment, may pass for a torn tail.
  void DataMayRot(wal::Lsn named);
  // By that, even of what is durable: declared.
  void MayBeLost(const wal::LsnRange& range) { rotten_.push_back(range); }
  // Destroyed, and told to the operator as in the database or lost: either may be.
  void MayBeGone(const wal::LsnRange& range) { unknown_.push_back(range); }
  // A database is as it was before rows were moved: some may be in it once more, and count nowhere.
  void WentBehindMove() { is_behind_move_ = true; }
  [[nodiscard]] bool is_behind_move() const { return is_behind_move_; }
  // Nothing can be told of it any more.
  void GoesAstray(const std::string& task_id) { astray_.insert(task_id); }
  // Up to this LSN all is in the database or in the letters: now, whatever a failover undoes later.
  void Flushed(wal::Lsn lsn);
  // These letters are about to be retried or purged: nothing is asked of them and of their tasks
  // any more.
  void LettersMayGo(const std::set<wal::Lsn>& letters);
  // For now the database takes poison, or letters may go that nobody has seen yet. A letter that is
  // among `known` is final.
  void PoisonMayBeTaken(const std::set<wal::Lsn>& known);
  void PoisonIsRefused() { may_poison_be_taken_ = false; }
  // The wall clock was set back: what is refused from now on failed as early as this.
  void WallClockIs(Time now);
  // Those of activities that failed before then may be gone, unseen, too.
  void LettersExpire(Time before) { expired_before_ = std::max(expired_before_, before); }
  [[nodiscard]] bool is_astray(const std::string& task_id) const {
    return astray_.contains(task_id);
  }
  // Whether the log, once read again, may rightly have no more than up to `end`, though a database
  // has: what comes next was flipped, or named by nothing when a bit flipped.
  [[nodiscard]] bool MayEndAt(wal::Lsn end) const {
    return Covers(rotten_, end + 1) || Covers(unnamed_, end + 1);
  }
  [[nodiscard]] bool may_rot() const { return data_may_rot_; }
  [[nodiscard]] bool may_lose() const { return !unread_.empty() || data_may_rot_; }
  [[nodiscard]] std::uint64_t opens() const { return opens_; }
  // The log was opened again and ends at `end`, after a power cut or not.
  void Opened(wal::Lsn end, bool after_power_cut);
  // Everything of the log is in the database or in dead letters, up to `flushed`.
  struct Database {
    std::map<std::string, Row> tasks;
    wal::Lsn flushed = 0;
    std::vector<wal::LsnRange> lost;   // declared
    wal::Lsn first_kept = 1;           // what is older is not in the log any more
    std::set<wal::Lsn> letters;        // LSNs as first appended, open or not
    // Those that are open now, each with its target; nothing: they cannot be read.
    std::optional<std::set<std::pair<wal::Lsn, std::uint16_t>>> open_letters;
    // In a database that went back behind a move, while another rebalance is under way: such a row
    // may be the task's own, or not.
    std::set<std::string> unsure;
    bool is_all = false;               // nothing is pending
  };
  void Check(const Database& database);
  // A copy of the log that keeps all from `first_kept` on brought these, by message, into another
  // database.
  void CheckRestored(const std::map<std::string, wal::Lsn>& activities, wal::Lsn first_kept,
                     const std::vector<wal::LsnRange>& lost);

  // Operations that were given an LSN; what was refused or dropped is none.
  [[nodiscard]] std::uint64_t records() const { return records_; }
  [[nodiscard]] const std::set<std::string>& tasks() const { return task_ids_; }
  void Fail(const std::string& what);
  void OnFailure(std::function<void()> hook) { on_failure_ = std::move(hook); }
  // Empty while all is well.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  enum class Fate : std::uint8_t { kUnknown, kAcknowledged, kInDoubt, kNever, kGone };
  struct Operation {
    PlannedOperation planned;
    Fate fate = Fate::kUnknown;
    wal::Lsn lsn = 0;
    std::uint32_t committed = 0;
    bool has_met_power_cut = false;  // not durable then: it may be lost, declared
    bool was_awaited = false;        // its caller was told that it is durable
    bool is_tended = false;          // its letter may have been retried or purged
    bool has_met_database = false;   // a poison that no other operation was folded with
    wal::Lsn flushed_before = 0;     // when it began
    std::uint64_t opens_before = 0;  // of the log, when it began
    Time earliest{};                 // the least that the wall clock has shown since it began
    bool was_taken_back = false;     // by a failover, and declared lost
  };
  // What an operation means for a state that has, or may have, or has not met it.
  enum class Part : std::uint8_t { kIs, kMayBe, kIsNot };

  static Row After(Row row, const Operation& operation, const std::string& task_id);
  [[nodiscard]] Part PartOf(const Operation& operation,
                            const std::vector<wal::LsnRange>& lost) const;
  static void Take(std::set<Row>* rows, const Operation& operation, Part part,
                   const std::string& task_id);
  void CheckActivity(const Operation& operation, const Database& database);
  void CheckTask(const std::string& task_id, const Database& database);
  // --- ledger_letters.cc
  void Tend(Operation& operation);
  [[nodiscard]] bool IsTended(const Operation& operation) const;
  [[nodiscard]] bool MayBeFolded(Number number) const;
  [[nodiscard]] bool HasLaterWhole(Number number, const std::string& task_id, bool or_status) const;
  [[nodiscard]] bool HasDeleteBefore(Number number) const;
  [[nodiscard]] bool MayHaveExpired(const Operation& operation) const;
  [[nodiscard]] bool MayVanish(wal::Lsn lsn) const;
  [[nodiscard]] bool MayBeLettered(Number number) const;
  [[nodiscard]] bool IsLettered(const Operation& operation, const Database& database) const;
  void CheckPoison(const Operation& operation, const Database& database);
  void CheckOpenLetters(const Database& database);
  void CheckLost(const Database& database);
  void SettleUndone(const Database& database);
  void NoteLsn(Number number, wal::Lsn lsn);

  Coverage& coverage_;
  std::vector<Operation> operations_;
  std::map<std::string, std::vector<Number>> by_task_;
  std::set<std::string> task_ids_;
  std::map<wal::Lsn, Number> by_lsn_;
  std::unordered_map<std::string, Number> by_version_;   // of activities: the message
  std::unordered_set<wal::Lsn> committed_lsns_;          // of activities
  std::uint64_t records_ = 0;
  std::uint64_t opens_ = 0;
  wal::Lsn durable_ = 0;
  std::set<std::uint64_t> unread_;      // opens_ of processes that could not read their files
  std::vector<wal::LsnRange> unnamed_;  // when a bit flipped
  std::vector<wal::LsnRange> rotten_;   // what the bits that flipped, and the files, stood for
  std::vector<wal::LsnRange> undone_;   // by a failover, ever
  std::vector<wal::LsnRange> owed_;     // of these, may be gone, where the log has given them up
  std::vector<wal::LsnRange> unknown_;  // in the database, or gone and not declared
  std::set<std::string> astray_;       // tasks whose move was undone
  bool is_behind_move_ = false;
  bool data_may_rot_ = false;
  wal::Lsn flushed_ = 0;                 // ever
  std::vector<Number> poison_;           // of tasks
  std::set<wal::Lsn> tended_letters_;
  std::set<std::string> tended_tasks_;
  std::set<std::pair<wal::Lsn, std::uint16_t>> seen_letters_;  // open, and to be found again
  bool may_poison_be_taken_ = false;
  Time expired_before_ = Time::min();  // letters of activities
  std::string failure_;
  std::function<void()> on_failure_;
};

}  // namespace taskwal
