#include "storage/paging.h"

#include <gtest/gtest.h>

#include <string>

#include "storage/backend.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/storage/sample_operations.h"

namespace taskwal::storage {
namespace {

TEST(PageToken, ComesBackForAnyTimeAndId) {
  for (const std::string& id : {std::string(), std::string("a"), std::string("a "),
                                std::string("\0\xff'", 3), std::string(255, 'x')}) {
    for (const Time time : {At(0), At(-1), At(1795240800123456), Time::min(), Time::max()}) {
      const std::string token = MakePageToken(time, id);
      EXPECT_EQ(ParsePageToken(token), std::pair(time, id));
      EXPECT_EQ(token.find_first_not_of("0123456789abcdef"), std::string::npos);
    }
  }
}

TEST(PageToken, WhatIsNoTokenIsRefused) {
  const std::string good = MakePageToken(At(1), "id");
  for (const std::string& bad : {std::string(), std::string("x"), good.substr(0, 15), good + "0",
                                 good + "g0", "-1" + good.substr(2), std::string("page 2")}) {
    EXPECT_EQ(ParsePageToken(bad), std::nullopt) << bad;
  }
}

TEST(ParsePaging, LimitIsWithinOneAndTenThousand) {
  Paging paging;
  for (const std::uint32_t limit : {1u, 10000u}) {
    paging.limit = limit;
    EXPECT_OK(ParsePaging(paging));
  }
  for (const std::uint32_t limit : {0u, 10001u}) {
    paging.limit = limit;
    EXPECT_THAT(ParsePaging(paging), StatusIs(StatusCode::kInvalidArgument));
  }
}

TEST(ParsePaging, TokenIsParsedOrRefused) {
  Paging paging;
  ASSERT_OK_AND_ASSIGN(const PageStart first, ParsePaging(paging));
  EXPECT_EQ(first, std::nullopt);
  paging.after = MakePageToken(At(5), "t");
  ASSERT_OK_AND_ASSIGN(const PageStart start, ParsePaging(paging));
  EXPECT_EQ(start, std::pair(At(5), std::string("t")));
  paging.after = "2";
  EXPECT_THAT(ParsePaging(paging), StatusIs(StatusCode::kInvalidArgument));
}

TEST(TerminalOf, ActiveStatusesAreNeverIncluded) {
  EXPECT_EQ(TerminalOf({}), (std::vector{TaskStatus::kCompleted, TaskStatus::kFailed,
                                         TaskStatus::kCancelled}));
  const std::vector mixed = {TaskStatus::kRunning, TaskStatus::kFailed, TaskStatus::kPending};
  EXPECT_EQ(TerminalOf(mixed), std::vector{TaskStatus::kFailed});
}

}  // namespace
}  // namespace taskwal::storage
