#include "storage/created_rank.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace taskwal::storage {
namespace {

const Uuid kLow = *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-000000000010");
const Uuid kHigh = *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-0000000000ff");
constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

std::string Given(const SaveOrigin& origin) { return MakeCreatedRank(true, origin); }
std::string Called(const SaveOrigin& origin) { return MakeCreatedRank(false, origin); }

// From the first to the last.
const std::vector<SaveOrigin> kOrder = {{0, kLow, 0},   {1, kLow, 9},    {1, kLow, 10},
                                        {1, kHigh, 2},  {2, kLow, 1},    {255, kLow, 1},
                                        {256, kLow, 1}, {kMax, kLow, 1}, {kMax, kHigh, kMax}};

TEST(CreatedRank, OfThoseThatGiveItTheLastStands) {
  for (std::size_t i = 1; i < kOrder.size(); ++i) {
    EXPECT_LT(Given(kOrder[i - 1]), Given(kOrder[i])) << i;
  }
}

TEST(CreatedRank, OfThoseThatDoNotTheFirstStands) {
  for (std::size_t i = 1; i < kOrder.size(); ++i) {
    EXPECT_GT(Called(kOrder[i - 1]), Called(kOrder[i])) << i;
  }
}

TEST(CreatedRank, WhatIsGivenComesBeforeWhatIsUnknownAndThatBeforeTheRest) {
  for (const SaveOrigin& origin : kOrder) {
    EXPECT_GT(Given(origin), kGivenCreatedRank);
    EXPECT_GT(kGivenCreatedRank, kUnknownCreatedRank);
    EXPECT_GT(kUnknownCreatedRank, Called(origin));
  }
}

// As wide as its column.
TEST(CreatedRank, IsShortTextWithoutAnythingToQuote) {
  constexpr std::string_view kPlain =
      "-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  for (const SaveOrigin& origin : kOrder) {
    for (const std::string& rank : {Given(origin), Called(origin)}) {
      EXPECT_EQ(rank.size(), kCreatedRankBytes);
      EXPECT_EQ(rank.find_first_not_of(kPlain), std::string::npos) << rank;
    }
  }
}

TEST(CreatedRank, WithinALogWhatIsGivenIsTakenAndNothingElse) {
  const std::string early = Given({1, kLow, 1}), late = Given({2, kLow, 2});
  EXPECT_TRUE(TakesCreatedAt(early, late, true));
  EXPECT_FALSE(TakesCreatedAt(Called({1, kLow, 1}), Called({2, kLow, 2}), true));
  EXPECT_FALSE(HandsInCreatedAt(late, early, true));
}

TEST(CreatedRank, BetweenLogsTheGreaterStands) {
  const std::string early = Given({1, kLow, 1}), late = Given({2, kHigh, 2});
  EXPECT_TRUE(TakesCreatedAt(late, early, false));
  EXPECT_FALSE(TakesCreatedAt(early, late, false));
  EXPECT_TRUE(HandsInCreatedAt(late, early, false));
  EXPECT_FALSE(HandsInCreatedAt(early, late, false));
  EXPECT_FALSE(HandsInCreatedAt(early, early, false));
}

}  // namespace
}  // namespace taskwal::storage
