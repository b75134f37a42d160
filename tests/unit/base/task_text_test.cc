#include <gtest/gtest.h>

#include "taskwal/task.h"

namespace taskwal {
namespace {

using namespace std::chrono_literals;

Time At(int year, unsigned month, unsigned day, std::chrono::microseconds of_day) {
  return std::chrono::sys_days(std::chrono::year(year) / month / day) + of_day;
}

TEST(TaskText, EveryStatusHasAName) {
  for (const TaskStatus status :
       {TaskStatus::kPending, TaskStatus::kRunning, TaskStatus::kCompleted, TaskStatus::kFailed,
        TaskStatus::kCancelled}) {
    EXPECT_EQ(ParseTaskStatus(TaskStatusName(status)), status);
  }
  EXPECT_EQ(TaskStatusName(TaskStatus::kPending), "pending");
  EXPECT_EQ(TaskStatusName(TaskStatus::kCancelled), "cancelled");
  EXPECT_EQ(TaskStatusName(static_cast<TaskStatus>(9)), "unknown");
  EXPECT_FALSE(ParseTaskStatus("Pending"));
  EXPECT_FALSE(ParseTaskStatus(""));
}

TEST(TaskText, EveryLevelHasAName) {
  for (const Level level :
       {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError, Level::kFatal}) {
    EXPECT_EQ(ParseLevel(LevelName(level)), level);
  }
  EXPECT_EQ(LevelName(Level::kWarn), "warn");
  EXPECT_FALSE(ParseLevel("warning"));
}

TEST(FormatTime, HasSixDigitsAndZ) {
  EXPECT_EQ(FormatTime(At(2026, 11, 21, 6h + 123456us)), "2026-11-21T06:00:00.123456Z");
  EXPECT_EQ(FormatTime(Time{}), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(FormatTime(Time(-1us)), "1969-12-31T23:59:59.999999Z");
}

TEST(FormatTime, GivesTheNearestTimeThatHasAText) {
  EXPECT_EQ(FormatTime(Time::min()), "0000-01-01T00:00:00.000000Z");
  EXPECT_EQ(FormatTime(Time::max()), "9999-12-31T23:59:59.999999Z");
}

TEST(ParseTime, ReadsZeroToNineDigitsOfASecond) {
  EXPECT_EQ(ParseTime("2026-11-21T06:00:00Z"), At(2026, 11, 21, 6h));
  EXPECT_EQ(ParseTime("2026-11-21T06:00:00.5Z"), At(2026, 11, 21, 6h + 500ms));
  EXPECT_EQ(ParseTime("2026-11-21T06:00:00.123456Z"), At(2026, 11, 21, 6h + 123456us));
  EXPECT_EQ(ParseTime("2026-11-21T06:00:00.123456789Z"), At(2026, 11, 21, 6h + 123456us));
}

TEST(ParseTime, AppliesTheZone) {
  EXPECT_EQ(ParseTime("2026-11-21T06:00:00+05:30"), At(2026, 11, 21, 30min));
  EXPECT_EQ(ParseTime("2026-11-21T23:00:00-02:00"), At(2026, 11, 22, 1h));
  EXPECT_EQ(ParseTime("2026-11-21t06:00:00z"), At(2026, 11, 21, 6h));
  EXPECT_EQ(ParseTime("2026-11-21 06:00:00Z"), At(2026, 11, 21, 6h));
}

TEST(ParseTime, TakesALeapSecondAndALeapDay) {
  EXPECT_EQ(ParseTime("2016-12-31T23:59:60Z"), At(2017, 1, 1, 0us));
  EXPECT_EQ(ParseTime("2024-02-29T00:00:00Z"), At(2024, 2, 29, 0us));
  EXPECT_FALSE(ParseTime("2026-02-29T00:00:00Z"));
}

TEST(ParseTime, RefusesWhatIsNoRfc3339Time) {
  for (const char* text :
       {"", "2026-11-21", "2026-11-21T06:00:00", "2026-11-21T06:00Z", "2026-11-21T06:00:00.Z",
        "2026-11-21T06:00:00.1234567890Z", "2026-11-21T24:00:00Z", "2026-11-21T06:60:00Z",
        "2026-11-21T06:00:61Z", "2026-13-21T06:00:00Z", "2026-11-31T06:00:00Z",
        "2026-00-21T06:00:00Z", "2026-11-21T06:00:00+24:00", "2026-11-21T06:00:00+0530",
        "2026-11-21T06:00:00Zx", " 2026-11-21T06:00:00Z", "+026-11-21T06:00:00Z",
        "0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"}) {
    EXPECT_FALSE(ParseTime(text)) << text;
  }
}

TEST(ParseTime, ReadsWhatFormatWrites) {
  for (const Time time : {Time{}, At(0, 1, 1, 0us), At(9999, 12, 31, 24h - 1us),
                          At(2026, 11, 21, 23h + 59min + 59s + 999999us)}) {
    EXPECT_EQ(ParseTime(FormatTime(time)), time) << FormatTime(time);
  }
}

}  // namespace
}  // namespace taskwal
