// Moved, copied and restored log directories, and databases that were changed under them: who is
// refused, and that what a refusal offers works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"

namespace taskwal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Copies : public ToolTest {
 protected:
  static void Copy(const std::string& from, const std::string& to) {
    fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  // What stands between backquotes and begins with the tool's name.
  static std::vector<std::string> CommandsIn(const std::string& message) {
    std::vector<std::string> commands;
    std::istringstream in(message);
    bool is_quoted = false;
    for (std::string part; std::getline(in, part, '`'); is_quoted = !is_quoted) {
      if (is_quoted && part.starts_with("taskwal ")) commands.push_back(part);
    }
    return commands;
  }
  RunOutcome Shell(const std::string& command) {
    const std::string tools = fs::path(TASKWAL_TOOL).parent_path().string();
    return taskwal::Run({"/bin/sh", "-c", command}, {}, {{"PATH=" + tools + ":/usr/bin:/bin"}, {}});
  }
};

TEST_F(Copies, ACopyIsRefusedByTheDatabaseThatKnowsItUntilAdopted) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  Copy(wal_, copy);
  for (const char* command : {"ingest", "recover"}) {
    const auto refused = Tool({command, "--wal", copy, "--db", db_});
    EXPECT_EQ(refused.exit.code, 1) << command << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("taskwal adopt --wal")) << command;
  }
  EXPECT_EQ(Tool({"adopt", "--wal", copy, "--db", db_, "--relabel"}).exit.code, 0);
  EXPECT_EQ(Tool({"ingest", "--wal", copy, "--db", db_}, Activities(6, 6)).exit.code, 0);
  EXPECT_EQ(Ingest(Activities(7, 7)).exit.code, 0);  // the original goes on
  EXPECT_EQ(Stored().activities, 7u);
}

TEST_F(Copies, AdoptTellsAProgramWhatItTellsAPerson) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  Copy(wal_, copy);
  const auto id_in = [&](const std::string& directory) {
    return json::parse(Tool({"inspect", directory, "--json"}).out)["wal_id"];
  };
  const json original = id_in(wal_);
  const auto relabelled = Tool({"adopt", "--wal", copy, "--db", db_, "--relabel", "--json"});
  ASSERT_EQ(relabelled.exit.code, 0) << relabelled.err;
  EXPECT_NE(id_in(copy), original);
  const json report = json::parse(relabelled.out);
  EXPECT_EQ(report["wal_id"], id_in(copy));
  EXPECT_EQ(report["changed"], true);
  EXPECT_EQ(report["from"], 6);
  EXPECT_EQ(report["unknown"], json::array());
  const auto itself = Tool({"adopt", "--wal", wal_, "--db", db_, "--moved", "--json"});
  ASSERT_EQ(itself.exit.code, 0) << itself.err;
  EXPECT_EQ(json::parse(itself.out)["changed"], false);
  EXPECT_EQ(json::parse(itself.out)["wal_id"], original);
}

// What a damaged STATE alone could tell, by partition as in other reports.
TEST_F(Copies, AdoptTellsAProgramWhatNobodyKnows) {
  ASSERT_EQ(Ingest(Activities(1, 3)).exit.code, 0);
  ASSERT_EQ(Ingest(Activities(4, 5)).exit.code, 0);
  ASSERT_TRUE(fs::remove(Segments().front()));
  std::ofstream(wal_ + "/STATE") << "nothing\n";
  const auto adopted = Tool({"adopt", "--wal", wal_, "--db", db_, "--moved", "--json"});
  ASSERT_EQ(adopted.exit.code, 0) << adopted.err;
  const json unknown = json::parse(adopted.out)["unknown"];
  ASSERT_FALSE(unknown.empty());
  for (const json& records : unknown) {
    EXPECT_GE(records["from"], 1);
    EXPECT_LE(records["to"], 3);
    EXPECT_GE(records["to"], records["from"]);
  }
  EXPECT_FALSE(unknown[0]["partitions"].empty());
}

TEST_F(Copies, DryRunRefusesWhatTheRealRunWould) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  Copy(wal_, dir_.File("copy"));
  const Snapshot before = SnapshotOf(dir_.path());
  const auto rehearsed =
      Tool({"recover", "--wal", dir_.File("copy"), "--db", db_, "--dry-run", "--json"});
  EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
  const auto real = Tool({"recover", "--wal", dir_.File("copy"), "--db", db_, "--json"});
  EXPECT_EQ(rehearsed.exit.code, 1);
  EXPECT_EQ(rehearsed.exit.code, real.exit.code);
  EXPECT_EQ(rehearsed.err, real.err);
  EXPECT_EQ(rehearsed.out, real.out);
}

// The database answers only after the log was opened and has taken input.
TEST_F(Copies, ARefusalThatComesLateIsAFailureToo) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  Copy(wal_, dir_.File("copy"));
  const auto late =
      Tool({"ingest", "--wal", dir_.File("copy"), "--db", db_, "--set", "recovery_timeout=0"},
           Activities(6, 6));
  EXPECT_EQ(late.exit.code, 1) << late.err;
  EXPECT_THAT(late.err, HasSubstr("taskwal adopt"));
}

// Nothing tells any more whether it is the directory that the database knows.
TEST_F(Copies, ADirectoryWithoutItsStateCountsAsACopyUntilAdopted) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  ASSERT_TRUE(fs::remove(wal_ + "/STATE"));
  EXPECT_EQ(Recover().exit.code, 1);
  ASSERT_EQ(Tool({"adopt", "--wal", wal_, "--db", db_, "--moved"}).exit.code, 0);
  EXPECT_EQ(Ingest(Activities(6, 7)).exit.code, 0);
  EXPECT_EQ(Stored().activities, 7u);
}

TEST_F(Copies, EveryCommandThatARefusalOffersWorksWhenPasted) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  for (std::size_t choice = 0;; ++choice) {
    const std::string copy = dir_.File("it's a copy " + std::to_string(choice));
    Copy(wal_, copy);
    const auto offered = CommandsIn(Tool({"recover", "--wal", copy, "--db", db_}).err);
    ASSERT_EQ(offered.size(), 2u);  // --moved, --relabel
    if (choice == offered.size()) break;
    const auto adopted = Shell(offered[choice]);
    EXPECT_EQ(adopted.exit.code, 0) << offered[choice] << adopted.err;
    EXPECT_EQ(Tool({"recover", "--wal", copy, "--db", db_}).exit.code, 0) << offered[choice];
  }
}

TEST_F(Copies, WhatIsRefusedForAWordNamesTheWordsThatFit) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  Copy(wal_, copy);
  const auto refused = Tool({"adopt", "--wal", copy, "--db", db_, "--new-db"});
  EXPECT_EQ(refused.exit.code, 1);
  const auto offered = CommandsIn(refused.err);
  ASSERT_EQ(offered.size(), 2u) << refused.err;
  EXPECT_EQ(Shell(offered[1]).exit.code, 0);
}

// Neither database may take it for the directory that it knows.
TEST_F(Copies, ACopyThatMeetsAnEarlierDatabaseIsFedAllThatIsKept) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string second = "sqlite://" + dir_.File("second.db");
  ASSERT_EQ(Tool({"adopt", "--wal", wal_, "--db", second, "--new-db"}).exit.code, 0);
  ASSERT_EQ(Tool({"ingest", "--wal", wal_, "--db", second}, Activities(6, 7)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  Copy(wal_, copy);
  const auto refused = Tool({"recover", "--wal", copy, "--db", db_});
  EXPECT_EQ(refused.exit.code, 1);
  const auto offered = CommandsIn(refused.err);
  ASSERT_EQ(offered.size(), 1u) << refused.err;
  ASSERT_EQ(Shell(offered[0]).exit.code, 0);
  const auto fed = Tool({"recover", "--wal", copy, "--db", db_});
  EXPECT_EQ(fed.exit.code, 0) << fed.err;
  EXPECT_EQ(Stored().activities, 7u);
}

TEST_F(Copies, AMovedDirectoryWhoseOriginalLivedOnIsNoOriginal) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  Copy(wal_, copy);
  ASSERT_EQ(
      Tool({"ingest", "--wal", copy, "--db", kNoDatabase, "--drain-timeout", "0"}, Activities(6, 6))
          .exit.code,
      4);
  ASSERT_EQ(Ingest(Activities(7, 7)).exit.code, 0);
  // Under its old name its record 6 would be taken for the original's.
  const auto refused = Tool({"adopt", "--wal", copy, "--db", db_, "--moved"});
  EXPECT_EQ(refused.exit.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("--relabel"));
  EXPECT_EQ(Tool({"adopt", "--wal", copy, "--db", db_, "--relabel"}).exit.code, 0);
  EXPECT_EQ(Tool({"recover", "--wal", copy, "--db", db_}).exit.code, 0);
  EXPECT_EQ(Stored().activities, 7u);
}

// --- an older state of the directory, put back in its place --------------------------------------

struct Place {
  const char* name;
  bool keeps_inodes;
  std::string (*database)();  // a DSN; nothing: SQLite
};

class Restored : public Copies, public ::testing::WithParamInterface<Place> {
 protected:
  void SetUp() override {
    if (GetParam().database != nullptr) db_ = GetParam().database();
  }
  // As `cp -a` over what is there (every file keeps its inode), or into an empty place.
  void PutBack(const std::string& backup) {
    for (const auto& entry : fs::directory_iterator(wal_)) {
      const fs::path older = fs::path(backup) / entry.path().filename();
      if (!GetParam().keeps_inodes || !fs::exists(older)) fs::remove_all(entry.path());
    }
    Copy(backup, wal_);
  }
};

std::string OnPostgres() {
  PostgresServer& server = PostgresServer::Shared();
  return server.Dsn(server.NewDatabase());
}
std::string OnMariadb() {
  MariadbServer& server = MariadbServer::Shared();
  return server.Dsn(server.NewDatabase());
}

INSTANTIATE_TEST_SUITE_P(Lock, Restored,
                         ::testing::Values(Place{"SameInode", true, nullptr},
                                           Place{"NewInode", false, nullptr},
                                           Place{"OnPostgres", false, OnPostgres},
                                           Place{"OnMariadb", true, OnMariadb}),
                         [](const auto& place) { return std::string(place.param.name); });

TEST_P(Restored, IsRefusedUntilItIsALogOfItsOwnAndLosesNothing) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string backup = dir_.File("backup");
  Copy(wal_, backup);
  ASSERT_EQ(Ingest(Activities(6, 9)).exit.code, 0);
  PutBack(backup);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"recover", "--dry-run"}, {"recover"}, {"ingest"}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--wal", wal_, "--db", db_});
    const auto refused = Tool(arguments);
    EXPECT_EQ(refused.exit.code, 1) << command.front() << refused.err;
    const auto offered = CommandsIn(refused.err);
    ASSERT_EQ(offered.size(), 1u) << refused.err;
    EXPECT_THAT(offered[0], HasSubstr("--relabel"));
  }
  // Taken while the database was away: its LSNs are those of 6 to 9.
  const auto taken = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                          Activities(10, 12));
  ASSERT_EQ(taken.exit.code, 4) << taken.err;
  for (const char* word : {"--moved", "--new-db"}) {
    EXPECT_EQ(Tool({"adopt", "--wal", wal_, "--db", db_, word}).exit.code, 1) << word;
  }
  EXPECT_EQ(Tool({"adopt", "--wal", wal_, "--db", db_, "--relabel"}).exit.code, 0);
  EXPECT_EQ(Ingest(Activities(13, 13)).exit.code, 0);
  EXPECT_EQ(Stored().activities, 13u);
}

TEST_F(Copies, ACopyThatMeetsAnotherDatabaseTakesItsOwnIdentityAndCanBeRepeated) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  Copy(wal_, copy);
  const std::string other = "sqlite://" + dir_.File("other.db");
  for (int i = 0; i < 2; ++i) {
    const auto run = Tool({"recover", "--wal", copy, "--db", other, "--json"});
    EXPECT_EQ(run.exit.code, 0) << run.err;
    EXPECT_EQ(json::parse(run.out)["replayed"], i == 0 ? 5 : 0);
  }
  EXPECT_EQ(Ingest(Activities(6, 6)).exit.code, 0);
}

TEST_F(Copies, AnotherDatabaseIsFedOnTheOperatorsWord) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string other = "sqlite://" + dir_.File("other.db");
  const auto refused = Tool({"ingest", "--wal", wal_, "--db", other}, Activities(6, 6));
  EXPECT_EQ(refused.exit.code, 1);
  const auto offered = CommandsIn(refused.err);
  ASSERT_EQ(offered.size(), 1u) << refused.err;
  EXPECT_EQ(Shell(offered[0]).exit.code, 0);
  const auto fed = Tool({"recover", "--wal", wal_, "--db", other, "--json"});
  EXPECT_EQ(json::parse(fed.out)["replayed"], 5) << fed.err;
}

}  // namespace
}  // namespace taskwal
