// `taskwal bench flush`: which databases it measures, what it refuses, and that nothing is left.
#include <gmock/gmock.h>

#include <csignal>

#include "tests/contract/tool_fixture.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"

namespace taskwal {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class BenchCommand : public ToolTest {
 protected:
  RunOutcome Flush(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"bench", "flush", "--quick", "--rounds", "1", "--json",
                                         "--dir", dir_.path()});
    return Tool(std::move(arguments));
  }
  bool IsDirectoryEmpty() const { return std::filesystem::is_empty(dir_.path()); }

  // The scenarios asked for, and no word of the password.
  void ExpectReport(const RunOutcome& run, const std::vector<std::string>& scenarios) {
    EXPECT_EQ(run.exit.code, 0) << run.err;
    for (const std::string& scenario : scenarios) {
      EXPECT_THAT(run.out, HasSubstr("\"scenario\":\"" + scenario + "\""));
    }
    EXPECT_THAT(run.out + run.err, Not(HasSubstr("p%40ss")));
    EXPECT_TRUE(IsDirectoryEmpty());
  }
};

TEST_F(BenchCommand, FlushMeasuresSqliteInAFileOfItsOwn) {
  // Neither the scratch file nor the database that is named is there afterwards.
  ExpectReport(Flush({"--db", db_}), {"calls end to end, level process", "drain, task upserts"});
}

TEST_F(BenchCommand, FlushRefusesWhatItCannotMeasureWithOneLine) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--db", "oracle://host/db"}, {"--db", "memory:"},     {"--db", "mysql://host"},
      {"--db", "@" + dir_.File("missing")}, {"--part", "calls"}, {"--part", "nonsense"},
      {"--db", "postgresql://user:s3%zzcret@127.0.0.1/db"}};
  for (const auto& arguments : wrong) {
    const auto run = Flush(arguments);
    EXPECT_EQ(run.exit.code, 64) << arguments.back();
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
    EXPECT_THAT(run.err, Not(HasSubstr("cret")));
    EXPECT_THAT(run.out, IsEmpty());
  }
  EXPECT_TRUE(IsDirectoryEmpty());
}

TEST_F(BenchCommand, FlushFailsWithOneLineWhereThereIsNoServer) {
  for (const char* scheme : {"postgresql", "mysql"}) {
    const auto run = Flush({"--db", std::string(scheme) + "://user:s3cret@127.0.0.1:1/db"});
    EXPECT_EQ(run.exit.code, 1) << scheme;
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
    EXPECT_THAT(run.err, Not(HasSubstr("s3cret")));
    EXPECT_THAT(run.out, IsEmpty());
  }
  EXPECT_TRUE(IsDirectoryEmpty());
}

// Of far more rounds than anybody would wait for.
TEST_F(BenchCommand, ToldToStopEndsAfterTheStepAndLeavesNothing) {
  for (const char* name : {"append", "commit", "flush", "recover"}) {
    ASSERT_OK_AND_ASSIGN(const auto started,
                         Child::Start({TASKWAL_TOOL, "bench", name, "--quick", "--rounds", "1000",
                                       "--dir", dir_.path()}));
    Child& bench = *started;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (IsDirectoryEmpty() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    SendSignal(bench, SIGTERM);
    const ChildExit end = bench.Wait();
    EXPECT_EQ(end.signal, 0) << name;
    EXPECT_EQ(end.code, 1) << name;
    EXPECT_EQ(LinesOf(bench.errors()).size(), 1u) << bench.errors();
    EXPECT_THAT(bench.errors(), HasSubstr("stopped"));
    EXPECT_THAT(bench.pending_output(), IsEmpty());
    EXPECT_TRUE(IsDirectoryEmpty()) << name;
  }
}

TEST_F(BenchCommand, ToldTwiceEndsAtOnce) {
  ASSERT_OK_AND_ASSIGN(const auto bench,
                       Child::Start({TASKWAL_TOOL, "bench", "commit", "--rounds", "1000", "--dir",
                                     dir_.path()}));
  AwaitHandler(*bench, SIGTERM);
  SendSignal(*bench, SIGTERM);
  SendSignal(*bench, SIGINT);
  // Two that come at once may be answered in either order: each by a thread of its own.
  EXPECT_THAT(bench->Wait().code, AnyOf(128 + SIGTERM, 128 + SIGINT));
}

TEST_F(BenchCommand, FlushMeasuresPostgresAndLeavesNothingThere) {
  PostgresServer& server = PostgresServer::Shared();
  const std::string database = server.NewDatabase();
  server.Query("GRANT CREATE ON DATABASE postgres TO owner");
  ExpectReport(Flush({"--db", server.Dsn(database)}),
               {"bulk path, activities, tx of 500", "drain, activities, tx of 5000",
                "drain, task upserts, tx of 5000, one connection",
                "calls end to end, level process", "database commits per 1,000 calls",
                "drain of a backlog of 2000 activities", "memory growth, draining it"});
  EXPECT_EQ(server.Value("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'taskwal_bench%'"),
            "0");
  server.Query("REVOKE CREATE ON DATABASE postgres FROM owner");
}

TEST_F(BenchCommand, FlushMeasuresMariadbAndLeavesNothingThere) {
  MariadbServer& server = MariadbServer::Shared();
  const std::string database = server.NewDatabase();
  server.Query("GRANT ALL ON `taskwal\\_bench\\_%`.* TO 'owner'@'127.0.0.1'");
  ExpectReport(Flush({"--db", server.Dsn(database), "--part", "calls"}),
               {"calls end to end, level disk, acknowledged later"});
  ExpectReport(Flush({"--db", server.Dsn(database), "--part", "tasks"}),
               {"bulk path, task upserts, tx of 500", "drain, task upserts, tx of 5000"});
  EXPECT_EQ(server.Value("SELECT count(*) FROM information_schema.schemata "
                         "WHERE schema_name LIKE 'taskwal_bench%'"),
            "0");
  server.Query("REVOKE ALL ON `taskwal\\_bench\\_%`.* FROM 'owner'@'127.0.0.1'");
}

}  // namespace
}  // namespace taskwal
