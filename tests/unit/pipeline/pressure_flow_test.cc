// Who is let in, who waits and who is refused, as callers of running storage see it.
#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Tokens come with the clock, and no sooner.
TEST_F(SteppedPressureTest, FlowControl_TheRateHoldsAndTurnsAtRunTime) {
  options_.rate_limit = 100;
  options_.rate_burst = 10;
  Open();
  EXPECT_EQ(LogMany(50), 10);
  time_.Advance(milliseconds(50));
  EXPECT_EQ(LogMany(50), 5);
  time_.Advance(hours(1));
  EXPECT_EQ(LogMany(50), 10) << "no more than the burst, however long nothing came";
  EXPECT_THAT(control().SetRate(0, 2'000'000'000'000), StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK(control().SetRate(1000, 20));
  time_.Advance(seconds(1));
  EXPECT_EQ(LogMany(50), 20);
  ASSERT_OK(control().SetRate(0, 0));
  EXPECT_EQ(LogMany(200), 200);
  EXPECT_EQ(control().FlowControl().rate_limit, 0u);
}

TEST_F(SteppedPressureTest, FlowControl_TheWindowHoldsWhatBurstsAddUpTo) {
  options_.rate_limit = 10;
  options_.rate_burst = 1000;
  options_.rate_window = seconds(2);
  options_.backpressure_strategy = Overflow::kDropNewest;
  Open();
  EXPECT_EQ(LogMany(200), 20);
  time_.Advance(seconds(1));
  EXPECT_EQ(LogMany(200), 0);
  time_.Advance(seconds(2));
  EXPECT_EQ(LogMany(200), 20);
}

TEST_F(PressureTest, FlowControl_TasksWaitWhereActivitiesAreDropped) {
  options_.max_unflushed_records = 5;
  options_.backpressure_strategy = Overflow::kDropNewest;
  database_.GoAway();
  Open();
  for (int i = 0; i < 5; ++i) ASSERT_OK(Log());
  EXPECT_FALSE(Log(5).ok());
  EXPECT_THAT(Save("late", milliseconds(20)), StatusIs(StatusCode::kOverloaded));
  std::jthread task([&] { EXPECT_OK(Save("patient")); });
  Await([&] { return control().FlowControl().waiting == 1; });
  EXPECT_FALSE(Log(5).ok());
  database_.ComeBack();
  task.join();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().tasks, 1u);
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kTimeout, 0), 1u);
}

TEST_F(PressureTest, FlowControl_ActivitiesWaitForRoomWhereTheyAreToBlock) {
  options_.max_unflushed_records = 1;
  options_.block_timeout = hours(1);
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  std::atomic<bool> is_back{false};
  std::jthread caller([&] {
    EXPECT_OK(Log());
    is_back = true;
  });
  Await([&] { return is_back || control().FlowControl().waiting == 1; });
  EXPECT_FALSE(is_back);
  database_.ComeBack();
  caller.join();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 2u);
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

TEST_F(PressureTest, FlowControl_ThePolicyTurnsAtRunTime) {
  options_.max_unflushed_records = 1;
  options_.pressure_error_rate = options_.emergency_error_rate = 0;  // they are sampled once
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(control().SetPolicy(Overflow::kSample, 4));
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(Log().ok());
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kSampled), 6u);
  EXPECT_EQ(control().FlowControl().policy, Overflow::kSample);
}

TEST_F(PressureTest, FlowControl_ADeadlineAndAStopAreHonoured) {
  options_.max_unflushed_records = 1;
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(Save("t", milliseconds(50)), StatusIs(StatusCode::kOverloaded));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(50));
  std::stop_source stop;
  std::jthread task([&] {
    WriteOptions options;
    options.timeout = hours(1);
    options.stop = stop.get_token();
    Task saved;
    saved.id = "t";
    EXPECT_THAT(storage_->SaveTask(saved, options), StatusIs(StatusCode::kOverloaded));
  });
  Await([&] { return control().FlowControl().waiting == 1; });
  stop.request_stop();
  task.join();
}

TEST_F(PressureTest, FlowControl_TheOldestOfTheLowestPriorityGivesWay) {
  options_.max_unflushed_records = 1;
  options_.backpressure_strategy = Overflow::kDropOldest;
  options_.waiting_room = 1;
  options_.block_timeout = hours(1);
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  Status first;
  std::jthread oldest([&] { first = Log(2); });
  Await([&] { return control().FlowControl().waiting == 1; });
  std::jthread newer([&] { EXPECT_OK(Log(3)); });
  oldest.join();
  EXPECT_THAT(first, StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kOldest, 2), 1u);
  database_.ComeBack();
  newer.join();
}

// They came in the opposite order, and there is room for one at a time.
TEST_F(SteppedPressureTest, FlowControl_TheHigherPriorityGoesFirst) {
  options_.max_unflushed_records = 1;
  options_.block_timeout = hours(1);
  allowed_ = 0;
  Open();
  ASSERT_OK(Log());
  Mutex mutex;
  std::map<std::uint64_t, std::int32_t> by_lsn;
  std::vector<std::jthread> callers;
  for (std::int32_t priority = 1; priority <= 5; ++priority) {
    callers.emplace_back([&, priority] {
      Activity activity;
      activity.priority = priority;
      const auto ack = storage_->LogActivity(activity, {});
      EXPECT_OK(ack.status());
      MutexLock lock(mutex);
      if (ack.ok()) by_lsn[ack->lsn] = priority;
    });
    Await([&] { return control().FlowControl().waiting == std::uint64_t(priority); });
  }
  for (std::uint64_t left = 5; left-- > 0;) {
    Apply(1);
    Await([&] { return control().FlowControl().waiting == left; });
  }
  callers.clear();
  std::vector<std::int32_t> order;
  for (const auto& [lsn, priority] : by_lsn) order.push_back(priority);
  EXPECT_THAT(order, ::testing::ElementsAre(5, 4, 3, 2, 1));
}

// Nothing counts as pressure here, so that all of them come to the full buffer.
TEST_F(SteppedPressureTest, FlowControl_SampleLetsOneInSoManyWaitForRoom) {
  options_.max_unflushed_records = 1;
  options_.backpressure_strategy = Overflow::kSample;
  options_.sample_one_in = 4;
  allowed_ = 0;
  Open();
  ASSERT_OK(Log());
  EXPECT_EQ(LogMany(8), 0);
  const DropCounts drops = storage_->GetStats().drops;
  EXPECT_EQ(drops.of(DropReason::kSampled), 6u);
  EXPECT_EQ(drops.of(DropReason::kTimeout), 2u) << "these would have waited, had they the time";
}

// Though there is room.
TEST_F(SteppedPressureTest, FlowControl_SampleThinsOutUnderPressure) {
  options_.backpressure_strategy = Overflow::kSample;
  options_.sample_one_in = 5;
  options_.pressure_records = 10;
  allowed_ = 0;
  Open();
  EXPECT_EQ(LogMany(10), 10);
  EXPECT_EQ(Look().state, Pressure::kPressure);
  EXPECT_EQ(LogMany(100), 20);
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kSampled), 80u);
  EXPECT_OK(Save("t"));
  Apply(31);
  EXPECT_EQ(Look().state, Pressure::kNormal);
  EXPECT_EQ(LogMany(100), 100);
}

}  // namespace
}  // namespace taskwal::pipeline
