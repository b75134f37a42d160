// Whose created_at a task has, on every backend: the same whatever the order in which the saves of
// several logs come, and by the order of its records within one log.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/flush/batch.h"
#include "tests/contract/backend_fixture.h"

namespace taskwal::storage {
namespace {

class CreatedAt : public BackendContract {
 protected:
  // The absent time is that of the call.
  TaskChange Saved(const Uuid& log, Origin origin, std::optional<Time> created, Time call) const {
    Task task = MakeTask("t");
    task.error = std::to_string(origin.lsn);
    task.created_at = created.value_or(call);
    return Put(task, origin, created.has_value(), log);
  }
  void Save(const Uuid& log, Origin origin, std::optional<Time> created, Time call = After(500)) {
    ApplyFrom(log, {Saved(log, origin, created, call)});
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, CreatedAt, ::testing::ValuesIn(kBackends), BackendName);

// --- every order of a few saves -----------------------------------------------------------------

struct PlannedSave {
  std::size_t log = 0;
  std::uint64_t stamp = 0;
};
// In the order of each log's records, log by log.
using Plan = std::vector<PlannedSave>;

// Stamps that are equal, within a log and between logs, and logs that are wholly before others.
const std::vector<std::vector<Plan>> kPlans = {
    {{{0, 100}, {0, 300}, {1, 200}, {1, 400}},
     {{0, 100}, {0, 200}, {1, 300}, {1, 400}},
     {{0, 300}, {0, 400}, {1, 100}, {1, 200}},
     {{0, 100}, {0, 400}, {1, 200}, {1, 300}},
     {{0, 200}, {0, 200}, {1, 100}, {1, 200}},
     {{0, 100}, {0, 100}, {1, 100}, {1, 100}}},
    {{{0, 100}, {1, 200}, {2, 300}}, {{0, 100}, {1, 100}, {2, 100}}, {{0, 9}, {1, 9}, {2, 300}}},
    {{{0, 100}, {0, 100}, {0, 300}, {1, 300}}, {{0, 100}, {0, 200}, {0, 300}, {1, 250}}},
};

// One task: a plan, and which of its saves give created_at.
struct Case {
  Plan plan;
  std::uint32_t given = 0;
  std::string name;

  [[nodiscard]] bool Gives(std::size_t save) const { return (given >> save & 1) != 0; }
  // Behind the calls' times, so that an order of times is none of ranks.
  [[nodiscard]] Time TimeOf(std::size_t save) const {
    const auto number = static_cast<std::int64_t>(save);
    return Gives(save) ? After(-10 * (number * 7 % 5 + 1)) : After(100 + number * 3 % 4);
  }
};

class EveryOrder : public CreatedAt {
 protected:
  void SetUp() override {
    CreatedAt::SetUp();
    logs_ = {log_, other_log_, LogNamed("30")};
  }

  static std::vector<Case> CasesOf(const std::vector<Plan>& plans) {
    std::vector<Case> cases;
    for (std::size_t p = 0; p < plans.size(); ++p) {
      for (std::uint32_t given = 0; given < 1u << plans[p].size(); ++given) {
        cases.push_back({plans[p], given, std::to_string(p) + "-" + std::to_string(given)});
      }
    }
    return cases;
  }

  // The contract's rule, written down once more: the last that is given, else the first call.
  Time Expected(const Case& one) const {
    std::vector<std::size_t> order(one.plan.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const auto key = [&](std::size_t save) {
        return std::tuple(one.plan[save].stamp, logs_[one.plan[save].log], save);
      };
      return key(a) < key(b);
    });
    const auto last = std::find_if(order.rbegin(), order.rend(),
                                   [&](std::size_t save) { return one.Gives(save); });
    return one.TimeOf(last == order.rend() ? order.front() : *last);
  }

  // The saves `from` to `to` of an order, all of one log, in one batch: of every case its own task.
  void Bring(const std::vector<Case>& cases, const std::string& prefix,
             const std::vector<std::size_t>& saves) {
    std::vector<Operation> operations;
    for (const std::size_t save : saves) {
      for (const Case& one : cases) {
        Task task = MakeTask(prefix + one.name);
        task.error = std::to_string(save);
        task.updated_at = After(1000);
        task.created_at.reset();
        if (one.Gives(save)) task.created_at = one.TimeOf(save);
        operations.push_back(
            {save + 1, one.plan[save].stamp, SaveTaskOp{std::move(task), one.TimeOf(save)}});
      }
    }
    const Uuid& log = logs_[cases.front().plan[saves.front()].log];
    Batch batch;
    batch.wal_id = log;
    batch.tasks = pipeline::Compose(std::move(operations), log).tasks;
    Apply(batch);
  }

  // Cut into batches wherever `cuts` says so, and where another log's saves follow.
  void BringAll(const std::vector<Case>& cases, const std::string& prefix,
                const std::vector<std::size_t>& order, std::uint32_t cuts) {
    std::vector<std::size_t> saves;
    for (std::size_t i = 0; i < order.size(); ++i) {
      saves.push_back(order[i]);
      const auto log_of = [&](std::size_t at) { return cases.front().plan[order[at]].log; };
      const bool is_last = i + 1 == order.size() || log_of(i) != log_of(i + 1);
      if (!is_last && (cuts >> i & 1) == 0) continue;
      Bring(cases, prefix, saves);
      saves.clear();
    }
  }

  void ExpectAlike(const std::vector<Case>& cases, const std::vector<std::string>& prefixes) {
    for (const Case& one : cases) {
      ASSERT_OK_AND_ASSIGN(const auto first, session_->GetTask(prefixes.front() + one.name));
      for (const std::string& prefix : prefixes) {
        SCOPED_TRACE("case " + one.name + ", order and cuts " + prefix);
        ASSERT_OK_AND_ASSIGN(const auto row, session_->GetTask(prefix + one.name));
        EXPECT_EQ(row.task.created_at, Expected(one));
        EXPECT_EQ(row.created_rank, first.created_rank);
        EXPECT_EQ(row.task.error, first.task.error);
        EXPECT_EQ(row.wal_id, first.wal_id);
        EXPECT_EQ(row.origin.stamp, first.origin.stamp);
      }
      if (HasFailure()) return;
    }
  }

  std::vector<Uuid> logs_;
};
INSTANTIATE_TEST_SUITE_P(Backends, EveryOrder, ::testing::ValuesIn(kBackends), BackendName);

TEST_P(EveryOrder, OfTheSavesOfSeveralLogsAndEveryCutOfTheirBatchesEndsInOneRow) {
  for (const std::vector<Plan>& plans : kPlans) {
    const std::vector<Case> cases = CasesOf(plans);
    const Plan& shape = plans.front();
    // Positions in the plan, taken log by log: an order of logs is one of saves.
    std::vector<std::size_t> logs;
    for (const PlannedSave& save : shape) logs.push_back(save.log);
    std::vector<std::string> prefixes;
    do {
      std::vector<std::size_t> order;
      std::vector<std::size_t> next(logs_.size());
      for (const std::size_t log : logs) {
        std::size_t at = 0;
        for (std::size_t seen = 0; shape[at].log != log || seen++ < next[log]; ++at) {
        }
        order.push_back(at);
        ++next[log];
      }
      for (std::uint32_t cuts = 0; cuts < 1u << (order.size() - 1); ++cuts) {
        prefixes.push_back(std::to_string(&plans - kPlans.data()) + "/" +
                           std::to_string(prefixes.size()) + "/");
        BringAll(cases, prefixes.back(), order, cuts);
      }
    } while (std::next_permutation(logs.begin(), logs.end()));
    ExpectAlike(cases, prefixes);
    if (HasFailure()) return;
  }
}

// --- one by one ---------------------------------------------------------------------------------

TEST_P(CreatedAt, OfASaveThatComesTooLateForTheRowIsTakenWhereItIsGiven) {
  Save(other_log_, {1, 200}, std::nullopt);
  Save(log_, {1, 100}, After(-50));
  ASSERT_OK_AND_ASSIGN(const auto row, session_->GetTask("t"));
  EXPECT_EQ(row.task.created_at, After(-50));
  EXPECT_EQ(row.wal_id, other_log_);
  EXPECT_EQ(row.origin.stamp, 200u);
  // One that is given with a lower stamp does not come behind it; one of a higher does.
  Save(LogNamed("30"), {1, 90}, After(-70));
  EXPECT_EQ(Get("t").created_at, After(-50));
  Save(LogNamed("30"), {2, 150}, After(-70));
  EXPECT_EQ(Get("t").created_at, After(-70));
}

TEST_P(CreatedAt, OfTheFirstCallStandsWhereNobodyGivesIt) {
  Save(other_log_, {1, 200}, std::nullopt, After(2));
  Save(log_, {1, 100}, std::nullopt, After(1));
  EXPECT_EQ(Get("t").created_at, After(1));
  Save(log_, {2, 300}, std::nullopt, After(3));
  EXPECT_EQ(Get("t").created_at, After(1));
}

// Within a log stamps may be equal, and lower than those before, as where two threads save at once.
TEST_P(CreatedAt, WithinALogGoesByTheOrderOfItsRecords) {
  Save(log_, {1, 900}, After(-1));
  Save(log_, {2, 100}, After(-2));
  EXPECT_EQ(Get("t").created_at, After(-2));
  Save(log_, {3, 50}, std::nullopt);
  EXPECT_EQ(Get("t").created_at, After(-2));
  Save(log_, {4, 50}, After(-4));
  EXPECT_EQ(Get("t").created_at, After(-4));
}

TEST_P(CreatedAt, OfAReplayedRecordOfTheRowsOwnLogIsNotTaken) {
  Save(log_, {1, 100}, After(-1));
  ApplyTasks({Delete("t", {2, 200})});
  Save(log_, {3, 300}, std::nullopt, After(3));
  Save(log_, {1, 100}, After(-1));
  EXPECT_EQ(Get("t").created_at, After(3));
}

TEST_P(CreatedAt, BehindADeleteIsMadeAnew) {
  Save(log_, {1, 100}, After(-1));
  TaskChange anew = Saved(log_, {3, 300}, std::nullopt, After(3));
  anew.kind = TaskChange::Kind::kReplace;
  ApplyTasks({anew});
  ASSERT_OK_AND_ASSIGN(const auto row, session_->GetTask("t"));
  EXPECT_EQ(row.task.created_at, After(3));
  EXPECT_EQ(row.created_rank, anew.created_rank);
}

TEST_P(CreatedAt, OfAReplaceThatComesTooLateIsHandedInAsWell) {
  Save(other_log_, {1, 200}, std::nullopt, After(2));
  TaskChange anew = Saved(log_, {3, 100}, After(-3), After(3));
  anew.kind = TaskChange::Kind::kReplace;
  ApplyTasks({anew});
  EXPECT_EQ(Get("t").created_at, After(-3));
  EXPECT_EQ(Get("t").error, "1");
}

TEST_P(CreatedAt, StatusUpdatesAndDeletesOfOtherLogsLeaveIt) {
  Save(log_, {1, 100}, After(-1));
  ApplyFrom(other_log_, {Patch("t", MakePatch(TaskStatus::kRunning), {1, 300})});
  ApplyTasks({Delete("t", {2, 200})});
  EXPECT_EQ(Get("t").created_at, After(-1));
  // The update has the row; what is saved before it hands its own in all the same.
  Save(LogNamed("30"), {1, 250}, After(-2));
  EXPECT_EQ(Get("t").created_at, After(-2));
  EXPECT_EQ(Get("t").status, TaskStatus::kRunning);
}

TEST_P(CreatedAt, OfASaveThatMustNotReopenATaskIsNotTakenFromOneThatHasEnded) {
  const auto open_only = [&](std::uint64_t stamp, std::int64_t seconds) {
    TaskChange save = Saved(log_, {stamp, stamp}, After(seconds), After(0));
    save.open_only = true;
    return save;
  };
  Save(other_log_, {1, 200}, std::nullopt, After(2));
  ApplyTasks({open_only(100, -1)});
  EXPECT_EQ(Get("t").created_at, After(-1));
  ApplyFrom(other_log_, {Patch("t", MakePatch(TaskStatus::kCompleted), {2, 210})});
  ApplyTasks({open_only(110, -2)});
  ApplyTasks({open_only(400, -3)});
  EXPECT_EQ(Get("t").created_at, After(-1));
}

TEST_P(CreatedAt, OfARowWithoutARankGivesWayToOneThatIsGivenAndToNoOther) {
  const auto before_ranks = [&](const char* id) {
    TaskChange change = Put(MakeTask(id, "run-1", TaskStatus::kPending, After(7)), {5, 200});
    change.created_rank = kUnknownCreatedRank;
    return change;
  };
  ApplyTasks({before_ranks("t")});
  Save(other_log_, {1, 100}, std::nullopt, After(1));
  EXPECT_EQ(Get("t").created_at, After(7));
  Save(other_log_, {2, 300}, std::nullopt, After(3));
  EXPECT_EQ(Get("t").created_at, After(7));
  Save(LogNamed("30"), {1, 50}, After(-1));
  EXPECT_EQ(Get("t").created_at, After(-1));
}

// Rows of one batch that are new, taken, too late and too late with something to hand in.
TEST_P(CreatedAt, IsHandedInByThoseOfABatchAloneThatComeTooLate) {
  std::vector<TaskChange> theirs, ours;
  for (int i = 0; i < 400; ++i) {
    const std::string id = "t" + std::to_string(1000 + i);
    const std::uint64_t stamp = i % 2 == 0 ? 200 : 50;
    if (i % 4 != 3) theirs.push_back(Put(MakeTask(id), {1, stamp}));
    Task task = MakeTask(id, "ours", TaskStatus::kPending, After(-i - 1));
    ours.push_back(Put(task, {1, 100}, i % 3 == 0));
  }
  ApplyFrom(other_log_, theirs);
  ApplyTasks(ours);
  for (int i = 0; i < 400; ++i) {
    const Task task = Get("t" + std::to_string(1000 + i));
    const bool is_new = i % 4 == 3, is_late = i % 2 == 0, is_given = i % 3 == 0;
    EXPECT_EQ(task.dag_id, is_late ? "run-1" : "ours") << i;
    // Not given, but called before: of a late one the rank is the greater, too.
    const bool is_ours = is_new || is_given || is_late;
    EXPECT_EQ(task.created_at, is_ours ? After(-i - 1) : After(0)) << i;
  }
}

}  // namespace
}  // namespace taskwal::storage
