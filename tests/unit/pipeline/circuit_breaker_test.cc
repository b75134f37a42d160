#include "pipeline/flush/circuit_breaker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>


namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using State = CircuitBreaker::State;

BreakerLimits SomeLimits() {
  BreakerLimits limits;
  limits.failures_max = 3;
  limits.open_time = seconds(60);
  return limits;
}

class CircuitBreakerTest : public ::testing::Test {
 protected:
  void Make(const BreakerLimits& limits) {
    breaker_.emplace(limits, [this](State from, State to) { changes_.emplace_back(from, to); });
  }
  void Fail(int times) {
    for (int i = 0; i < times; ++i) breaker_->OnFailure(now_);
  }
  void Succeed(int times) {
    for (int i = 0; i < times; ++i) breaker_->OnSuccess(now_);
  }
  bool Allow() { return breaker_->Allow(now_, false); }
  // Ten calls at a time, one second apart, of which so many fail.
  void Calls(int rounds, int failed) {
    for (int i = 0; i < rounds; ++i, now_ += seconds(1)) {
      Succeed(10 - failed);
      Fail(failed);
    }
  }

  std::vector<std::pair<State, State>> changes_;
  std::optional<CircuitBreaker> breaker_{std::in_place, SomeLimits()};
  Monotonic now_{std::chrono::hours(1)};
};

TEST_F(CircuitBreakerTest, StaysClosedBelowTheLimit) {
  Fail(2);
  EXPECT_EQ(breaker_->state(), State::kClosed);
  EXPECT_TRUE(breaker_->Allow(now_, false));
}

TEST_F(CircuitBreakerTest, CountsOnlyFailuresInARow) {
  Fail(2);
  breaker_->OnSuccess(now_);
  Fail(2);
  EXPECT_EQ(breaker_->state(), State::kClosed);
}

TEST_F(CircuitBreakerTest, OpensAtTheLimit) {
  Fail(3);
  EXPECT_EQ(breaker_->state(), State::kOpen);
  EXPECT_FALSE(breaker_->Allow(now_ + seconds(59), false));
  EXPECT_EQ(breaker_->next_trial(now_, false), now_ + seconds(60));
}

TEST_F(CircuitBreakerTest, LetsOneTrialThroughAfterTheOpenTime) {
  Fail(3);
  EXPECT_TRUE(breaker_->Allow(now_ + seconds(60), false));
  EXPECT_EQ(breaker_->state(), State::kHalfOpen);
  EXPECT_FALSE(breaker_->Allow(now_ + seconds(60), false));
}

TEST_F(CircuitBreakerTest, ClosesAfterAGoodTrial) {
  Fail(3);
  ASSERT_TRUE(breaker_->Allow(now_ + seconds(60), false));
  breaker_->OnSuccess(now_);
  EXPECT_EQ(breaker_->state(), State::kClosed);
  EXPECT_TRUE(breaker_->Allow(now_, false));
}

TEST_F(CircuitBreakerTest, OpensAgainAfterABadTrial) {
  Fail(3);
  now_ += seconds(60);
  ASSERT_TRUE(breaker_->Allow(now_, false));
  Fail(1);
  EXPECT_EQ(breaker_->state(), State::kOpen);
  EXPECT_FALSE(breaker_->Allow(now_ + seconds(59), false));
  EXPECT_TRUE(breaker_->Allow(now_ + seconds(60), false));
}

TEST_F(CircuitBreakerTest, TriesWithinFiveSecondsWhileSomebodyWaits) {
  Fail(3);
  EXPECT_FALSE(breaker_->Allow(now_ + milliseconds(4999), true));
  EXPECT_TRUE(breaker_->Allow(now_ + seconds(5), true));
}

TEST_F(CircuitBreakerTest, OpensAtOnceWhenTripped) {
  breaker_->Trip(now_);
  EXPECT_EQ(breaker_->state(), State::kOpen);
}

TEST_F(CircuitBreakerTest, IgnoresAnAnswerFromBeforeItOpened) {
  Fail(3);
  breaker_->OnSuccess(now_);
  EXPECT_EQ(breaker_->state(), State::kOpen);
}

// --- by share ----------------------------------------------------------------------------------

// A call that was let through before it opened, and is answered while trials are out.
TEST_F(CircuitBreakerTest, ALateAnswerIsNoTrial) {
  CircuitBreaker::Period before = 0;
  CircuitBreaker::Period trial = 0;
  ASSERT_TRUE(breaker_->Allow(now_, false, &before));
  Fail(3);
  now_ += seconds(60);
  ASSERT_TRUE(breaker_->Allow(now_, false, &trial));
  breaker_->OnSuccess(now_, before);
  EXPECT_EQ(breaker_->state(), State::kHalfOpen);
  breaker_->OnFailure(now_, before);
  EXPECT_EQ(breaker_->state(), State::kHalfOpen);
  breaker_->OnSuccess(now_, trial);
  EXPECT_EQ(breaker_->state(), State::kClosed);
  EXPECT_EQ(breaker_->Snapshot(now_).successes, 2u);
}

TEST_F(CircuitBreakerTest, WhileAllTrialsAreOutTheNextIsDueWhenTheyAreGivenUp) {
  BreakerLimits limits = SomeLimits();
  limits.trial_timeout = seconds(7);
  Make(limits);
  Fail(3);
  now_ += seconds(60);
  EXPECT_EQ(breaker_->next_trial(now_, false), now_);
  ASSERT_TRUE(Allow());
  // A report is looked for now and then.
  EXPECT_EQ(breaker_->next_trial(now_, false), now_ + seconds(5));
  now_ += seconds(5);
  EXPECT_EQ(breaker_->next_trial(now_, false), now_ + seconds(2));
  now_ += seconds(2);
  EXPECT_EQ(breaker_->next_trial(now_, false), now_);
}

TEST_F(CircuitBreakerTest, OpensAtTheShareOfFailuresThoughNoneAreInARow) {
  BreakerLimits limits = SomeLimits();
  limits.failures_max = 0;
  limits.error_rate = 0.3;
  limits.requests_min = 10;
  Make(limits);
  Calls(5, 2);
  EXPECT_EQ(breaker_->state(), State::kClosed);
  Calls(20, 4);
  EXPECT_EQ(breaker_->state(), State::kOpen);
}

TEST_F(CircuitBreakerTest, LooksAtNoShareBelowTheMinimum) {
  BreakerLimits limits = SomeLimits();
  limits.failures_max = 0;
  limits.error_rate = 0.3;
  limits.requests_min = 10;
  Make(limits);
  Fail(9);
  EXPECT_EQ(breaker_->state(), State::kClosed);
  Fail(1);
  EXPECT_EQ(breaker_->state(), State::kOpen);
}

TEST_F(CircuitBreakerTest, ForgetsWhatFellOutOfTheWindow) {
  BreakerLimits limits = SomeLimits();
  limits.failures_max = 0;
  limits.error_rate = 0.3;
  limits.requests_min = 10;
  limits.window = seconds(30);
  Make(limits);
  Fail(9);
  now_ += seconds(40);
  Succeed(9);
  Fail(1);
  EXPECT_EQ(breaker_->state(), State::kClosed);
}

// --- half-open ---------------------------------------------------------------------------------

TEST_F(CircuitBreakerTest, ClosesOnlyWhenAllTrialsHaveSucceeded) {
  BreakerLimits limits = SomeLimits();
  limits.trials = 3;
  Make(limits);
  Fail(3);
  now_ += seconds(60);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Allow());
  EXPECT_FALSE(Allow());
  Succeed(2);
  EXPECT_EQ(breaker_->state(), State::kHalfOpen);
  EXPECT_FALSE(Allow());
  Succeed(1);
  EXPECT_EQ(breaker_->state(), State::kClosed);
}

TEST_F(CircuitBreakerTest, ATrialThatWasNotMadeIsLeftToTheNext) {
  Fail(3);
  now_ += seconds(60);
  CircuitBreaker::Period period = 0;
  ASSERT_TRUE(breaker_->Allow(now_, false, &period));
  ASSERT_FALSE(Allow());
  breaker_->OnUntried(period);
  EXPECT_EQ(breaker_->state(), State::kHalfOpen);
  EXPECT_TRUE(Allow());
  EXPECT_FALSE(Allow());
}

TEST_F(CircuitBreakerTest, OneBadTrialOfSeveralOpensItAgain) {
  BreakerLimits limits = SomeLimits();
  limits.trials = 3;
  Make(limits);
  Fail(3);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  Succeed(1);
  EXPECT_TRUE(Allow());
  Fail(1);
  EXPECT_EQ(breaker_->state(), State::kOpen);
  EXPECT_FALSE(Allow());
}

TEST_F(CircuitBreakerTest, StartsTrialsNoFasterThanTold) {
  BreakerLimits limits = SomeLimits();
  limits.trials = 2;
  limits.trial_interval = seconds(10);
  Make(limits);
  Fail(3);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  EXPECT_FALSE(Allow());
  EXPECT_EQ(breaker_->next_trial(now_, false), now_ + seconds(10));
  now_ += seconds(10);
  EXPECT_TRUE(Allow());
}

TEST_F(CircuitBreakerTest, ATrialKeepsTheRestOutUntilItsOwnDeadlineIsOver) {
  BreakerLimits limits = SomeLimits();
  limits.trial_timeout = seconds(300);
  Make(limits);
  Fail(3);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  for (int i = 0; i < 299; ++i) {
    now_ += seconds(1);
    ASSERT_FALSE(Allow()) << i;
  }
  now_ += seconds(1);
  EXPECT_TRUE(Allow());
}

TEST_F(CircuitBreakerTest, ATrialWithoutADeadlineIsWaitedForUntilItReports) {
  Fail(3);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  now_ += std::chrono::hours(1000);
  EXPECT_FALSE(Allow());
  Succeed(1);
  EXPECT_TRUE(Allow());
}

// Through the options: a trial makes several calls of the database, each with its deadline.
TEST(CircuitBreaker, ATrialsDeadlineIsBehindThatOfItsCalls) {
  Options options;
  options.breaker_failures = 1;
  options.breaker_open_time = seconds(1);
  options.database_timeout = seconds(30);
  options.batch_timeout = seconds(50);
  CircuitBreaker breaker(BreakerLimitsOf(options));
  Monotonic now{std::chrono::hours(1)};
  breaker.OnFailure(now);
  now += seconds(1);
  ASSERT_TRUE(breaker.Allow(now, true));
  EXPECT_FALSE(breaker.Allow(now + seconds(30 + 50), true));
  EXPECT_TRUE(breaker.Allow(now + std::chrono::hours(1), true));
}

// --- telling, reset ------------------------------------------------------------------------------

TEST_F(CircuitBreakerTest, TellsEveryChangeOfItsState) {
  Make(SomeLimits());
  Fail(3);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  Fail(1);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  Succeed(1);
  using Change = std::pair<State, State>;
  EXPECT_THAT(changes_, ::testing::ElementsAre(Change{State::kClosed, State::kOpen},
                                               Change{State::kOpen, State::kHalfOpen},
                                               Change{State::kHalfOpen, State::kOpen},
                                               Change{State::kOpen, State::kHalfOpen},
                                               Change{State::kHalfOpen, State::kClosed}));
}

TEST_F(CircuitBreakerTest, GoesOnWhenItsHookThrows) {
  breaker_.emplace(SomeLimits(), [](State, State) { throw 1; });
  Fail(3);
  EXPECT_EQ(breaker_->state(), State::kOpen);
}

TEST_F(CircuitBreakerTest, ResetClosesItAndForgets) {
  Fail(3);
  breaker_->Reset();
  EXPECT_TRUE(Allow());
  Fail(2);
  EXPECT_EQ(breaker_->state(), State::kClosed);
}

TEST_F(CircuitBreakerTest, CountsWhatItLetThroughAndWhatBecameOfIt) {
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(Allow());
  Succeed(1);
  Fail(3);
  EXPECT_FALSE(Allow());
  const BreakerSnapshot snapshot = breaker_->Snapshot(now_);
  EXPECT_EQ(snapshot.state, "open");
  EXPECT_EQ(snapshot.requests, 4u);
  EXPECT_EQ(snapshot.refused, 1u);
  EXPECT_EQ(snapshot.successes, 1u);
  EXPECT_EQ(snapshot.failures, 3u);
  EXPECT_EQ(snapshot.consecutive_failures, 3u);
  EXPECT_EQ(snapshot.opened, 1u);
  EXPECT_DOUBLE_EQ(snapshot.error_rate, 0.75);
}

TEST(CircuitBreaker, NeverOpensByItselfWithoutALimit) {
  BreakerLimits limits = SomeLimits();
  limits.failures_max = 0;
  CircuitBreaker breaker(limits);
  for (int i = 0; i < 100; ++i) breaker.OnFailure(Monotonic());
  EXPECT_EQ(breaker.state(), State::kClosed);
}

TEST(CircuitBreaker, NamesItsStates) {
  EXPECT_EQ(BreakerStateName(State::kClosed), "closed");
  EXPECT_EQ(BreakerStateName(State::kOpen), "open");
  EXPECT_EQ(BreakerStateName(State::kHalfOpen), "half-open");
}

}  // namespace
}  // namespace taskwal::pipeline
