#include "base/nearest_name.h"

#include <gtest/gtest.h>

#include <vector>

namespace taskwal {
namespace {

TEST(NearestName, TakesTheFewestChanges) {
  const std::vector<std::string_view> known{"segment_size", "sync_interval", "dir"};
  EXPECT_EQ(NearestName("segmentsize", known), "segment_size");
  EXPECT_EQ(NearestName("sync_intervall", known), "sync_interval");
  EXPECT_EQ(NearestName("fir", known), "dir");
}

TEST(NearestName, TheFirstOfEquals) {
  const std::vector<std::string_view> known{"ab", "ac"};
  EXPECT_EQ(NearestName("ad", known), "ab");
}

TEST(NearestName, IsEmptyWhereNothingIsKnown) { EXPECT_EQ(NearestName("a", {}), ""); }

}  // namespace
}  // namespace taskwal
