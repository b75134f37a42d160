#include "base/clock.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace taskwal {
namespace {

using namespace std::chrono_literals;

TEST(Clock, RealOneNeverStepsBackAndSleeps) {
  const Monotonic before = Clock::Real().Now();
  Clock::Real().SleepFor(1ms);
  EXPECT_GE(Clock::Real().Now() - before, 1ms);
}

TEST(Clock, RealWallTimeIsUtc) {
  const auto now = std::chrono::system_clock::now();
  EXPECT_LT(std::chrono::abs(Clock::Real().WallNow() - now), 1h);
}

TEST(FakeClock, MovesOnlyWhenTold) {
  FakeClock clock;
  const Monotonic start = clock.Now();
  const Time wall = clock.WallNow();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(5s);
  clock.SleepFor(2s);
  EXPECT_EQ(clock.Now() - start, 7s);
  EXPECT_EQ(clock.WallNow() - wall, 7s);
}

TEST(FakeClock, StepsTheWallAlone) {
  FakeClock clock;
  const Monotonic start = clock.Now();
  const Time wall = clock.WallNow();
  clock.StepWall(-1h);
  EXPECT_EQ(clock.Now(), start);
  EXPECT_EQ(clock.WallNow() - wall, -1h);
}

}  // namespace
}  // namespace taskwal
