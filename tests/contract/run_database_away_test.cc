// `taskwal run` where the database does not answer: what it waits for, and what ends the waiting.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RunDatabaseAway : public ToolTest {
 protected:
  void SetUp() override {
    Write("w.yaml", "name: w\ntasks: [{id: a, kind: shell, command: echo ran >> log}]\n");
    Write("other.yaml", "name: other\ntasks: [{id: b, kind: noop}]\n");
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.File(name)) << text;
  }
  std::vector<std::string> Command(const std::string& file, const std::string& database,
                                   const std::vector<std::string>& more) {
    std::vector<std::string> command{"run", file, "--db", database, "--wal", wal_};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  RunOutcome RunFile(const std::string& file, const std::string& database,
                     std::vector<std::string> more) {
    more.insert(more.end(), {"--set", "shutdown_timeout=100ms"});
    return Tool(Command(file, database, more));
  }
  // One that is to look for its run in a database that never answers: a call may take so long that
  // only a signal ends it. Returns once the log is open.
  std::unique_ptr<Child> StartSearch(const std::string& database) {
    const std::string opened = wal_ + "/METRICS";
    std::filesystem::remove(opened);
    std::vector<std::string> command =
        Command("w.yaml", database, {"--resume", "--set", "database_timeout=1h"});
    command.insert(command.begin(), TASKWAL_TOOL);
    auto child = Child::Start(command, {{}, dir_.path()});
    EXPECT_OK(child);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!std::filesystem::exists(opened)) {
      EXPECT_LT(std::chrono::steady_clock::now(), until);
      if (HasFailure()) return nullptr;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return child.ok() ? std::move(child).value() : nullptr;
  }
  // Nobody else reads or writes the database as long as it lives.
  std::unique_ptr<SQLite::Database> Lock() {
    auto blocker = std::make_unique<SQLite::Database>(dir_.File("t.db"), SQLite::OPEN_READWRITE);
    blocker->exec("PRAGMA locking_mode = EXCLUSIVE");
    blocker->exec("BEGIN EXCLUSIVE");
    return blocker;
  }
};

TEST_F(RunDatabaseAway, ASignalEndsTheSearchInAnAbsentDatabase) {
  FillLog(3);
  const auto run = StartSearch(kNoDatabase);
  ASSERT_NE(run, nullptr);
  SendSignal(*run, SIGINT);
  EXPECT_EQ(run->Wait().code, 4) << run->errors();
  EXPECT_THAT(run->errors(), AllOf(HasSubstr("stopped before a task was begun"),
                                   HasSubstr("3 records are safe")));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("log")));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(RunDatabaseAway, ASignalEndsTheSearchInALockedDatabase) {
  ASSERT_EQ(Tool({"schema", "migrate", "--db", db_}).exit.code, 0);
  FillLog(3);
  const auto blocker = Lock();
  const auto run = StartSearch(db_);
  ASSERT_NE(run, nullptr);
  SendSignal(*run, SIGTERM);
  EXPECT_EQ(run->Wait().code, 4) << run->errors();
  EXPECT_THAT(run->errors(), HasSubstr("stopped before a task was begun"));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("log")));
}

TEST_F(RunDatabaseAway, ResumingSaysThatOnlyTheDatabaseKnows) {
  const auto run = RunFile("w.yaml", kNoDatabase, {"--resume"});
  EXPECT_EQ(run.exit.code, 1);
  EXPECT_THAT(run.err, HasSubstr("nothing was run, as only the database knows"));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("log")));
}

TEST_F(RunDatabaseAway, ANamedRunBeginsAllTheSame) {
  const auto run = RunFile("w.yaml", kNoDatabase, {"--run-id", "mine"});
  EXPECT_EQ(run.exit.code, 4) << run.err;
  EXPECT_THAT(run.out, HasSubstr("mine: 1 of 1 tasks completed"));
  EXPECT_THAT(run.err, AllOf(HasSubstr("\"mine\" begins as a new one"),
                             HasSubstr("records are safe")));
  EXPECT_EQ(Recover().exit.code, 0);
  const auto resumed = RunFile("w.yaml", db_, {"--run-id", "mine", "--resume", "--json"});
  EXPECT_THAT(resumed.out, HasSubstr(R"({"dag_id":"mine","completed":1,"failed":0})"));
  EXPECT_EQ(ContentOf(dir_.File("log")), "ran\n");
}

TEST_F(RunDatabaseAway, ANamedRunBeginsBesideALockedDatabase) {
  ASSERT_EQ(RunFile("other.yaml", db_, {}).exit.code, 0);
  {
    const auto blocker = Lock();
    const auto run = RunFile("w.yaml", db_, {"--run-id", "mine", "--set", "database_timeout=1h"});
    EXPECT_EQ(run.exit.code, 4) << run.err;
    EXPECT_THAT(run.out, HasSubstr("mine: 1 of 1 tasks completed"));
  }
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(StoredTask("mine/a")->status, TaskStatus::kCompleted);
}

// The database cannot say so, but the log can, of the same file and of another.
TEST_F(RunDatabaseAway, ANamedRunThatTheLogHoldsIsRefused) {
  ASSERT_EQ(RunFile("w.yaml", kNoDatabase, {"--run-id", "mine"}).exit.code, 4);
  for (const char* file : {"w.yaml", "other.yaml"}) {
    const auto again = RunFile(file, kNoDatabase, {"--run-id", "mine"});
    EXPECT_EQ(again.exit.code, 1) << file;
    EXPECT_THAT(again.err, HasSubstr("the run \"mine\" is there already: go on with it by "
                                     "--resume"));
  }
  EXPECT_EQ(ContentOf(dir_.File("log")), "ran\n");
  const auto next = RunFile("other.yaml", kNoDatabase, {"--run-id", "mine2"});
  EXPECT_THAT(next.out, HasSubstr("mine2: 1 of 1 tasks completed"));
  EXPECT_THAT(next.err, Not(HasSubstr("there already")));
}

}  // namespace
}  // namespace taskwal
