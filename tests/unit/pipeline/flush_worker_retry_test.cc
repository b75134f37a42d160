#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/memory/memory_backend.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flush_worker_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using Turn = FlushWorker::Turn;

TEST_F(FlushWorkerTest, TriesAgainAtOnceWithoutAPause) {
  options_.initial_backoff = options_.max_backoff = milliseconds(0);
  options_.breaker_failures = 0;
  Make();
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kUnavailable});
  Save("a");
  for (std::uint64_t attempts = 1; attempts <= 2; ++attempts) {
    EXPECT_EQ(Run(), Turn::kPaused);
    EXPECT_EQ(backend_.applies(), attempts);
    EXPECT_LE(worker_->NextTurnIn(), milliseconds(0));
  }
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, TriesAgainAfterAGrowingPause) {
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kUnavailable});
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(worker_->NextTurnIn(), milliseconds(100));
  clock_.Advance(milliseconds(99));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(backend_.applies(), 1u);
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(worker_->NextTurnIn(), milliseconds(200));
  clock_.Advance(milliseconds(200));
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_EQ(Stats().flush_errors, 2u);
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, DoesNotPauseWhereTheBackoffIsZero) {
  options_.initial_backoff = milliseconds(0);
  Make();
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(Run(), Turn::kIdle);
}

TEST_F(FlushWorkerTest, RaisesAnAlarmAndClearsIt) {
  backend_.RefuseConnections(1);
  Save("a");
  Run();
  EXPECT_EQ(Stats().alarm, "scripted: connection refused");
  EXPECT_FALSE(Stats().database_available);
  EXPECT_THAT(events_, ElementsAre(Field(&FlushEvent::status, StatusIs(StatusCode::kUnavailable))));
  Drain();
  EXPECT_EQ(Stats().alarm, "");
  EXPECT_TRUE(Stats().database_available);
}

TEST_F(FlushWorkerTest, OpensTheBreakerAndTriesOnceAfterIt) {
  backend_.RefuseConnections(UINT32_MAX);
  Save("a");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Run(), Turn::kPaused);
    clock_.Advance(seconds(2));
  }
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kOpen);
  EXPECT_EQ(backend_.connects(), 3u);
  clock_.Advance(seconds(50));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(backend_.connects(), 3u);
  clock_.Advance(seconds(10));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(backend_.connects(), 4u);
  backend_.RefuseConnections(0);
  Drain();
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kClosed);
  EXPECT_TRUE(IsStored("a"));
}

// The database is as well as ever: on clusters and serializable engines that is everyday.
TEST_F(FlushWorkerTest, GivingWayOpensNoBreakerAndIsAnAlarmOnlyInTheEnd) {
  options_.breaker_error_rate = 0.1;
  options_.breaker_min_requests = 1;
  Make();
  Save("first");
  EXPECT_EQ(Run(), Turn::kIdle);
  backend_.NextApplies(std::vector<ApplyFault>(50, ApplyFault::kGivesWay));
  Save("a");
  for (int i = 1; i <= 50; ++i) {
    EXPECT_EQ(Run(), Turn::kPaused);
    EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kClosed) << i;
    EXPECT_EQ(Stats().alarm, i < 10 ? "" : "scripted: deadlock detected") << i;
    EXPECT_TRUE(Stats().database_available);
    clock_.Advance(worker_->NextTurnIn());
  }
  EXPECT_EQ(backend_.connects(), 1u);
  EXPECT_EQ(Stats().last_error, "scripted: deadlock detected");
  EXPECT_EQ(Stats().flush_errors, 50u);
  EXPECT_EQ(counters_.workers()[0].failures, 50u);
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_TRUE(IsStored("a"));
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(FlushWorkerTest, GivingWayWaitsLongerEachTime) {
  backend_.NextApplies(std::vector<ApplyFault>(3, ApplyFault::kGivesWay));
  Save("a");
  for (const int pause : {100, 200, 400}) {
    EXPECT_EQ(Run(), Turn::kPaused);
    EXPECT_EQ(worker_->NextTurnIn(), milliseconds(pause));
    clock_.Advance(milliseconds(pause));
  }
  EXPECT_EQ(Run(), Turn::kIdle);
}

TEST_F(FlushWorkerTest, ATrialThatGivesWayClosesTheBreaker) {
  breaker_->Trip(clock_.Now());
  clock_.Advance(options_.breaker_open_time);
  backend_.NextApplies({ApplyFault::kGivesWay});
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kClosed);
  Drain();
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, FindsTheCommitWhoseAnswerWasLost) {
  for (const ApplyFault fault : {ApplyFault::kLostAfter, ApplyFault::kThrowsAfter}) {
    const std::size_t before = backend_.committed().size();
    backend_.NextApplies({fault});
    Log("x" + std::to_string(next_));
    Save("a");
    Drain();
    EXPECT_EQ(backend_.committed().size(), before + 1);
    EXPECT_EQ(settled(), next_ - 1);
  }
  EXPECT_EQ(Stats().applied, 4u);
  EXPECT_EQ(Session()->Count()->activities, 2u);
}

TEST_F(FlushWorkerTest, RepeatsWhatDidNotHappen) {
  for (const ApplyFault fault :
       {ApplyFault::kLostBefore, ApplyFault::kThrows, ApplyFault::kThrowsOddly, ApplyFault::kMoved,
        ApplyFault::kUnavailable}) {
    backend_.NextApplies({fault});
    const wal::Lsn lsn = Save("a");
    Drain();
    EXPECT_EQ(Session()->GetTask("a")->origin.lsn, lsn);
    EXPECT_EQ(settled(), lsn);
  }
  EXPECT_EQ(Stats().applied, 5u);
  EXPECT_EQ(Stats().flush_errors, 5u);
}

TEST_F(FlushWorkerTest, StoresACommitThatLandsLateOnce) {
  backend_.NextApplies({ApplyFault::kLate});
  Log("x");
  Drain();
  EXPECT_EQ(backend_.committed().size(), 1u);
  EXPECT_EQ(Stats().duplicates, 0u);
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, TreatsAskingTwiceForTheIdempotentFormAsTrouble) {
  backend_.NextApplies({ApplyFault::kRepeat, ApplyFault::kRepeat});
  Log("x");
  EXPECT_EQ(Run(), Turn::kPaused);
  Drain();
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, LetsATrialThatAsksForTheIdempotentFormGoOn) {
  breaker_->Trip(clock_.Now());
  clock_.Advance(options_.breaker_open_time);
  backend_.NextApplies({ApplyFault::kRepeat});
  Log("x");
  EXPECT_EQ(Run(), Turn::kIdle);
}

TEST_F(FlushWorkerTest, PassesOverEveryFailureWhileConnecting) {
  using Question = ScriptedBackend::Question;
  backend_.ThrowInConnect(1);
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  clock_.Advance(seconds(1));
  for (const Question question : {Question::kHighestStamp, Question::kReadLog}) {
    backend_.FailNext(question);
    clock_.Advance(options_.breaker_open_time);
    EXPECT_EQ(Run(), Turn::kPaused);
  }
  Drain();
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, WantsToMeetAgainADatabaseThatWentBack) {
  Save("a");
  Run();
  storage::MemoryBackend restored;
  Register(restored, 0);
  backend_.set_volatile(true);  // the same database by name, with an older content
  backend_.SwitchTo(restored);
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("b");
  EXPECT_EQ(Run(), Turn::kPaused);
  clock_.Advance(seconds(1));
  EXPECT_EQ(Run(), Turn::kMeetAgain);
}

TEST_F(FlushWorkerTest, WantsToMeetAgainAnotherDatabase) {
  storage::MemoryBackend another;
  backend_.SwitchTo(another);
  Save("a");
  EXPECT_EQ(Run(), Turn::kMeetAgain);
}

TEST_F(FlushWorkerTest, StopsForGoodWhenFenced) {
  backend_.NextApplies({ApplyFault::kFenced});
  Save("a");
  EXPECT_EQ(Run(), Turn::kFenced);
  EXPECT_EQ(Run(), Turn::kFenced);
  EXPECT_THAT(worker_->fenced(), StatusIs(StatusCode::kFenced, HasSubstr("later opener")));
  EXPECT_EQ(backend_.applies(), 1u);
}

TEST_F(FlushWorkerTest, StopsForGoodWhenSomebodyElseMovedItsWatermarks) {
  Save("a");
  ASSERT_OK(Session()->RegisterLog(identity_.wal_id, identity_.epoch + 1, {}));
  Drain();
  EXPECT_EQ(Run(), Turn::kFenced);
  EXPECT_FALSE(IsStored("a"));
}

}  // namespace
}  // namespace taskwal::pipeline
