#include "tests/kernel/crash_ledger.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace taskwal {

void CrashLedger::StartAnew() {
  tasks_.clear();
  activities_ = kept_lsn_ = 0;
}

void CrashLedger::StartLife(std::uint64_t cycle, bool all_disk) {
  cycle_ = cycle;
  all_disk_ = all_disk;
  for (auto& calls : calls_) calls.clear();
  lsns_.clear();
  told_ = refused_ = 0;
}

void CrashLedger::Told(const std::string& line) {
  std::istringstream in(line);
  std::uint32_t producer = 0;
  std::uint64_t number = 0, lsn = 0;
  in >> producer >> number >> lsn;
  // A line cut by the kill: that call was acknowledged to nobody.
  if (in.fail() || producer >= kProducers) return;
  std::string code;
  const bool has_failed = static_cast<bool>(in >> code);
  ASSERT_EQ(number, calls_[producer].size()) << line;
  ++told_;
  Call call{Outcome::kHappened, lsn};
  if (has_failed) {
    ++refused_;
    call.outcome = lsn == 0 ? Outcome::kRefused : Outcome::kMayHaveHappened;
  } else {
    ++acknowledged_;
    ASSERT_TRUE(lsns_.insert(lsn).second) << "LSN " << lsn << " was given out twice";
    ASSERT_GT(lsn, kept_lsn_) << "an LSN of an earlier life";
  }
  calls_[producer].push_back(call);
}

// Level disk means: this record and all before it.
std::uint64_t CrashLedger::DurableLsn() const {
  std::uint64_t durable = kept_lsn_;
  for (std::uint32_t producer = 0; producer < kProducers; ++producer) {
    for (std::uint64_t number = 0; number < calls_[producer].size(); ++number) {
      const Call& call = calls_[producer][number];
      if (call.outcome != Outcome::kHappened) continue;
      if (CrashDurability(producer, number, all_disk_) != Durability::kDisk) continue;
      durable = std::max(durable, call.lsn);
    }
  }
  return durable;
}

CrashLedger::Stored CrashLedger::Read(const std::string& path) {
  Stored stored;
  SQLite::Database database(path);
  SQLite::Statement tasks(database, "SELECT id, status, error FROM dag_tasks");
  while (tasks.executeStep()) {
    stored.tasks[tasks.getColumn(0)] =
        std::pair(tasks.getColumn(1).getString(), tasks.getColumn(2).getString());
  }
  const std::string prefix = std::to_string(cycle_) + ".";
  std::uint64_t of_earlier_lives = 0, rows = 0;
  std::set<std::string> all;
  SQLite::Statement activities(database, "SELECT id FROM dag_task_activity_logs");
  while (activities.executeStep()) {
    const std::string id = activities.getColumn(0);
    ++rows;
    all.insert(id);
    if (id.starts_with(prefix)) {
      stored.activities.insert(id);
    } else {
      ++of_earlier_lives;
    }
  }
  doubled_ += rows - all.size();
  EXPECT_EQ(rows, all.size()) << "an activity stands twice in the database";
  EXPECT_EQ(of_earlier_lives, activities_) << "activities of earlier lives";
  if (of_earlier_lives < activities_) lost_ += activities_ - of_earlier_lives;
  return stored;
}

void CrashLedger::Check(const std::string& database, Durability survived) {
  const Stored stored = Read(database);
  const std::uint64_t kept = survived == Durability::kDisk ? DurableLsn() : UINT64_MAX;
  for (std::uint32_t producer = 0; producer < kProducers; ++producer) {
    CheckProducer(producer, kept, stored);
  }
  for (const std::uint64_t lsn : lsns_) {
    if (lsn <= kept) kept_lsn_ = std::max(kept_lsn_, lsn);
  }
  activities_ += stored.activities.size();
}

void CrashLedger::Apply(const CrashOperation& operation, bool for_certain, States* states) {
  using Kind = CrashOperation::Kind;
  if (operation.kind == Kind::kLog) return;
  std::set<State>& before = (*states)[operation.task_id];
  if (before.empty()) before.insert(State());
  std::set<State> after;
  for (const State& state : before) {
    if (!for_certain) after.insert(state);
    if (operation.kind == Kind::kSave) {
      after.insert(std::pair("pending", operation.tag));
    } else if (operation.kind == Kind::kDelete || !state) {
      after.insert(State());
    } else {
      after.insert(std::pair(std::string(TaskStatusName(operation.status)), operation.tag));
    }
  }
  before = std::move(after);
}

bool CrashLedger::Fits(const States& states, const Stored& stored) {
  return std::ranges::all_of(states, [&](const auto& entry) {
    const auto found = stored.tasks.find(entry.first);
    return entry.second.contains(found == stored.tasks.end() ? State() : found->second);
  });
}

// Looks for a number of this producer's calls after which the database would be as it is.
void CrashLedger::CheckProducer(std::uint32_t producer, std::uint64_t kept_lsn,
                                const Stored& stored) {
  std::vector<Call> calls = calls_[producer];
  std::uint64_t required = 0;
  for (std::uint64_t number = 0; number < calls.size(); ++number) {
    if (calls[number].outcome == Outcome::kHappened && calls[number].lsn <= kept_lsn) {
      required = number + 1;
    }
  }
  calls.push_back({Outcome::kMayHaveHappened, 0});  // the one it was in when it died

  States states;
  for (std::uint64_t task = 0; task < kTasksPerProducer; ++task) {
    const std::string id = "p" + std::to_string(producer) + "-t" + std::to_string(task);
    const auto known = tasks_.find(id);
    states[id] = {known == tasks_.end() ? State() : known->second};
  }
  std::set<std::string> unexplained;
  for (const std::string& id : stored.activities) {
    if (id.starts_with(std::to_string(cycle_) + "." + std::to_string(producer) + ".")) {
      unexplained.insert(id);
    }
  }
  std::uint64_t missing = 0;
  for (std::uint64_t number = 0; number <= calls.size(); ++number) {
    if (number >= required && unexplained.empty() && missing == 0 && Fits(states, stored)) {
      return Settle(producer, number, stored);
    }
    if (number == calls.size()) break;
    const Call& call = calls[number];
    if (call.outcome == Outcome::kRefused) continue;
    const CrashOperation operation = OperationOf(producer, number);
    const bool for_certain = call.outcome == Outcome::kHappened;
    Apply(operation, for_certain, &states);
    if (operation.kind != CrashOperation::Kind::kLog) continue;
    if (unexplained.erase(operation.tag) == 0 && for_certain) {
      if (number >= required) break;  // no longer beginning explains the database
      ++missing;
    }
  }
  lost_ += std::max<std::uint64_t>(missing, 1);
  ADD_FAILURE() << "cycle " << cycle_ << ": the database is not what any beginning of producer "
                << producer << "'s calls makes: " << calls.size() - 1 << " calls, of which "
                << required << " must have happened; " << missing << " activities are missing, "
                << unexplained.size() << " are nobody's";
}

// The next life starts from what is there.
void CrashLedger::Settle(std::uint32_t producer, std::uint64_t happened, const Stored& stored) {
  for (std::uint64_t number = happened; number < calls_[producer].size(); ++number) {
    if (calls_[producer][number].outcome == Outcome::kHappened) ++taken_;
  }
  for (std::uint64_t task = 0; task < kTasksPerProducer; ++task) {
    const std::string id = "p" + std::to_string(producer) + "-t" + std::to_string(task);
    const auto found = stored.tasks.find(id);
    tasks_[id] = found == stored.tasks.end() ? State() : found->second;
  }
}

}  // namespace taskwal
