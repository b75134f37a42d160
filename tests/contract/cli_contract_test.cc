// The built tool against the sentences of the contract about ingest, usage and exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using CliContract = ToolTest;

// --- ingest: answers -----------------------------------------------------------------------------

TEST_F(CliContract, IngestAnswersEachLineInOrderAndABadLineStopsNothing) {
  const auto run = Ingest(R"({"op":"save_task","task":{"id":"t","payload":{ "b":1,  "a":[]}}})"
                          "\n"
                          "\n"
                          "nonsense\n"
                          R"({"op":"explode"})"
                          "\n"
                          R"({"op":"save_task","task":{"id":"t","colour":"red"}})"
                          "\n"
                          R"({"op":"update_status","task_id":"t","status":"failed","error":"why"})"
                          "\n"
                          R"({"op":"log_activity","activity":{"task_id":"t","action":"go"}})"
                          "\n"
                          R"({"op":"delete_task","task_id":"absent"})");
  EXPECT_EQ(run.exit.code, 3) << run.err;
  const auto lines = LinesOf(run.out);
  ASSERT_EQ(lines.size(), 8u);
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const json answer = json::parse(lines[i]);
    EXPECT_EQ(answer["line"], i + 1);
    const bool is_bad = i >= 1 && i <= 4;
    EXPECT_EQ(answer.contains("error"), is_bad) << lines[i];
    EXPECT_EQ(answer.contains("lsn"), !is_bad) << lines[i];
    if (is_bad) continue;
    EXPECT_GT(answer["lsn"].get<std::uint64_t>(), last);
    last = answer["lsn"];
  }
  ASSERT_OK_AND_ASSIGN(const Task task, StoredTask("t"));
  EXPECT_EQ(task.payload, R"({ "b":1,  "a":[]})");  // byte for byte
  EXPECT_EQ(task.status, TaskStatus::kFailed);
  EXPECT_EQ(task.error, "why");
  EXPECT_EQ(Stored().activities, 1u);
}

TEST_F(CliContract, IngestTakesAByteOrderMarkInFrontOfAllAndNowhereElse) {
  const std::string line = "\xEF\xBB\xBF" R"({"op":"delete_task","task_id":"absent"})" "\n";
  const auto run = Ingest(line + line);
  EXPECT_EQ(run.exit.code, 3) << run.err;
  const auto lines = LinesOf(run.out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(json::parse(lines[0]).contains("lsn")) << lines[0];
  EXPECT_TRUE(json::parse(lines[1]).contains("error")) << lines[1];
}

TEST_F(CliContract, IngestOfNothingIsDone) {
  const auto run = Ingest("");
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(CliContract, IngestAnswersWhileTheInputPauses) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(ingest->Write(Activities(i, i)));
    const auto answer = ingest->ReadLine();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(json::parse(*answer)["line"], i);
    EXPECT_GT(json::parse(*answer)["lsn"], 0);
  }
  ASSERT_TRUE(ingest->Write("half a line"));
  ingest->CloseInput();
  EXPECT_THAT(ingest->ReadLine().value_or(""), HasSubstr(R"({"line":4,"error":)"));
  EXPECT_EQ(ingest->Wait().code, 3);
}

TEST_F(CliContract, LsnsGrowOverRestarts) {
  std::uint64_t last = 0;
  for (int i = 1; i <= 3; ++i) {
    const auto run = Ingest(Activities(i, i));
    ASSERT_EQ(run.exit.code, 0) << run.err;
    const std::uint64_t lsn = json::parse(run.out)["lsn"];
    EXPECT_GT(lsn, last);
    last = lsn;
  }
}

TEST_F(CliContract, IngestTakesEveryDurabilityLevelAndNoOther) {
  for (const char* level : {"memory", "process", "disk"}) {
    EXPECT_EQ(Ingest(Activities(1, 3), {"--durability", level}).exit.code, 0) << level;
  }
  EXPECT_EQ(Ingest("", {"--durability", "paper"}).exit.code, 64);
  EXPECT_EQ(Stored().activities, 3u);  // an activity id names one activity
}

TEST_F(CliContract, IngestTakesALineOfTheLimitsAndRefusesALongerOne) {
  const std::string big(15u << 20, 'x');
  const std::string huge(41u << 20, 'y');
  const auto run = Ingest(R"({"op":"save_task","task":{"id":"t","payload":")" + big + "\"}}\n" +
                          huge + "\n" + Activities(1, 1));
  EXPECT_EQ(run.exit.code, 3) << run.err;
  const auto lines = LinesOf(run.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], HasSubstr("lsn"));
  EXPECT_THAT(lines[1], HasSubstr("40 MiB"));
  EXPECT_THAT(lines[2], HasSubstr("lsn"));
  ASSERT_OK_AND_ASSIGN(const Task task, StoredTask("t"));
  EXPECT_EQ(task.payload->size(), big.size() + 2);
}

TEST_F(CliContract, IngestReportsAsJsonOnStderr) {
  const auto run = Ingest(Activities(1, 4) + "bad\n", {"--json"});
  const json report = json::parse(run.err);
  EXPECT_EQ(report["lines"], 5);
  EXPECT_EQ(report["acknowledged"], 4);
  EXPECT_EQ(report["rejected"], 1);
  EXPECT_EQ(report["applied"], 4);
  EXPECT_EQ(report["drained"], true);
}

// Every line is acknowledged alone, so the log rolls between two that wait for the disk.
TEST_F(CliContract, TinySegmentsRollAtDiskLevelWithoutAHang) {
  auto ingest = StartIngest({"--durability", "disk", "--set", "segment_bytes=16KiB"});
  ASSERT_NE(ingest, nullptr);
  const std::string rest =
      R"(","task_id":"t","action":"go","message":")" + std::string(300, 'm') + "\"}}";
  for (int i = 1; i <= 400; ++i) {
    ASSERT_TRUE(ingest->WriteLine(R"({"op":"log_activity","activity":{"id":"a)" +
                                  std::to_string(i) + rest));
    const auto answer = ingest->ReadLine();
    ASSERT_TRUE(answer.has_value()) << i;
    EXPECT_EQ(json::parse(*answer)["lsn"], i);
  }
  EXPECT_EQ(ingest->Wait().code, 0) << ingest->errors();
  EXPECT_EQ(Stored().activities, 400u);
  EXPECT_GT(Segments().size(), 5u);
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(CliContract, ASecondSaveKeepsCreatedAtUnlessItGivesOne) {
  const auto save = [&](const std::string& more) {
    const auto run = Ingest(R"({"op":"save_task","task":{"id":"t")" + more + "}}\n");
    EXPECT_EQ(run.exit.code, 0) << run.err;
    const auto task = StoredTask("t");
    EXPECT_OK(task);
    return task.ok() ? *task : Task();
  };
  const Task first = save(R"(,"payload":1,"status":"running")");
  const Task second = save(R"(,"error":"x")");
  EXPECT_EQ(second.created_at, first.created_at);
  EXPECT_GT(second.updated_at, first.updated_at);
  EXPECT_EQ(second.status, TaskStatus::kPending);  // the whole task is replaced
  EXPECT_FALSE(second.payload.has_value());
  const Task third = save(R"(,"created_at":"2026-11-21T06:00:00.000001Z")");
  EXPECT_EQ(FormatTime(*third.created_at), "2026-11-21T06:00:00.000001Z");
  EXPECT_EQ(save("").created_at, third.created_at);
}

// --- ingest: the database, the end ---------------------------------------------------------------

TEST_F(CliContract, AnUnreachableDatabaseIsNoReasonToRefuseInput) {
  const auto run = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "100ms"},
                        Activities(1, 5));
  EXPECT_EQ(run.exit.code, 4);
  EXPECT_EQ(LinesOf(run.out).size(), 5u);
  EXPECT_THAT(run.out, Not(HasSubstr("error")));
  EXPECT_THAT(run.err, HasSubstr("safe in"));
  // The next ingest brings them along.
  EXPECT_EQ(Ingest(Activities(6, 6)).exit.code, 0);
  EXPECT_EQ(Stored().activities, 6u);
}

TEST_F(CliContract, NotDrainedIsGraverThanRejected) {
  EXPECT_EQ(Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                 Activities(1, 1) + "bad\n")
                .exit.code,
            4);
}

TEST_F(CliContract, AKilledIngestLosesNothingAndTheNextJustWorks) {
  for (const char* level : {"process", "disk"}) {
    auto ingest = StartIngest({"--durability", level});
    ASSERT_NE(ingest, nullptr);
    ASSERT_TRUE(ingest->Write(Activities(1, 2000)));
    int acknowledged = 0;
    for (; acknowledged < 1000 && ingest->ReadLine(); ++acknowledged) {
    }
    ASSERT_EQ(acknowledged, 1000);
    ingest->Kill();
    EXPECT_EQ(ingest->Wait().signal, 9);
    EXPECT_EQ(Ingest("").exit.code, 0);
    EXPECT_GE(Stored().activities, 1000u) << level;
  }
}

TEST_F(CliContract, AClosedOutputCostsNoAcknowledgedRecord) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  ASSERT_TRUE(ingest->Write(Activities(1, 10)));
  ASSERT_TRUE(ingest->ReadLine().has_value());
  ingest->CloseOutput();
  ingest->Write(Activities(11, 20));
  ingest->CloseInput();
  const ChildExit end = ingest->Wait();
  EXPECT_EQ(end.code, 1) << ingest->errors();
  EXPECT_EQ(end.signal, 0);
  EXPECT_GE(Stored().activities, 10u);
}

TEST_F(CliContract, SignalsStopTheInputAndDrain) {
  for (const int signal : {SIGINT, SIGTERM}) {
    auto ingest = StartIngest();
    ASSERT_NE(ingest, nullptr);
    ASSERT_TRUE(ingest->Write(Activities(1, 1)));
    ASSERT_TRUE(ingest->ReadLine().has_value());
    ::kill(ingest->pid(), signal);  // its input stays open
    std::optional<std::string> more;
    while ((more = ingest->ReadLine())) {
    }
    EXPECT_EQ(ingest->Wait().code, 0) << ingest->errors();
  }
  EXPECT_EQ(Stored().activities, 1u);
}

TEST_F(CliContract, ALockedLogNamesItsHolder) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  ASSERT_TRUE(ingest->Write(Activities(1, 1)));
  ASSERT_TRUE(ingest->ReadLine().has_value());
  const auto second = Ingest(Activities(2, 2));
  EXPECT_EQ(second.exit.code, 1);
  EXPECT_THAT(second.err, HasSubstr(std::to_string(ingest->pid())));
  EXPECT_THAT(second.out, IsEmpty());
  EXPECT_EQ(ingest->Wait().code, 0);
}

// --- usage ---------------------------------------------------------------------------------------

TEST_F(CliContract, BadUsageIs64WithOneLineInEveryCommand) {
  const std::vector<std::vector<std::string>> commands{
      {},
      {"nonsense"},
      {"ingest"},
      {"ingest", "--wal", wal_},
      {"ingest", "--wal", wal_, "--db", db_, "--bogus"},
      {"ingest", "--wal", wal_, "--db", "oracle://x"},
      {"ingest", "--wal", wal_, "--db", db_, "--drain-timeout", "soon"},
      {"ingest", "--wal", wal_, "--db", db_, "--set", "batch_sise=1"},
      {"ingest", "--wal", wal_, "--db", db_, "--set", "batch_size=0"},
      {"recover", "--db", db_},
      {"recover", "--wal", wal_, "--db", "oracle://x"},
      {"adopt", "--wal", wal_, "--db", db_},
      {"adopt", "--wal", wal_, "--db", db_, "--moved", "--relabel"},
      {"verify"},
      {"dump"},
      {"inspect", wal_, "extra"},
  };
  for (const auto& command : commands) {
    const auto run = Tool(command);
    std::string shown;
    for (const auto& argument : command) shown += argument + " ";
    EXPECT_EQ(run.exit.code, 64) << shown << run.err;
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << shown << run.err;
    EXPECT_THAT(run.out, IsEmpty()) << shown;
  }
  EXPECT_FALSE(fs::exists(wal_));
}

TEST_F(CliContract, WhatIsNotExpectedIsNamed) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> commands{
      {{"ingest", "--wal", wal_, "--db", db_, "extra"}, "\"extra\""},
      {{"ingest", "--wal", wal_, "--db", "a=" + db_, "b=memory:"}, "\"b=memory:\""},
      {{"ingest", "--db", db_, "--walx", wal_}, "\"--walx\"; did you mean \"--wal\"?"},
      {{"run", "--db", db_, "--sped", "0", "w.yaml"}, "\"--sped\"; did you mean \"--speed\"?"},
      {{"query", "tasks", "--db", db_, "--statsu", "failed"}, "did you mean \"--status\"?"},
  };
  for (const auto& [command, named] : commands) {
    const auto run = Tool(command);
    EXPECT_EQ(run.exit.code, 64) << named << run.err;
    EXPECT_THAT(run.err, HasSubstr(named));
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  }
}

TEST_F(CliContract, ADatabaseMayBeNamedBeforeWhatTheCommandIsAbout) {
  ASSERT_EQ(Ingest("").exit.code, 0);
  const auto run = Tool({"dlq", "retry", "--wal", wal_, "--db", db_, "no-such-letter"});
  EXPECT_EQ(run.exit.code, 1);
  EXPECT_THAT(run.err, HasSubstr("no such dead letter"));
}

TEST_F(CliContract, AnUnknownCommandIsNamed) {
  const auto run = Tool({"bogus"});
  EXPECT_EQ(run.exit.code, 64);
  EXPECT_THAT(run.err, HasSubstr("\"bogus\""));
  EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
}

TEST_F(CliContract, EveryCommandHasHelp) {
  const auto help = Tool({"--help"});
  EXPECT_EQ(help.exit.code, 0);
  for (const char* command : {"run", "ingest", "serve", "recover", "inspect", "verify", "dump",
                              "dlq", "metrics", "targets", "adopt", "query", "schema", "bench"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("  ") + command));
    const auto own = Tool({command, "--help"});
    EXPECT_EQ(own.exit.code, 0) << command;
    EXPECT_THAT(own.out, HasSubstr("Usage:")) << command;
    EXPECT_THAT(own.err, IsEmpty()) << command;
  }
  for (const char* command : {"ingest", "recover", "run"}) {
    EXPECT_THAT(Tool({command, "--help"}).out, HasSubstr("segment_bytes = 64MiB")) << command;
  }
  EXPECT_THAT(Tool({"ingest", "--help"}).out, HasSubstr("memory, process or disk (default disk)"));
  EXPECT_THAT(Tool({"run", "--help"}).out, HasSubstr("memory, process or disk (default process)"));
  EXPECT_THAT(Tool({"--version"}).out, HasSubstr("taskwal "));
}

TEST_F(CliContract, TheDatabaseMayComeFromTheEnvironmentOrAFile) {
  EXPECT_EQ(Tool({"ingest", "--wal", wal_}, Activities(1, 1), {"TASKWAL_DB=" + db_}).exit.code, 0);
  std::ofstream(dir_.File("dsn")) << db_ << "\n";
  EXPECT_EQ(
      Tool({"ingest", "--wal", wal_, "--db", "@" + dir_.File("dsn")}, Activities(2, 2)).exit.code,
      0);
  EXPECT_EQ(Stored().activities, 2u);
}

TEST_F(CliContract, UnwritableAndMissingPlacesFailWithOneLine) {
  std::ofstream(dir_.File("file")) << "x";
  const auto ingest = Tool({"ingest", "--wal", dir_.File("file"), "--db", db_}, Activities(1, 1));
  EXPECT_EQ(ingest.exit.code, 1);
  EXPECT_EQ(LinesOf(ingest.err).size(), 1u) << ingest.err;
  for (const char* command : {"recover", "adopt"}) {
    std::vector<std::string> arguments{command, "--wal", wal_, "--db", db_};
    if (std::string(command) == "adopt") arguments.emplace_back("--moved");
    const auto run = Tool(arguments);
    EXPECT_EQ(run.exit.code, 1) << command;
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  }
  for (const char* command : {"verify", "inspect", "dump"}) {
    EXPECT_EQ(Tool({command, wal_}).exit.code, 1) << command;
  }
  EXPECT_FALSE(fs::exists(wal_));
}

}  // namespace
}  // namespace taskwal
