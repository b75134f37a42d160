#include "base/logging.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <sstream>

#include "base/check.h"

namespace taskwal {
namespace {

TEST(Logging, WritesWarningsToStderrByDefault) {
  SetLogger(nullptr);
  ::testing::internal::CaptureStderr();
  Logger().info("event=start");
  Logger().warn("event=slow");
  const std::string printed = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(printed.find("event=start"), std::string::npos);
  EXPECT_NE(printed.find("event=slow"), std::string::npos);
}

TEST(Logging, GoesWhereItIsSent) {
  std::ostringstream lines;
  spdlog::logger& old = Logger();
  SetLogger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines)));
  Logger().info("event=start");
  EXPECT_NE(lines.str().find("event=start"), std::string::npos);
  SetLogger(nullptr);
  old.debug("event=late");  // a reference taken before stays good
}

TEST(CheckDeathTest, AbortsAndSaysWhy) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(TASKWAL_CHECK(1 + 1 == 3), "check failed.*1 \\+ 1 == 3");
}

TEST(Check, PassesWhatHolds) { TASKWAL_CHECK(1 + 1 == 2); }

}  // namespace
}  // namespace taskwal
