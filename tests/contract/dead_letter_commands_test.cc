// Rows that the database refuses for good, as the operator meets them: `dlq`, `recover`, `ingest`.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class DeadLetterCommands : public ToolTest {
 protected:
  // From now on the database takes no task whose dag_id is "poison".
  void RefusePoison() {
    ASSERT_EQ(Tool({"schema", "migrate", "--db", db_}).exit.code, 0);
    SQLite::Database db(dir_.File("t.db"), SQLite::OPEN_READWRITE);
    db.exec(
        "CREATE TRIGGER refuse BEFORE INSERT ON dag_tasks WHEN NEW.dag_id = 'poison' "
        "BEGIN SELECT RAISE(ABORT, 'no poison here'); END");
  }
  static std::string Save(const std::string& id, const std::string& dag) {
    return R"({"op":"save_task","task":{"id":")" + id + R"(","dag_id":")" + dag +
           R"(","payload":{ "k" : 1.50 }}})"
           "\n";
  }
  // Two sound tasks around a poisoned one, which is LSN 2.
  void IngestPoison() {
    RefusePoison();
    const auto run = Ingest(Save("a", "d") + Save("bad", "poison") + Save("c", "d"));
    ASSERT_EQ(run.exit.code, 0) << run.err;
    ASSERT_EQ(Stored().tasks, 2u);
  }
};

TEST_F(DeadLetterCommands, WhoeverEndsNamesTheAlarmThoughAllWentThrough) {
  IngestPoison();
  const std::vector<std::string> nearly_full{"--set", "dead_letter_count_max=1"};
  const auto ingest = Ingest(Save("d", "d"), nearly_full);
  EXPECT_EQ(ingest.exit.code, 0) << ingest.err;
  std::ofstream(dir_.File("w.yaml")) << "tasks: [{id: a, kind: noop}]\n";
  std::vector<std::string> arguments{"run", "w.yaml", "--db", db_, "--wal", wal_};
  arguments.insert(arguments.end(), nearly_full.begin(), nearly_full.end());
  const auto run = Tool(arguments);
  EXPECT_EQ(run.exit.code, 0) << run.err;
  const std::string alarm = ": the dead letters are nearly full: `taskwal dlq list` shows them";
  EXPECT_THAT(LinesOf(ingest.err), ElementsAre(StartsWith("taskwal ingest" + alarm)));
  EXPECT_THAT(LinesOf(run.err), ElementsAre(StartsWith("taskwal run" + alarm)));
}

TEST_F(DeadLetterCommands, ListShowsThePoisonedRowAndWhy) {
  IngestPoison();
  const auto table = Tool({"dlq", "list", "--wal", wal_});
  EXPECT_EQ(table.exit.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("task_update"), HasSubstr("bad"),
                               HasSubstr("no poison here"), HasSubstr("1 rejected, 0 lost")));
  const auto lines = LinesOf(Tool({"dlq", "list", "--wal", wal_, "--json"}).out);
  ASSERT_EQ(lines.size(), 1u);
  const json letter = json::parse(lines[0]);
  EXPECT_EQ(letter["kind"], "rejected");
  EXPECT_EQ(letter["lsn"], 2);
  EXPECT_EQ(letter["type"], "task_update");
  EXPECT_EQ(letter["task_id"], "bad");
  EXPECT_THAT(letter["error"], HasSubstr("no poison here"));
  EXPECT_EQ(letter["sql_code"], "SQLite 1811");  // SQLITE_CONSTRAINT_TRIGGER
}

TEST_F(DeadLetterCommands, ShowPrintsTheOperationAsItWasGiven) {
  IngestPoison();
  const std::string id =
      json::parse(LinesOf(Tool({"dlq", "list", "--wal", wal_, "--json"}).out).at(0))["id"];
  const auto shown = Tool({"dlq", "show", "--wal", wal_, id});
  EXPECT_EQ(shown.exit.code, 0) << shown.err;
  EXPECT_THAT(shown.out, AllOf(HasSubstr(id), HasSubstr("no poison here"),
                               HasSubstr(R"("payload":{ "k" : 1.50 })")));
  const auto as_json = Tool({"dlq", "show", "--wal", wal_, id, "--json"});
  EXPECT_EQ(as_json.exit.code, 0);
  const json letter = json::parse(as_json.out);
  EXPECT_EQ(letter["id"], id);
  EXPECT_EQ(letter["operation"]["op"], "save_task");
  EXPECT_EQ(letter["operation"]["task"]["id"], "bad");
  EXPECT_THAT(as_json.out, HasSubstr(R"("payload":{ "k" : 1.50 })"));
}

TEST_F(DeadLetterCommands, ShowOfAnUnknownLetterFailsWithOneLine) {
  IngestPoison();
  const auto run = Tool({"dlq", "show", "--wal", wal_, "none-7"});
  EXPECT_EQ(run.exit.code, 1);
  EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  EXPECT_EQ(run.out, "");
}

TEST_F(DeadLetterCommands, RecoverReportsItAsDeadLetteredEveryTime) {
  RefusePoison();
  const auto filled = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                           Save("a", "d") + Save("bad", "poison") + Save("c", "d"));
  ASSERT_EQ(filled.exit.code, 4) << filled.err;
  for (const int replayed : {2, 0}) {
    const auto run = Recover();
    EXPECT_EQ(run.exit.code, 0) << run.err;
    const json report = json::parse(run.out);
    EXPECT_EQ(report["scanned"], 3);
    EXPECT_EQ(report["replayed"], replayed);
    EXPECT_EQ(report["already_there"], 2 - replayed);
    EXPECT_EQ(report["dead_lettered"], 1);
  }
  EXPECT_EQ(json::parse(Recover({"--dry-run"}).out), json::parse(Recover().out));
}

TEST_F(DeadLetterCommands, ThereAreNoneInAHealthyLog) {
  ASSERT_EQ(Ingest(Activities(1, 2)).exit.code, 0);
  const auto table = Tool({"dlq", "list", "--wal", wal_});
  EXPECT_EQ(table.exit.code, 0);
  EXPECT_EQ(table.out, "0 rejected, 0 lost\n");
  EXPECT_EQ(Tool({"dlq", "list", "--wal", wal_, "--json"}).out, "");
}

}  // namespace
}  // namespace taskwal
