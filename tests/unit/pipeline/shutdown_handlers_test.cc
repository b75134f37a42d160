#include "pipeline/shutdown_handlers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <stdexcept>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Goes on by a step at every look: what waits by it takes a known number of looks.
class TickingClock final : public Clock {
 public:
  explicit TickingClock(std::chrono::nanoseconds step) : step_(step) {}
  Monotonic Now() override {
    clock_.Advance(step_);
    return clock_.Now();
  }
  Time WallNow() override { return clock_.WallNow(); }
  void SleepFor(std::chrono::nanoseconds duration) override { clock_.SleepFor(duration); }

 private:
  const std::chrono::nanoseconds step_;
  FakeClock clock_;
};

class ShutdownHandlersTest : public ::testing::Test {
 protected:
  ShutdownHandlersTest() {
    options_.on_error = [this](const ErrorEvent& event) {
      MutexLock lock(mutex_);
      errors_.push_back(event.component + " " + event.message);
    };
  }
  std::function<void()> Note(const std::string& name) {
    return [this, name] {
      MutexLock lock(mutex_);
      ran_.push_back(name);
    };
  }
  std::vector<std::string> ran() {
    MutexLock lock(mutex_);
    return ran_;
  }
  std::vector<std::string> errors() {
    MutexLock lock(mutex_);
    return errors_;
  }
  // Until it is let go, which the end of the test does; by then it has touched nothing of ours.
  struct Hang {
    std::shared_ptr<std::latch> release = std::make_shared<std::latch>(1);
    std::function<void()> handler = [release = release] { release->wait(); };
    ~Hang() { release->count_down(); }
  };

  FakeClock clock_;
  Options options_;
  Mutex mutex_;
  std::vector<std::string> ran_ GUARDED_BY(mutex_);
  std::vector<std::string> errors_ GUARDED_BY(mutex_);
};

TEST_F(ShutdownHandlersTest, RunInReverseOrder) {
  ShutdownHandlers handlers(options_, clock_);
  for (const char* name : {"first", "second", "third"}) {
    ASSERT_OK(handlers.Add(name, Note(name), {}));
  }
  handlers.RunInTurn(clock_.Now() + seconds(10));
  EXPECT_THAT(ran(), ElementsAre("third", "second", "first"));
  EXPECT_THAT(errors(), IsEmpty());
}

TEST_F(ShutdownHandlersTest, AFailingOneDoesNotStopTheOthers) {
  ShutdownHandlers handlers(options_, clock_);
  ASSERT_OK(handlers.Add("after", Note("after"), {}));
  ASSERT_OK(handlers.Add("odd", [] { throw 42; }, {}));
  ASSERT_OK(handlers.Add("bad", [] { throw std::runtime_error("broken"); }, {}));
  handlers.RunInTurn(clock_.Now() + seconds(10));
  EXPECT_THAT(ran(), ElementsAre("after"));
  EXPECT_THAT(errors(), ElementsAre(HasSubstr("bad: threw: broken"), HasSubstr("odd: threw")));
}

TEST_F(ShutdownHandlersTest, AHangingOneIsLeftBehindAndTheOthersStillHaveTime) {
  const Hang hang;
  TickingClock clock(milliseconds(500));
  ShutdownHandlers handlers(options_, clock);
  ASSERT_OK(handlers.Add("after", Note("after"), {}));
  ASSERT_OK(handlers.Add("hangs", hang.handler, {}));
  const Monotonic begin = clock.Now();
  EXPECT_THAT(handlers.RunInTurn(begin + seconds(30)), ElementsAre("shutdown handler hangs"));
  const auto taken = clock.Now() - begin;
  EXPECT_THAT(ran(), ElementsAre("after"));
  EXPECT_THAT(errors(), ElementsAre(HasSubstr("hangs: takes too long")));
  // A third of the time, as one more share is for what comes behind them all.
  EXPECT_GE(taken, seconds(10));
  EXPECT_LE(taken, seconds(20));
}

TEST_F(ShutdownHandlersTest, AHandlersOwnTimeoutBoundsIt) {
  const Hang hang;
  TickingClock clock(milliseconds(10));
  ShutdownHandlers handlers(options_, clock);
  ASSERT_OK(handlers.Add("hangs", hang.handler, milliseconds(100)));
  const Monotonic begin = clock.Now();
  handlers.RunInTurn(begin + std::chrono::hours(10));
  const auto taken = clock.Now() - begin;
  EXPECT_GE(taken, milliseconds(100));
  EXPECT_LE(taken, milliseconds(150));
}

// Its share would be a third.
TEST_F(ShutdownHandlersTest, AHandlersOwnTimeoutIsGivenItInFull) {
  const Hang hang;
  TickingClock clock(milliseconds(100));
  ShutdownHandlers handlers(options_, clock);
  ASSERT_OK(handlers.Add("after", Note("after"), {}));
  ASSERT_OK(handlers.Add("hangs", hang.handler, seconds(20)));
  const Monotonic begin = clock.Now();
  EXPECT_THAT(handlers.RunInTurn(begin + seconds(30)), ElementsAre("shutdown handler hangs"));
  const auto taken = clock.Now() - begin;
  EXPECT_THAT(ran(), ElementsAre("after"));
  EXPECT_GE(taken, seconds(20));
  EXPECT_LE(taken, seconds(25));
}

TEST_F(ShutdownHandlersTest, AHandlersOwnTimeoutDoesNotOutlastTheShutdown) {
  const Hang hang;
  TickingClock clock(milliseconds(100));
  ShutdownHandlers handlers(options_, clock);
  ASSERT_OK(handlers.Add("hangs", hang.handler, std::chrono::hours(1)));
  const Monotonic begin = clock.Now();
  handlers.RunInTurn(begin + seconds(30));
  EXPECT_LE(clock.Now() - begin, seconds(31));
}

// It would take ten seconds, and the shutdown has a tenth of one.
TEST_F(ShutdownHandlersTest, ATenthOfASecondHoldsThoughAHandlerTakesTenSeconds) {
  const Hang hang;
  TickingClock clock(milliseconds(10));
  ShutdownHandlers handlers(options_, clock);
  const Monotonic begin = clock.Now();
  ASSERT_OK(handlers.Add("slow", hang.handler, {}));
  handlers.RunInTurn(begin + milliseconds(100));
  EXPECT_LT(clock.Now() - begin, milliseconds(200));
}

TEST_F(ShutdownHandlersTest, AnErrorCallbackThatHangsIsLeftBehindAndNotAskedAgain) {
  const Hang hang;
  const auto told = std::make_shared<std::atomic<int>>(0);
  options_.on_error = [told, handler = hang.handler](const ErrorEvent&) {
    ++*told;
    handler();
  };
  ShutdownHandlers handlers(options_, clock_);
  for (const char* name : {"bad", "worse"}) {
    ASSERT_OK(handlers.Add(name, [] { throw std::runtime_error("broken"); }, {}));
  }
  EXPECT_THAT(handlers.RunInTurn(clock_.Now() + seconds(10)), ElementsAre("on_error"));
  EXPECT_EQ(*told, 1);
}

TEST_F(ShutdownHandlersTest, TogetherTheyMeet) {
  ShutdownHandlers handlers(options_, clock_);
  const auto meeting = std::make_shared<std::latch>(3);
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_OK(handlers.Add(name, [meeting] { meeting->arrive_and_wait(); }, {}));
  }
  EXPECT_THAT(handlers.RunTogether(clock_.Now() + seconds(10)), IsEmpty());
  EXPECT_TRUE(meeting->try_wait());
  EXPECT_THAT(errors(), IsEmpty());
}

TEST_F(ShutdownHandlersTest, RunOnceAndTakeNoMore) {
  ShutdownHandlers handlers(options_, clock_);
  ASSERT_OK(handlers.Add("once", Note("once"), {}));
  handlers.RunInTurn(clock_.Now() + seconds(10));
  handlers.RunTogether(clock_.Now() + seconds(10));
  EXPECT_THAT(ran(), ElementsAre("once"));
  EXPECT_THAT(handlers.Add("late", Note("late"), {}), StatusIs(StatusCode::kClosed));
}

}  // namespace
}  // namespace taskwal::pipeline
