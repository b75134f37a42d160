// What is known of dead letters without reading their bodies. Pure memory; guarded by its owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/letter_file.h"

namespace taskwal::pipeline {

// Where an entry stands.
struct LetterPlace {
  std::uint64_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class LetterIndex {
 public:
  void Add(const DeadLetter& letter, const LetterPlace& place);
  void Clear(const TaskCleared& cleared);
  // False: unknown letters become known as settled, settled ones stay as they are.
  bool Resolve(const LetterResolution& resolution);
  void TakeRetired(const LettersRetired& retired);
  // Clears of tasks that no letter is about serve nobody.
  void ForgetIdleClears();

  [[nodiscard]] bool Contains(const LetterKey& key) const { return known_.contains(key); }
  [[nodiscard]] std::optional<LetterStanding> StandingOf(const LetterKey& key) const;
  [[nodiscard]] bool HoldsSaveOf(const std::string& task_id, wal::Lsn before) const;
  [[nodiscard]] bool WasClearedSince(const std::string& task_id, wal::Lsn origin,
                                     wal::Lsn before) const;
  [[nodiscard]] std::vector<std::string> TasksHeldOf(const std::string& dag_id,
                                                     wal::Lsn before) const;
  // Those that count.
  [[nodiscard]] std::vector<TaskCleared> ClearsIn(const wal::LsnRange& lsns) const;
  [[nodiscard]] std::vector<wal::LsnRange> OpenPartsOf(const DeadLetter& loss) const;
  [[nodiscard]] std::vector<LetterKey> ActivitiesBefore(Time before) const;

  // Open letters and losses, by the order of adding; `after` 0: from the start.
  struct Visible {
    std::uint64_t sequence = 0;
    LetterPlace place;
  };
  [[nodiscard]] std::optional<Visible> Next(std::uint64_t after) const;
  // Nothing: unknown, or settled.
  [[nodiscard]] std::optional<LetterPlace> PlaceOf(const LetterKey& key) const;
  void Move(std::uint64_t sequence, const LetterPlace& place);

  // Of those with a guard mark, by type of operation; settled ones, too.
  [[nodiscard]] std::vector<LetterKey> NewestRejected(std::uint16_t target) const;

  // No record beyond `end` names a letter that is settled by now.
  void NoteEnd(wal::Lsn end);
  // What a rewritten store must still know: settled letters that records from `first_lsn` on are
  // about, all clears.
  [[nodiscard]] LettersRetired StandingFrom(wal::Lsn first_lsn) const;
  void ForgetSettledBelow(wal::Lsn first_lsn);

  [[nodiscard]] std::uint64_t open() const { return open_; }
  [[nodiscard]] std::uint64_t open_bytes() const { return open_bytes_; }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }
  [[nodiscard]] std::uint64_t visible_bytes() const { return visible_bytes_; }
  [[nodiscard]] std::optional<Time> oldest() const;

 private:
  struct Letter {
    LetterStanding standing;
    std::uint64_t sequence = 0;  // 0: only known to be settled
    std::optional<wal::Lsn> named_until;  // where it is settled, and that is known
    std::uint64_t bytes = 0;
    wal::Lsn origin = 0;
    bool is_activity = false;
    Time first_failed{}, last_failed{};
    std::vector<std::pair<std::string, std::string>> saves;  // task and DAG of each save in it
  };
  // By LSN, each with the LSN it was appended at first.
  struct TaskHistory {
    std::map<wal::Lsn, wal::Lsn> letters;  // open ones of saves
    std::map<wal::Lsn, wal::Lsn> clears;   // saves and deletes that went through; 0: lost again
  };

  static bool IsMetFrom(wal::Lsn first_lsn, const LetterKey& key, const Letter& settled);
  void AddLoss(const DeadLetter& loss);
  void Show(const LetterPlace& place, std::uint64_t sequence);
  void Settle(const LetterKey& key, Letter* letter, const LetterStanding& standing);

  std::uint64_t next_sequence_ = 1;
  std::map<std::uint64_t, LetterPlace> visible_;
  std::map<LetterKey, Letter> known_;
  std::map<std::pair<std::uint16_t, storage::OperationType>, LetterKey> newest_;  // by target
  // Whose records a loss is about.
  struct LossScope {
    Uuid wal_id;
    std::uint16_t target = 0;
    std::string partitions;  // empty: all
    friend auto operator<=>(const LossScope&, const LossScope&) = default;
  };
  static LossScope ScopeOf(const DeadLetter& loss);
  std::map<LossScope, std::vector<wal::LsnRange>> losses_;  // by from; may overlap
  std::unordered_map<std::string, TaskHistory> tasks_;
  std::uint64_t open_ = 0;
  std::uint64_t open_bytes_ = 0;
  std::uint64_t visible_bytes_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace taskwal::pipeline
