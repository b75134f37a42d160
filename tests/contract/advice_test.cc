// What the tool refuses it refuses in one line that says what happened and what to do about it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Advice : public ToolTest {
 protected:
  void SetUp() override {
    std::ofstream(dir_.File("w.yaml")) << "tasks: [{id: a, kind: noop}]\n";
    std::ofstream(dir_.File("plain")) << "no log, no database\n";
    fs::create_directory(dir_.File("empty"));
  }
  void ExpectAdvice(const std::vector<std::string>& arguments, int code, const std::string& what,
                    const std::string& advice) {
    SCOPED_TRACE(::testing::PrintToString(arguments));
    const auto run = Tool(arguments);
    EXPECT_EQ(run.exit.code, code) << run.err;
    EXPECT_THAT(run.err, AllOf(StartsWith("taskwal "), HasSubstr(what), HasSubstr(advice)));
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  }
};

TEST_F(Advice, ADirectoryWithoutALog) {
  const std::string advice = "name the directory that was --wal";
  ExpectAdvice({"verify", "empty"}, 1, "empty holds no log", advice);
  ExpectAdvice({"inspect", "empty"}, 1, "empty holds no log", advice);
  ExpectAdvice({"dump", "empty"}, 1, "empty holds no log", advice);
  ExpectAdvice({"recover", "--wal", "empty", "--db", db_}, 1, "empty holds no log", advice);
  ExpectAdvice({"adopt", "--wal", "empty", "--db", db_, "--moved"}, 1, "empty holds no log",
               advice);
  ExpectAdvice({"dlq", "list", "--wal", "empty"}, 1, "empty holds no log", advice);
}

// The sanitizers themselves need descriptors to look at memory, and tell nonsense without.
#if !defined(__SANITIZE_ADDRESS__)
// Wherever it is that the last one was needed.
TEST_F(Advice, WhereDescriptorsRunOut) {
  for (int limit = 4; limit <= 16; ++limit) {
    const auto run = taskwal::Run(
        {"sh", "-c", "ulimit -n \"$0\"; exec \"$@\"", std::to_string(limit), TASKWAL_TOOL, "ingest",
         "--wal", wal_, "--db", db_, "--drain-timeout", "0"},
        Activities(1, 1), {{}, dir_.path()});
    EXPECT_EQ(run.exit.signal, 0) << limit << ": " << run.err;
    EXPECT_LE(LinesOf(run.err).size(), 1u) << limit << ": " << run.err;
  }
  EXPECT_EQ(Recover().exit.code, 0);
}

// A thread gets a stack as large as the limit says: none fits into memory.
TEST_F(Advice, WhereNoThreadCanBeStarted) {
  const std::string kib = std::to_string(std::uint64_t{1} << 36);
  const std::vector<std::vector<std::string>> commands = {
      {"ingest", "--wal", wal_, "--db", db_},
      {"recover", "--wal", wal_, "--db", db_},
      {"run", "w.yaml", "--wal", wal_, "--db", db_},
      {"serve", "--listen", "127.0.0.1:0", "--wal", wal_, "--db", db_}};
  for (const auto& command : commands) {
    std::vector<std::string> all = {"sh", "-c", "ulimit -s \"$0\"; exec \"$@\"", kib, TASKWAL_TOOL};
    all.insert(all.end(), command.begin(), command.end());
    const auto run = taskwal::Run(all, Activities(1, 1), {{}, dir_.path()});
    EXPECT_EQ(run.exit.code, 1) << command.front() << ": " << run.err;
    EXPECT_THAT(run.err, AllOf(StartsWith("taskwal"), HasSubstr("starts no more threads")));
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  }
  EXPECT_EQ(Recover().exit.code, 0);
}
#endif

TEST_F(Advice, ALogThatIsInUse) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  ASSERT_TRUE(ingest->Write(Activities(1, 1)));
  ASSERT_TRUE(ingest->ReadLine().has_value());
  const std::string holder = "is in use by process " + std::to_string(ingest->pid());
  ExpectAdvice({"run", "w.yaml", "--wal", wal_, "--db", db_}, 1, holder, "end that one first");
  ExpectAdvice({"recover", "--wal", wal_, "--db", db_}, 1, holder, "end that one first");
  EXPECT_EQ(ingest->Wait().code, 0);
}

TEST_F(Advice, ADatabaseThatIsNotThere) {
  ExpectAdvice({"query", "tasks", "--db", "sqlite://absent.db"}, 1, "there is no such database",
               "`taskwal schema migrate` makes it");
  ExpectAdvice({"query", "tasks", "--db", "sqlite://absent/t.db"}, 1,
               "there is no directory ", "/absent: make it");
  ExpectAdvice({"query", "tasks", "--db", "sqlite://empty"}, 1, "this is a directory",
               "name a file");
  ExpectAdvice({"query", "tasks", "--db", "oracle://x"}, 64, "oracle", "named by one of");
  ExpectAdvice({"query", "tasks", "--db", "@absent"}, 64, "cannot read a first line from absent",
               ": name a file that is there");
}

TEST_F(Advice, ADatabaseThatCannotBeOpened) {
  ExpectAdvice({"query", "tasks", "--db", "sqlite://plain/t.db"}, 1, "/plain is no directory",
               "name another");
  fs::create_symlink("absent/t.db", dir_.File("link.db"));
  ExpectAdvice({"schema", "migrate", "--db", "sqlite://link.db"}, 1,
               "sqlite://link.db: open: unable to open database file (SQLite 14)",
               "check that the file and its directory are there, and that this user may read");
}

TEST_F(Advice, ADirectoryWhereAFileIsMeantAndTheOtherWayRound) {
  const std::string is_directory = "Is a directory (errno 21)";
  ExpectAdvice({"run", "empty"}, 1, is_directory, ": name a file");
  ExpectAdvice({"run", "w.yaml", "--acks", "empty", "--wal", wal_, "--db", db_}, 1, is_directory,
               ": name a file");
  ExpectAdvice({"serve", "--config", "empty"}, 64, is_directory, ": name a file");
  ExpectAdvice({"query", "tasks", "--db", "@empty"}, 64,
               "cannot read a first line from empty: Is a directory", ": name a file");
  ASSERT_EQ(Ingest("").exit.code, 0);
  ExpectAdvice({"dlq", "export", "--wal", wal_, "--output", "empty"}, 1, is_directory,
               ": name a file");
  const std::string no_directory = "Not a directory (errno 20)";
  for (const char* command : {"verify", "inspect", "dump"}) {
    ExpectAdvice({command, "plain"}, 1, no_directory, ": name a directory");
  }
  ExpectAdvice({"dlq", "list", "--wal", "plain"}, 1, no_directory, ": name a directory");
  ExpectAdvice({"recover", "--wal", "plain", "--db", db_}, 1, no_directory, ": name a directory");
}

// A rehearsal says what the real thing would.
TEST_F(Advice, ADatabaseThatIsOutOfReachOfARehearsal) {
  FillLog(1);
  const std::vector<std::string> rehearsal{"recover", "--wal", wal_, "--dry-run", "--db"};
  for (const auto& [name, advice] :
       {std::pair<std::string, std::string>{"sqlite://empty", "this is a directory: name a file"},
        {"sqlite://absent/t.db", "/absent: make it"}}) {
    auto command = rehearsal;
    command.push_back(name);
    ExpectAdvice(command, 4, name, advice);
  }
}

// Whatever tells it, a command speaks under its whole name.
TEST_F(Advice, DeadLettersOfNoLog) {
  ExpectAdvice({"dlq", "list", "--wal", "empty"}, 1, "taskwal dlq list: empty", "name the");
  ExpectAdvice({"dlq", "show", "--wal", "empty", "x"}, 1, "taskwal dlq show: empty", "name the");
  ExpectAdvice({"dlq", "export", "--wal", "empty"}, 1, "taskwal dlq export: empty", "name the");
  ExpectAdvice({"dlq", "purge", "--wal", "empty", "--all", "--yes"}, 1,
               "taskwal dlq purge: empty", "name the");
}

TEST_F(Advice, AWorkflowThatIsNone) {
  std::ofstream(dir_.File("cycle.yaml")) << "tasks:\n- {id: a, kind: noop, depends_on: [b]}\n"
                                            "- {id: b, kind: noop, depends_on: [a]}\n";
  std::ofstream(dir_.File("bad.json")) << "{\"tasks\": [\n],}";
  ExpectAdvice({"run", "cycle.yaml"}, 1, "cycle.yaml: the nodes form a cycle: a -> b -> a",
               "take out one of these dependencies");
  ExpectAdvice({"run", "bad.json"}, 1, "bad.json:2: it is no JSON", "expected a string");
  ExpectAdvice({"run", "absent.yaml"}, 1, "cannot open absent.yaml: No such file or directory",
               ": name a file that is there");
  ExpectAdvice({"serve", "--config", "absent.yaml"}, 64, "absent.yaml: No such file or directory",
               ": name a file that is there");
}

TEST_F(Advice, APlaceThatCannotBeWritten) {
  ExpectAdvice({"run", "w.yaml", "--wal", "plain/wal", "--db", db_}, 1,
               "cannot create directory plain: a file of that name is there", "name another");
  ExpectAdvice({"bench", "append", "--quick", "--dir", "absent"}, 1,
               "cannot make a directory in absent: No such file or directory",
               "name another by --dir");
  ExpectAdvice({"run", "w.yaml", "--wal", "/proc/absent/wal", "--db", db_}, 1,
               "cannot create directory /proc/absent: No such file or directory", "name another");
}

// Also for root, who passes elsewhere.
TEST_F(Advice, APlaceWithoutTheRight) {
  ASSERT_EQ(Ingest("").exit.code, 0);
  for (const char* place : {"empty", "kept"}) fs::create_directories(dir_.File(place));
  fs::permissions(dir_.File("empty"), fs::perms::owner_read | fs::perms::owner_exec);
  fs::permissions(dir_.File("kept"), fs::perms::none);
  const auto run = [&](std::vector<std::string> arguments) {
    std::vector<std::string> command;
    if (::geteuid() == 0) command = {"setpriv", "--bounding-set", "-dac_override,-dac_read_search"};
    command.emplace_back(TASKWAL_TOOL);
    command.insert(command.end(), arguments.begin(), arguments.end());
    return taskwal::Run(command, "", {{}, dir_.path()});
  };
  const std::vector<std::vector<std::string>> commands = {
      {"run", "w.yaml", "--wal", "empty/wal", "--db", db_},
      {"ingest", "--wal", "empty/wal", "--db", db_},
      {"verify", "kept"},
      {"run", "kept/w.yaml"},
      {"dlq", "export", "--wal", wal_, "--output", "empty/letters"}};
  for (const auto& command : commands) {
    SCOPED_TRACE(::testing::PrintToString(command));
    const auto refused = run(command);
    EXPECT_EQ(refused.exit.code, 1);
    EXPECT_THAT(refused.err, AllOf(HasSubstr("Permission denied (errno 13)"),
                                   HasSubstr("give this user the right to it, or name another")));
    EXPECT_EQ(LinesOf(refused.err).size(), 1u) << refused.err;
  }
}

TEST_F(Advice, ADaemonThatIsNotThere) {
  ExpectAdvice({"metrics", "--url", "http://127.0.0.1:1"}, 1, "no answer from http://127.0.0.1:1",
               "is `taskwal serve` running there?");
}

TEST_F(Advice, WhatIsNotInTheDatabaseYet) {
  const auto run = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                        Activities(1, 1));
  EXPECT_EQ(run.exit.code, 4);
  EXPECT_THAT(run.err, AllOf(HasSubstr("not drained: LSN 1 to 1"),
                             HasSubstr("; `taskwal recover --wal " + wal_ + " --db DSN` brings")));
  EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  ExpectAdvice({"recover", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"}, 4,
               "not drained: LSN 1 to 1", "run it again when the database answers");
}

TEST_F(Advice, LinesThatAreRefused) {
  const auto run = Ingest("nonsense\n");
  EXPECT_EQ(run.exit.code, 3);
  EXPECT_THAT(run.err, HasSubstr("1 of 1 lines were rejected: their answers say why"));
}

}  // namespace
}  // namespace taskwal
