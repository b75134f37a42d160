#include "base/random.h"

#include <gtest/gtest.h>

namespace taskwal {
namespace {

// The reference values of SplitMix64 for the seed 1234567.
TEST(Random, IsSplitMix64) {
  Random random(1234567);
  EXPECT_EQ(random.Next(), 6457827717110365317u);
  EXPECT_EQ(random.Next(), 3203168211198807973u);
}

TEST(Random, StaysInItsBounds) {
  Random random(7);
  bool seen[5] = {};
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t value = random.Below(5);
    ASSERT_LT(value, 5u);
    seen[value] = true;
    const double unit = random.Unit();
    ASSERT_GE(unit, 0.0);
    ASSERT_LT(unit, 1.0);
  }
  for (const bool value_seen : seen) EXPECT_TRUE(value_seen);
}

TEST(Random, FromSystemDiffersEachTime) {
  EXPECT_NE(Random::FromSystem().Next(), Random::FromSystem().Next());
}

}  // namespace
}  // namespace taskwal
