#include "pipeline/flush/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "storage/memory/memory_backend.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using storage::Operation;
using storage::OperationBody;
using storage::TaskChange;
using storage::TimeChange;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const Uuid kLog = *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-000000000010");

Time At(int seconds) { return Time(std::chrono::seconds(1'800'000'000 + seconds)); }

Task MakeTask(const std::string& id, const std::string& payload = {}) {
  Task task;
  task.id = id;
  task.dag_id = "dag";
  if (!payload.empty()) task.payload = payload;
  return task;
}

Operation Op(std::uint64_t lsn, OperationBody body) { return {lsn, 1000 + lsn, std::move(body)}; }

Operation Save(std::uint64_t lsn, const std::string& id, std::optional<Time> created = {}) {
  Task task = MakeTask(id, "{\"n\":" + std::to_string(lsn) + "}");
  task.created_at = created;
  return Op(lsn, storage::SaveTaskOp{task, At(static_cast<int>(lsn))});
}
Operation Update(std::uint64_t lsn, const std::string& id, TaskStatus status) {
  return Op(lsn, storage::UpdateStatusOp{id, status, "error " + std::to_string(lsn),
                                         At(static_cast<int>(lsn))});
}
Operation Delete(std::uint64_t lsn, const std::string& id) {
  return Op(lsn, storage::DeleteTaskOp{id, At(static_cast<int>(lsn))});
}
Operation Log(std::uint64_t lsn, const std::string& id) {
  Activity activity;
  activity.id = id;
  activity.message = "by " + std::to_string(lsn);
  activity.created_at = At(static_cast<int>(lsn));
  return Op(lsn, storage::LogActivityOp{activity});
}

std::string RankOf(std::uint64_t lsn, bool is_given) {
  return storage::MakeCreatedRank(is_given, {1000 + lsn, kLog, lsn});
}

TaskChange Only(std::vector<Operation> operations) {
  ComposedRows rows = Compose(std::move(operations), kLog);
  EXPECT_THAT(rows.tasks, SizeIs(1));
  return rows.tasks.empty() ? TaskChange() : rows.tasks.front();
}

TEST(Batch, ComposesNothingToNothing) {
  const ComposedRows rows = Compose({}, kLog);
  EXPECT_THAT(rows.tasks, IsEmpty());
  EXPECT_THAT(rows.activities, IsEmpty());
  EXPECT_THAT(rows.dag_deletes, IsEmpty());
}

TEST(Batch, EditsThePutThatAnUpdateFollows) {
  const TaskChange change = Only({Save(1, "t"), Update(2, "t", TaskStatus::kRunning)});
  EXPECT_EQ(change.kind, TaskChange::Kind::kPut);
  EXPECT_EQ(change.task.status, TaskStatus::kRunning);
  EXPECT_EQ(change.task.error, "error 2");
  EXPECT_EQ(change.task.started_at, At(2));
  EXPECT_EQ(change.task.updated_at, At(2));
  EXPECT_EQ(change.task.created_at, At(1));
  EXPECT_EQ(change.task.payload, "{\"n\":1}");
}

TEST(Batch, ReplacesWhereASaveFollowsADelete) {
  const TaskChange change = Only({Delete(1, "t"), Save(2, "t")});
  EXPECT_EQ(change.kind, TaskChange::Kind::kReplace);
  EXPECT_EQ(change.task.created_at, At(2));
}

TEST(Batch, StaysADeleteWhenAnUpdateFollows) {
  EXPECT_EQ(Only({Delete(1, "t"), Update(2, "t", TaskStatus::kFailed)}).kind,
            TaskChange::Kind::kDelete);
}

TEST(Batch, ComposesPatchesFieldByField) {
  const TaskChange change =
      Only({Update(1, "t", TaskStatus::kRunning), Update(2, "t", TaskStatus::kCompleted)});
  EXPECT_EQ(change.kind, TaskChange::Kind::kPatch);
  EXPECT_EQ(change.patch.status, TaskStatus::kCompleted);
  EXPECT_EQ(change.patch.started_at, (TimeChange{TimeChange::Kind::kSet, At(1)}));
  EXPECT_EQ(change.patch.completed_at, (TimeChange{TimeChange::Kind::kSet, At(2)}));
}

TEST(Batch, KeepsStartedAtWhereOnlyATerminalStatusComes) {
  const TaskChange change = Only({Update(1, "t", TaskStatus::kCancelled)});
  EXPECT_EQ(change.patch.started_at.kind, TimeChange::Kind::kKeep);
}

TEST(Batch, ClearsBothTimesForPending) {
  const TaskChange change =
      Only({Update(1, "t", TaskStatus::kCompleted), Update(2, "t", TaskStatus::kPending)});
  EXPECT_EQ(change.patch.started_at.kind, TimeChange::Kind::kClear);
  EXPECT_EQ(change.patch.completed_at.kind, TimeChange::Kind::kClear);
}

TEST(Batch, KeepsTheRowsCreationUnlessGiven) {
  EXPECT_EQ(Only({Save(1, "t")}).created_rank, RankOf(1, false));
  const TaskChange given = Only({Save(1, "t", At(-9))});
  EXPECT_EQ(given.created_rank, RankOf(1, true));
  EXPECT_EQ(given.task.created_at, At(-9));
}

TEST(Batch, KeepsACreationGivenEarlierInTheBatch) {
  const TaskChange change = Only({Save(1, "t", At(-9)), Save(2, "t")});
  EXPECT_EQ(change.created_rank, RankOf(1, true));
  EXPECT_EQ(change.task.created_at, At(-9));
  EXPECT_EQ(change.task.payload, "{\"n\":2}");
}

TEST(Batch, KeepsTheRankOfTheSaveWhoseCreationStands) {
  EXPECT_EQ(Only({Save(1, "t"), Save(2, "t"), Update(3, "t", TaskStatus::kRunning)}).created_rank,
            RankOf(1, false));
  EXPECT_EQ(Only({Save(1, "t", At(-9)), Save(2, "t", At(-8)), Save(3, "t")}).created_rank,
            RankOf(2, true));
  EXPECT_EQ(Only({Save(1, "t", At(-9)), Delete(2, "t"), Save(3, "t"), Save(4, "t")}).created_rank,
            RankOf(3, false));
  EXPECT_EQ(Only({Update(1, "t", TaskStatus::kFailed), Save(2, "t")}).created_rank,
            RankOf(2, false));
}

TEST(Batch, TakesTheOriginOfTheLastOperation) {
  const TaskChange change = Only({Save(3, "t"), Update(7, "t", TaskStatus::kRunning)});
  EXPECT_EQ(change.origin.lsn, 7u);
  EXPECT_EQ(change.origin.stamp, 1007u);
}

TEST(Batch, KeepsTheGivenUpdateTime) {
  Task task = MakeTask("t");
  task.updated_at = At(-5);
  EXPECT_EQ(Only({Op(1, storage::SaveTaskOp{task, At(1)})}).task.updated_at, At(-5));
}

TEST(Batch, SortsTasksById) {
  const ComposedRows rows = Compose({Save(1, "b"), Save(2, "c"), Save(3, "a"), Delete(4, "b")},
                                    kLog);
  EXPECT_THAT(rows.tasks, ElementsAre(Field(&TaskChange::id, "a"), Field(&TaskChange::id, "b"),
                                      Field(&TaskChange::id, "c")));
}

TEST(Batch, NeverCoalescesActivities) {
  const ComposedRows rows = Compose({Log(1, "y"), Log(2, "x"), Log(3, "z")}, kLog);
  ASSERT_THAT(rows.activities, SizeIs(3));
  EXPECT_EQ(rows.activities[0].activity.id, "x");
  EXPECT_EQ(rows.activities[0].lsn, 2u);
  EXPECT_EQ(rows.duplicates, 0u);
}

TEST(Batch, LetsTheFirstOfAnActivityIdWin) {
  const ComposedRows rows = Compose({Log(1, "x"), Log(2, "x"), Log(3, "x")}, kLog);
  ASSERT_THAT(rows.activities, SizeIs(1));
  EXPECT_EQ(rows.activities[0].activity.message, "by 1");
  EXPECT_EQ(rows.duplicates, 2u);
}

TEST(Batch, ComposesABatchUpdateTaskByTask) {
  Task first = MakeTask("a", "1");
  Task second = MakeTask("b", "2");
  Task again = MakeTask("a", "3");
  const ComposedRows rows =
      Compose({Op(5, storage::SaveTasksOp{{first, second, again}, At(5)})}, kLog);
  ASSERT_THAT(rows.tasks, SizeIs(2));
  EXPECT_EQ(rows.tasks[0].task.payload, "3");
  EXPECT_EQ(rows.tasks[0].origin.lsn, 5u);
  EXPECT_EQ(rows.tasks[1].id, "b");
}

TEST(Batch, PassesDagDeletesOn) {
  const ComposedRows rows = Compose({Op(9, storage::DeleteDagOp{"dag", At(9)})}, kLog);
  ASSERT_THAT(rows.dag_deletes, SizeIs(1));
  EXPECT_EQ(rows.dag_deletes[0].dag_id, "dag");
  EXPECT_EQ(rows.dag_deletes[0].origin.lsn, 9u);
}

TEST(Batch, TakesAnotherTurnWhereOnlyTheRowCanTell) {
  const auto running = [](std::uint64_t lsn) {
    Operation operation = Update(lsn, "t", TaskStatus::kRunning);
    std::get<storage::UpdateStatusOp>(operation.body).protects_terminal = true;
    return operation;
  };
  const ComposedRows rows = Compose({running(1), Save(2, "u"), running(3),
                                     Update(4, "t", TaskStatus::kCompleted), running(5)},
                                    kLog);
  ASSERT_THAT(rows.tasks, SizeIs(4));
  EXPECT_TRUE(rows.tasks[0].open_only);
  EXPECT_EQ(rows.tasks[0].origin.lsn, 3u);
  EXPECT_EQ(rows.tasks[1].id, "u");
  EXPECT_FALSE(rows.tasks[2].open_only);
  EXPECT_EQ(rows.tasks[2].turn, 1u);
  EXPECT_TRUE(rows.tasks[3].open_only);
  EXPECT_EQ(rows.tasks[3].turn, 2u);
}

// --- every sequence up to length 4 against applying one by one ----------------------------------

constexpr int kChoices = 10;

Operation Protected(Operation operation) {
  if (auto* save = std::get_if<storage::SaveTaskOp>(&operation.body)) {
    save->protects_terminal = true;
  } else {
    std::get<storage::UpdateStatusOp>(operation.body).protects_terminal = true;
  }
  return operation;
}

Operation Choice(int choice, std::uint64_t lsn) {
  switch (choice) {
    case 0:
      return Save(lsn, "t");
    case 1:
      return Save(lsn, "t", At(-static_cast<int>(lsn)));
    case 2:
      return Update(lsn, "t", TaskStatus::kPending);
    case 3:
      return Update(lsn, "t", TaskStatus::kRunning);
    case 4:
      return Protected(Update(lsn, "t", TaskStatus::kCompleted));
    case 5:
      return Update(lsn, "t", TaskStatus::kFailed);
    case 6:
      return Protected(Save(lsn, "t"));
    case 7:
      return Protected(Save(lsn, "t", At(-static_cast<int>(lsn))));
    case 8:
      return Protected(Update(lsn, "t", TaskStatus::kRunning));
    default:
      return Delete(lsn, "t");
  }
}

// The contract's rules, written down once more, one operation at a time.
void ApplyToModel(const Operation& operation, std::optional<Task>* row) {
  const bool has_ended = row->has_value() && IsTerminal((*row)->status);
  if (const auto* save = std::get_if<storage::SaveTaskOp>(&operation.body)) {
    if (has_ended && save->protects_terminal && !IsTerminal(save->task.status)) return;
    Task next = save->task;
    if (!next.created_at) next.created_at = row->has_value() ? (*row)->created_at : save->time;
    if (!next.updated_at) next.updated_at = save->time;
    *row = next;
  } else if (const auto* update = std::get_if<storage::UpdateStatusOp>(&operation.body)) {
    if (!row->has_value()) return;
    if (has_ended && update->protects_terminal && !IsTerminal(update->status)) return;
    Task& task = **row;
    task.status = update->status;
    task.error = update->error;
    task.updated_at = update->time;
    if (update->status == TaskStatus::kPending) {
      task.started_at.reset();
      task.completed_at.reset();
    } else if (update->status == TaskStatus::kRunning) {
      task.started_at = update->time;
      task.completed_at.reset();
    } else {
      task.completed_at = update->time;
    }
  } else {
    row->reset();
  }
}

Task ExistingRow(TaskStatus status) {
  Task task = MakeTask("t", "\"old\"");
  task.status = status;
  task.created_at = At(-100);
  task.updated_at = At(-90);
  task.started_at = At(-80);
  task.completed_at = At(-70);
  return task;
}

// What a database holds after the composed change.
std::optional<Task> InDatabase(const std::vector<Operation>& operations,
                               const std::optional<Task>& row) {
  storage::MemoryBackend backend;
  auto session = std::move(backend.Connect()).value();
  const Uuid wal_id = Uuid::Make();
  if (row) {
    storage::Batch before;
    before.wal_id = wal_id;
    TaskChange put;
    put.id = "t";
    put.origin = {1, 1};
    put.task = *row;
    before.tasks.push_back(put);
    EXPECT_OK(session->Apply(before));
  }
  storage::Batch batch;
  batch.wal_id = wal_id;
  batch.tasks = Compose(operations, wal_id).tasks;
  EXPECT_OK(session->Apply(batch));
  const auto stored = session->GetTask("t");
  return stored.ok() ? std::optional<Task>(stored->task) : std::nullopt;
}

void CheckSequence(const std::vector<int>& choices, const std::optional<Task>& row) {
  std::vector<Operation> operations;
  std::optional<Task> model = row;
  std::string name = row ? std::string(TaskStatusName(row->status)) + ":" : "none:";
  for (const int choice : choices) {
    operations.push_back(Choice(choice, 10 + operations.size()));
    ApplyToModel(operations.back(), &model);
    name += " " + std::to_string(choice);
  }
  ASSERT_EQ(InDatabase(operations, row), model) << name;
}

TEST(Batch, EqualsApplyingOneByOneForEverySequence) {
  for (int length = 1; length <= 4; ++length) {
    int sequences = 1;
    for (int i = 0; i < length; ++i) sequences *= kChoices;
    for (int n = 0; n < sequences; ++n) {
      std::vector<int> choices;
      for (int i = 0, rest = n; i < length; ++i, rest /= kChoices)
        choices.push_back(rest % kChoices);
      CheckSequence(choices, std::nullopt);
      CheckSequence(choices, ExistingRow(TaskStatus::kRunning));
      CheckSequence(choices, ExistingRow(TaskStatus::kFailed));
      if (HasFatalFailure()) return;
    }
  }
}

// --- over a row that another log wrote before, between or after them: created_at ----------------

storage::Session::StoredTask OverAnothersRow(const std::vector<Operation>& operations,
                                             const TaskChange& theirs, bool one_by_one) {
  storage::MemoryBackend backend;
  auto session = std::move(backend.Connect()).value();
  const auto apply = [&](const Uuid& wal_id, std::vector<TaskChange> changes) {
    storage::Batch batch;
    batch.wal_id = wal_id;
    batch.tasks = std::move(changes);
    EXPECT_OK(session->Apply(batch));
  };
  apply(*Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-000000000020"), {theirs});
  if (one_by_one) {
    for (const Operation& operation : operations) apply(kLog, Compose({operation}, kLog).tasks);
  } else {
    apply(kLog, Compose(operations, kLog).tasks);
  }
  return *session->GetTask("t");
}

TEST(Batch, OverAnotherLogsRowCreatedAtEqualsThatOfOneByOne) {
  constexpr int kOfThem = 4;  // saves with and without it, two updates
  for (int n = 0; n < kOfThem * kOfThem * kOfThem * kOfThem; ++n) {
    std::vector<Operation> operations;
    std::string name;
    for (int i = 0, rest = n; i < 4; ++i, rest /= kOfThem) {
      operations.push_back(Choice(rest % kOfThem, 2 * static_cast<std::uint64_t>(i) + 2));
      name += " " + std::to_string(rest % kOfThem);
    }
    for (std::uint64_t stamp = 1001; stamp <= 1009; ++stamp) {
      for (const bool is_given : {false, true}) {
        TaskChange theirs;
        theirs.id = "t";
        theirs.origin = {7, stamp};
        theirs.task = ExistingRow(TaskStatus::kPending);
        theirs.created_rank = storage::MakeCreatedRank(is_given, {stamp, Uuid(), 7});
        const auto composed = OverAnothersRow(operations, theirs, false);
        const auto singly = OverAnothersRow(operations, theirs, true);
        ASSERT_EQ(composed.task.created_at, singly.task.created_at) << name << " at " << stamp;
        ASSERT_EQ(composed.created_rank, singly.created_rank) << name << " at " << stamp;
      }
    }
  }
}

}  // namespace
}  // namespace taskwal::pipeline
