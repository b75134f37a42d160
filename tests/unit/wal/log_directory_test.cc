#include "wal/log_directory.h"

#include <gtest/gtest.h>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::wal {
namespace {

TEST(LogDirectory, NamesAreReadBackAsWritten) {
  for (const std::uint64_t number : {1ull, 7ull, 99999999ull, 100000000ull, ~0ull}) {
    EXPECT_EQ(ParseSegmentName(SegmentName(number)), number);
    EXPECT_EQ(ParseSpareName(SpareName(number)), number);
  }
  EXPECT_EQ(SegmentName(1), "wal-00000001.log");
  EXPECT_EQ(SegmentName(123456789), "wal-123456789.log");
  EXPECT_EQ(SpareName(2), "spare-00000002");
}

TEST(LogDirectory, OtherNamesAreNoSegments) {
  for (const char* name :
       {"", "wal-.log", "wal-1.log", "wal-00000000.log", "wal-0000001.log", "wal-000000001.log",
        "wal-00000001.log.tmp", "xwal-00000001.log", "wal-0000000a.log", "wal-+0000001.log",
        "wal-99999999999999999999.log", "spare-00000001", "wal.log"}) {
    EXPECT_EQ(ParseSegmentName(name), std::nullopt) << name;
  }
  EXPECT_EQ(ParseSpareName("spare-1"), std::nullopt);
  EXPECT_EQ(ParseSpareName("wal-00000001.log"), std::nullopt);
}

TEST(LogDirectory, JoinsPathsWithOneSlash) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
}

TEST(LogDirectory, ListsSegmentsByNumberAndNothingElse) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/log/wal-00000005.log"));
  for (const char* name : {"wal-100000000.log", "wal-00000009.log", "STATE", "spare-00000003"}) {
    ASSERT_OK(fs.OpenWritable(JoinPath("/log", name), true));
  }
  ASSERT_OK_AND_ASSIGN(const auto numbers, ListSegments(fs, "/log"));
  EXPECT_EQ(numbers, (std::vector<std::uint64_t>{9, 100000000}));
  EXPECT_THAT(ListSegments(fs, "/none"), StatusIs(StatusCode::kNotFound));
}

}  // namespace
}  // namespace taskwal::wal
