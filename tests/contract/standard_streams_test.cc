// Standard streams that are closed, or that take nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

class StandardStreams : public ToolTest {
 protected:
  // The tool with streams as the shell sets them: "<&-" closes its input.
  RunOutcome ToolWith(const std::string& streams, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"sh", "-c", "exec \"$@\" " + streams, "sh", TASKWAL_TOOL});
    return taskwal::Run(arguments);
  }
};

TEST_F(StandardStreams, AClosedInputIsAnEmptyOne) {
  const auto run = ToolWith("<&-", {"ingest", "--wal", wal_, "--db", db_});
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_EQ(Ingest(Activities(1, 3)).exit.code, 0);
  EXPECT_EQ(Stored().activities, 3u);
}

// No file of the log takes the number of a closed stream, and then what is printed.
TEST_F(StandardStreams, ClosedOutputsHarmNoFile) {
  ASSERT_EQ(Ingest(Activities(1, 3)).exit.code, 0);
  const auto run =
      ToolWith("<&- >&- 2>&-", {"recover", "--wal", wal_, "--db", db_, "--json"});
  EXPECT_EQ(run.exit.code, 1);  // the report reached nobody
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().activities, 3u);
}

TEST_F(StandardStreams, AReportThatCannotBeWrittenIsAFailure) {
  ASSERT_EQ(Ingest(Activities(1, 3)).exit.code, 0);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"recover", "--wal", wal_, "--db", db_, "--json"},
        {"verify", wal_},
        {"inspect", wal_},
        {"dump", wal_},
        {"query", "activity", "--db", db_}}) {
    const auto run = ToolWith(">/dev/full", command);
    EXPECT_EQ(run.exit.code, 1) << command[0];
    EXPECT_THAT(run.err, HasSubstr("standard output")) << command[0];
  }
}

}  // namespace
}  // namespace taskwal
