#include "base/line_logger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace taskwal {
namespace {

TEST(LineLogger, HandsItsLinesToWhoAsksForThem) {
  std::string lines;
  const auto logger = MakeLineLogger([&lines](std::string_view line) { lines += line; });
  logger->info("event=unimportant");
  logger->warn("event=first");
  logger->error("event=second");
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2);
  EXPECT_NE(lines.find("[taskwal] [warning] event=first\n"), std::string::npos) << lines;
  EXPECT_TRUE(lines.ends_with("[taskwal] [error] event=second\n")) << lines;
}

}  // namespace
}  // namespace taskwal
