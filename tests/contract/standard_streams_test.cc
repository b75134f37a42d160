// Standard streams that are closed, or that take nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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

TEST_F(StandardStreams, WhatCannotBeWrittenIsAFailureToldOnce) {
  // More than a buffer of standard output: it fails in the middle of the work, too.
  ASSERT_EQ(Ingest(Activities(1, 300)).exit.code, 0);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"recover", "--wal", wal_, "--db", db_, "--json"},
        {"verify", wal_},
        {"inspect", wal_},
        {"dump", wal_},
        {"dump", wal_, "--to", "1"},
        {"dlq", "list", "--wal", wal_},
        {"dlq", "export", "--wal", wal_},
        {"query", "activity", "--db", db_},
        {"metrics", "--wal", wal_},
        {"schema", "print"},
        {"dump", "--help"},
        {"--help"},
        {"--version"}}) {
    SCOPED_TRACE(::testing::PrintToString(command));
    const auto run = ToolWith(">/dev/full", command);
    EXPECT_EQ(run.exit.code, 1);
    EXPECT_THAT(run.err, AllOf(StartsWith("taskwal"),
                               HasSubstr(": cannot write to standard output\n")));
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  }
}

}  // namespace
}  // namespace taskwal
