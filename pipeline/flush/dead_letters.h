// The durable store of what no database will ever take, in <wal>/dead-letters/: rejected records
// and declared losses, keyed by (wal_id, LSN, target). A letter is synced before the watermark
// passes its record, and final: a replay skips an LSN that has one, whatever became of the letter
// since.
//
//            ┌─ retried: a later record of the log brings it (letter_retry.h)
//   open ────┼─ superseded: retried, but the database had something newer
//            ├─ purged: an operator let it go
//            └─ expired: an activity too old; letters of tasks never expire
//
// Append-only (letter_file.h) and rewritten as a whole once half of it is settled; indexed in
// memory at open (keys and task ids, not bodies). Any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "storage/operation.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::pipeline {

// A record over many tasks may be refused by one target and taken by another.
struct LetterKey {
  Uuid wal_id;
  wal::Lsn lsn = 0;
  std::uint16_t target = 0;
  friend auto operator<=>(const LetterKey&, const LetterKey&) = default;
};

// The record as it was appended first; a retry is guarded by it.
struct LetterOrigin {
  LetterKey key;
  std::uint64_t stamp = 0;
  friend bool operator==(const LetterOrigin&, const LetterOrigin&) = default;
};

// In the metadata of a loss: only records of these partitions are lost in its range ("0,3").
inline constexpr char kLossPartitions[] = "partitions";
// In that of a rejected record: what the poison guard knew then (poison_guard.h).
inline constexpr char kGuardMark[] = "guard";

struct DeadLetter {
  enum class Kind : std::uint8_t { kRejected, kLoss } kind = Kind::kRejected;
  Uuid wal_id;
  wal::LsnRange lsns;            // one LSN for a rejected record: that of its last retry
  std::uint64_t stamp = 0;
  storage::OperationType type{};
  std::vector<std::byte> body;   // as in the log; empty for a loss
  std::string task_id;           // empty where there is none
  std::string error;             // the database's, or what was found on disk
  std::string sql_code;
  std::uint32_t attempts = 0;    // 0: it follows a lettered save; over all retries
  std::uint32_t retries = 0;
  Time first_failed{}, last_failed{};
  std::string backend;           // name of the target, masked
  std::uint16_t target = 0;      // its number in the log
  std::optional<LetterOrigin> retried_from;  // absent: never retried
  std::map<std::string, std::string> metadata;

  [[nodiscard]] LetterKey key() const { return {wal_id, lsns.from, target}; }
  [[nodiscard]] LetterOrigin origin() const {
    return retried_from.value_or(LetterOrigin{key(), stamp});
  }
  // "<wal_id>-<lsn>" of the origin, so that it stays over retries: what `dlq show` takes. With
  // "-<target>" behind it for any target but the first.
  [[nodiscard]] std::string id() const;
};

enum class LetterOutcome : std::uint8_t {
  kOpen = 0,
  kRetried = 1,
  kSuperseded = 2,
  kPurged = 3,
  kExpired = 4,
};

struct LetterStanding {
  LetterOutcome outcome = LetterOutcome::kOpen;
  wal::Lsn by = 0;  // the record that retried it
};

struct LetterResolution {
  LetterKey key;
  LetterStanding standing;
};

struct LetterLimits {
  std::uint64_t count = UINT64_MAX;
  std::uint64_t bytes = UINT64_MAX;
};

struct LetterStats {
  std::uint64_t open = 0;         // rejected records kept
  std::uint64_t open_bytes = 0;   // of these, on disk
  std::uint64_t lost = 0;         // LSNs in losses
  std::optional<Time> oldest;     // first failure of an open letter
  // Since the store was opened: added = those still open of them + the other four.
  std::uint64_t added = 0, retried = 0, superseded = 0, purged = 0, expired = 0;
};

class DeadLetters {
 public:
  // Reads what is there; a torn last entry (never synced) is cut off, damage in older ones is
  // reported through `damage` and passed over. `read_only` changes nothing (beside a live process).
  static Result<std::unique_ptr<DeadLetters>> Open(FileSystem& fs, const std::string& wal_directory,
                                                   bool read_only,
                                                   std::vector<std::string>* damage = nullptr);
  ~DeadLetters();
  // Nothing is written any more, as another process may have the directory: kClosed from now on.
  void Close();

  // Durable on return. Adding what is there already changes nothing and is OK; of a loss only the
  // LSNs that no other loss of all partitions, or of the same ones, covers are added.
  // kUnavailable: no space, try again.
  Status Add(const DeadLetter& letter);
  // kOverloaded: no more may be added. Losses are, whatever the limits.
  [[nodiscard]] Status CheckRoom(const LetterLimits& limits) const;
  // Whether this record was rejected, whatever became of its letter. A declared loss is no letter
  // of its records: should one turn up after all, it is brought.
  [[nodiscard]] bool Contains(const LetterKey& key) const;
  [[nodiscard]] bool Contains(const Uuid& wal_id, wal::Lsn lsn) const {
    return Contains({wal_id, lsn, 0});
  }

  // --- what became of it ---
  // Nothing: there is no such letter.
  [[nodiscard]] std::optional<LetterStanding> StandingOf(const LetterKey& key) const;
  // Settles those that are still open, the others stay as they are. All or none, durable on return.
  Status Resolve(std::span<const LetterResolution> resolutions);
  // Lets open letters of activities go that failed last before `before`. Returns how many.
  Result<std::uint64_t> Expire(Time before);
  // Gives the disk back what settled letters took, where that is worth it. What a replay can still
  // meet stays known: letters from `first_lsn` on, and those that a retry may name which is not
  // below it. Such retries were sent while the letter was open, so before `end_lsn`, the end of the
  // log at the first cleaning behind its settlement.
  Status Clean(wal::Lsn first_lsn, wal::Lsn end_lsn);

  // --- tasks whose save was lettered ---
  // A save of this task below `before` has an open letter, and no save or delete since has cleared
  // it: partial operations at `before` follow it.
  [[nodiscard]] bool HoldsSaveOf(const std::string& task_id, wal::Lsn before = UINT64_MAX) const;
  // From `lsn` on, a save or delete about to be applied, nothing follows any more. Durable on
  // return: a restart in between must not send later operations after the letter. A letter at the
  // very `lsn` (the save was refused after all) prevails. `origin`: where the record at `lsn`
  // retries an older one, the LSN of that; its own otherwise.
  Status ClearTask(const std::string& task_id, wal::Lsn lsn, wal::Lsn origin = 0);
  // ClearTask for every task of the DAG whose save is held.
  Status ClearDag(const std::string& dag_id, wal::Lsn lsn, wal::Lsn origin = 0);
  // Takes back the clears in `lsns` that `is_gone` says of: the save or delete was lost before the
  // database had it, or with the database, and what comes now follows the letter again. Durable on
  // return. A clear that is made once more (the record turned up after all) counts again.
  Status VoidClears(
      const wal::LsnRange& lsns,
      const std::function<bool(const std::string& task_id, wal::Lsn lsn)>& is_gone);
  // Whether a save or delete newer than the lettered operation at `origin` was applied below
  // `before`.
  [[nodiscard]] bool WasClearedSince(const std::string& task_id, wal::Lsn origin,
                                     wal::Lsn before) const;

  // --- reading ---
  [[nodiscard]] std::uint64_t count() const;   // open letters of rejected records (not losses)
  [[nodiscard]] std::uint64_t lost() const;    // LSNs in losses
  [[nodiscard]] LetterStats GetStats() const;
  // kNotFound: there is none that is open.
  [[nodiscard]] Result<DeadLetter> Read(const LetterKey& key) const;
  // The newest rejected record of this target for each type of operation, where it is still open
  // and has a guard mark (those that follow a save, and retries, have none).
  [[nodiscard]] Result<std::vector<DeadLetter>> NewestRejected(std::uint16_t target) const;
  // Open letters and losses in the order they were added (those that were moved by cleaning last,
  // after a restart), until `visit` returns false. kCorruption: an entry that was sound at open is
  // not any more.
  Status ForEach(const std::function<bool(const DeadLetter&)>& visit) const;

 private:
  struct Impl;
  explicit DeadLetters(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::pipeline
