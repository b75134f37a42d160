#include "pipeline/flush/circuit_breaker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "pipeline/flush/poison_guard.h"

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

TEST_F(CircuitBreakerTest, ATrialThatIsNeverHeardOfDoesNotKeepTheRestOutForEver) {
  Fail(3);
  now_ += seconds(60);
  EXPECT_TRUE(Allow());
  now_ += seconds(59);
  EXPECT_FALSE(Allow());
  now_ += seconds(1);
  EXPECT_TRUE(Allow());
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

int LettersUntilTripped(PoisonGuard* guard) {
  int letters = 0;
  while (guard->MayLetter()) {
    guard->OnLettered();
    ++letters;
  }
  return letters;
}

TEST(PoisonGuard, AllowsTenOfASmallBatch) {
  PoisonGuard guard;
  guard.StartBatch(100);
  EXPECT_EQ(LettersUntilTripped(&guard), 10);
}

TEST(PoisonGuard, AllowsOnePercentOfALargeBatch) {
  PoisonGuard guard;
  guard.StartBatch(5000);
  EXPECT_EQ(LettersUntilTripped(&guard), 50);
}

TEST(PoisonGuard, JudgesSmallBatchesTogether) {
  PoisonGuard guard;
  int letters = 0;
  for (int batch = 0; batch < 20; ++batch) {
    guard.StartBatch(1);
    if (guard.MayLetter()) {
      guard.OnLettered();
      ++letters;
    }
    guard.EndBatch();
  }
  EXPECT_EQ(letters, 10);
}

TEST(PoisonGuard, StaysTrippedUntilAWholeBatchGoesThrough) {
  PoisonGuard guard;
  guard.StartBatch(2000);
  LettersUntilTripped(&guard);
  guard.EndBatch();
  guard.StartBatch(2000);
  EXPECT_FALSE(guard.MayLetter());
  guard.EndBatch();
  guard.StartBatch(2000);
  guard.EndBatch();
  guard.StartBatch(2000);
  EXPECT_TRUE(guard.MayLetter());
}

TEST(PoisonGuard, ForgetsLettersOfLongAgo) {
  PoisonGuard guard;
  for (int batch = 0; batch < 100; ++batch) {
    guard.StartBatch(500);
    ASSERT_TRUE(guard.MayLetter()) << batch;
    guard.OnLettered();
    guard.EndBatch();
  }
}

}  // namespace
}  // namespace taskwal::pipeline
