// What the ledger knows of dead letters: which operations must have one, which may, and which may
// be gone again.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "tests/simulation/ledger.h"

namespace taskwal {
namespace {

using Kind = PlannedOperation::Kind;

bool IsDelete(Kind kind) { return kind == Kind::kDelete || kind == Kind::kDagDelete; }

bool IsSave(Kind kind) { return kind == Kind::kSave || kind == Kind::kBatch; }

}  // namespace

// --- what the operator does ----------------------------------------------------------------------

void Ledger::Tend(Operation& operation) {
  operation.is_tended = true;
  tended_tasks_.insert(operation.planned.tasks.begin(), operation.planned.tasks.end());
}

bool Ledger::IsTended(const Operation& operation) const {
  return operation.is_tended || (operation.lsn != 0 && tended_letters_.contains(operation.lsn));
}

// The letter of a call that was not answered, or not yet, may be any of these.
void Ledger::LettersMayGo(const std::set<wal::Lsn>& letters) {
  bool is_any_unknown = false;
  for (const wal::Lsn lsn : letters) {
    tended_letters_.insert(lsn);
    const auto known = by_lsn_.find(lsn);
    if (known != by_lsn_.end()) {
      Tend(operations_[known->second]);
    } else {
      is_any_unknown = true;
    }
  }
  if (!is_any_unknown) return;
  for (Operation& operation : operations_) {
    const bool may_have_letter =
        operation.planned.is_poison || operation.planned.kind == Kind::kStatus;
    const bool may_be_any = operation.lsn == 0 && operation.fate == Fate::kUnknown;
    if (may_have_letter && may_be_any) Tend(operation);
  }
}

void Ledger::PoisonMayBeTaken(const std::set<wal::Lsn>& known) {
  may_poison_be_taken_ = true;
  for (Operation& operation : operations_) {
    if (!operation.planned.is_poison) continue;
    const bool is_final = operation.lsn != 0 && known.contains(operation.lsn) && !data_may_rot_;
    if (!is_final) Tend(operation);
  }
}

// --- poison that the database must have refused --------------------------------------------------

// Whether what was called behind it may stand for it: operations of one batch become one row.
bool Ledger::HasLaterWhole(Number number, const std::string& task_id, bool or_status) const {
  const std::vector<Number>& numbers = by_task_.at(task_id);
  return std::any_of(numbers.begin(), numbers.end(), [&](Number later) {
    const Operation& operation = operations_[later];
    if (later <= number || operation.fate == Fate::kNever) return false;
    return or_status || operation.planned.kind != Kind::kStatus;
  });
}

// An update that follows a delete in one batch is nothing.
bool Ledger::HasDeleteBefore(Number number) const {
  const Operation& update = operations_[number];
  const std::vector<Number>& numbers = by_task_.at(update.planned.tasks.front());
  auto at = std::find(numbers.begin(), numbers.end(), number);
  while (at != numbers.begin()) {
    const Operation& before = operations_[*--at];
    if (before.fate == Fate::kNever || before.fate == Fate::kGone) continue;
    const bool is_certain = before.fate == Fate::kAcknowledged;
    // A failover may have it brought again.
    const bool was_brought = is_certain && before.lsn <= update.flushed_before &&
                             !Covers(undone_, before.lsn);
    if (was_brought) return false;
    if (IsDelete(before.planned.kind)) return true;
    if (is_certain && IsSave(before.planned.kind)) return false;
  }
  return false;
}

bool Ledger::MayBeFolded(Number number) const {
  const PlannedOperation& planned = operations_[number].planned;
  const bool is_update = planned.kind == Kind::kStatus;
  const bool is_replaced = std::all_of(
      planned.tasks.begin(), planned.tasks.end(),
      [&](const std::string& task_id) { return HasLaterWhole(number, task_id, is_update); });
  return is_replaced || (is_update && HasDeleteBefore(number));
}

// What is called from now on cannot have been in one batch with what is flushed.
void Ledger::Flushed(wal::Lsn lsn) {
  flushed_ = std::max(flushed_, lsn);
  for (const Number number : poison_) {
    Operation& operation = operations_[number];
    if (operation.fate != Fate::kAcknowledged || operation.lsn > lsn) continue;
    if (!MayBeFolded(number)) operation.has_met_database = true;
  }
}

bool Ledger::IsLettered(const Operation& operation, const Database& database) const {
  if (operation.lsn == 0) return false;
  // One that may be gone by now was seen once.
  if (!database.open_letters || MayVanish(operation.lsn)) {
    return database.letters.contains(operation.lsn);
  }
  const auto open = database.open_letters->lower_bound({operation.lsn, 0});
  return open != database.open_letters->end() && open->first == operation.lsn;
}

void Ledger::CheckPoison(const Operation& operation, const Database& database) {
  if (!operation.has_met_database || IsTended(operation) || data_may_rot_) return;
  if (PartOf(operation, database.lost) != Part::kIs) return;
  if (!database.is_all && operation.lsn > database.flushed) return;
  if (IsLettered(operation, database)) return;
  Fail(fmt::format("{} of {} (LSN {}) had to be refused, is flushed, and is no dead letter",
                   operation.planned.version, operation.planned.tasks.front(), operation.lsn));
}

// --- letters that are there ----------------------------------------------------------------------

void Ledger::WallClockIs(Time now) {
  for (Operation& operation : operations_) operation.earliest = std::min(operation.earliest, now);
}

bool Ledger::MayHaveExpired(const Operation& operation) const {
  return operation.earliest < expired_before_;
}

// Whether the letter of this record, once seen, need not be found any more.
bool Ledger::MayVanish(wal::Lsn lsn) const {
  if (data_may_rot_ || tended_letters_.contains(lsn)) return true;
  const auto known = by_lsn_.find(lsn);
  // Its caller was never answered: it may be of any task.
  if (known == by_lsn_.end()) return expired_before_ > Time::min() || !tended_letters_.empty();
  const Operation& operation = operations_[known->second];
  if (operation.planned.kind == Kind::kActivity && MayHaveExpired(operation)) return true;
  const auto& tasks = operation.planned.tasks;
  return IsTended(operation) || std::any_of(tasks.begin(), tasks.end(), [&](const std::string& id) {
           return tended_tasks_.contains(id);
         });
}

// Poison, and an update behind the poisoned save of its task.
bool Ledger::MayBeLettered(Number number) const {
  const PlannedOperation& planned = operations_[number].planned;
  if (planned.is_poison) return true;
  if (planned.kind != Kind::kStatus) return false;
  const std::vector<Number>& numbers = by_task_.at(planned.tasks.front());
  return std::any_of(numbers.begin(), numbers.end(), [&](Number before) {
    const Operation& operation = operations_[before];
    return before < number && operation.planned.is_poison && IsSave(operation.planned.kind) &&
           operation.fate != Fate::kNever;
  });
}

void Ledger::CheckOpenLetters(const Database& database) {
  if (!database.open_letters || data_may_rot_) return;
  const auto& open = *database.open_letters;
  for (auto seen = seen_letters_.begin(); seen != seen_letters_.end();) {
    // It is synced before the watermark passes its record.
    const bool is_due = database.is_all || seen->first <= database.flushed;
    if (is_due && !open.contains(*seen) && !MayVanish(seen->first)) {
      Fail(fmt::format("the dead letter of LSN {} is gone, and nobody touched it", seen->first));
    }
    seen = open.contains(*seen) ? std::next(seen) : seen_letters_.erase(seen);
  }
  for (const auto& letter : open) {
    const wal::Lsn lsn = letter.first;
    const auto known = by_lsn_.find(lsn);
    if (known != by_lsn_.end() && !MayBeLettered(known->second)) {
      Fail(fmt::format("LSN {} is a dead letter, and no database would have refused it", lsn));
    }
    if (committed_lsns_.contains(lsn) && !MayVanish(lsn)) {
      Fail(fmt::format("LSN {} is in the database, and its dead letter is open", lsn));
    }
    seen_letters_.insert(letter);
  }
}

}  // namespace taskwal
