// What storage/backend.h promises of writing, on every backend alike.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/contract/backend_fixture.h"

namespace taskwal::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Outcome = ApplyResult::Outcome;

INSTANTIATE_TEST_SUITE_P(Backends, BackendContract, ::testing::ValuesIn(kBackends), BackendName);

// --- a task that has ended

TEST_P(BackendContract, OpenOnlyChangesLeaveATaskThatHasEnded) {
  const auto open_only = [](TaskChange change) {
    change.open_only = true;
    return change;
  };
  for (const TaskStatus status :
       {TaskStatus::kCompleted, TaskStatus::kFailed, TaskStatus::kCancelled}) {
    const std::string id(TaskStatusName(status));
    ApplyTasks({Put(MakeTask(id, "run-1", status), {1, 1})});
    const Task before = Get(id);
    ApplyTasks({open_only(Put(MakeTask(id), {2, 2}))});
    ApplyTasks({open_only(Put(MakeTask(id), {3, 3}, true))});
    ApplyTasks({open_only(Patch(id, MakePatch(TaskStatus::kRunning), {4, 4}))});
    EXPECT_EQ(Get(id), before);
    ASSERT_OK_AND_ASSIGN(const auto row, session_->GetTask(id));
    EXPECT_EQ(row.origin.lsn, 1u);
    ApplyTasks({Patch(id, MakePatch(TaskStatus::kRunning), {5, 5})});
    EXPECT_EQ(Get(id).status, TaskStatus::kRunning);
  }
}

TEST_P(BackendContract, OpenOnlyChangesTakeEffectOnAllOthers) {
  TaskChange put = Put(MakeTask("new", "run-1", TaskStatus::kPending), {1, 1});
  TaskChange patch = Patch("new", MakePatch(TaskStatus::kRunning), {2, 2});
  put.open_only = patch.open_only = true;
  ApplyTasks({put});
  ApplyTasks({patch});
  EXPECT_EQ(Get("new").status, TaskStatus::kRunning);
  put.origin = {3, 3};
  ApplyTasks({put});
  EXPECT_EQ(Get("new").status, TaskStatus::kPending);
}

TEST_P(BackendContract, TurnsOfATaskFollowEachOther) {
  TaskChange late = Patch("a", MakePatch(TaskStatus::kRunning), {3, 3});
  TaskChange done = Patch("a", MakePatch(TaskStatus::kCompleted), {2, 2});
  done.turn = 1;
  late.turn = 2;
  late.open_only = true;
  TaskChange reset = Patch("b", MakePatch(TaskStatus::kRunning), {5, 5});
  reset.turn = 1;
  ApplyTasks({Put(MakeTask("a"), {1, 1}),
              Put(MakeTask("b", "run-1", TaskStatus::kFailed), {4, 4}), done, reset, late});
  EXPECT_EQ(Get("a").status, TaskStatus::kCompleted);
  EXPECT_EQ(Get("b").status, TaskStatus::kRunning);
}

// --- watermarks, epochs

TEST_P(BackendContract, WatermarkMovesWithTheRows) {
  Batch batch = MakeBatch({Put(MakeTask("t"), {5, 100})});
  batch.moves = {{0, 0, 5}, {1, 0, 4}};
  Apply(batch);
  EXPECT_THAT(Watermarks(), ElementsAre(5, 4));
  EXPECT_TRUE(Exists("t"));
}

TEST_P(BackendContract, UnexpectedWatermarkLeavesEverythingAsItWas) {
  Batch first = MakeBatch();
  first.moves = {{1, 0, 3}};
  Apply(first);
  Batch batch = MakeBatch({Put(MakeTask("t"), {5, 100})}, {MakeActivity("a")});
  batch.moves = {{0, 0, 5}, {1, 2, 5}};
  ASSERT_OK_AND_ASSIGN(const ApplyResult result, session_->Apply(batch));
  EXPECT_EQ(result.outcome, Outcome::kWatermarkMoved);
  EXPECT_THAT(Watermarks(), ElementsAre(0, 3));
  EXPECT_FALSE(Exists("t"));
  EXPECT_THAT(ActivityIds(), IsEmpty());
  // The session goes on working.
  batch.moves[1].expected = 3;
  Apply(batch);
  EXPECT_THAT(Watermarks(), ElementsAre(5, 5));
}

TEST_P(BackendContract, OtherEpochUnknownLogOrPartitionMoveNothing) {
  Batch batch = MakeBatch({Put(MakeTask("t"), {5, 100})});
  batch.moves = {{0, 0, 5}};
  for (const std::uint64_t epoch : {0, 2}) {
    batch.epoch = epoch;
    ASSERT_OK_AND_ASSIGN(const ApplyResult result, session_->Apply(batch));
    EXPECT_EQ(result.outcome, Outcome::kWatermarkMoved);
  }
  batch.epoch = 1;
  batch.wal_id = LogNamed("99");
  ASSERT_OK_AND_ASSIGN(const ApplyResult unknown, session_->Apply(batch));
  EXPECT_EQ(unknown.outcome, Outcome::kWatermarkMoved);
  batch.wal_id = log_;
  batch.moves = {{2, 0, 5}};
  ASSERT_OK_AND_ASSIGN(const ApplyResult beyond, session_->Apply(batch));
  EXPECT_EQ(beyond.outcome, Outcome::kWatermarkMoved);
  EXPECT_FALSE(Exists("t"));
  EXPECT_THAT(Watermarks(), ElementsAre(0, 0));
}

TEST_P(BackendContract, BatchWithoutRowsMovesTheWatermark) {
  Batch batch = MakeBatch();
  batch.moves = {{0, 0, 7}};
  Apply(batch);
  EXPECT_THAT(Watermarks(), ElementsAre(7, 0));
}

TEST_P(BackendContract, UnknownLogHasNoWatermarks) {
  ASSERT_OK_AND_ASSIGN(const LogRow row, session_->ReadLog(LogNamed("99")));
  EXPECT_THAT(row.watermarks, IsEmpty());
  EXPECT_EQ(row.epoch, 0u);
}

TEST_P(BackendContract, RegisteringStartsWhereToldOnlyTheFirstTime) {
  const Uuid log = LogNamed("30");
  ASSERT_OK_AND_ASSIGN(const LogRow made, session_->RegisterLog(log, 4, std::vector<Lsn>{7, 8, 9}));
  EXPECT_EQ(made.epoch, 4u);
  EXPECT_THAT(made.watermarks, ElementsAre(7, 8, 9));
  ASSERT_OK_AND_ASSIGN(const LogRow again,
                       session_->RegisterLog(log, 5, std::vector<Lsn>{1, 1, 1}));
  EXPECT_EQ(again.epoch, 5u);
  EXPECT_THAT(again.watermarks, ElementsAre(7, 8, 9));
  ASSERT_OK_AND_ASSIGN(const LogRow stored, session_->ReadLog(log));
  EXPECT_EQ(stored.epoch, 5u);
}

TEST_P(BackendContract, RegisteringTwiceUnderOneEpochIsAllowed) {
  EXPECT_OK(session_->RegisterLog(log_, 1, std::vector<Lsn>{0, 0}));
}

TEST_P(BackendContract, LowerEpochIsFenced) {
  ASSERT_OK(session_->RegisterLog(log_, 5, std::vector<Lsn>{0, 0}));
  EXPECT_THAT(session_->RegisterLog(log_, 4, std::vector<Lsn>{0, 0}),
              StatusIs(StatusCode::kFenced, HasSubstr("epoch 5")));
  ASSERT_OK_AND_ASSIGN(const LogRow row, session_->ReadLog(log_));
  EXPECT_EQ(row.epoch, 5u);
  // And the one that is fenced moves nothing any more.
  Batch batch = MakeBatch({Put(MakeTask("t"), {5, 100})});
  batch.moves = {{0, 0, 5}};
  ASSERT_OK_AND_ASSIGN(const ApplyResult result, session_->Apply(batch));
  EXPECT_EQ(result.outcome, Outcome::kWatermarkMoved);
  EXPECT_FALSE(Exists("t"));
}

// --- the guard: which of two operations on a task wins

TEST_P(BackendContract, WithinALogTheHigherLsnWinsInEitherOrder) {
  Task older = MakeTask("t"), newer = MakeTask("t");
  older.error = "older";
  newer.error = "newer";
  // The stamp says the opposite: within one log it does not count.
  ApplyTasks({Put(older, {5, 900})});
  ApplyTasks({Put(newer, {6, 100})});
  EXPECT_EQ(Get("t").error, "newer");
  ApplyTasks({Put(older, {5, 900})});
  EXPECT_EQ(Get("t").error, "newer");
}

TEST_P(BackendContract, BetweenLogsTheHigherStampWinsInEitherOrder) {
  Task ours = MakeTask("t"), theirs = MakeTask("t");
  ours.error = "ours";
  theirs.error = "theirs";
  ApplyFrom(log_, {Put(ours, {1, 200})});
  ApplyFrom(other_log_, {Put(theirs, {9, 100})});
  EXPECT_EQ(Get("t").error, "ours");
  ApplyFrom(other_log_, {Put(theirs, {10, 300})});
  EXPECT_EQ(Get("t").error, "theirs");
  ApplyFrom(log_, {Put(ours, {2, 250})});
  EXPECT_EQ(Get("t").error, "theirs");
}

TEST_P(BackendContract, BetweenLogsEqualStampsAreDecidedByTheLogsId) {
  Task ours = MakeTask("t"), theirs = MakeTask("t");
  ours.error = "ours";
  theirs.error = "theirs";
  ApplyFrom(other_log_, {Put(theirs, {1, 100})});
  ApplyFrom(log_, {Put(ours, {1, 100})});
  EXPECT_EQ(Get("t").error, "theirs");
  ApplyFrom(log_, {Patch("t", MakePatch(TaskStatus::kFailed), {2, 100})});
  ApplyFrom(log_, {Delete("t", {3, 100})});
  EXPECT_EQ(Get("t"), theirs);
  ApplyTasks({Put(MakeTask("u"), {1, 100})});
  Task u = MakeTask("u");
  u.error = "theirs";
  ApplyFrom(other_log_, {Put(u, {1, 100})});
  EXPECT_EQ(Get("u").error, "theirs");
}

TEST_P(BackendContract, RowKeepsWhereItCameFrom) {
  ApplyTasks({Put(MakeTask("t"), {5, 100})});
  ASSERT_OK_AND_ASSIGN(const auto row, session_->GetTask("t"));
  EXPECT_EQ(row.wal_id, log_);
  EXPECT_EQ(row.origin.lsn, 5u);
  EXPECT_EQ(row.origin.stamp, 100u);
  ApplyTasks({Patch("t", MakePatch(TaskStatus::kRunning), {7, 120})});
  ASSERT_OK_AND_ASSIGN(const auto patched, session_->GetTask("t"));
  EXPECT_EQ(patched.origin.lsn, 7u);
  EXPECT_EQ(patched.origin.stamp, 120u);
}

TEST_P(BackendContract, RepeatingABatchWithoutWatermarkChangesNothing) {
  const Batch batch = MakeBatch({Put(MakeTask("t"), {5, 100})}, {MakeActivity("a")});
  EXPECT_EQ(Apply(batch), 0u);
  EXPECT_EQ(Apply(batch), 1u);
  EXPECT_EQ(Get("t"), MakeTask("t"));
}

// --- what the kinds of change do

TEST_P(BackendContract, PutReplacesEveryFieldButCreatedAt) {
  Task full = MakeTask("t");
  full.node_id = "n";
  full.current_node_id = "c";
  full.sub_dag_path = "/s";
  full.processing_state = "p";
  full.payload = "{}";
  full.error = "e";
  full.retry_count = 1;
  full.max_retries = 2;
  full.priority = -3;
  full.started_at = After(1);
  full.completed_at = After(2);
  ApplyTasks({Put(full, {1, 1})});
  EXPECT_EQ(Get("t"), full);
  Task bare = MakeTask("t", "", TaskStatus::kRunning, After(50));
  ApplyTasks({Put(bare, {2, 2})});
  bare.created_at = full.created_at;
  EXPECT_EQ(Get("t"), bare);
}

TEST_P(BackendContract, CreatedAtIsTakenWhereGiven) {
  ApplyTasks({Put(MakeTask("t"), {1, 1})});
  ApplyTasks({Put(MakeTask("t", "run-1", TaskStatus::kPending, After(-100)), {2, 2}, true)});
  EXPECT_EQ(Get("t").created_at, After(-100));
}

TEST_P(BackendContract, ReplaceKeepsNothing) {
  Task old = MakeTask("t");
  old.error = "old";
  ApplyTasks({Put(old, {1, 1})});
  const Task fresh = MakeTask("t", "run-2", TaskStatus::kRunning, After(60));
  ApplyTasks({Replace(fresh, {2, 2})});
  EXPECT_EQ(Get("t"), fresh);
  ApplyTasks({Replace(MakeTask("new"), {3, 3})});
  EXPECT_TRUE(Exists("new"));
}

TEST_P(BackendContract, ReplaceIsGuardedToo) {
  ApplyTasks({Put(MakeTask("t"), {5, 5})});
  ApplyTasks({Replace(MakeTask("t", "run-2"), {4, 4})});
  EXPECT_EQ(Get("t").dag_id, "run-1");
}

TEST_P(BackendContract, PatchSetsClearsAndKeeps) {
  Task task = MakeTask("t");
  task.payload = "[1]";
  task.started_at = After(1);
  task.completed_at = After(2);
  ApplyTasks({Put(task, {1, 1})});

  StatusPatch keep = MakePatch(TaskStatus::kFailed, "why", After(3));
  ApplyTasks({Patch("t", keep, {2, 2})});
  task.status = TaskStatus::kFailed;
  task.error = "why";
  task.updated_at = After(3);
  EXPECT_EQ(Get("t"), task);

  StatusPatch change = MakePatch(TaskStatus::kRunning, "", After(4));
  change.started_at = {TimeChange::Kind::kSet, After(4)};
  change.completed_at = {TimeChange::Kind::kClear, {}};
  ApplyTasks({Patch("t", change, {3, 3})});
  task.status = TaskStatus::kRunning;
  task.error = "";
  task.updated_at = After(4);
  task.started_at = After(4);
  task.completed_at.reset();
  EXPECT_EQ(Get("t"), task);

  StatusPatch other = MakePatch(TaskStatus::kCompleted, "", After(5));
  other.started_at = {TimeChange::Kind::kClear, {}};
  other.completed_at = {TimeChange::Kind::kSet, After(5)};
  ApplyTasks({Patch("t", other, {4, 4})});
  EXPECT_EQ(Get("t").started_at, std::nullopt);
  EXPECT_EQ(Get("t").completed_at, After(5));
}

TEST_P(BackendContract, PatchOfAnAbsentTaskMakesNone) {
  ApplyTasks({Patch("ghost", MakePatch(TaskStatus::kRunning), {1, 1})});
  EXPECT_FALSE(Exists("ghost"));
}

TEST_P(BackendContract, OlderPatchAndDeleteChangeNothing) {
  ApplyTasks({Put(MakeTask("t"), {5, 5})});
  ApplyTasks({Patch("t", MakePatch(TaskStatus::kFailed), {5, 9})});
  ApplyTasks({Delete("t", {4, 9})});
  EXPECT_EQ(Get("t"), MakeTask("t"));
}

TEST_P(BackendContract, DeleteRemovesAndMayMeetNothing) {
  ApplyTasks({Put(MakeTask("t"), {5, 5}), Put(MakeTask("u"), {6, 6})});
  ApplyTasks({Delete("ghost", {7, 7}), Delete("t", {8, 8})});
  EXPECT_FALSE(Exists("t"));
  EXPECT_TRUE(Exists("u"));
}

TEST_P(BackendContract, DagDeleteTakesOnlyWhatCameBefore) {
  ApplyTasks({Put(MakeTask("after"), {11, 11}), Put(MakeTask("before"), {5, 5}),
              Put(MakeTask("elsewhere", "run-2"), {6, 6})});
  ApplyFrom(other_log_,
            {Put(MakeTask("their-after"), {1, 50}), Put(MakeTask("their-before"), {2, 3})});
  Batch batch = MakeBatch();
  batch.dag_deletes = {{"run-1", {10, 10}}};
  Apply(batch);
  EXPECT_THAT(TaskIds(), ElementsAre("after", "elsewhere", "their-after"));
}

TEST_P(BackendContract, DagDeleteComesBeforeTheTasksOfItsBatch) {
  ApplyTasks({Put(MakeTask("old"), {1, 1})});
  Batch batch = MakeBatch({Put(MakeTask("new"), {11, 11})});
  batch.dag_deletes = {{"run-1", {10, 10}}};
  Apply(batch);
  EXPECT_THAT(TaskIds(), ElementsAre("new"));
}

TEST_P(BackendContract, DagDeleteLeavesActivities) {
  Apply(MakeBatch({Put(MakeTask("t"), {1, 1})}, {MakeActivity("a")}));
  Batch batch = MakeBatch();
  batch.dag_deletes = {{"run-1", {10, 10}}};
  Apply(batch);
  EXPECT_THAT(ActivityIds(), ElementsAre("a"));
}

TEST_P(BackendContract, SecondActivityOfAnIdChangesNothingAndIsCounted) {
  Activity first = MakeActivity("a"), second = MakeActivity("a");
  first.message = "first";
  second.message = "second";
  EXPECT_EQ(Apply(MakeBatch({}, {first})), 0u);
  Batch batch = MakeBatch({}, {second, MakeActivity("b"), MakeActivity("b")});
  batch.idempotent = true;
  EXPECT_EQ(Apply(batch), 2u);
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, session_->QueryActivities({}));
  ASSERT_EQ(page.activities.size(), 2u);
  EXPECT_EQ(page.activities[0].message, "first");
}

TEST_P(BackendContract, HighestStampIsThatOfAnyTaskOperation) {
  ASSERT_OK_AND_ASSIGN(const std::uint64_t empty, session_->HighestStamp());
  EXPECT_EQ(empty, 0u);
  Batch batch = MakeBatch({Put(MakeTask("t"), {5, 700})});
  batch.moves = {{0, 0, 5}};
  Apply(batch);
  ApplyFrom(other_log_, {Put(MakeTask("u"), {5, 300})});
  ASSERT_OK_AND_ASSIGN(const std::uint64_t stamp, session_->HighestStamp());
  EXPECT_EQ(stamp, 700u);
  Batch removal = MakeBatch();
  removal.dag_deletes = {{"run-1", {9, 800}}};
  Apply(removal);
  ASSERT_OK_AND_ASSIGN(const std::uint64_t after, session_->HighestStamp());
  EXPECT_EQ(after, 800u);
}

// --- bytes come back as they were

TEST_P(BackendContract, IdsAreComparedByteForByte) {
  const std::vector<std::string> ids = {"a",
                                        "a ",
                                        "A",
                                        "a'b",
                                        "a\"b",
                                        "a\\b",
                                        "a%b",
                                        "a\nb",
                                        "ä",
                                        "a\u0308",
                                        "😀",
                                        "-- x",
                                        std::string(255, 'i')};
  std::vector<TaskChange> changes;
  Lsn lsn = 0;
  for (const std::string& id : ids) {
    Task task = MakeTask(id, id);
    task.error = id;
    changes.push_back(Put(task, {++lsn, lsn}));
  }
  ApplyTasks(changes);
  for (const std::string& id : ids) {
    EXPECT_EQ(Get(id), changes[static_cast<std::size_t>(&id - ids.data())].task);
    TaskQuery query;
    query.dag_id = id;
    EXPECT_THAT(TaskIds(query), ElementsAre(id));
  }
  EXPECT_FALSE(Exists("a  "));
  EXPECT_FALSE(Exists(""));
}

TEST_P(BackendContract, JsonComesBackByteForByte) {
  const std::vector<std::string> texts = {"null",
                                          "{ \"b\":1,\"a\" : 2 }",
                                          "1.50",
                                          "\"\\u0041ä\"",
                                          "[1,\n 2]",
                                          "{\"a\":1,\"a\":2}",
                                          "12345678901234567890123"};
  std::vector<Activity> activities;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Task task = MakeTask("t" + std::to_string(i));
    task.payload = texts[i];
    activities.push_back(MakeActivity("a" + std::to_string(i)));
    activities.back().data = texts[i];
    Apply(MakeBatch({Put(task, {1, 1})}, {activities.back()}));
    EXPECT_EQ(Get(task.id).payload, texts[i]);
  }
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, session_->QueryActivities({}));
  EXPECT_EQ(page.activities, activities);
  ApplyTasks({Put(MakeTask("none"), {1, 1})});
  EXPECT_EQ(Get("none").payload, std::nullopt);
}

TEST_P(BackendContract, LargestValuesComeBack) {
  Task task = MakeTask(std::string(255, 't'));
  task.sub_dag_path = std::string(4096, 's');
  task.error = std::string(1u << 20, 'e');
  task.payload = '"' + std::string((16u << 20) - 2, 'p') + '"';
  task.retry_count = std::numeric_limits<std::int32_t>::min();
  task.priority = std::numeric_limits<std::int32_t>::max();
  Activity activity = MakeActivity("a");
  activity.message = std::string(1u << 20, 'm');
  activity.data = task.payload;
  Apply(MakeBatch({Put(task, {1, 1})}, {activity}));
  EXPECT_TRUE(Get(task.id) == task);
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, session_->QueryActivities({}));
  EXPECT_TRUE(page.activities == std::vector{activity});
}

TEST_P(BackendContract, TimesKeepTheirMicrosecondsAtAnyYear) {
  for (const char* text : {"0001-01-01T00:00:00.000000Z", "1969-12-31T23:59:59.999999Z",
                           "1970-01-01T00:00:00.000000Z", "2024-02-29T12:34:56.000001Z",
                           "9999-12-31T23:59:59.999999Z"}) {
    Task task = MakeTask("t", "run-1", TaskStatus::kPending, *ParseTime(text));
    task.started_at = task.completed_at = task.created_at;
    ApplyTasks({Delete("t", {1u << 30, 1})});
    ApplyTasks({Put(task, {1, 1})});
    EXPECT_EQ(Get("t"), task) << text;
  }
}

TEST_P(BackendContract, LargeLsnsAndStampsComeBack) {
  const std::uint64_t big = (1ull << 62) + 12345;
  Batch batch = MakeBatch({Put(MakeTask("t"), {big, big + 1})});
  batch.moves = {{0, 0, big}};
  Apply(batch);
  EXPECT_THAT(Watermarks(), ElementsAre(big, 0));
  ASSERT_OK_AND_ASSIGN(const auto row, session_->GetTask("t"));
  EXPECT_EQ(row.origin.lsn, big);
  EXPECT_EQ(row.origin.stamp, big + 1);
}

// --- sessions

TEST_P(BackendContract, SessionsOfABackendSeeEachOthersCommits) {
  ASSERT_OK_AND_ASSIGN(const auto reader, backend_->Connect());
  ApplyTasks({Put(MakeTask("t"), {1, 1})});
  ASSERT_OK_AND_ASSIGN(const auto row, reader->GetTask("t"));
  EXPECT_EQ(row.task, MakeTask("t"));
  Batch batch = MakeBatch();
  batch.moves = {{0, 0, 4}};
  ASSERT_OK(reader->Apply(batch));
  EXPECT_THAT(Watermarks(), ElementsAre(4, 0));
}

TEST_P(BackendContract, DatabaseKeepsItsIdentity) {
  EXPECT_FALSE(backend_->db_id().IsZero());
  const Uuid id = backend_->db_id();
  ASSERT_OK(backend_->Connect());
  EXPECT_EQ(backend_->db_id(), id);
  ASSERT_OK(session_->Ping());
}

// As deep as a call may give it.
TEST_P(BackendContract, JsonOfTenThousandLevelsComesBackByteForByte) {
  std::string mixed;
  for (int i = 0; i < 5000; ++i) mixed += R"([ {"a":)";
  mixed += "1";
  for (int i = 0; i < 5000; ++i) mixed += "}]";
  const std::string arrays = std::string(10'000, '[') + std::string(10'000, ']');
  Task task = MakeTask("deep");
  task.payload = mixed;
  Activity activity = MakeActivity("deep");
  activity.data = arrays;
  ASSERT_OK(CheckTask(task));
  ASSERT_OK(CheckActivity(activity));
  Batch batch = MakeBatch({Put(task, {1, 1})}, {activity});
  Apply(batch);
  EXPECT_TRUE(Get("deep").payload == mixed);
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, session_->QueryActivities({}));
  ASSERT_EQ(page.activities.size(), 1u);
  EXPECT_TRUE(page.activities[0].data == arrays);
}

}  // namespace
}  // namespace taskwal::storage
