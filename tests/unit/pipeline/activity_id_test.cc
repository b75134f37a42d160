#include "pipeline/activity_id.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace taskwal::pipeline {
namespace {

std::string IdAt(std::int64_t micros, Random& random) {
  ActivityIdText text;
  return std::string(MakeActivityId(Time(std::chrono::microseconds(micros)), random, &text));
}

TEST(ActivityId, SortsByTheTimeItWasMade) {
  Random random(1);
  std::string before;
  for (const std::int64_t millis : {0ll, 1ll, 31ll, 32ll, 1'000ll, 1'795'000'000'000ll}) {
    const std::string id = IdAt(millis * 1000, random);
    EXPECT_EQ(id.size(), 26u);
    EXPECT_LT(before, id);
    before = id;
  }
}

TEST(ActivityId, DiffersWithinAMillisecond) {
  Random random(2);
  std::set<std::string> ids;
  for (int i = 0; i < 10'000; ++i) ids.insert(IdAt(1'795'000'000'000'000, random));
  EXPECT_EQ(ids.size(), 10'000u);
}

TEST(ActivityId, HasTheTimeOfTheUlidSpecification) {
  Random random(3);
  // The specification's own example: 1469918176385 ms is 01ARYZ6S41.
  EXPECT_EQ(IdAt(1'469'918'176'385'000, random).substr(0, 10), "01ARYZ6S41");
}

}  // namespace
}  // namespace taskwal::pipeline
