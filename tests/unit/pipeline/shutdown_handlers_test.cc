#include "pipeline/shutdown_handlers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <stdexcept>
#include <thread>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
  // Time goes on while the handlers run.
  std::jthread RunningClock() {
    return std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        clock_.Advance(milliseconds(10));
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    });
  }

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
  ShutdownHandlers handlers(options_, clock_);
  ASSERT_OK(handlers.Add("after", Note("after"), {}));
  ASSERT_OK(handlers.Add("hangs", hang.handler, {}));
  const Monotonic begin = clock_.Now();
  const std::jthread time = RunningClock();
  handlers.RunInTurn(begin + seconds(30));
  EXPECT_THAT(ran(), ElementsAre("after"));
  EXPECT_THAT(errors(), ElementsAre(HasSubstr("hangs: takes too long")));
  // A third of the time, as one more share is for what comes behind them all.
  EXPECT_LT(clock_.Now() - begin, seconds(20));
}

TEST_F(ShutdownHandlersTest, AHandlersOwnTimeoutBoundsIt) {
  const Hang hang;
  ShutdownHandlers handlers(options_, clock_);
  ASSERT_OK(handlers.Add("hangs", hang.handler, milliseconds(100)));
  const Monotonic begin = clock_.Now();
  const std::jthread time = RunningClock();
  handlers.RunInTurn(begin + std::chrono::hours(10));
  EXPECT_LT(clock_.Now() - begin, std::chrono::hours(1));
}

TEST_F(ShutdownHandlersTest, TogetherTheyMeet) {
  ShutdownHandlers handlers(options_, clock_);
  const auto meeting = std::make_shared<std::latch>(3);
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_OK(handlers.Add(name, [meeting] { meeting->arrive_and_wait(); }, {}));
  }
  handlers.RunTogether(clock_.Now() + seconds(10));
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
