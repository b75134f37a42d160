#include "pipeline/targets/home_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "storage/operation.h"

namespace taskwal::pipeline {
namespace {

using Shares = std::vector<HomeTable::Share>;

constexpr int kTasks = 20000;

std::uint64_t Key(int task) { return storage::KeyOf("task-" + std::to_string(task)); }

std::map<std::uint16_t, int> CountHomes(const HomeTable& homes) {
  std::map<std::uint16_t, int> counts;
  for (int task = 0; task < kTasks; ++task) ++counts[homes.Of(Key(task))];
  return counts;
}

TEST(HomeTable, OneTargetIsHomeToAll) {
  const HomeTable homes(Shares{{5, "only", 3}});
  EXPECT_EQ(CountHomes(homes), (std::map<std::uint16_t, int>{{5, kTasks}}));
}

TEST(HomeTable, SharesAreMetWithinAFewPercent) {
  const HomeTable homes(Shares{{1, "a", 40}, {2, "b", 30}, {3, "c", 20}, {4, "d", 10}});
  const auto counts = CountHomes(homes);
  EXPECT_NEAR(counts.at(1), kTasks * 0.4, kTasks * 0.02);
  EXPECT_NEAR(counts.at(2), kTasks * 0.3, kTasks * 0.02);
  EXPECT_NEAR(counts.at(3), kTasks * 0.2, kTasks * 0.02);
  EXPECT_NEAR(counts.at(4), kTasks * 0.1, kTasks * 0.02);
}

TEST(HomeTable, NoWeightIsNoHome) {
  const HomeTable homes(Shares{{1, "a", 0}, {2, "b", 1}});
  EXPECT_EQ(CountHomes(homes), (std::map<std::uint16_t, int>{{2, kTasks}}));
}

TEST(HomeTable, ARaisedWeightMovesTasksToThatTargetAlone) {
  const HomeTable before(Shares{{1, "a", 4}, {2, "b", 3}, {3, "c", 3}});
  const HomeTable after(Shares{{1, "a", 4}, {2, "b", 6}, {3, "c", 3}});
  int moved = 0;
  for (int task = 0; task < kTasks; ++task) {
    const std::uint16_t home = after.Of(Key(task));
    if (home == before.Of(Key(task))) continue;
    EXPECT_EQ(home, 2);
    ++moved;
  }
  // From three tenths to six thirteenths.
  EXPECT_NEAR(moved, kTasks * (6.0 / 13 - 0.3), kTasks * 0.02);
}

TEST(HomeTable, ATargetThatLeavesMovesItsOwnTasksAlone) {
  const HomeTable before(Shares{{1, "a", 4}, {2, "b", 3}, {3, "c", 3}});
  const HomeTable after(Shares{{1, "a", 4}, {2, "b", 0}, {3, "c", 3}});
  for (int task = 0; task < kTasks; ++task) {
    if (before.Of(Key(task)) == 2) continue;
    EXPECT_EQ(after.Of(Key(task)), before.Of(Key(task)));
  }
}

TEST(HomeTable, GoesByNameAndNotByNumberOrOrder) {
  const HomeTable one(Shares{{1, "a", 2}, {2, "b", 1}});
  const HomeTable other(Shares{{8, "b", 1}, {9, "a", 2}});
  for (int task = 0; task < kTasks; ++task) {
    EXPECT_EQ(one.Of(Key(task)) == 1, other.Of(Key(task)) == 9);
  }
}

// What docs/FORMAT.md says: where tasks live is part of the format, and must not change.
TEST(HomeTable, HomesAreTheSameForEver) {
  const HomeTable homes(Shares{{1, "a", 40}, {2, "b", 30}, {3, "c", 20}, {4, "d", 10}});
  std::string found;
  for (int task = 0; task < 32; ++task) {
    found += static_cast<char>('a' + homes.Of(Key(task)) - 1);
  }
  EXPECT_EQ(found, "aacdcccabcacabaaaaabbaacaaaaadaa");
}

}  // namespace
}  // namespace taskwal::pipeline
