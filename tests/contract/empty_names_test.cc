// An empty argument, such as an unset variable of a script leaves, where a place is to be named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct EmptyName {
  std::vector<std::string> arguments;
  std::string named;  // in the message
};

void PrintTo(const EmptyName& name, std::ostream* out) {
  for (const std::string& argument : name.arguments) *out << "'" << argument << "' ";
}

class EmptyNames : public ToolTest, public ::testing::WithParamInterface<EmptyName> {};

// Neither a default nor the environment stands in for it.
TEST_P(EmptyNames, AreBadUsage) {
  const auto run = Tool(GetParam().arguments, {}, {"TASKWAL_DB=" + db_});
  EXPECT_EQ(run.exit.code, 64) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, AllOf(StartsWith("taskwal "), HasSubstr(GetParam().named)));
  EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

INSTANTIATE_TEST_SUITE_P(
    Directories, EmptyNames,
    ::testing::Values(EmptyName{{"verify", ""}, "DIR: must not be empty"},
                      EmptyName{{"inspect", ""}, "DIR: must not be empty"},
                      EmptyName{{"dump", ""}, "DIR: must not be empty"},
                      EmptyName{{"run", "w.yaml", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"ingest", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"recover", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"adopt", "--wal", "", "--moved"}, "--wal: must not be empty"},
                      EmptyName{{"serve", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"metrics", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"targets", "list", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"targets", "rebalance", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"dlq", "list", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"dlq", "show", "--wal", "", "x"}, "--wal: must not be empty"},
                      EmptyName{{"dlq", "retry", "--wal", "", "--all"}, "--wal: must not be empty"},
                      EmptyName{{"dlq", "purge", "--wal", "", "--all"}, "--wal: must not be empty"},
                      EmptyName{{"dlq", "export", "--wal", ""}, "--wal: must not be empty"},
                      EmptyName{{"bench", "append", "--dir", ""}, "--dir: must not be empty"}));

INSTANTIATE_TEST_SUITE_P(
    Databases, EmptyNames,
    ::testing::Values(
        EmptyName{{"run", "w.yaml", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"ingest", "--wal", "w", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"ingest", "--wal", "w", "--db", "a="}, "target a: no database behind the ="},
        EmptyName{{"ingest", "--wal", "w", "--db", "@"}, "no file is named behind the @"},
        EmptyName{{"recover", "--wal", "w", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"adopt", "--wal", "w", "--moved", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"serve", "--wal", "w", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"targets", "rebalance", "--wal", "w", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"dlq", "retry", "--wal", "w", "--all", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"query", "tasks", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"schema", "migrate", "--db", ""}, "--db: must not be empty"},
        EmptyName{{"bench", "flush", "--db", ""}, "--db: must not be empty"}));

INSTANTIATE_TEST_SUITE_P(
    Others, EmptyNames,
    ::testing::Values(EmptyName{{"run", ""}, "workflow: must not be empty"},
                      EmptyName{{"serve", "--config", ""}, "--config: must not be empty"},
                      EmptyName{{"serve", "--listen", ""}, "--listen: must not be empty"},
                      EmptyName{{"metrics", "--url", ""}, "--url: must not be empty"},
                      EmptyName{{"dlq", "export", "--wal", "w", "--output", ""},
                                "--output: must not be empty"},
                      EmptyName{{"query", "tasks", "--id", ""}, "--id: must not be empty"},
                      EmptyName{{"schema", "print", "--dialect", ""},
                                "--dialect: must not be empty"}));

// Beside --all such a one would be no filter at all.
INSTANTIATE_TEST_SUITE_P(
    Letters, EmptyNames,
    ::testing::Values(EmptyName{{"dlq", "purge", "--wal", "w", "--yes", "--all", "--task", ""},
                                "--task: must not be empty"},
                      EmptyName{{"dlq", "purge", "--wal", "w", "--yes", "--older-than", ""},
                                "--older-than: must not be empty"},
                      EmptyName{{"dlq", "retry", "--wal", "w", ""}, "ID: must not be empty"},
                      EmptyName{{"dlq", "show", "--wal", "w", ""}, "ID: must not be empty"}));

}  // namespace
}  // namespace taskwal
