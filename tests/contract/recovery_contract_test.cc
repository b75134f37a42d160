// The built tool against the sentences of the contract about recover, verify and dump.
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
