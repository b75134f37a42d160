#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>

#include "base/clock.h"
#include "cli/command.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::cli {
namespace {

using ::testing::HasSubstr;

// Options as a command line sets them.
Options Parse(const std::vector<std::string>& arguments) {
  CLI::App app;
  Options options;
  AddSetOption(app, &options);
  AddDurabilityOption(app, &options);
  auto reversed = arguments;
  std::reverse(reversed.begin(), reversed.end());
  app.parse(reversed);
  return options;
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  try {
    Parse(arguments);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "";
}

TEST(SetOption, SetsFieldsOneByOne) {
  const Options options = Parse({"--set", "segment_bytes=1m", "--set", "batch_size=7"});
  EXPECT_EQ(options.segment_bytes, 1u << 20);
  EXPECT_EQ(options.batch_size, 7u);
}

TEST(SetOption, KeepsEqualsSignsInTheValue) {
  EXPECT_THAT(ErrorOf({"--set", "batch_size=7=8"}), HasSubstr("7=8"));
}

TEST(SetOption, RefusesWhatIsNoSetting) {
  EXPECT_THAT(ErrorOf({"--set", "batch_size"}), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(ErrorOf({"--set", "batchsize=1"}), HasSubstr("batch_size"));
  EXPECT_THAT(ErrorOf({"--set", "sync_lanes=99"}), HasSubstr("1 to 8"));
  EXPECT_THAT(ErrorOf({"--set", "wal_dir=elsewhere"}), HasSubstr("--wal"));
}

TEST(SetOption, SuggestsAKeyThatIsNearAndThatItTakes) {
  EXPECT_THAT(ErrorOf({"--set", "sync_lane=1"}), HasSubstr("did you mean \"sync_lanes\"?"));
  for (const char* far : {"foo=1", "wal_dr=x", "waldir=x", "=1"}) {
    EXPECT_THAT(ErrorOf({"--set", far}), HasSubstr(": the end of --help lists them all")) << far;
  }
}

TEST(SetOption, HelpListsEveryFieldWithItsDefault) {
  CLI::App app;
  Options options;
  AddSetOption(app, &options);
  app.footer("Example: x");
  EXPECT_THAT(app.help(), HasSubstr("segment_bytes = 64MiB"));
  EXPECT_THAT(app.help(), HasSubstr("Example: x"));
}

TEST(DurabilityOption, TakesTheThreeLevels) {
  EXPECT_EQ(Parse({"--durability", "process"}).durability, Durability::kProcess);
  EXPECT_THAT(ErrorOf({"--durability", "paper"}), HasSubstr("memory, process or disk"));
}

class ResolveDsnTest : public ::testing::Test {
 protected:
  void SetUp() override { ::unsetenv("TASKWAL_DB"); }
  void TearDown() override { ::unsetenv("TASKWAL_DB"); }
};

TEST_F(ResolveDsnTest, TakesWhatIsGivenThenTheEnvironmentThenTheFallback) {
  ::setenv("TASKWAL_DB", "memory:", 1);
  EXPECT_EQ(*ResolveDsn("sqlite://a.db", "sqlite://b.db"), "sqlite://a.db");
  EXPECT_EQ(*ResolveDsn("", "sqlite://b.db"), "memory:");
  ::unsetenv("TASKWAL_DB");
  EXPECT_EQ(*ResolveDsn("", "sqlite://b.db"), "sqlite://b.db");
  EXPECT_THAT(ResolveDsn(""), StatusIs(StatusCode::kInvalidArgument, HasSubstr("TASKWAL_DB")));
}

TEST_F(ResolveDsnTest, ReadsTheFirstLineOfAFile) {
  const TempDir dir;
  std::ofstream(dir.File("dsn")) << "sqlite://secret.db \r\nnot this\n";
  EXPECT_EQ(*ResolveDsn("@" + dir.File("dsn")), "sqlite://secret.db");
  EXPECT_THAT(ResolveDsn("@" + dir.File("absent")), StatusIs(StatusCode::kInvalidArgument));
  std::ofstream(dir.File("empty")) << "\n";
  EXPECT_THAT(ResolveDsn("@" + dir.File("empty")), StatusIs(StatusCode::kInvalidArgument));
}

TEST(ParseTimeOrAge, TakesATimeOrAnAge) {
  EXPECT_EQ(FormatTime(*ParseTimeOrAge("2026-11-21T06:00:00Z")), "2026-11-21T06:00:00.000000Z");
  const Time before = Clock::Real().WallNow();
  const Time age = *ParseTimeOrAge("1h");
  EXPECT_GE(age, before - std::chrono::hours(1));
  EXPECT_LE(age, Clock::Real().WallNow() - std::chrono::hours(1));
  EXPECT_THAT(ParseTimeOrAge("yesterday"), StatusIs(StatusCode::kInvalidArgument));
}

TEST(Fail, TellsBadUsageFromFailure) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Fail("verify", Status::InvalidArgument("bad\nusage\n")), kExitUsage);
  EXPECT_EQ(Fail("verify", Status::IoError("broken")), kExitFailed);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "taskwal verify: bad; usage\ntaskwal verify: broken\n");
}

TEST(PrintError, IsOneLineThatPlaysWithNoTerminal) {
  ::testing::internal::CaptureStderr();
  PrintError("run", "a\tb\rc\x1b[2Jd\x7f \xc3\xa4\n");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "taskwal run: a b?c?[2Jd? \xc3\xa4\n");
}

}  // namespace
}  // namespace taskwal::cli
