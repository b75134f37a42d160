#include "dag/timers.h"

#include <gmock/gmock.h>

#include <atomic>
#include <stop_token>

#include "dag/sleep.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/dag/rendezvous.h"

namespace taskwal::dag {
namespace {

using ::testing::ElementsAre;
using namespace std::chrono_literals;

Timers::TimePoint Now() { return std::chrono::steady_clock::now(); }

TEST(Timers, CallsInOrderOfTime) {
  ASSERT_OK_AND_ASSIGN(const auto timers, Timers::Start());
  std::vector<int> order;
  Rendezvous last(2);
  const auto begin = Now();
  timers->At(begin + 30ms, [&] {
    order.push_back(3);
    last.Arrive();
  });
  timers->At(begin + 20ms, [&] { order.push_back(2); });
  timers->At(begin + 10ms, [&] { order.push_back(1); });
  ASSERT_TRUE(last.Arrive());
  timers->Stop();
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
  EXPECT_GE(Now() - begin, 30ms);
}

TEST(Timers, NeverCallsWhatWasCancelled) {
  ASSERT_OK_AND_ASSIGN(const auto timers, Timers::Start());
  Rendezvous later(2);
  std::atomic<bool> called = false;
  const auto begin = Now();
  const auto id = timers->At(begin + 1h, [&] { called = true; });
  timers->Cancel(id);
  timers->At(begin, [&] { later.Arrive(); });
  ASSERT_TRUE(later.Arrive());
  timers->Stop();
  EXPECT_FALSE(called);
}

TEST(Timers, CancelWaitsForTheCallUnderWay) {
  ASSERT_OK_AND_ASSIGN(const auto timers, Timers::Start());
  Rendezvous begun(2);
  Rendezvous released(2);
  std::atomic<bool> ended = false;
  const auto id = timers->At(Now(), [&] {
    begun.Arrive();
    released.Arrive();
    ended = true;
  });
  ASSERT_TRUE(begun.Arrive());
  std::jthread release([&] { released.Arrive(); });
  timers->Cancel(id);
  EXPECT_TRUE(ended);
}

TEST(Timers, StopDropsWhatIsStillToCome) {
  ASSERT_OK_AND_ASSIGN(const auto timers, Timers::Start());
  std::atomic<bool> called = false;
  timers->At(Now() + 1h, [&] { called = true; });
  timers->Stop();
  timers->At(Now(), [&] { called = true; });
  timers->Stop();
  EXPECT_FALSE(called);
}

TEST(Sleep, LastsAsLongAsAsked) {
  const auto begin = Now();
  EXPECT_TRUE(SleepUnlessStopped(20ms, std::stop_token()));
  EXPECT_GE(Now() - begin, 20ms);
}

TEST(Sleep, EndsWhenStopped) {
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  EXPECT_FALSE(SleepUnlessStopped(1h, stop.get_token()));
  EXPECT_FALSE(SleepUnlessStopped(1h, stop.get_token()));
}

}  // namespace
}  // namespace taskwal::dag
