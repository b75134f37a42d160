// Values and names on the command line that mean nothing are refused, and what is suggested instead
// is near and can be given there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class OptionValues : public ToolTest {
 protected:
  std::string ErrorOf(const std::vector<std::string>& arguments) {
    const auto run = Tool(arguments);
    EXPECT_EQ(run.exit.code, 64) << ::testing::PrintToString(arguments) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
    return run.err;
  }
};

TEST_F(OptionValues, AnLsnIsANumberThatFits) {
  ASSERT_EQ(Ingest(Activities(1, 9)).exit.code, 0);
  for (const std::string text : {"99999999999999999999", "18446744073709551616", "-1", "0x2", "2.0",
                                 "2 ", "x"}) {
    EXPECT_THAT(ErrorOf({"dump", wal_, "--to=" + text}), HasSubstr("--to: \"" + text + "\" is no "
                                                                   "LSN"));
    EXPECT_THAT(ErrorOf({"dump", wal_, "--from=" + text}), HasSubstr("--from: \"" + text));
    EXPECT_THAT(ErrorOf({"dlq", "purge", "--wal", wal_, "--lsn=" + text, "--yes"}),
                HasSubstr("--lsn: \"" + text));
  }
  const auto all = Tool({"dump", wal_, "--from", "08", "--to", "18446744073709551615"});
  EXPECT_EQ(all.exit.code, 0) << all.err;
  EXPECT_EQ(LinesOf(all.out).size(), 2u);  // 8 and 9
}

// `--json=false` would pass for `--json`; `--json=true` says what it does.
TEST_F(OptionValues, AFlagTakesNoValue) {
  ASSERT_EQ(Ingest(Activities(1, 2)).exit.code, 0);
  const std::vector<std::vector<std::string>> commands{
      {"query", "stats", "--db", db_, "--json=5"},
      {"query", "stats", "--db", db_, "--json=false"},
      {"verify", wal_, "--json=no"},
      {"inspect", wal_, "--json=0"},
      {"recover", "--wal", wal_, "--db", db_, "--dry-run=false"},
      {"dlq", "purge", "--wal", wal_, "--all", "--yes=no"},
      {"dlq", "purge", "--wal", wal_, "--all=false", "--yes"},
      {"bench", "append", "--quick", "--json=5"},
  };
  for (const auto& command : commands) {
    ErrorOf(command);
  }
}

TEST_F(OptionValues, ARangeOfLsnsEndsBehindItsBegin) {
  ASSERT_EQ(Ingest(Activities(1, 9)).exit.code, 0);
  EXPECT_EQ(ErrorOf({"dump", wal_, "--from", "10", "--to", "5"}),
            "taskwal dump: --to 5 is before --from 10\n");
  EXPECT_EQ(ErrorOf({"dump", wal_, "--to", "0"}),
            "taskwal dump: --to 0 is before the first LSN, which is 1\n");
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--from", "5", "--to", "5"}).out).size(), 1u);
}

TEST_F(OptionValues, ARunsIdHasNoControlCharacters) {
  std::ofstream(dir_.File("w.yaml")) << "tasks: [{id: a, kind: noop}]\n";
  for (const std::string id : {"a\nb", "\n", "a\tb", "a\x7f", "\x1b[2J", "a\xc2\x85z"}) {
    EXPECT_THAT(ErrorOf({"run", "w.yaml", "--db", db_, "--wal", wal_, "--run-id", id}),
                AllOf(StartsWith("taskwal run: --run-id: must have no line break or other "
                                 "control character"),
                      Not(HasSubstr(id + " "))));
    EXPECT_FALSE(std::filesystem::exists(wal_));
  }
  const auto run = Tool({"run", "w.yaml", "--db", db_, "--wal", wal_, "--run-id",
                         "N\xc3\xa4" "chtlich \xc2\xa0 7"});
  EXPECT_EQ(run.exit.code, 0) << run.err;
}

TEST_F(OptionValues, WhatIsSuggestedIsNearAndCanBeGiven) {
  EXPECT_EQ(ErrorOf({"ingest", "--wal", wal_, "--db", db_, "--set", "foo=1"}),
            "taskwal ingest: --set: there is no key \"foo\": the end of --help lists them all "
            "(see taskwal ingest --help)\n");
  EXPECT_THAT(ErrorOf({"ingest", "--wal", wal_, "--db", db_, "--set", "wal_dr=1"}),
              Not(HasSubstr("did you mean")));
  EXPECT_THAT(ErrorOf({"ingest", "--wal", wal_, "--db", db_, "--set", "bacth_size=1"}),
              HasSubstr("\"bacth_size\"; did you mean \"batch_size\"?"));
  EXPECT_EQ(ErrorOf({"run", "--nonsense", "w.yaml"}),
            "taskwal run: there is no option \"--nonsense\" (see taskwal run --help)\n");
  EXPECT_THAT(ErrorOf({"run", "-resume", "w.yaml"}), HasSubstr("did you mean \"--resume\"?"));
  EXPECT_EQ(ErrorOf({"verfiy", wal_}), "taskwal: there is no command \"verfiy\"; did you mean "
                                       "\"verify\"? (see taskwal --help)\n");
  EXPECT_EQ(ErrorOf({"frobnicate"}),
            "taskwal: there is no command \"frobnicate\" (see taskwal --help)\n");
}

TEST_F(OptionValues, LettersAreNotExportedOntoTheLog) {
  ASSERT_EQ(Ingest("").exit.code, 0);
  const Snapshot before = SnapshotOf(wal_);
  for (const std::string& name : {wal_ + "/STATE", wal_ + "/letters.json", wal_}) {
    EXPECT_EQ(ErrorOf({"dlq", "export", "--wal", wal_, "--output", name}),
              "taskwal dlq export: --output " + name + " is inside the log's directory: name a "
              "file elsewhere\n");
    EXPECT_THAT(ChangedSince(before, wal_), ::testing::IsEmpty());
  }
}

TEST_F(OptionValues, TheSchemaIsThatOfTheDatabaseThatIsNamed) {
  const auto sqlite = Tool({"schema", "print"});
  const auto postgres = Tool({"schema", "print", "--dialect", "postgres"});
  ASSERT_EQ(postgres.exit.code, 0) << postgres.err;
  EXPECT_NE(sqlite.out, postgres.out);
  const std::string server = "postgresql://user@host/db";
  EXPECT_EQ(Tool({"schema", "print", "--db", server}).out, postgres.out);
  EXPECT_EQ(Tool({"schema", "print"}, {}, {"TASKWAL_DB=" + server}).out, postgres.out);
  EXPECT_EQ(Tool({"schema", "print", "--dialect", "sqlite"}, {}, {"TASKWAL_DB=" + server}).out,
            sqlite.out);
  EXPECT_THAT(ErrorOf({"schema", "print", "--db", server, "--dialect", "sqlite"}),
              HasSubstr("excludes"));
}

// An interval of 2^32 ms is no pause of none.
TEST_F(OptionValues, ALongIntervalIsWaitedFor) {
  ASSERT_EQ(Ingest("").exit.code, 0);
  ASSERT_OK_AND_ASSIGN(const auto watch,
                       Child::Start({TASKWAL_TOOL, "metrics", "--wal", wal_, "--json", "--watch",
                                     "--interval", "4294967296ms"}));
  ASSERT_TRUE(watch->ReadLine().has_value());
  SendSignal(*watch, SIGTERM);
  EXPECT_EQ(watch->Wait().code, 0) << watch->errors();
  EXPECT_EQ(watch->pending_output(), "");
}

}  // namespace
}  // namespace taskwal
