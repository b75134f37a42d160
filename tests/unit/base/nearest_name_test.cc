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

TEST(NearestName, ASwapIsOneChange) {
  const std::vector<std::string_view> known{"dir", "dsn", "weight"};
  EXPECT_EQ(NearestName("dns", known), "dsn");
  EXPECT_EQ(NearestName("wieght", known), "weight");
}

TEST(NearestName, IsEmptyWhereNothingIsKnown) { EXPECT_EQ(NearestName("a", {}), ""); }

TEST(DidYouMean, NamesTheNearestOrSaysNothing) {
  const std::vector<std::string_view> known{"speed", "resume"};
  EXPECT_EQ(DidYouMean("sped", known, "--"), "; did you mean \"--speed\"?");
  EXPECT_EQ(DidYouMean("nonsense", known, "--"), "");
  EXPECT_EQ(DidYouMean("spd", known), "");
  EXPECT_EQ(DidYouMean("re_sum", known), "; did you mean \"resume\"?");
}

}  // namespace
}  // namespace taskwal
