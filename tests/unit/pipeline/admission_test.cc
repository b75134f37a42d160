#include "pipeline/admission/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/admission_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// It waits for room in the log with the only record there may be; the task could wait for ever.
TEST_F(AdmissionTest, ATaskDoesNotWaitForWhatAWaitingActivityHolds) {
  options_.max_unflushed_records = 1;
  Make();
  room_ = 0;
  Waiter& activity = Wait(5);
  Waiter& task = Wait(kTaskRank);
  const auto until = std::chrono::steady_clock::now() + seconds(20);
  while (asked_[kTaskRank] == 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_GT(asked_[kTaskRank], 0u) << "still kept out by the activity";
  if (asked_[kTaskRank] == 0) task.stop.request_stop();
  room_ = 1;
  EXPECT_OK(ResultOf(task));
  EXPECT_EQ(entered().front(), kTaskRank);
  // The activity's turn comes once there is a budget for it.
  EXPECT_EQ(admission_->Snapshot().unflushed_records, 1u);
  gauge_->OnSettled(1, 100);
  room_ = 1;
  EXPECT_OK(ResultOf(activity));
  EXPECT_EQ(admission_->drops().total(), 0u);
}

// The others are woken when it is their turn, or they are told to stop, or their time is over.
TEST_F(AdmissionTest, OfManyThatWaitAFewAskTheLog) {
  constexpr std::size_t kCallers = 100, kAtLog = 32;
  Make();
  room_ = 0;
  std::array<std::atomic<std::uint64_t>, kCallers> asked{};
  std::vector<std::optional<Result<wal::Lsn>>> results(kCallers);
  std::vector<std::stop_source> stops(kCallers);
  std::vector<std::jthread> callers;
  for (std::size_t i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      const auto timeout = i == kCallers - 1 ? seconds(10) : seconds(20);
      const Admission::Call call{kTaskRank, 100, timeout, stops[i].get_token(), false};
      results[i] = admission_->Enter(call, [&, i](const wal::Deadline&) {
        ++asked[i];
        return Append(kTaskRank);
      });
    });
    AwaitWaiting(i + 1);
  }
  AwaitAsked(kTaskRank, asked_[kTaskRank] + 10 * kAtLog);
  for (std::size_t i = 0; i < kCallers; ++i) EXPECT_EQ(asked[i] > 0, i < kAtLog) << i;

  stops[kAtLog].request_stop();
  callers[kAtLog].join();
  EXPECT_THAT(*results[kAtLog], StatusIs(StatusCode::kOverloaded, HasSubstr("told to stop")));
  clock_.Advance(seconds(10));
  callers[kCallers - 1].join();
  EXPECT_THAT(*results[kCallers - 1], StatusIs(StatusCode::kOverloaded, HasSubstr("in time")));
  EXPECT_EQ(asked[kAtLog + 1], 0u);

  room_ = kCallers;
  callers.clear();
  for (std::size_t i = 0; i < kCallers - 1; ++i) {
    if (i == kAtLog) continue;
    EXPECT_OK(*results[i]) << i;
  }
}

TEST_F(AdmissionTest, AllThatWaitAreToldOfTheEnd) {
  Make();
  room_ = 0;
  for (int i = 0; i < 40; ++i) Wait(i % 2 == 0 ? kTaskRank : 1);
  admission_->Close();
  for (auto& waiter : waiters_) EXPECT_THAT(ResultOf(*waiter), StatusIs(StatusCode::kClosed));
}

TEST_F(AdmissionTest, TheDoorStandsOpenWhileNothingIsLimited) {
  Make();
  EXPECT_TRUE(admission_->is_open());
  admission_->SetRate(10, 1);
  EXPECT_FALSE(admission_->is_open());
  admission_->SetRate(0, 0);
  EXPECT_TRUE(admission_->is_open());
}

TEST_F(AdmissionTest, BlockWaitsUntilThereIsRoom) {
  Make();
  room_ = 0;
  Waiter& log = Wait(3);
  room_ = 1;
  EXPECT_OK(ResultOf(log));
  EXPECT_EQ(admission_->drops().total(), 0u);
  EXPECT_TRUE(admission_->is_open());
}

TEST_F(AdmissionTest, BlockGivesUpAtItsTimeout) {
  Make();
  room_ = 0;
  Waiter& log = Wait(3, milliseconds(500));
  clock_.Advance(milliseconds(500));
  EXPECT_THAT(ResultOf(log), StatusIs(StatusCode::kOverloaded, HasSubstr("nothing was kept")));
  EXPECT_EQ(admission_->drops().of(DropReason::kTimeout, 3), 1u);
}

TEST_F(AdmissionTest, AStopEndsTheWaiting) {
  Make();
  room_ = 0;
  Waiter& task = Wait(kTaskRank, std::chrono::hours(10000 * 24));
  task.stop.request_stop();
  EXPECT_THAT(ResultOf(task), StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(admission_->drops().of(DropReason::kTimeout, 0), 1u);
}

TEST_F(AdmissionTest, ClosingEndsTheWaiting) {
  Make();
  room_ = 0;
  Waiter& task = Wait(kTaskRank);
  admission_->Close();
  EXPECT_THAT(ResultOf(task), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(Enter(), StatusIs(StatusCode::kClosed));
}

TEST_F(AdmissionTest, DropNewestRefusesActivitiesAtOnceAndLetsTasksWait) {
  options_.backpressure_strategy = Overflow::kDropNewest;
  Make();
  room_ = 0;
  EXPECT_THAT(Enter(5, seconds(10)), StatusIs(StatusCode::kOverloaded, HasSubstr("drop_newest")));
  EXPECT_EQ(admission_->drops().of(DropReason::kNewest, 5), 1u);
  Waiter& task = Wait(kTaskRank);
  room_ = 1;
  EXPECT_OK(ResultOf(task));
}

TEST_F(AdmissionTest, SampleLetsOneInNWait) {
  options_.backpressure_strategy = Overflow::kSample;
  options_.sample_one_in = 5;
  Make();
  room_ = 0;
  // The first of each five waits, which without a timeout shows as another reason.
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(Enter(3).ok());
  EXPECT_EQ(Dropped(DropReason::kSampled), 16u);
  EXPECT_EQ(Dropped(DropReason::kTimeout), 4u);
}

TEST_F(AdmissionTest, SampleThinsOutUnderPressureThoughThereIsRoom) {
  options_.backpressure_strategy = Overflow::kSample;
  options_.sample_one_in = 10;
  Make();
  for (int i = 0; i < 100; ++i) EXPECT_OK(Enter(3));
  LookAt(15);
  EXPECT_EQ(gauge_->state(), Pressure::kPressure);
  int kept = 0;
  for (int i = 0; i < 100; ++i) kept += Enter(3).ok() ? 1 : 0;
  EXPECT_EQ(kept, 10);
  for (int i = 0; i < 100; ++i) EXPECT_OK(Enter(kTaskRank));
  admission_->SetPolicy(Overflow::kBlock, 10);
  for (int i = 0; i < 100; ++i) EXPECT_OK(Enter(3));
}

TEST_F(AdmissionTest, DropOldestLetsTheOldestOfTheLowestPriorityGiveWay) {
  options_.backpressure_strategy = Overflow::kDropOldest;
  options_.waiting_room = 3;
  Make();
  room_ = 0;
  Waiter& old_low = Wait(2);
  Waiter& young_low = Wait(2);
  Waiter& high = Wait(5);
  // A lower one finds nobody to give way to it.
  EXPECT_THAT(Enter(1, seconds(10)), StatusIs(StatusCode::kOverloaded));
  std::jthread newcomer([this] { EXPECT_OK(Enter(3, seconds(10))); });
  EXPECT_THAT(ResultOf(old_low), StatusIs(StatusCode::kOverloaded, HasSubstr("gave way")));
  AwaitWaiting(3);
  room_ = 3;
  newcomer.join();
  EXPECT_OK(ResultOf(young_low));
  EXPECT_OK(ResultOf(high));
  EXPECT_EQ(admission_->drops().of(DropReason::kOldest, 2), 1u);
  EXPECT_EQ(admission_->drops().of(DropReason::kOldest, 1), 1u);
  EXPECT_EQ(admission_->drops().total(), 2u);
}

TEST_F(AdmissionTest, TasksNeverGiveWay) {
  options_.backpressure_strategy = Overflow::kDropOldest;
  options_.waiting_room = 1;
  Make();
  room_ = 0;
  Waiter& task = Wait(kTaskRank);
  Waiter& log = Wait(5);
  std::jthread newcomer([this] { EXPECT_OK(Enter(5, seconds(10))); });
  EXPECT_FALSE(ResultOf(log).ok());
  room_ = 2;
  EXPECT_OK(ResultOf(task));
}

TEST_F(AdmissionTest, ACallThatOnlyWantsRoomIsNotCounted) {
  options_.backpressure_strategy = Overflow::kDropNewest;
  Make();
  room_ = 0;
  const Admission::Call call{3, 100, seconds(10), {}, true};
  EXPECT_THAT(admission_->Enter(call,
                                [](const wal::Deadline&) -> Result<wal::Lsn> {
                                  return Status::Overloaded("full");
                                }),
              StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(admission_->drops().total(), 0u);
}

TEST_F(AdmissionTest, TasksGoFirstThenActivitiesByPriority) {
  options_.rate_limit = 10;
  options_.rate_burst = 1;
  Make();
  ASSERT_OK(Enter(1));
  for (const std::int32_t rank : {1, 3, 5, kTaskRank, 2, 4}) Wait(rank);
  for (std::uint64_t left = 6; left > 0; --left) {
    clock_.Advance(milliseconds(100));
    AwaitWaiting(left - 1);
  }
  EXPECT_THAT(entered(), ElementsAre(1, kTaskRank, 5, 4, 3, 2, 1));
}

TEST_F(AdmissionTest, WhoCameFirstGoesFirstWithinAPriority) {
  options_.rate_limit = 10;
  options_.rate_burst = 1;
  Make();
  ASSERT_OK(Enter(3));
  Waiter& first = Wait(3);
  Waiter& second = Wait(3);
  clock_.Advance(milliseconds(100));
  EXPECT_OK(ResultOf(first));
  EXPECT_FALSE(second.result.has_value());
  clock_.Advance(milliseconds(100));
  EXPECT_OK(ResultOf(second));
}

TEST_F(AdmissionTest, AnActivityMakesWayInTheLogForATaskThatWaits) {
  Make();
  room_ = 0;
  Waiter& log = Wait(5);
  Waiter& task = Wait(kTaskRank);
  room_ = 1;
  EXPECT_OK(ResultOf(task));
  EXPECT_FALSE(log.result.has_value());
  room_ = 1;
  EXPECT_OK(ResultOf(log));
}

TEST_F(AdmissionTest, LetsABurstInAndThenTheRate) {
  options_.rate_limit = 100;
  options_.rate_burst = 20;
  Make();
  int entered = 0;
  for (int i = 0; i < 50; ++i) entered += Enter().ok() ? 1 : 0;
  EXPECT_EQ(entered, 20);
  for (int second = 0; second < 10; ++second) {
    for (int i = 0; i < 200; ++i) {
      clock_.Advance(milliseconds(5));
      entered += Enter().ok() ? 1 : 0;
    }
  }
  EXPECT_NEAR(entered, 20 + 1000, 2);
}

TEST_F(AdmissionTest, TheWindowBoundsWhatBurstsAddUpTo) {
  options_.rate_limit = 100;
  options_.rate_burst = 1000;
  options_.rate_window = seconds(10);
  Make();
  int entered = 0;
  // Ten seconds: the bucket alone would let a thousand at once in, and a thousand more.
  for (int i = 0; i < 1900; ++i) {
    entered += Enter().ok() ? 1 : 0;
    clock_.Advance(milliseconds(5));
  }
  EXPECT_EQ(entered, 1000);
}

// A slot of the window is a 63rd of it: what waited longer than that counts in an older one.
TEST_F(AdmissionTest, WhatTheLogRefusesIsTakenOutOfTheWindowWhereItWasCounted) {
  options_.rate_limit = 1;
  options_.rate_burst = 10;
  options_.rate_window = seconds(10);
  Make();
  room_ = 0;
  Waiter& refused = Wait(3);
  AwaitAsked(3, 2);  // it waits for room in the log
  clock_.Advance(seconds(1));
  room_ = 1;
  ASSERT_OK(Enter(kTaskRank));
  clock_.Advance(seconds(9));  // past its deadline
  EXPECT_FALSE(ResultOf(refused).ok());
  EXPECT_EQ(admission_->Snapshot().rate, 0.1) << "the other";
  clock_.Advance(milliseconds(1500));
  EXPECT_EQ(admission_->Snapshot().rate, 0);
}

TEST_F(AdmissionTest, CallsThatTheLogRefusedKeepNobodyOut) {
  options_.rate_limit = 1;
  options_.rate_burst = 100;
  options_.rate_window = seconds(20);
  Make();
  room_ = 0;
  for (int i = 0; i < 30; ++i) {
    Waiter& refused = Wait(3, seconds(1));
    AwaitAsked(3, asked_[3] + 1);
    clock_.Advance(seconds(1));
    EXPECT_FALSE(ResultOf(refused).ok());
  }
  room_ = 100;
  for (int i = 0; i < 20; ++i) EXPECT_OK(Enter(3)) << i;
  EXPECT_FALSE(Enter(3).ok());
}

TEST_F(AdmissionTest, AnotherRateForgetsWhatIsGivenBackLater) {
  options_.rate_limit = 1;
  options_.rate_burst = 10;
  options_.rate_window = seconds(10);
  Make();
  room_ = 0;
  Waiter& refused = Wait(3);
  AwaitAsked(3, 2);
  admission_->SetRate(2, 10);
  room_ = 1;
  ASSERT_OK(Enter(kTaskRank));
  refused.stop.request_stop();
  EXPECT_FALSE(ResultOf(refused).ok());
  EXPECT_EQ(admission_->Snapshot().rate, 0.1);
}

TEST_F(AdmissionTest, AWindowShorterThanThePauseBetweenTwoLetsOneIn) {
  options_.rate_limit = 5;
  options_.rate_burst = 10;
  options_.rate_window = milliseconds(100);
  Make();
  EXPECT_OK(Enter());
  EXPECT_FALSE(Enter().ok());
  clock_.Advance(milliseconds(110));
  EXPECT_OK(Enter());
  admission_->SetRate(1, 10);
  EXPECT_OK(Enter());
  EXPECT_FALSE(Enter().ok());
}

// Three a second, in windows of half a second: a window takes one more than one and a half.
TEST_F(AdmissionTest, AWindowOfAFractionOfCallsLetsTheRateIn) {
  options_.rate_limit = 3;
  options_.rate_burst = 1;
  options_.rate_window = milliseconds(500);
  Make();
  int entered = 0;
  for (int i = 0; i < 1000; ++i) {
    entered += Enter().ok() ? 1 : 0;
    clock_.Advance(milliseconds(10));
  }
  EXPECT_NEAR(entered, 30, 1);
}

TEST_F(AdmissionTest, TheRateTurnsAtRunTime) {
  options_.rate_limit = 1;
  options_.rate_burst = 1;
  options_.rate_window = milliseconds(0);
  Make();
  ASSERT_OK(Enter());
  EXPECT_FALSE(Enter().ok());
  admission_->SetRate(1000, 5);
  clock_.Advance(seconds(1));
  for (int i = 0; i < 5; ++i) EXPECT_OK(Enter());
  EXPECT_FALSE(Enter().ok());
  EXPECT_EQ(admission_->Snapshot().rate_limit, 1000u);
}

// Callers that wait for their tokens come in at the rate: block lets everything in, only later.
TEST_F(AdmissionTest, FlowControl_CallersThatMayWaitAreSlowedDownAndNotDropped) {
  options_.rate_limit = 1000;
  options_.rate_burst = 100;
  Make();
  std::atomic<int> failed{0};
  std::atomic<bool> over{false};
  std::jthread time([&] {
    while (!over) {
      clock_.Advance(milliseconds(1));
      std::this_thread::yield();
    }
  });
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 4; ++t) {
      callers.emplace_back([&] {
        for (int i = 0; i < 500; ++i) failed += Enter(3, std::chrono::hours(1)).ok() ? 0 : 1;
      });
    }
  }
  over = true;
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(entered().size(), 2000u);
  EXPECT_EQ(admission_->drops().total(), 0u);
}

TEST_F(AdmissionTest, ABudgetOfRecordsHoldsUntilTheyAreSettled) {
  options_.max_unflushed_records = 3;
  Make();
  for (int i = 0; i < 3; ++i) EXPECT_OK(Enter());
  EXPECT_THAT(Enter(), StatusIs(StatusCode::kOverloaded));
  gauge_->OnSettled(2, 200);
  EXPECT_OK(Enter());
  EXPECT_OK(Enter());
  EXPECT_THAT(Enter(), StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(admission_->Snapshot().unflushed_records, 3u);
}

TEST_F(AdmissionTest, ABudgetOfBytesHoldsButOneRecordAlwaysFits) {
  options_.max_unflushed_bytes = 250;
  Make();
  EXPECT_OK(Enter());
  EXPECT_OK(Enter());
  EXPECT_THAT(Enter(), StatusIs(StatusCode::kOverloaded));
  gauge_->OnSettled(2, 200);
  EXPECT_OK(Enter(kTaskRank, milliseconds(0), 1000));
  EXPECT_THAT(Enter(), StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(admission_->Snapshot().unflushed_bytes, 1000u);
}

TEST_F(AdmissionTest, WhatTheLogRefusesGivesItsPartOfTheBudgetBack) {
  options_.max_unflushed_records = 2;
  Make();
  room_ = 0;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Enter().ok());
  room_ = 10;
  EXPECT_OK(Enter());
  EXPECT_OK(Enter());
  EXPECT_FALSE(Enter().ok());
}

TEST_F(AdmissionTest, WhatIsPendingAtOpenCounts) {
  options_.max_unflushed_records = 10;
  Make();
  admission_->CountBacklog(10, 1000);
  EXPECT_FALSE(Enter().ok());
  gauge_->OnSettled(1, 100);
  EXPECT_OK(Enter());
}

// Records that were lost are never settled: the budget must not shrink by them for ever.
TEST_F(AdmissionTest, WhatWasNeverSettledIsForgottenOnceNothingIsPending) {
  options_.max_unflushed_records = 3;
  Make();
  for (int i = 0; i < 3; ++i) ASSERT_OK(Enter());
  load_.pending = 0;
  clock_.Advance(options_.monitoring_interval);
  admission_->MaybeLook();
  EXPECT_OK(Enter());
}

TEST_F(AdmissionTest, ALargerRecordThanAllowedIsTheCallersMistake) {
  options_.max_record_bytes = 99;
  Make();
  EXPECT_FALSE(admission_->is_open());
  EXPECT_THAT(Enter(3), StatusIs(StatusCode::kInvalidArgument, HasSubstr("max_record_bytes=99")));
  EXPECT_EQ(admission_->drops().of(DropReason::kTooLarge, 3), 1u);
  EXPECT_OK(Enter(3, milliseconds(0), 99));
}

TEST_F(AdmissionTest, ShedsLowPrioritiesFirstAndMoreOfThemAsTheEmergencyLasts) {
  options_.emergency_enabled = true;
  Make();
  EXPECT_TRUE(admission_->is_open());
  std::array<double, 6> shed{};
  std::array<std::vector<double>, 6> by_look;
  for (int look = 0; look < 4; ++look) {
    LookAt(30);
    EXPECT_EQ(gauge_->state(), Pressure::kEmergency);
    for (std::int32_t priority = 1; priority <= 5; ++priority) {
      int refused = 0;
      for (int i = 0; i < 100; ++i) refused += Enter(priority).ok() ? 0 : 1;
      by_look[static_cast<std::size_t>(priority)].push_back(refused / 100.0);
      shed[static_cast<std::size_t>(priority)] += refused;
    }
    for (int i = 0; i < 100; ++i) EXPECT_OK(Enter(kTaskRank));
  }
  EXPECT_THAT(by_look[1], ElementsAre(0.8, 0.8, 0.8, 0.8));
  EXPECT_THAT(by_look[2], ElementsAre(0.8, 0.8, 0.8, 0.8));
  EXPECT_THAT(by_look[3], ElementsAre(0, 0.8, 0.8, 0.8));
  EXPECT_THAT(by_look[4], ElementsAre(0, 0, 0.8, 0.8));
  EXPECT_THAT(by_look[5], ElementsAre(0, 0, 0, 0));
  for (std::size_t p = 1; p < 5; ++p) EXPECT_GE(shed[p], shed[p + 1]);
  EXPECT_EQ(admission_->drops().of(DropReason::kShed, 1), 320u);
  for (int look = 0; look < 10; ++look) LookAt(0);
  EXPECT_EQ(gauge_->state(), Pressure::kNormal);
  EXPECT_OK(Enter(1));
  EXPECT_TRUE(admission_->is_open());
}

TEST_F(AdmissionTest, AnEmergencyIsOnlyReportedUnlessSheddingIsOn) {
  std::vector<PressureEvent> events;
  options_.on_pressure = [&](const PressureEvent& event) { events.push_back(event); };
  Make();
  LookAt(30);
  EXPECT_EQ(gauge_->state(), Pressure::kEmergency);
  EXPECT_TRUE(admission_->is_open());
  admission_->TellChanges();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].from, Pressure::kNormal);
  EXPECT_EQ(events[0].to, Pressure::kEmergency);
  EXPECT_EQ(events[0].signal, "errors");
}

// A call has a deadline, and the hook may take any time.
TEST_F(AdmissionTest, ACallThatFindsAChangedStateTellsNobody) {
  std::vector<Pressure> told;
  options_.rate_limit = 1000;  // so that calls come through the door
  options_.on_pressure = [&](const PressureEvent& event) { told.push_back(event.to); };
  Make();
  for (const bool is_bad : {true, false}) {
    for (int i = 0; i < 100; ++i) is_bad ? gauge_->OnFailed() : gauge_->OnCommitted({});
    clock_.Advance(options_.monitoring_interval);
    ASSERT_OK(Enter());
    EXPECT_EQ(gauge_->state() == Pressure::kEmergency, is_bad);
  }
  EXPECT_THAT(told, ElementsAre());
  admission_->TellChanges();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told.front(), Pressure::kEmergency);
  admission_->TellChanges();
  EXPECT_EQ(told.size(), 2u);
}

}  // namespace
}  // namespace taskwal::pipeline
