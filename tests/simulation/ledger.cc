#include "tests/simulation/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace taskwal {
namespace {

using Kind = PlannedOperation::Kind;

std::string TextOf(const std::set<Ledger::Row>& rows) {
  std::string text;
  for (const Ledger::Row& row : rows) text += (text.empty() ? "" : " or ") + Ledger::Text(row);
  return text;
}

// `rows`, and each of them with each of these times.
std::set<Ledger::Row> WithCreations(std::set<Ledger::Row> rows, const std::set<Time>& times) {
  const std::set<Ledger::Row> before = rows;
  for (Ledger::Row row : before) {
    for (const Time time : times) {
      row.created_at = time;
      if (row.exists) rows.insert(row);
    }
  }
  return rows;
}

// Whether a row found is one of `rows`.
bool IsAmong(const std::set<Ledger::Row>& rows, const Ledger::Row& found) {
  return std::any_of(rows.begin(), rows.end(), [&](Ledger::Row row) {
    row.is_held = false;
    row.held_created_at.reset();
    if (!row.exists) row = Ledger::Row();
    return row == found;
  });
}

}  // namespace

bool Covers(const std::vector<wal::LsnRange>& ranges, wal::Lsn lsn) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const wal::LsnRange& r) { return r.from <= lsn && lsn <= r.to; });
}

void Ledger::Fail(const std::string& what) {
  if (!failure_.empty()) return;
  failure_ = what;
  if (on_failure_) on_failure_();
}

// --- what callers do ---------------------------------------------------------------------------

Ledger::Number Ledger::Begin(PlannedOperation operation, Time now) {
  const Number number = operations_.size();
  for (const std::string& task : operation.tasks) {
    by_task_[task].push_back(number);
    task_ids_.insert(task);
  }
  if (operation.kind == Kind::kActivity) by_version_[operation.version] = number;
  if (operation.is_poison && operation.kind != Kind::kActivity) poison_.push_back(number);
  operations_.push_back({std::move(operation), Fate::kUnknown, 0, 0, false});
  operations_.back().flushed_before = flushed_;
  operations_.back().opens_before = opens_;
  operations_.back().earliest = now;
  if (may_poison_be_taken_ && operations_.back().planned.is_poison) Tend(operations_.back());
  return number;
}

void Ledger::NoteLsn(Number number, wal::Lsn lsn) {
  if (operations_[number].lsn == 0) {
    ++records_;
    coverage_.Note(Seen::kRecord);
  }
  operations_[number].lsn = lsn;
  const auto [known, is_new] = by_lsn_.try_emplace(lsn, number);
  if (!is_new && known->second != number) {
    Fail(fmt::format("LSN {} was given out twice: operations {} and {}", lsn, known->second,
                     number));
  }
}

void Ledger::Acknowledge(Number number, wal::Lsn lsn) {
  NoteLsn(number, lsn);
  operations_[number].fate = Fate::kAcknowledged;
}

void Ledger::Durable(wal::Lsn lsn) { durable_ = std::max(durable_, lsn); }

// What is settled without anybody having been told may have been settled by declaring it lost.
void Ledger::Awaited(wal::Lsn lsn) {
  Durable(lsn);
  const auto known = by_lsn_.find(lsn);
  if (known != by_lsn_.end()) operations_[known->second].was_awaited = true;
}

void Ledger::Refuse(Number number) {
  if (operations_[number].committed > 0) {
    Fail(fmt::format("operation {} was refused and is in the database", number));
  }
  operations_[number].fate = Fate::kNever;
}

void Ledger::Doubt(Number number, wal::Lsn lsn) {
  coverage_.Note(Seen::kInDoubt);
  if (lsn == 0) return;
  NoteLsn(number, lsn);
  operations_[number].fate = Fate::kInDoubt;
}

void Ledger::Committed(const storage::Batch& batch) {
  for (const auto& row : batch.activities) {
    const auto found = by_version_.find(row.activity.message);
    if (found == by_version_.end()) {
      Fail("the database got an activity that nobody logged: " + row.activity.id);
      continue;
    }
    Operation& operation = operations_[found->second];
    if (!committed_lsns_.insert(row.lsn).second) {
      Fail(fmt::format("LSN {} was committed twice: {}", row.lsn, row.activity.id));
    }
    ++operation.committed;
    if (operation.fate == Fate::kNever || operation.fate == Fate::kGone) {
      Fail(fmt::format("{} was {} and is in the database", row.activity.id,
                       operation.fate == Fate::kNever ? "refused" : "lost with the power"));
    }
    if (operation.lsn != 0 && operation.lsn != row.lsn) {
      Fail(fmt::format("{} was acknowledged as LSN {} and committed as {}", row.activity.id,
                       operation.lsn, row.lsn));
    }
    const std::string& id = operation.planned.activity_id;
    if (id.empty() ? row.activity.id.empty() : id != row.activity.id) {
      Fail("an activity has the id of another: " + row.activity.id);
    }
  }
}

void Ledger::Repeated(const storage::Batch::ActivityRow& row) {
  coverage_.Note(Seen::kRepeatDropped);
  if (Covers(undone_, row.lsn)) return;
  const auto known = by_version_.find(row.activity.message);
  if (known != by_version_.end() && IsTended(operations_[known->second])) return;
  Fail(fmt::format("{} (LSN {}) is brought a second time", row.activity.id, row.lsn));
}

void Ledger::Undone(std::span<const storage::Batch> batches) {
  wal::LsnRange range = {UINT64_MAX, 0};
  for (const storage::Batch& batch : batches) {
    for (const storage::WatermarkMove& move : batch.moves) {
      range.from = std::min(range.from, move.expected + 1);
      range.to = std::max(range.to, move.to);
    }
    if (batch.moves.empty()) {
      coverage_.Note(Seen::kMoveUndone, batch.tasks.size());
      for (const auto& change : batch.tasks) GoesAstray(change.id);
    }
    for (const auto& row : batch.activities) {
      committed_lsns_.erase(row.lsn);
      --operations_[by_version_.at(row.activity.message)].committed;
    }
  }
  if (range.empty()) return;
  undone_.push_back(range);
  owed_.push_back(range);
}

std::string Ledger::Text(const Row& row) {
  if (!row.exists) return "absent";
  return fmt::format("{} {} \"{}\" created at {}", row.version, TaskStatusName(row.status),
                     row.error, row.created_at ? FormatTime(*row.created_at) : "a call");
}

Ledger::Row Ledger::RowOf(const Task& task) {
  Row row = {true, task.processing_state, task.status, task.error, false, {}, {}};
  if (*task.created_at < kGivenUntil) row.created_at = task.created_at;
  return row;
}

// --- legal states ------------------------------------------------------------------------------

Ledger::Row Ledger::After(Row row, const Operation& operation, const std::string& task_id) {
  const PlannedOperation& planned = operation.planned;
  const auto has_ended = [](TaskStatus status) {
    return status != TaskStatus::kPending && status != TaskStatus::kRunning;
  };
  const bool sets_status =
      planned.kind == Kind::kSave || planned.kind == Kind::kBatch || planned.kind == Kind::kStatus;
  if (planned.protects && sets_status && row.exists && has_ended(row.status) &&
      !has_ended(planned.status)) {
    return row;
  }
  switch (planned.kind) {
    case Kind::kSave:
    case Kind::kBatch:
      // Refused, and lettered: what is partial follows it.
      if (planned.is_poison) {
        row.is_held = true;
        if (planned.created_at) row.held_created_at = planned.created_at;
        return row;
      }
      return {true, planned.version + "/" + task_id, planned.status, planned.error, false,
              planned.created_at ? planned.created_at : row.created_at, {}};
    case Kind::kStatus:
      if (!row.exists || row.is_held || planned.is_poison) return row;
      row.status = planned.status;
      row.error = planned.error;
      return row;
    case Kind::kDelete:
    case Kind::kDagDelete:
      return {};
    case Kind::kActivity:
      return row;
  }
  return row;
}

Ledger::Part Ledger::PartOf(const Operation& operation,
                            const std::vector<wal::LsnRange>& lost) const {
  switch (operation.fate) {
    case Fate::kNever:
    case Fate::kGone:
      return Part::kIsNot;
    case Fate::kUnknown:
    case Fate::kInDoubt:
      return Part::kMayBe;
    case Fate::kAcknowledged:
      break;
  }
  const bool may_be = Covers(lost, operation.lsn) || Covers(unknown_, operation.lsn);
  return may_be ? Part::kMayBe : Part::kIs;
}

void Ledger::Take(std::set<Row>* rows, const Operation& operation, Part part,
                  const std::string& task_id) {
  if (part == Part::kIsNot) return;
  std::set<Row> after;
  for (const Row& row : *rows) {
    Row next = After(row, operation, task_id);
    const bool is_replaced = next.exists && row.held_created_at && !next.held_created_at;
    after.insert(next);
    if (!is_replaced || operation.planned.created_at) continue;
    next.created_at = row.held_created_at;
    after.insert(std::move(next));
  }
  if (part == Part::kMayBe) after.insert(rows->begin(), rows->end());
  *rows = std::move(after);
}

std::optional<std::set<Ledger::Row>> Ledger::Readable(const std::string& task_id) const {
  if (may_lose() || !undone_.empty() || is_behind_move_) return std::nullopt;
  if (tended_tasks_.contains(task_id)) return std::nullopt;
  std::set<Row> rows = {Row()};
  bool may_show_poison = false;
  std::set<Time> refused;  // given by poison: shown until it is known for that
  const auto known = by_task_.find(task_id);
  if (known == by_task_.end()) return rows;
  for (const Number number : known->second) {
    const Operation& operation = operations_[number];
    const Part part = PartOf(operation, {});
    Take(&rows, operation, part, task_id);
    const PlannedOperation& planned = operation.planned;
    if (planned.is_poison && part != Part::kIsNot) {
      may_show_poison = true;
      if (planned.created_at && planned.kind != Kind::kStatus) refused.insert(*planned.created_at);
    }
    if (part == Part::kIs && !planned.is_poison && planned.kind != Kind::kStatus) {
      may_show_poison = false;
      const bool is_save = planned.kind == Kind::kSave || planned.kind == Kind::kBatch;
      if (!is_save || planned.created_at) refused.clear();
    }
  }
  if (may_show_poison) return std::nullopt;
  return WithCreations(std::move(rows), refused);
}

// --- what the world does -----------------------------------------------------------------------

void Ledger::DataMayRot(wal::Lsn named) {
  data_may_rot_ = true;
  const wal::Lsn last = by_lsn_.empty() ? 0 : by_lsn_.rbegin()->first;
  if (last > named) unnamed_.push_back({named + 1, last});
}

void Ledger::Opened(wal::Lsn end, bool after_power_cut) {
  ++opens_;
  for (auto known = by_lsn_.upper_bound(durable_); after_power_cut && known != by_lsn_.end();
       ++known) {
    operations_[known->second].has_met_power_cut = true;
  }
  for (auto known = by_lsn_.upper_bound(end); known != by_lsn_.end();
       known = by_lsn_.erase(known)) {
    Operation& operation = operations_[known->second];
    // A bit that flips in the frames of the last sync, which nothing names yet, leaves a torn tail.
    const bool is_unnamed = known->first > durable_ || Covers(unnamed_, known->first);
    const bool may_go =
        (after_power_cut && is_unnamed) || operation.fate != Fate::kAcknowledged;
    if (!may_go) {
      Fail(fmt::format("LSN {} was acknowledged{}, and the log ends at {}", known->first,
                       known->first <= durable_ ? " as durable" : "", end));
    }
    if (operation.committed > 0) {
      Fail(fmt::format("LSN {} is in the database, and the log ends at {}", known->first, end));
    }
    operation.fate = Fate::kGone;
    coverage_.Note(Seen::kGoneInPowerCut);
  }
}

void Ledger::CheckLost(const Database& database) {
  for (const wal::LsnRange& range : database.lost) {
    for (auto known = by_lsn_.lower_bound(range.from);
         known != by_lsn_.end() && known->first <= range.to; ++known) {
      const Operation& operation = operations_[known->second];
      if (operation.fate != Fate::kAcknowledged || Covers(rotten_, known->first)) continue;
      if (operation.was_taken_back) continue;
      if (known->first < database.first_kept && Covers(owed_, known->first)) continue;
      // The sync of a later record does not tell that this one was not declared before it.
      // The process that took a record of level disk has it until it is durable.
      const bool is_owed = operation.was_awaited || operation.planned.is_of_disk;
      if (unread_.contains(operation.opens_before) && !is_owed) continue;
      Fail(fmt::format("LSN {} was acknowledged and is declared lost", known->first));
    }
  }
}

// Once all of it is flushed again, what was declared lost is known, and nothing else may follow it.
void Ledger::SettleUndone(const Database& database) {
  if (!database.open_letters) return;
  std::erase_if(owed_, [&](const wal::LsnRange& range) {
    if (range.to > database.flushed) return false;
    const auto end = by_lsn_.upper_bound(range.to);
    for (auto known = by_lsn_.lower_bound(range.from); known != end; ++known) {
      if (Covers(database.lost, known->first)) operations_[known->second].was_taken_back = true;
    }
    return true;
  });
}

void Ledger::CheckActivity(const Operation& operation, const Database& database) {
  const PlannedOperation& planned = operation.planned;
  if (operation.committed > 1) Fail(planned.activity_id + " was committed more than once");
  if (PartOf(operation, database.lost) != Part::kIs) return;
  if (!database.is_all && operation.lsn > database.flushed) return;
  // While letters are retried the database takes poison, too.
  const bool is_taken = operation.committed == 1;
  const bool is_where_it_belongs =
      planned.is_poison ? IsLettered(operation, database) || MayHaveExpired(operation) ||
                              (IsTended(operation) && is_taken)
                        : is_taken;
  if (!is_where_it_belongs) {
    Fail(fmt::format("{} (LSN {}) was acknowledged and is not {}", planned.activity_id,
                     operation.lsn, planned.is_poison ? "in dead letters" : "in the database"));
  }
}

void Ledger::CheckTask(const std::string& task_id, const Database& database) {
  const std::vector<Number>& numbers = by_task_[task_id];
  wal::Lsn required = 0;
  for (const Number number : numbers) {
    const Operation& operation = operations_[number];
    if (PartOf(operation, database.lost) != Part::kIs) continue;
    if (database.is_all || operation.lsn <= database.flushed) {
      required = std::max(required, operation.lsn);
    }
  }
  std::set<Row> rows = {Row()};
  std::set<Row> legal;
  bool has_required = required == 0;
  for (const Number number : numbers) {
    if (has_required) legal.insert(rows.begin(), rows.end());
    const Operation& operation = operations_[number];
    Take(&rows, operation, PartOf(operation, database.lost), task_id);
    if (operation.lsn == required && operation.fate == Fate::kAcknowledged) has_required = true;
  }
  legal.insert(rows.begin(), rows.end());
  if (database.is_all) legal = rows;
  const auto found = database.tasks.find(task_id);
  const Row row = found == database.tasks.end() ? Row() : found->second;
  if (IsAmong(legal, row)) return;
  Fail(fmt::format("task {} is {} in the database with all up to LSN {} flushed; legal: {}",
                   task_id, Text(row), database.flushed, TextOf(legal)));
}

void Ledger::CheckRestored(const std::map<std::string, wal::Lsn>& activities,
                           wal::Lsn first_kept, const std::vector<wal::LsnRange>& lost) {
  std::size_t known = 0;
  for (const Operation& operation : operations_) {
    if (operation.planned.kind != Kind::kActivity) continue;
    const auto found = activities.find(operation.planned.version);
    const bool is_there = found != activities.end();
    const std::string name = fmt::format("{} (LSN {})", operation.planned.activity_id,
                                         operation.lsn);
    if (is_there) {
      ++known;
      if (PartOf(operation, {}) == Part::kIsNot) Fail(name + " never was, and is restored");
      if (operation.lsn != 0 && operation.lsn != found->second) {
        Fail(fmt::format("{} is restored as LSN {}", name, found->second));
      }
      continue;
    }
    const bool is_due = PartOf(operation, lost) == Part::kIs && operation.lsn >= first_kept &&
                        !operation.planned.is_poison;
    if (is_due) Fail(name + " was acknowledged, is kept, and is not restored");
  }
  if (known != activities.size()) Fail("activities are restored that nobody logged");
}

void Ledger::Check(const Database& database) {
  CheckLost(database);
  SettleUndone(database);
  for (const Operation& operation : operations_) {
    if (operation.planned.kind == Kind::kActivity) CheckActivity(operation, database);
  }
  for (const auto& [id, row] : database.tasks) {
    if (!task_ids_.contains(id)) Fail("the database has a task that nobody saved: " + id);
  }
  if (database.flushed > 0) Flushed(database.flushed);
  for (const Number number : poison_) CheckPoison(operations_[number], database);
  CheckOpenLetters(database);
  for (const std::string& id : task_ids_) {
    const bool is_skipped =
        is_astray(id) || tended_tasks_.contains(id) || database.unsure.contains(id);
    if (!is_skipped) CheckTask(id, database);
  }
}

}  // namespace taskwal
