#include "pipeline/monitor_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>

#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::steady_clock;

steady_clock::time_point In(steady_clock::duration time) { return steady_clock::now() + time; }

TEST(MonitorThread, LooksOnceMoreWhenItIsToldToEnd) {
  std::latch tends(1);
  std::atomic<int> looks{0};
  const auto tend = [&] {
    tends.count_down();
    return In(hours(1));
  };
  ASSERT_OK_AND_ASSIGN(const auto monitor, MonitorThread::Start([&] { ++looks; }, tend));
  tends.wait();
  EXPECT_EQ(looks, 1);
  EXPECT_TRUE(monitor->StopBy(In(seconds(60))));
  EXPECT_EQ(looks, 2);
}

TEST(MonitorThread, LooksAtOnceWhenItIsWoken) {
  std::latch once(1), twice(2);
  const auto tend = [&] {
    once.count_down(once.try_wait() ? 0 : 1);
    twice.count_down();
    return In(hours(1));
  };
  ASSERT_OK_AND_ASSIGN(const auto monitor, MonitorThread::Start([] {}, tend));
  once.wait();
  monitor->Wake();
  twice.wait();
}

TEST(MonitorThread, WhatHangsIsLeftAndNothingIsDoneBehindIt) {
  std::latch hangs(1), release(1);
  std::atomic<int> looks{0}, turns{0};
  {
    const auto look = [&] {
      ++looks;
      hangs.count_down();
      release.wait();
    };
    const auto tend = [&] {
      ++turns;
      return In(hours(1));
    };
    ASSERT_OK_AND_ASSIGN(const auto monitor, MonitorThread::Start(look, tend));
    hangs.wait();
    EXPECT_FALSE(monitor->StopBy({}));
    release.count_down();
  }
  EXPECT_EQ(looks, 1);
  EXPECT_EQ(turns, 0);
}

}  // namespace
}  // namespace taskwal::pipeline
