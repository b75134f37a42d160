#include "pipeline/flush/circuit_breaker.h"

#include <gtest/gtest.h>

#include "pipeline/flush/poison_guard.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using State = CircuitBreaker::State;

class CircuitBreakerTest : public ::testing::Test {
 protected:
  void Fail(int times) {
    for (int i = 0; i < times; ++i) breaker_.OnFailure(now_);
  }

  CircuitBreaker breaker_{3, seconds(60)};
  Monotonic now_{std::chrono::hours(1)};
};

TEST_F(CircuitBreakerTest, StaysClosedBelowTheLimit) {
  Fail(2);
  EXPECT_EQ(breaker_.state(), State::kClosed);
  EXPECT_TRUE(breaker_.Allow(now_, false));
}

TEST_F(CircuitBreakerTest, CountsOnlyFailuresInARow) {
  Fail(2);
  breaker_.OnSuccess();
  Fail(2);
  EXPECT_EQ(breaker_.state(), State::kClosed);
}

TEST_F(CircuitBreakerTest, OpensAtTheLimit) {
  Fail(3);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_FALSE(breaker_.Allow(now_ + seconds(59), false));
  EXPECT_EQ(breaker_.next_trial(now_, false), now_ + seconds(60));
}

TEST_F(CircuitBreakerTest, LetsOneTrialThroughAfterTheOpenTime) {
  Fail(3);
  EXPECT_TRUE(breaker_.Allow(now_ + seconds(60), false));
  EXPECT_EQ(breaker_.state(), State::kHalfOpen);
  EXPECT_FALSE(breaker_.Allow(now_ + seconds(60), false));
}

TEST_F(CircuitBreakerTest, ClosesAfterAGoodTrial) {
  Fail(3);
  ASSERT_TRUE(breaker_.Allow(now_ + seconds(60), false));
  breaker_.OnSuccess();
  EXPECT_EQ(breaker_.state(), State::kClosed);
  EXPECT_TRUE(breaker_.Allow(now_, false));
}

TEST_F(CircuitBreakerTest, OpensAgainAfterABadTrial) {
  Fail(3);
  now_ += seconds(60);
  ASSERT_TRUE(breaker_.Allow(now_, false));
  Fail(1);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_FALSE(breaker_.Allow(now_ + seconds(59), false));
  EXPECT_TRUE(breaker_.Allow(now_ + seconds(60), false));
}

TEST_F(CircuitBreakerTest, TriesWithinFiveSecondsWhileSomebodyWaits) {
  Fail(3);
  EXPECT_FALSE(breaker_.Allow(now_ + milliseconds(4999), true));
  EXPECT_TRUE(breaker_.Allow(now_ + seconds(5), true));
}

TEST_F(CircuitBreakerTest, OpensAtOnceWhenTripped) {
  breaker_.Trip(now_);
  EXPECT_EQ(breaker_.state(), State::kOpen);
}

TEST_F(CircuitBreakerTest, IgnoresAnAnswerFromBeforeItOpened) {
  Fail(3);
  breaker_.OnSuccess();
  EXPECT_EQ(breaker_.state(), State::kOpen);
}

TEST(CircuitBreaker, NeverOpensByItselfWithoutALimit) {
  CircuitBreaker breaker(0, seconds(60));
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
