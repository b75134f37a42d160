// Several databases behind one log: the tool's promises about them.
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <set>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string Saves(int first, int last) {
  std::string text;
  for (int i = first; i <= last; ++i) {
    text += R"({"op":"save_task","task":{"id":"t)" + std::to_string(i) + R"(","node_id":"n)" +
            std::to_string(i) + R"("}})" + "\n";
  }
  return text;
}

class TargetsCommand : public ToolTest {
 protected:
  std::string Dsn(const std::string& name) { return "sqlite://" + dir_.File(name + ".db"); }
  // "a*2" or "b" as a value of --db.
  std::string Target(const std::string& target) {
    return target + "=" + Dsn(target.substr(0, target.find('*')));
  }
  std::vector<std::string> Command(std::vector<std::string> words,
                                   const std::vector<std::string>& targets) {
    words.insert(words.end(), {"--wal", wal_});
    for (const std::string& target : targets) words.insert(words.end(), {"--db", Target(target)});
    return words;
  }
  RunOutcome IngestInto(const std::vector<std::string>& targets, std::string_view input) {
    return Tool(Command({"ingest"}, targets), input);
  }
  RunOutcome Rebalance(const std::vector<std::string>& targets) {
    return Tool(Command({"targets", "rebalance", "--json"}, targets));
  }
  StoredCounts CountsIn(const std::string& name) {
    auto backend = storage::MakeBackend(Dsn(name), {});
    EXPECT_OK(backend);
    auto session = (*backend)->Connect();
    EXPECT_OK(session);
    auto counts = (*session)->Count();
    EXPECT_OK(counts);
    return *counts;
  }
  json List() {
    const RunOutcome listed = Tool({"targets", "list", "--wal", wal_, "--json"});
    EXPECT_EQ(listed.exit.code, 0) << listed.err;
    return json::parse(listed.out);
  }
};

TEST_F(TargetsCommand, ActivitiesAndTasksAreSharedOut) {
  const std::vector<std::string> targets{"a*40", "b*30", "c*20", "d*10"};
  const auto ingested = IngestInto(targets, Activities(1, 300) + Saves(1, 200));
  ASSERT_EQ(ingested.exit.code, 0) << ingested.err;
  EXPECT_EQ(CountsIn("a").activities, 120u);
  EXPECT_EQ(CountsIn("b").activities, 90u);
  EXPECT_EQ(CountsIn("c").activities, 60u);
  EXPECT_EQ(CountsIn("d").activities, 30u);
  const auto asked = Tool({"query", "stats", "--json", "--db", Target("a"), "--db", Target("b"),
                           "--db", Target("c"), "--db", Target("d")});
  ASSERT_EQ(asked.exit.code, 0) << asked.err;
  EXPECT_EQ(json::parse(asked.out)["tasks"], 200);
  EXPECT_EQ(json::parse(asked.out)["activity"], 300);
}

TEST_F(TargetsCommand, ListTellsWhatTheDirectoryRecords) {
  ASSERT_EQ(Ingest(Saves(1, 3)).exit.code, 0);
  json one = List();
  ASSERT_EQ(one["targets"].size(), 1u);
  EXPECT_EQ(one["targets"][0]["name"], "default");
  EXPECT_EQ(one["targets"][0]["number"], 0);
  EXPECT_EQ(one["targets"][0]["flushed_lsn"], 3);
  EXPECT_EQ(one["rebalancing"], false);
  const auto table = Tool({"targets", "list", "--wal", wal_});
  EXPECT_EQ(table.exit.code, 0);
  EXPECT_THAT(table.out, HasSubstr("default"));
  EXPECT_EQ(Tool({"targets", "list", "--wal", dir_.File("none")}).exit.code, 1);
  EXPECT_EQ(Tool({"targets", "list"}).exit.code, 64);
  EXPECT_EQ(Tool({"targets"}).exit.code, 64);
}

TEST_F(TargetsCommand, RebalanceMovesTasksAndTakesATargetOut) {
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, 200)).exit.code, 0);
  const std::uint64_t in_b = CountsIn("b").tasks;
  const auto missing = IngestInto({"a"}, "");
  EXPECT_EQ(missing.exit.code, 64);
  EXPECT_THAT(missing.err, HasSubstr("target b"));
  const auto moved = Rebalance({"a", "b*0"});
  ASSERT_EQ(moved.exit.code, 0) << moved.err;
  EXPECT_EQ(json::parse(moved.out)["moved"], in_b);
  EXPECT_EQ(json::parse(moved.out)["tasks"], 200);
  EXPECT_EQ(CountsIn("a").tasks, 200u);
  EXPECT_EQ(CountsIn("b").tasks, 0u);
  EXPECT_EQ(IngestInto({"a"}, Saves(201, 210)).exit.code, 0);
  EXPECT_EQ(List()["targets"][1]["removed"], true);
}

TEST_F(TargetsCommand, RebalanceSpreadsALogOfOneDatabase) {
  ASSERT_EQ(Tool({"ingest", "--wal", wal_, "--db", Dsn("default")}, Saves(1, 300)).exit.code, 0);
  const auto moved = Tool({"targets", "rebalance", "--wal", wal_, "--db", Dsn("default"), "--db",
                           Target("b*2")});
  ASSERT_EQ(moved.exit.code, 0) << moved.err;
  EXPECT_NEAR(static_cast<double>(CountsIn("b").tasks), 200, 40);
  EXPECT_EQ(CountsIn("default").tasks + CountsIn("b").tasks, 300u);
}

TEST_F(TargetsCommand, NothingMovesWhileADatabaseIsAway) {
  std::vector<std::string> command{"ingest", "--wal", wal_, "--drain-timeout", "0", "--db",
                                   Target("a"), "--db", std::string("b=") + kNoDatabase};
  ASSERT_EQ(Tool(command, Saves(1, 50)).exit.code, 4);
  const auto refused = Tool({"targets", "rebalance", "--wal", wal_, "--drain-timeout", "100ms",
                             "--db", Target("a*3"), "--db", std::string("b=") + kNoDatabase});
  EXPECT_EQ(refused.exit.code, 4);
  EXPECT_THAT(refused.err, HasSubstr("nothing was moved"));
  EXPECT_EQ(List()["rebalancing"], false);
  EXPECT_EQ(List()["targets"][0]["task_weight"], 1);
}

TEST_F(TargetsCommand, WhatIsNoListIsBadUsage) {
  for (const std::vector<std::string>& targets :
       std::vector<std::vector<std::string>>{{"a", "a"}, {"a*x"}, {"a*0"}, {"a*1001"}}) {
    EXPECT_EQ(IngestInto(targets, "").exit.code, 64);
    EXPECT_EQ(Rebalance(targets).exit.code, 64);
  }
  EXPECT_EQ(Tool({"targets", "rebalance", "--db", Target("a")}).exit.code, 64);
}

TEST_F(TargetsCommand, DryRunTellsWhatEachTargetLacksAndChangesNothing) {
  ASSERT_EQ(Tool({"ingest", "--wal", wal_, "--drain-timeout", "0", "--db",
                  std::string("a=") + kNoDatabase, "--db", std::string("b=") + kNoDatabase},
                 Activities(1, 10) + Saves(1, 10)).exit.code, 4);
  const Snapshot before = SnapshotOf(wal_);
  const auto told = Tool(Command({"recover", "--dry-run", "--json"}, {"a", "b"}));
  ASSERT_EQ(told.exit.code, 0) << told.err;
  EXPECT_EQ(json::parse(told.out)["replayed"], 20);
  EXPECT_TRUE(ChangedSince(before, wal_).empty());
  const auto brought = Tool(Command({"recover", "--json"}, {"a", "b"}));
  ASSERT_EQ(brought.exit.code, 0) << brought.err;
  EXPECT_EQ(json::parse(brought.out)["replayed"], 20);
  EXPECT_EQ(CountsIn("a").activities, 5u);
  const auto again = Tool(Command({"recover", "--dry-run", "--json"}, {"a", "b"}));
  EXPECT_EQ(json::parse(again.out)["replayed"], 0);
  EXPECT_EQ(json::parse(again.out)["already_there"], 20);
}

// The rehearsal says what the open would, nothing is changed by either, and the damage stays seen.
TEST_F(TargetsCommand, WithoutStateAndTargetsNothingIsChangedAndTheRehearsalSaysSo) {
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, 20)).exit.code, 0);
  for (const char* name : {"/STATE", "/TARGETS"}) std::ofstream(wal_ + name) << "garbage";
  const auto told = Tool(Command({"recover", "--dry-run"}, {"a", "b"}));
  const auto done = Tool(Command({"recover"}, {"a", "b"}));
  EXPECT_EQ(told.exit.code, 1);
  EXPECT_EQ(done.exit.code, 1);
  EXPECT_EQ(told.err, done.err);
  EXPECT_THAT(done.err, HasSubstr("TARGETS"));
  const auto verified = Tool({"verify", wal_});
  EXPECT_EQ(verified.exit.code, 2);
  EXPECT_THAT(verified.out, HasSubstr("damaged STATE"));
  EXPECT_THAT(verified.out, HasSubstr("damaged TARGETS"));
  const auto list = Tool({"targets", "list", "--wal", wal_});
  EXPECT_EQ(list.exit.code, 1);
  EXPECT_EQ(LinesOf(list.err).size(), 1u) << list.err;
  EXPECT_THAT(list.err, HasSubstr("taskwal verify"));
}

// A rebuilt STATE does not know itself, for the rehearsal neither: the command names all targets.
TEST_F(TargetsCommand, TheRehearsalRefusesAStateThatIsToBeRebuiltAsTheOpenDoes) {
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, 20)).exit.code, 0);
  std::filesystem::remove(wal_ + "/STATE");
  EXPECT_THAT(Tool({"targets", "list", "--wal", wal_}).err, HasSubstr("whose STATE is missing"));
  const auto told = Tool(Command({"recover", "--dry-run"}, {"a", "b"}));
  EXPECT_EQ(told.exit.code, 1);
  EXPECT_THAT(told.err, HasSubstr("--db 'a*1=" + Dsn("a")));
  EXPECT_THAT(told.err, HasSubstr("--db 'b*1=" + Dsn("b")));
  const auto done = Tool(Command({"recover"}, {"a", "b"}));
  EXPECT_EQ(done.exit.code, 1);
  EXPECT_THAT(done.err, HasSubstr("--db 'b*1=" + Dsn("b")));
}

TEST_F(TargetsCommand, RecoverNamesWhatItCountsAsCorrupt) {
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, 20)).exit.code, 0);
  std::ofstream(wal_ + "/TARGETS") << "garbage";
  const auto run = Tool(Command({"recover"}, {"a", "b"}));
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("corrupt: TARGETS offset 0: damaged TARGETS, LSN 1-20 ("));
}

TEST_F(TargetsCommand, AListThatLacksATargetIsBadUsageInEveryCommand) {
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, 20)).exit.code, 0);
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"ingest"}, {"recover"}, {"recover", "--dry-run"},
        {"targets", "rebalance"}, {"adopt", "--relabel"}}) {
    const auto run = Tool(Command(words, {"a"}));
    EXPECT_EQ(run.exit.code, 64) << words.front() << ": " << run.err;
  }
}

TEST_F(TargetsCommand, ACopyIsRefusedByAnyTargetThatKnowsItAndAdoptedByAll) {
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, 20)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  std::filesystem::copy(wal_, copy, std::filesystem::copy_options::recursive);
  const auto into_copy = [&](std::vector<std::string> words, const std::vector<std::string>& dbs,
                             std::string_view input) {
    words.insert(words.end(), {"--wal", copy});
    for (const std::string& db : dbs) words.insert(words.end(), {"--db", db});
    return Tool(words, input);
  };
  const std::vector<std::string> all{Target("a"), Target("b")};
  const auto refused = into_copy({"ingest"}, all, Saves(21, 30));
  EXPECT_EQ(refused.exit.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("--db 'a*1=" + Dsn("a")));
  EXPECT_THAT(refused.err, HasSubstr("--db 'b*1=" + Dsn("b")));
  // A database that is new to it changes nothing: the other one still knows the original.
  EXPECT_EQ(into_copy({"ingest"}, {Target("a"), "b=" + Dsn("new")}, "").exit.code, 1);
  EXPECT_EQ(into_copy({"adopt", "--relabel"}, {Target("a")}, "").exit.code, 64);
  const auto adopted = into_copy({"adopt", "--relabel"}, all, "");
  ASSERT_EQ(adopted.exit.code, 0) << adopted.err;
  ASSERT_EQ(into_copy({"ingest"}, all, Saves(31, 40)).exit.code, 0);
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(41, 50)).exit.code, 0);
  EXPECT_EQ(CountsIn("a").tasks + CountsIn("b").tasks, 40u);
}

TEST_F(TargetsCommand, TheTurnGoesOnFromOneRunToTheNext) {
  for (int run = 1; run <= 8; ++run) {
    ASSERT_EQ(IngestInto({"a*2", "b", "c"}, Activities(run, run)).exit.code, 0);
  }
  EXPECT_EQ(CountsIn("a").activities, 4u);
  EXPECT_EQ(CountsIn("b").activities, 2u);
  EXPECT_EQ(CountsIn("c").activities, 2u);
}

// Killed again and again, at other points each time; the same command goes on with what is left.
TEST_F(TargetsCommand, ARebalanceKilledAtAnyPointIsFinishedByTheNext) {
  constexpr int kTasks = 1500;
  ASSERT_EQ(IngestInto({"a", "b"}, Saves(1, kTasks)).exit.code, 0);
  const std::vector<std::vector<std::string>> lists{{"a*0", "b", "c"}, {"a", "b*0", "c"},
                                                    {"a", "b", "c*0"}};
  int killed = 0;
  for (int round = 0; round < 12; ++round) {
    auto words = Command({TASKWAL_TOOL, "targets", "rebalance"}, lists[round / 4]);
    auto child = Child::Start(words);
    ASSERT_OK(child);
    std::this_thread::sleep_for(std::chrono::milliseconds(15 + 9 * round));
    (*child)->Kill();
    killed += (*child)->Wait().signal == 9 ? 1 : 0;
    // The plan behind a new one is finished first.
    if (round % 4 == 3) {
      ASSERT_EQ(Rebalance(lists[round / 4]).exit.code, 0);
    }
  }
  EXPECT_GT(killed, 0);
  EXPECT_EQ(CountsIn("a").tasks + CountsIn("b").tasks, static_cast<std::uint64_t>(kTasks));
  EXPECT_EQ(CountsIn("c").tasks, 0u);
  EXPECT_EQ(List()["rebalancing"], false);
  std::set<std::string> found;
  std::string after;
  do {
    std::vector<std::string> query{"query", "tasks", "--json", "--limit", "1000", "--db",
                                   Target("a"), "--db", Target("b")};
    if (!after.empty()) query.insert(query.end(), {"--after", after});
    const json page = json::parse(Tool(query).out);
    for (const json& task : page["tasks"]) {
      found.insert(task["id"]);
      EXPECT_EQ(task["node_id"], "n" + task["id"].get<std::string>().substr(1));
    }
    after = page.value("next_page", "");
  } while (!after.empty());
  EXPECT_EQ(found.size(), static_cast<std::size_t>(kTasks));
}

TEST_F(TargetsCommand, WhatIsAcknowledgedIsInOneTargetOnceHoweverOftenItIsKilled) {
  const std::vector<std::string> targets{"a*3", "b*2", "c"};
  int acknowledged = 0;
  for (int round = 0; round < 4; ++round) {
    auto words = Command({TASKWAL_TOOL, "ingest"}, targets);
    auto child = Child::Start(words);
    ASSERT_OK(child);
    ASSERT_TRUE((*child)->Write(Activities(acknowledged + 1, acknowledged + 200)));
    for (int i = 0; i < 200; ++i) ASSERT_TRUE((*child)->ReadLine().has_value());
    acknowledged += 200;
    (*child)->Kill();
    EXPECT_EQ((*child)->Wait().signal, 9);
  }
  ASSERT_EQ(Tool(Command({"recover"}, targets)).exit.code, 0);
  const auto sum = CountsIn("a").activities + CountsIn("b").activities + CountsIn("c").activities;
  EXPECT_EQ(sum, static_cast<std::uint64_t>(acknowledged));
}

}  // namespace
}  // namespace taskwal
