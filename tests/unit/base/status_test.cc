#include "taskwal/status.h"

#include <set>
#include <string>

#include "base/status_macros.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

TEST(Status, IsOkByDefault) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status::Ok().ToString(), "ok");
}

TEST(Status, NamesCodeAndMessage) {
  EXPECT_EQ(Status::Overloaded("the log is full").ToString(), "kOverloaded: the log is full");
}

TEST(Status, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(StatusCode::kClosed); ++code) {
    const auto name = StatusCodeName(static_cast<StatusCode>(code));
    EXPECT_TRUE(name.starts_with("k"));
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(StatusCodeName(StatusCode::kOk), "kOk");
  EXPECT_EQ(StatusCodeName(StatusCode::kClosed), "kClosed");
  EXPECT_EQ(StatusCodeName(static_cast<StatusCode>(200)), "kUnknown");
}

TEST(Status, InDoubtCarriesItsLsn) {
  EXPECT_EQ(Status::InDoubt("who knows", 17).lsn(), 17u);
  EXPECT_EQ(Status::IoError("broken").lsn(), 0u);
}

TEST(Result, MadeOfAnOkStatusIsAnError) {
  const Result<int> result{Status::Ok()};
  EXPECT_THAT(result, StatusIs(StatusCode::kInvalidArgument));
}

Result<int> Half(int value) {
  if (value % 2 != 0) return Status::InvalidArgument("odd");
  return value / 2;
}

Result<int> Quarter(int value) {
  TASKWAL_ASSIGN(const int half, Half(value));
  TASKWAL_ASSIGN(const int quarter, Half(half));
  return quarter;
}

TEST(StatusMacros, PassTheFirstErrorUp) {
  ASSERT_OK_AND_ASSIGN(const int quarter, Quarter(8));
  EXPECT_EQ(quarter, 2);
  EXPECT_THAT(Quarter(6), StatusIs(StatusCode::kInvalidArgument, "odd"));
}

}  // namespace
}  // namespace taskwal
