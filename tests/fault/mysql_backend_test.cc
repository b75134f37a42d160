// The MySQL backend on a real MariaDB server: which path its rows take, and which rows it can never
// take.
#include "storage/mysql/mysql_backend.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "tests/fault/mysql_fixture.h"

namespace taskwal::storage {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Outcome = ApplyResult::Outcome;
using BulkPath = MysqlBackend::BulkPath;

// --- the bulk path

class MysqlBulkPath : public MysqlServer, public ::testing::WithParamInterface<BulkPath> {};
INSTANTIATE_TEST_SUITE_P(Paths, MysqlBulkPath,
                         ::testing::Values(BulkPath::kByCapability, BulkPath::kMultiRow),
                         [](const auto& test) {
                           return std::string(test.param == BulkPath::kMultiRow ? "multi_row"
                                                                                : "arrays");
                         });

TEST_P(MysqlBulkPath, AThousandRowsOfEachKindAreAFewStatements) {
  Reopen(seconds(20), GetParam());
  std::vector<TaskChange> puts, changes;
  std::vector<Activity> activities;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = "t" + std::to_string(10000 + i);
    puts.push_back(Put(MakeTask(id), {1, 1}));
    StatusPatch patch = MakePatch(TaskStatus::kRunning, "", After(i));
    patch.started_at = {TimeChange::Kind::kSet, After(i)};
    changes.push_back(i % 10 == 0 ? Delete(id, {2, 2}) : Patch(id, patch, {2, 2}));
    activities.push_back(MakeActivity("a" + std::to_string(10000 + i), id, After(i)));
  }
  ASSERT_OK(session_->Apply(MakeBatch({Put(MakeTask("warm"), {1, 1})})));
  const std::uint64_t questions = server_->Status("Questions");
  const std::uint64_t inserts = server_->Status("Com_insert");
  ASSERT_OK(session_->Apply(MakeBatch(puts)));
  ASSERT_OK(session_->Apply(MakeBatch(changes, activities)));
  EXPECT_EQ(Counted(), "901 1000");
  EXPECT_EQ(Admin("SELECT count(*) FROM dag_tasks WHERE status = 'running' AND "
                  "started_at = updated_at AND wal_lsn = 2"),
            "900");
  // Two transactions: BEGIN, watermark, COMMIT; the rows in 3 executions of arrays, or in 1 + 5 + 1
  // + 1 statements; and what the questions here cost.
  EXPECT_LE(server_->Status("Questions") - questions, 25u);
  EXPECT_LE(server_->Status("Com_insert") - inserts, 2u);
}

TEST_P(MysqlBulkPath, RowsAreComparedByThemselvesOnlyWhereOneIsOlderThanWhatIsStored) {
  Reopen(seconds(20), GetParam());
  const auto apply = [&](Origin one, Origin other) {
    return session_->Apply(MakeBatch({Put(MakeTask("one"), one), Put(MakeTask("other"), other)}));
  };
  const auto stored = [&] {
    return Admin("SELECT GROUP_CONCAT(wal_lsn ORDER BY id) FROM dag_tasks");
  };
  ASSERT_OK(apply({1, 1}, {1, 1}));
  const std::uint64_t before = server_->Status("Com_rollback");
  ASSERT_OK(apply({2, 2}, {2, 2}));
  EXPECT_EQ(stored(), "2,2");
  EXPECT_EQ(server_->Status("Com_rollback"), before);
  ASSERT_OK(apply({3, 3}, {1, 1}));
  EXPECT_EQ(stored(), "3,2");
  EXPECT_EQ(server_->Status("Com_rollback"), before + 1);
  for (Lsn lsn = 4; lsn < 104; ++lsn) ASSERT_OK(apply({lsn, lsn}, {1, 1}));
  EXPECT_EQ(stored(), "103,2");
  EXPECT_EQ(server_->Status("Com_rollback"), before + 1);
  ASSERT_OK(apply({1, 1}, {104, 104}));
  EXPECT_EQ(stored(), "103,104");
  EXPECT_EQ(server_->Status("Com_rollback"), before + 2);
}

TEST_F(MysqlServer, ArrayBindingIsTakenWhereTheServerHasIt) {
  const std::uint64_t before = server_->Status("Com_stmt_execute");
  ASSERT_OK(session_->Apply(OneTask()));
  EXPECT_EQ(server_->Status("Com_stmt_execute"), before + 1);
  Reopen(seconds(20), BulkPath::kMultiRow);
  ASSERT_OK(session_->Apply(OneTask("u")));
  EXPECT_EQ(server_->Status("Com_stmt_execute"), before + 1);
}

// As TiDB and Vitess are used: the server's own log of what it was asked.
TEST_F(MysqlServer, AServerThatLacksTheRestIsAskedForManyRowsAndNothingElse) {
  server_->Query("SET GLOBAL log_output = 'TABLE'");
  server_->Query("TRUNCATE mysql.general_log");
  const std::uint64_t executes = server_->Status("Com_stmt_execute");
  const std::uint64_t inserts = server_->Status("Com_insert");
  database_ = server_->NewDatabase();
  dsn_ = server_->Dsn(database_);
  server_->Query("SET GLOBAL general_log = 1");
  Reopen(seconds(20), BulkPath::kMultiRow);  // the migration, too
  std::vector<TaskChange> puts;
  std::vector<Activity> activities;
  for (int i = 1000; i < 2000; ++i) {
    puts.push_back(Put(MakeTask("t" + std::to_string(i)), {1, 1}));
    activities.push_back(MakeActivity("a" + std::to_string(i)));
  }
  const std::uint64_t loads = server_->Status("Com_load");
  ASSERT_OK(session_->Apply(MakeBatch(puts, activities)));
  Batch again = MakeBatch(puts, activities);
  again.idempotent = true;
  ASSERT_OK(session_->Apply(again));
  server_->Query("SET GLOBAL general_log = 0");
  EXPECT_EQ(Counted(), "1000 1000");
  const std::string log = "SELECT count(*) FROM mysql.general_log WHERE user_host LIKE '%owner%' ";
  EXPECT_GE(std::stoi(Admin(log + "AND argument LIKE 'INSERT%'")), 4);
  EXPECT_EQ(Admin(log + "AND (argument LIKE '%GET\\_LOCK%' OR argument LIKE '%TEMPORARY%' OR "
                        "argument LIKE 'LOAD%' OR argument LIKE '%FORCE INDEX%' OR "
                        "command_type IN ('Prepare', 'Execute'))"),
            "0");
  EXPECT_EQ(server_->Status("Com_stmt_execute"), executes);
  EXPECT_EQ(server_->Status("Com_load"), loads);
  EXPECT_LE(server_->Status("Com_insert") - inserts, 12u);
}

// A view takes no key hint; what it rests on is its owner's care.
TEST_F(MysqlServer, TablesBehindViewsTakeRows) {
  for (const std::string table : {"dag_tasks", "dag_task_activity_logs"}) {
    server_->Query("ALTER TABLE " + database_ + "." + table + " RENAME " + database_ + ".kept_" +
                   table);
    server_->Query("CREATE VIEW " + database_ + "." + table + " AS SELECT * FROM " + database_ +
                   ".kept_" + table);
  }
  Reopen(seconds(20));
  Batch batch = OneTask();
  const auto row = session_->ReadLog(batch.wal_id);
  ASSERT_OK(row);
  for (WatermarkMove& move : batch.moves) move.expected = row->watermarks.at(move.partition);
  const auto applied = session_->Apply(batch);
  ASSERT_OK(applied);
  EXPECT_EQ(applied->outcome, ApplyResult::Outcome::kApplied);
  EXPECT_EQ(Admin("SELECT count(*) FROM kept_dag_tasks"), "1");
}

// What is left of a batch's time is a little less each time.
TEST_F(MysqlServer, ALimitThatHardlyChangesIsSetOnce) {
  const auto apply = [&](int i, std::chrono::milliseconds time) {
    Batch batch = OneTask("t" + std::to_string(i));
    batch.time_max = time;
    ASSERT_OK(session_->Apply(batch));
  };
  const std::uint64_t before = server_->Status("Com_set_option");
  for (int i = 0; i < 20; ++i) apply(i, std::chrono::milliseconds(10000 - i));
  EXPECT_EQ(server_->Status("Com_set_option"), before + 1);
  apply(20, seconds(5));
  EXPECT_EQ(server_->Status("Com_set_option"), before + 2);
  ASSERT_OK(session_->Ping());  // with all of the time again
  EXPECT_EQ(server_->Status("Com_set_option"), before + 3);
}

// --- rows that can never be taken

struct Poison {
  const char* name;
  std::string (*prepare)();  // SQL that tightens the schema; may be empty
  TaskChange (*change)();
  const char* number;
};

std::string Nothing() { return ""; }

TaskChange WithError(const std::string& error) {
  Task task = MakeTask("poison");
  task.error = error;
  return Put(task, {9, 9});
}

class MysqlPoison : public MysqlServer, public ::testing::WithParamInterface<Poison> {};
INSTANTIATE_TEST_SUITE_P(
    Rows, MysqlPoison,
    ::testing::Values(
        Poison{"not_utf8", &Nothing, [] { return WithError("\xff\xfe secret"); }, "1366"},
        Poison{"not_utf8_in_a_patch", &Nothing,
               [] { return Patch("good", MakePatch(TaskStatus::kFailed, "\xff"), {9, 9}); },
               "1366"},
        Poison{"too_long", &Nothing,
               [] { return Put(MakeTask("poison", std::string(256, 'd')), {9, 9}); }, "1406"},
        Poison{"no_json", &Nothing,
               [] {
                 Task task = MakeTask("poison");
                 task.payload = "{secret";
                 return Put(task, {9, 9});
               },
               "4025"},
        Poison{"against_a_new_constraint",
               [] { return std::string("ALTER TABLE dag_tasks ADD CHECK (error <> 'secret')"); },
               [] { return WithError("secret"); }, "4025"},
        Poison{"against_a_new_key",
               [] { return std::string("CREATE UNIQUE INDEX k ON dag_tasks (node_id, dag_id)"); },
               [] { return Put(MakeTask("poison", "run-1"), {9, 9}); }, "1048"},
        Poison{"against_a_generated_column",
               [] {
                 return std::string("ALTER TABLE dag_tasks ADD tries TINYINT AS (retry_count) "
                                    "STORED");
               },
               [] {
                 Task task = MakeTask("poison");
                 task.retry_count = 1000;
                 return Put(task, {9, 9});
               },
               "1264"},
        Poison{"against_a_reference",
               [] {
                 return std::string("ALTER TABLE dag_tasks ADD FOREIGN KEY (dag_id) "
                                    "REFERENCES dag_tasks (id)");
               },
               [] { return Put(MakeTask("poison", "absent"), {9, 9}); }, "1452"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(MysqlPoison, IsRejectedWithItsNumberAndNothingOfTheBatchIsDone) {
  Task good = MakeTask("good", "good");
  for (const BulkPath path : {BulkPath::kByCapability, BulkPath::kMultiRow}) {
    Reopen(seconds(20), path);
    ASSERT_OK(session_->Apply(MakeBatch({Put(good, {1, 1})})));
    if (path == BulkPath::kByCapability) {
      good.dag_id = "run-1";
      const std::string sql = GetParam().prepare();
      if (std::string(GetParam().name) == "against_a_new_key") {
        ASSERT_OK(session_->Apply(MakeBatch({Put(good, {2, 2})})));
      }
      if (!sql.empty()) server_->Query(sql, database_);
    }
    const Batch bad = MakeBatch({Put(MakeTask("a", "good"), {3, 3}), GetParam().change()});
    EXPECT_THAT(session_->Apply(bad),
                StatusIs(StatusCode::kRejected,
                         AllOf(HasSubstr(std::string("(MySQL ") + GetParam().number + ")"),
                               Not(HasSubstr("secret")))));
    EXPECT_EQ(Counted(), "1 0");
    // The session goes on.
    EXPECT_OK(session_->Ping());
  }
}

TEST_F(MysqlServer, AnActivityThatCollidesByAnotherKeyIsRejectedOnlyIdempotently) {
  server_->Query("CREATE UNIQUE INDEX k ON dag_task_activity_logs (action)", database_);
  ASSERT_OK(session_->Apply(MakeBatch({}, {MakeActivity("a")})));
  Batch batch = MakeBatch({}, {MakeActivity("b")});
  ASSERT_OK_AND_ASSIGN(const ApplyResult first, session_->Apply(batch));
  EXPECT_EQ(first.outcome, Outcome::kRepeatIdempotent);
  batch.idempotent = true;
  EXPECT_THAT(session_->Apply(batch), StatusIs(StatusCode::kRejected, HasSubstr("1062")));
}

TEST_F(MysqlServer, AValueBeyondThePacketLimitIsRejectedAndOneWithinIsSentInPieces) {
  const ServerSetting small(*server_, "max_allowed_packet", "1048576");
  for (const BulkPath path : {BulkPath::kByCapability, BulkPath::kMultiRow}) {
    Reopen(seconds(20), path);
    Task task = MakeTask(path == BulkPath::kMultiRow ? "m" : "a");
    task.error = std::string(1u << 20, '\'');
    task.payload = '"' + std::string((1u << 20) - 2, 'x') + '"';
    task.started_at = After(3);
    ASSERT_OK(session_->Apply(MakeBatch({Put(task, {1, 1})})));
    ASSERT_OK_AND_ASSIGN(const auto stored, session_->GetTask(task.id));
    EXPECT_TRUE(stored.task == task);
    ASSERT_OK(session_->Apply(
        MakeBatch({Patch(task.id, MakePatch(TaskStatus::kFailed, task.error), {2, 2})})));
    task.payload->insert(1, "y");
    EXPECT_THAT(session_->Apply(MakeBatch({Put(task, {3, 3})})),
                StatusIs(StatusCode::kRejected, HasSubstr("(MySQL 1153)")));
  }
}

}  // namespace
}  // namespace taskwal::storage
