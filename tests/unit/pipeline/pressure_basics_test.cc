// What storage does while nothing is in the way, and the filters in front of it.
#include "taskwal/context.h"
#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;

TEST_F(PressureTest, Basics_NormalCallsAllArriveAndFlushEmptiesTheBuffer) {
  Open();
  for (int i = 0; i < 100; ++i) ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(storage_->GetStats().pending, 0u);
  EXPECT_EQ(Stored().activities, 100u);
  EXPECT_EQ(storage_->GetStats().drops.total(), 0u);
}

TEST_F(PressureTest, Basics_AFullBufferDropsActivitiesAndCountsThem) {
  options_.max_unflushed_records = 10;
  options_.backpressure_strategy = Overflow::kDropNewest;
  database_.GoAway();
  Open();
  int refused = 0;
  for (int i = 0; i < 30; ++i) refused += Log(1 + i % 5).ok() ? 0 : 1;
  EXPECT_EQ(refused, 20);
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.drops.of(DropReason::kNewest), 20u);
  EXPECT_EQ(stats.drops.of(DropReason::kNewest, 2), 4u);
  EXPECT_EQ(stats.dropped, 20u);
  EXPECT_EQ(stats.pending, 10u);
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 10u);
  EXPECT_OK(Log());
}

TEST_F(PressureTest, Basics_ABudgetOfBytesHoldsThroughTheWholePipeline) {
  options_.max_unflushed_bytes = 64u << 10;
  database_.GoAway();
  Open();
  Task task;
  task.payload = "\"" + std::string(1000, 'x') + "\"";
  WriteOptions no_waiting;
  no_waiting.timeout = std::chrono::milliseconds(0);
  int accepted = 0;
  for (int i = 0; i < 200; ++i) {
    task.id = std::to_string(i);
    accepted += storage_->SaveTask(task, no_waiting).ok() ? 1 : 0;
  }
  EXPECT_THAT(accepted, AllOf(Ge(50), Le(65)));
  const FlowControlSnapshot flow = control().FlowControl();
  EXPECT_LE(flow.unflushed_bytes, options_.max_unflushed_bytes);
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(control().FlowControl().unflushed_bytes, 0u);
  EXPECT_EQ(control().FlowControl().unflushed_records, 0u);
}

TEST_F(PressureTest, Basics_ConcurrentCallersLoseNothing) {
  options_.max_unflushed_records = 100;
  options_.block_timeout = seconds(30);
  Open();
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 10; ++t) {
      callers.emplace_back([&] {
        for (int i = 0; i < 100; ++i) EXPECT_OK(Log());
      });
    }
  }
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1000u);
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

TEST_F(PressureTest, Basics_ALargeRecordIsRefused) {
  options_.max_record_bytes = 1000;
  Open();
  Task task;
  task.id = "t";
  task.payload = "\"" + std::string(1000, 'x') + "\"";
  EXPECT_THAT(storage_->SaveTask(task, {}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kTooLarge, 0), 1u);
}

TEST_F(PressureTest, ActivitiesBelowTheLevelAreNotKept) {
  options_.min_activity_level = Level::kWarn;
  Open();
  Activity activity;
  activity.task_id = "t";
  activity.level = Level::kInfo;
  ASSERT_OK_AND_ASSIGN(const ActivityAck filtered, storage_->LogActivity(activity, {}));
  EXPECT_EQ(filtered.lsn, 0u);
  activity.level = Level::kError;
  ASSERT_OK_AND_ASSIGN(const ActivityAck kept, storage_->LogActivity(activity, {}));
  EXPECT_GT(kept.lsn, 0u);
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_EQ(storage_->GetStats().filtered, 1u);
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

TEST_F(PressureTest, AnActivityToBeKeptIsNotFiltered) {
  options_.min_activity_level = Level::kFatal;
  Open();
  Activity activity;
  activity.task_id = "t";
  activity.level = Level::kDebug;
  WriteOptions keep;
  keep.keep = true;
  ASSERT_OK_AND_ASSIGN(const ActivityAck kept, storage_->LogActivity(activity, keep));
  EXPECT_GT(kept.lsn, 0u);
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_EQ(storage_->GetStats().filtered, 0u);
}

TEST_F(PressureTest, AnActivityToBeKeptWaitsForRoomWhateverThePolicy) {
  options_.max_unflushed_records = 1;
  options_.backpressure_strategy = Overflow::kDropNewest;
  database_.GoAway();
  Open();
  EXPECT_OK(Log());
  Activity activity;
  activity.task_id = "t";
  WriteOptions keep;
  keep.keep = true;
  keep.timeout = seconds(60);
  Result<ActivityAck> kept = Status::Unavailable("test: no answer yet");
  {
    const std::jthread caller([&] { kept = storage_->LogActivity(activity, keep); });
    Await([&] { return control().FlowControl().waiting == 1; });
    EXPECT_FALSE(Log().ok());  // any other one is refused
    database_.ComeBack();
  }
  EXPECT_OK(kept);
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 2u);
  // Without any room it counts among the task operations.
  database_.GoAway();
  EXPECT_OK(Log());
  keep.timeout = milliseconds(0);
  EXPECT_THAT(storage_->LogActivity(activity, keep), StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kTimeout, 0), 1u);
}

TEST_F(PressureTest, ActivitiesCarryTheFieldsOfTheirScope) {
  Open();
  {
    const ContextScope scope({{"trace_id", "abc"}});
    Activity activity;
    activity.task_id = "t";
    activity.data = R"({"rows":1})";
    ASSERT_OK(storage_->LogActivity(activity, {}));
    activity.data = "{";
    EXPECT_THAT(storage_->LogActivity(activity, {}), StatusIs(StatusCode::kInvalidArgument));
  }
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, storage_->ActivitiesByTask("t"));
  ASSERT_EQ(page.activities.size(), 2u);
  EXPECT_EQ(page.activities[0].data, R"({"rows":1,"trace_id":"abc"})");
  EXPECT_FALSE(page.activities[1].data.has_value());
}

}  // namespace
}  // namespace taskwal::pipeline
