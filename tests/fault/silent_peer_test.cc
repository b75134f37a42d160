// Every command of the tool against a peer that takes the connection and says nothing: it ends by
// its deadline, with one line that says so, and what it acknowledged is safe.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/fault/database_faults.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"
#include "tests/support/tcp_proxy.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// For what may take a second or two, on a busy machine.
constexpr std::chrono::seconds kBound{30};
constexpr const char* kUrl = "URL";  // stands for that of the silent peer
constexpr const char* kPoison = "ALTER TABLE dag_task_activity_logs ADD CHECK (action <> 'poison')";

struct Command {
  const char* name;
  std::vector<std::string> words;
  int exit;
};

std::vector<Command> Commands() {
  const std::vector<std::string> limits = {"--set", "database_timeout=1s", "--set",
                                           "recovery_timeout=1s"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.end(), limits.begin(), limits.end());
    return words;
  };
  return {
      {"query_tasks", {"query", "tasks", "--db", kUrl, "--timeout", "1s"}, 1},
      {"query_task", {"query", "tasks", "--id", "t1", "--db", kUrl, "--timeout", "1s"}, 1},
      {"query_activity", {"query", "activity", "--db", kUrl, "--timeout", "1s"}, 1},
      {"query_stats", {"query", "stats", "--db", kUrl, "--timeout", "1s"}, 1},
      {"schema_migrate", {"schema", "migrate", "--db", kUrl, "--timeout", "1s"}, 1},
      {"adopt", with({"adopt", "--moved", "--wal", "WAL", "--db", kUrl}), 1},
      {"recover", with({"recover", "--wal", "WAL", "--db", kUrl, "--drain-timeout", "1s"}), 4},
      {"recover_dry_run", with({"recover", "--dry-run", "--wal", "WAL", "--db", kUrl}), 4},
      {"dlq_retry",
       with({"dlq", "retry", "--all", "--wal", "WAL", "--db", kUrl, "--drain-timeout", "1s"}), 4},
      {"targets_rebalance",
       with({"targets", "rebalance", "--wal", "WAL", "--db", kUrl, "--drain-timeout", "1s"}), 4},
      {"metrics", {"metrics", "--url", "HTTP"}, 1},
  };
}

// What needs no database is not held up by one.
std::vector<Command> LocalCommands() {
  return {{"schema_print", {"schema", "print", "--db", kUrl}, 0},
          {"targets_list", {"targets", "list", "--wal", "WAL"}, 0},
          {"dlq_list", {"dlq", "list", "--wal", "WAL"}, 0},
          {"metrics_of_the_log", {"metrics", "--wal", "WAL"}, 0}};
}

class SilentPeer : public DatabaseFaults, public ::testing::WithParamInterface<bool> {
 protected:
  // A log with a dead letter and with what the database has not got yet.
  void SetUp() override {
    const std::string database =
        GetParam() ? PostgresServer::Shared().NewDatabase() : MariadbServer::Shared().NewDatabase();
    dsn_ = GetParam() ? PostgresServer::Shared().DsnAt(proxy_.port(), database)
                      : MariadbServer::Shared().DsnAt(proxy_.port(), database);
    ASSERT_EQ(Tool({"schema", "migrate", "--db", kUrl}).exit.code, 0);
    if (GetParam()) {
      PostgresServer::Shared().Query(kPoison, database);
    } else {
      MariadbServer::Shared().Query(kPoison, database);
    }
    const std::string poison =
        R"({"op":"log_activity","activity":{"id":"a","action":"poison"}})" "\n";
    ASSERT_EQ(Tool({"ingest", "--wal", "WAL", "--db", kUrl}, poison).exit.code, 0);
    proxy_.Blackhole(true);
    const RunOutcome more =
        Tool({"ingest", "--wal", "WAL", "--db", kUrl, "--drain-timeout", "0", "--set",
              "database_timeout=1s", "--set", "recovery_timeout=1s"},
             R"({"op":"save_task","task":{"id":"t1"}})" "\n");
    ASSERT_EQ(more.exit.code, 4) << more.err;
  }

  RunOutcome Tool(std::vector<std::string> words, std::string_view input = {}) {
    words.insert(words.begin(), TASKWAL_TOOL);
    for (std::string& word : words) {
      if (word == kUrl) word = dsn_;
      if (word == "WAL") word = dir_.File("wal");
      if (word == "HTTP") word = "http://127.0.0.1:" + std::to_string(proxy_.port());
    }
    return taskwal::Run(words, input, {}, 2 * kBound);
  }

  TcpProxy proxy_{GetParam() ? PostgresServer::Shared().port() : MariadbServer::Shared().port()};
  std::string dsn_;
};

INSTANTIATE_TEST_SUITE_P(Servers, SilentPeer, ::testing::Bool(), [](const auto& test) {
  return std::string(test.param ? "postgres" : "mariadb");
});

TEST_P(SilentPeer, EveryCommandEndsInTimeWithOneLine) {
  for (const Command& command : Commands()) {
    SCOPED_TRACE(command.name);
    const Stopwatch took;
    const RunOutcome outcome = Tool(command.words);
    EXPECT_LT(took.elapsed(), kBound);
    EXPECT_EQ(outcome.exit.code, command.exit) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(StartsWith("taskwal "), Not(HasSubstr("p@ss")),
                                   Not(HasSubstr("p%40ss"))));
  }
  for (const Command& command : LocalCommands()) {
    SCOPED_TRACE(command.name);
    const RunOutcome outcome = Tool(command.words);
    EXPECT_EQ(outcome.exit.code, command.exit) << outcome.err;
    EXPECT_EQ(outcome.err, "");
  }
  proxy_.Blackhole(false);
  const RunOutcome recovered = Tool({"recover", "--wal", "WAL", "--db", kUrl});
  EXPECT_EQ(recovered.exit.code, 0) << recovered.err;
  EXPECT_THAT(Tool({"query", "tasks", "--db", kUrl}).out, HasSubstr("t1"));
}

// However long the options allow to wait for the first answer.
TEST_P(SilentPeer, WhatDrainsGivesUpAsSoonAsItIsToldTo) {
  for (Command& command : Commands()) {
    auto& words = command.words;
    if (std::find(words.begin(), words.end(), "--drain-timeout") == words.end()) continue;
    SCOPED_TRACE(command.name);
    words.insert(words.end(), {"--set", "database_timeout=1h", "--set", "recovery_timeout=1h"});
    const RunOutcome outcome = Tool(words);
    EXPECT_FALSE(outcome.exit.timed_out);
    EXPECT_EQ(outcome.exit.code, 4) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }
}

// However long it is allowed to wait for the database: only the flush does.
TEST_P(SilentPeer, IngestAcknowledgesWithoutIt) {
  const std::string text = R"({"op":"save_task","task":{"id":"t2"}})";
  auto ingest = Child::Start({TASKWAL_TOOL, "ingest", "--wal", dir_.File("wal"), "--db", dsn_,
                              "--drain-timeout", "0", "--set", "database_timeout=1h", "--set",
                              "recovery_timeout=1h"});
  ASSERT_OK(ingest);
  ASSERT_TRUE((*ingest)->WriteLine(text));
  const auto answer = (*ingest)->ReadLine(kBound);
  ASSERT_TRUE(answer.has_value()) << (*ingest)->errors();
  EXPECT_THAT(*answer, HasSubstr("\"lsn\""));
  (*ingest)->Kill();
  EXPECT_EQ((*ingest)->Wait().signal, 9);
  proxy_.Blackhole(false);
  EXPECT_EQ(Tool({"recover", "--wal", "WAL", "--db", kUrl}).exit.code, 0);
  EXPECT_THAT(Tool({"query", "tasks", "--db", kUrl}).out, HasSubstr("t2"));
}

}  // namespace
}  // namespace taskwal
