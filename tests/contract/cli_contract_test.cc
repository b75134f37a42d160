// The built tool against the sentences of the contract about ingest, recover, verify, dump and exit
// codes.
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
      {"recover", "--wal", wal_, "--db", db_, "--dry-run", "--salvage"},
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
                              "dlq", "targets", "adopt", "query", "schema", "bench"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("  ") + command));
    const auto own = Tool({command, "--help"});
    EXPECT_EQ(own.exit.code, 0) << command;
    EXPECT_THAT(own.out, HasSubstr("Usage:")) << command;
    EXPECT_THAT(own.err, IsEmpty()) << command;
  }
  for (const char* command : {"ingest", "recover", "run"}) {
    EXPECT_THAT(Tool({command, "--help"}).out, HasSubstr("segment_bytes = 64MiB")) << command;
  }
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

// --- recover, verify, dump -----------------------------------------------------------------------

TEST_F(CliContract, RecoverBringsWhatTheDatabaseLacksAndReportsIt) {
  FillLog(30);
  const auto first = Recover();
  EXPECT_EQ(first.exit.code, 0) << first.err;
  const json report = json::parse(first.out);
  EXPECT_EQ(report["scanned"], 30);
  EXPECT_EQ(report["replayed"], 30);
  EXPECT_EQ(report["already_there"], 0);
  EXPECT_EQ(report["dead_lettered"], 0);
  EXPECT_EQ(report["corrupt"], 0);
  EXPECT_EQ(report["lost"], json::array());
  EXPECT_EQ(report["unknown"], json::array());
  const json again = json::parse(Recover().out);
  EXPECT_EQ(again["replayed"], 0);
  EXPECT_EQ(again["already_there"], 30);
  EXPECT_EQ(Stored().activities, 30u);
}

TEST_F(CliContract, RecoverWithoutADatabaseIsNotDrained) {
  FillLog(5);
  const auto run =
      Tool({"recover", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "100ms", "--json"});
  EXPECT_EQ(run.exit.code, 4) << run.err;
  EXPECT_EQ(json::parse(run.out)["replayed"], 0);
}

TEST_F(CliContract, DryRunChangesNothingAnywhere) {
  FillLog(30);
  Damage();
  const Snapshot before = SnapshotOf(dir_.path());
  const auto run = Recover({"--dry-run"});
  EXPECT_EQ(run.exit.code, 2) << run.err;
  EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
  const json report = json::parse(run.out);
  EXPECT_GT(report["replayed"], 0);
  EXPECT_GT(report["corrupt"], 0);
  EXPECT_FALSE(report["lost"].empty());
}

TEST_F(CliContract, DryRunAsksTheDatabaseWhatItHas) {
  // STATE of a killed process does not know what was brought since it was written.
  KillIngest(30);
  const Snapshot before = SnapshotOf(dir_.path());
  const json report = json::parse(Recover({"--dry-run"}).out);
  EXPECT_EQ(report["already_there"], 30);
  EXPECT_EQ(report["replayed"], 0);
  EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
}

TEST_F(CliContract, ReadOnlyCommandsChangeNothingThatAKilledProcessLeft) {
  KillIngest(30);
  ASSERT_TRUE(fs::exists(wal_ + "/RING"));
  const Snapshot before = SnapshotOf(dir_.path());
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"verify", wal_},
        {"inspect", wal_},
        {"dump", wal_},
        {"dlq", "list", "--wal", wal_},
        {"recover", "--dry-run", "--wal", wal_, "--db", db_}}) {
    EXPECT_EQ(Tool(command).exit.code, 0) << command.front();
    EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty()) << command.front();
  }
}

TEST_F(CliContract, DryRunSaysWhatTheRealRunDoes) {
  FillLog(30);
  const auto compare = [&](const std::string& db) {
    const std::vector<std::string> recover{"recover", "--wal", wal_, "--db", db, "--json",
                                           "--drain-timeout", "100ms"};
    auto rehearsal = recover;
    rehearsal.emplace_back("--dry-run");
    const auto told = Tool(rehearsal);
    const auto done = Tool(recover);
    EXPECT_EQ(told.exit.code, done.exit.code) << db << told.err << done.err;
    EXPECT_EQ(told.out, done.out) << db << told.err;
    return done.exit.code;
  };
  EXPECT_EQ(compare(kNoDatabase), 4);
  EXPECT_EQ(compare("sqlite://" + dir_.path()), 4);  // a directory
  EXPECT_EQ(compare(db_), 0);
  EXPECT_EQ(compare(db_), 0);  // all there already
  fs::rename(dir_.File("t.db"), dir_.File("aside"));
  fs::create_directory(dir_.File("t.db"));
  EXPECT_EQ(compare(db_), 0);  // away, and not needed
  fs::remove(dir_.File("t.db"));
  fs::rename(dir_.File("aside"), dir_.File("t.db"));
  Damage();
  EXPECT_EQ(compare(db_), 2);
  ASSERT_EQ(Recover({"--salvage"}).exit.code, 2);
  EXPECT_EQ(compare(db_), 0);
  EXPECT_EQ(compare("sqlite://" + dir_.File("other.db")), 1);  // not the one it fed before
}

TEST_F(CliContract, DamageIsNamedAndTheRestIsBrought) {
  FillLog(50);
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  Damage();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 2);
  const auto first = Recover();
  EXPECT_EQ(first.exit.code, 2) << first.err;
  const json report = json::parse(first.out);
  ASSERT_FALSE(report["lost"].empty());
  std::uint64_t lost = 0;
  for (const json& range : report["lost"]) {
    lost += range["to"].get<std::uint64_t>() - range["from"].get<std::uint64_t>() + 1;
  }
  EXPECT_THAT(first.err, HasSubstr("LSN " + report["lost"][0]["from"].dump()));
  EXPECT_EQ(report["replayed"].get<std::uint64_t>() + lost, 50u);
  EXPECT_EQ(Stored().activities + lost, 50u);
  // The damage is still there, and is said again.
  EXPECT_EQ(Recover().exit.code, 2);
  const auto ingest = Ingest(Activities(51, 51));
  EXPECT_EQ(ingest.exit.code, 2);
  EXPECT_THAT(ingest.err, HasSubstr("damaged"));
  EXPECT_THAT(ingest.out, HasSubstr("lsn"));
  EXPECT_EQ(Stored().activities + lost, 51u);
}

TEST_F(CliContract, SalvageKeepsTheFilesAsideAndEndsTheDamage) {
  FillLog(50);
  Damage();
  const auto salvaged = Recover({"--salvage"});
  EXPECT_EQ(salvaged.exit.code, 2) << salvaged.err;
  EXPECT_FALSE(json::parse(salvaged.out)["lost"].empty());
  EXPECT_FALSE(fs::is_empty(wal_ + "/quarantine"));
  const auto verified = Tool({"verify", wal_});
  EXPECT_EQ(verified.exit.code, 0) << verified.out << verified.err;
  const auto after = Recover();
  EXPECT_EQ(after.exit.code, 0) << after.err;
  EXPECT_EQ(Ingest(Activities(51, 51)).exit.code, 0);
}

// As a salvage that is killed once it has declared the loss: the next run is the first to bring
// what is behind it, and the first whose exit code is believed.
TEST_F(CliContract, ALossThatAnEarlierSalvageDeclaredIsToldUntilItIsDrainedPast) {
  FillLog(50);
  Damage();
  const auto declared = Tool({"recover", "--wal", wal_, "--db", kNoDatabase, "--salvage",
                              "--drain-timeout", "0", "--set", "recovery_timeout=0"});
  EXPECT_EQ(declared.exit.code, 2) << declared.err;
  const auto rehearsed = Recover({"--dry-run"});
  const auto drained = Recover();
  EXPECT_EQ(rehearsed.exit.code, 2) << rehearsed.err;
  EXPECT_EQ(drained.exit.code, 2) << drained.err;
  EXPECT_FALSE(json::parse(drained.out)["lost"].empty()) << drained.out;
  EXPECT_EQ(rehearsed.out, drained.out);
  EXPECT_EQ(Recover({"--dry-run"}).exit.code, 0);
  EXPECT_EQ(Recover().exit.code, 0);
}

TEST_F(CliContract, RecoverAndThenSalvageLeavesWhatSalvageAtOnceWould) {
  FillLog(50);
  Damage();
  fs::copy(wal_, dir_.File("twin"), fs::copy_options::recursive);
  const std::string twin_db = "sqlite://" + dir_.File("twin.db");
  ASSERT_EQ(Recover().exit.code, 2);
  ASSERT_EQ(Recover({"--salvage"}).exit.code, 2);
  ASSERT_EQ(Tool({"recover", "--wal", dir_.File("twin"), "--db", twin_db, "--salvage"}).exit.code,
            2);
  const auto stored = [&](const std::string& db) {
    return Tool({"query", "activity", "--db", db, "--json", "--limit", "1000"}).out;
  };
  EXPECT_EQ(stored(db_), stored(twin_db));
  EXPECT_THAT(stored(db_), Not(IsEmpty()));
}

TEST_F(CliContract, AnyChangedByteOfACleanlyClosedSegmentIsFound) {
  FillLog(25);
  const fs::path segment = Segments()[0];
  const std::string whole = ContentOf(segment);
  // Header, padding, frame, footer: a byte in every 300.
  for (std::size_t at = 0; at < whole.size(); at += 300) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    std::ofstream(segment, std::ios::binary) << changed;
    const auto verified = Tool({"verify", wal_});
    ASSERT_EQ(verified.exit.code, 2) << "offset " << at << "\n" << verified.out;
  }
  std::ofstream(segment, std::ios::binary) << whole;
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(CliContract, AMissingSegmentIsDamageAndEmptyNewFilesAreNot) {
  FillLog(50);
  const auto segments = Segments();
  std::ofstream(wal_ + "/wal-00000099.log");
  std::ofstream(wal_ + "/spare-00000100") << std::string(4096, '\0');
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  fs::rename(segments[1], dir_.File("aside"));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 2);
  EXPECT_EQ(Recover().exit.code, 2);
}

TEST_F(CliContract, DumpPrintsTheRecordsThatAreAskedFor) {
  FillLog(30);
  const auto all = LinesOf(Tool({"dump", wal_}).out);
  ASSERT_EQ(all.size(), 30u);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(json::parse(all[i])["lsn"], i + 1);
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--from", "11", "--to", "15"}).out).size(), 5u);
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--type", "task_update"}).out).size(), 0u);
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--task", "t"}).out).size(), 30u);
}

TEST_F(CliContract, DumpFiltersCombine) {
  const auto filled = Tool(
      {"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
      R"({"op":"save_task","task":{"id":"a"}})"
      "\n"
      R"({"op":"save_task","task":{"id":"b"}})"
      "\n"
      R"({"op":"update_status","task_id":"a","status":"running"})"
      "\n"
      R"({"op":"log_activity","activity":{"id":"1","task_id":"a","action":"go"}})"
      "\n"
      R"({"op":"delete_task","task_id":"a"})"
      "\n");
  ASSERT_EQ(filled.exit.code, 4) << filled.err;
  const auto lsns = [&](std::vector<std::string> filters) {
    filters.insert(filters.begin(), {"dump", wal_});
    std::vector<int> found;
    for (const std::string& line : LinesOf(Tool(filters).out)) {
      found.push_back(json::parse(line)["lsn"]);
    }
    return found;
  };
  using Lsns = std::vector<int>;
  EXPECT_EQ(lsns({"--task", "a"}), (Lsns{1, 3, 4, 5}));
  EXPECT_EQ(lsns({"--task", "a", "--type", "status_update"}), (Lsns{3}));
  EXPECT_EQ(lsns({"--task", "a", "--from", "2"}), (Lsns{3, 4, 5}));
  EXPECT_EQ(lsns({"--task", "a", "--from", "2", "--to", "4"}), (Lsns{3, 4}));
  EXPECT_EQ(lsns({"--type", "task_update", "--to", "1"}), (Lsns{1}));
  EXPECT_EQ(lsns({"--from", "6"}), Lsns());
}

}  // namespace
}  // namespace taskwal
