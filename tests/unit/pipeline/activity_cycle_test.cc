#include "pipeline/targets/activity_cycle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

namespace taskwal::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<TargetShare> kForty{{1, 40}, {2, 30}, {3, 20}, {4, 10}};

std::map<std::uint16_t, int> Serve(ActivityCycle* cycle, int calls) {
  std::map<std::uint16_t, int> served;
  for (int i = 0; i < calls; ++i) ++served[cycle->Next()];
  return served;
}

TEST(SmoothCycle, SpreadsEachTargetOverTheCycle) {
  EXPECT_THAT(SmoothCycle(std::vector<TargetShare>{{7, 5}, {8, 1}, {9, 1}}),
              ElementsAre(7, 7, 8, 7, 9, 7, 7));
}

TEST(SmoothCycle, DividesByTheCommonDivisor) {
  EXPECT_THAT(SmoothCycle(kForty), ElementsAre(1, 2, 3, 1, 2, 4, 1, 3, 2, 1));
}

TEST(SmoothCycle, LeavesOutWhatHasNoWeight) {
  EXPECT_THAT(SmoothCycle(std::vector<TargetShare>{{1, 0}, {2, 3}}), ElementsAre(2));
  EXPECT_THAT(SmoothCycle(std::vector<TargetShare>{{1, 0}}), IsEmpty());
}

TEST(ActivityCycle, AnyRunOfWholeCyclesHasTheExactProportions) {
  ActivityCycle cycle(kForty);
  for (int start = 0; start < 10; ++start) {
    const auto served = Serve(&cycle, 1000);
    EXPECT_EQ(served, (std::map<std::uint16_t, int>{{1, 400}, {2, 300}, {3, 200}, {4, 100}}));
    cycle.Next();
  }
}

TEST(ActivityCycle, ThreadsShareOneCycle) {
  ActivityCycle cycle(kForty);
  std::vector<std::map<std::uint16_t, int>> served(4);
  {
    std::vector<std::jthread> threads;
    for (auto& part : served) threads.emplace_back([&] { part = Serve(&cycle, 2500); });
  }
  std::map<std::uint16_t, int> all;
  for (const auto& part : served) {
    for (const auto& [target, count] : part) all[target] += count;
  }
  EXPECT_EQ(all, (std::map<std::uint16_t, int>{{1, 4000}, {2, 3000}, {3, 2000}, {4, 1000}}));
}

TEST(ActivityCycle, WhoIsLeftOutIsServedNoMoreAndTheRestKeepsItsProportions) {
  ActivityCycle cycle(kForty);
  Serve(&cycle, 7);
  cycle.Publish(std::vector<TargetShare>{{1, 40}, {3, 20}, {4, 10}});
  EXPECT_EQ(Serve(&cycle, 700), (std::map<std::uint16_t, int>{{1, 400}, {3, 200}, {4, 100}}));
  cycle.Publish(kForty);
  EXPECT_EQ(Serve(&cycle, 100),
            (std::map<std::uint16_t, int>{{1, 40}, {2, 30}, {3, 20}, {4, 10}}));
}

TEST(ActivityCycle, NobodyToServeChangesNothing) {
  ActivityCycle cycle(kForty);
  cycle.Publish(std::vector<TargetShare>{{1, 0}});
  EXPECT_EQ(Serve(&cycle, 100).size(), 4u);
}

}  // namespace
}  // namespace taskwal::pipeline
