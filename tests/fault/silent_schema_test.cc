// Changes of the tables that no row's refusal tells of, or that no row is to blame for: columns
// that keep a part of a value and say nothing, and a wal_checkpoints that does not take the
// position.
#include <gmock/gmock.h>

#include "tests/fault/changed_database.h"

namespace taskwal {
namespace {

struct Cut {
  const char* name;
  Kind kind;
  const char* breaks;
  const char* mends;
  const char* alarm;
};

class CuttingColumn : public ChangedDatabase, public ::testing::WithParamInterface<Cut> {
 protected:
  const Time moment_ = *ParseTime("2026-11-21T06:00:00.123456Z");

  void WriteAt(const std::string& id) {
    Task task;
    task.id = id;
    task.created_at = task.updated_at = moment_;
    ASSERT_OK(storage_->SaveTask(task));
    Activity activity;
    activity.id = "of-" + id;
    activity.task_id = id;
    activity.message = "\xe2\x82\xac";  // no character of latin1
    activity.created_at = moment_;
    ASSERT_OK(storage_->LogActivity(activity));
  }
  void ExpectWhole(const std::string& id) {
    ASSERT_OK_AND_ASSIGN(const Task task, storage_->GetTask(id));
    EXPECT_EQ(task.created_at, moment_);
    EXPECT_EQ(task.updated_at, moment_);
    ActivityQuery query;
    query.task_id = id;
    ASSERT_OK_AND_ASSIGN(const ActivityPage page, storage_->QueryActivities(query));
    ASSERT_EQ(page.activities.size(), 1u);
    EXPECT_EQ(page.activities[0].created_at, moment_);
    EXPECT_EQ(page.activities[0].message, "\xe2\x82\xac");
    EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
    ASSERT_TRUE(WaitForNoAlarm());
  }
};

INSTANTIATE_TEST_SUITE_P(
    Columns, CuttingColumn,
    ::testing::Values(
        Cut{"postgres_day_of_tasks", Kind::kPostgres,
            "ALTER TABLE dag_tasks ALTER COLUMN created_at TYPE date;\n",
            "ALTER TABLE dag_tasks ALTER COLUMN created_at TYPE timestamptz(6);\n",
            "column dag_tasks.created_at is of type date"},
        Cut{"postgres_day_of_activities", Kind::kPostgres,
            "ALTER TABLE dag_task_activity_logs ALTER COLUMN created_at TYPE date;\n",
            "ALTER TABLE dag_task_activity_logs ALTER COLUMN created_at TYPE timestamptz(6);\n",
            "column dag_task_activity_logs.created_at is of type date"},
        Cut{"postgres_whole_seconds", Kind::kPostgres,
            "ALTER TABLE dag_tasks ALTER COLUMN updated_at TYPE timestamptz(0);\n",
            "ALTER TABLE dag_tasks ALTER COLUMN updated_at TYPE timestamptz(6);\n",
            "column dag_tasks.updated_at is of type timestamp(0) with time zone"},
        Cut{"mariadb_day_of_tasks", Kind::kMariadb,
            "ALTER TABLE dag_tasks MODIFY created_at DATE NOT NULL;\n",
            "ALTER TABLE dag_tasks MODIFY created_at DATETIME(6) NOT NULL;\n",
            "column dag_tasks.created_at is of type date"},
        Cut{"mariadb_day_of_activities", Kind::kMariadb,
            "ALTER TABLE dag_task_activity_logs MODIFY created_at DATE NOT NULL;\n",
            "ALTER TABLE dag_task_activity_logs MODIFY created_at DATETIME(6) NOT NULL;\n",
            "column dag_task_activity_logs.created_at is of type date"},
        Cut{"mariadb_whole_seconds", Kind::kMariadb,
            "ALTER TABLE dag_tasks MODIFY updated_at DATETIME NOT NULL;\n",
            "ALTER TABLE dag_tasks MODIFY updated_at DATETIME(6) NOT NULL;\n",
            "column dag_tasks.updated_at is of type datetime"},
        Cut{"mariadb_fewer_characters", Kind::kMariadb,
            "ALTER TABLE dag_task_activity_logs MODIFY message MEDIUMTEXT CHARACTER SET latin1 "
            "NOT NULL;\n",
            "ALTER TABLE dag_task_activity_logs MODIFY message MEDIUMTEXT NOT NULL;\n",
            "column dag_task_activity_logs.message is of type mediumtext character set latin1"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(CuttingColumn, IsToldAtTheFirstContactAndCutsNothing) {
  OpenAndMeet(GetParam().kind);
  storage_.reset();
  Sql(GetParam().breaks);
  OpenAgain(FaultOptions());
  WriteAt("whole");
  ASSERT_TRUE(WaitForAlarm(GetParam().alarm)) << storage_->GetStats().alarm;
  Sql(GetParam().mends);
  Flush();
  ExpectWhole("whole");
}

TEST_P(CuttingColumn, IsToldWhereNothingIsToBeFlushed) {
  Options options = Watchful();
  options.worker_count = 1;  // the one that looks: no other has a connection from before
  OpenAndMeet(GetParam().kind, std::move(options));
  Sql(GetParam().breaks);
  ASSERT_TRUE(WaitForAlarm(GetParam().alarm)) << storage_->GetStats().alarm;
  WriteAt("whole");
  Sql(GetParam().mends);
  Flush();
  ExpectWhole("whole");
}

// Whatever is said of wal_checkpoints: every batch moves it, and no row of one is at fault.
struct Refusal {
  const char* name;
  Kind kind;
  const char* breaks;
  const char* mends;
  const char* code;
};

constexpr const char* kRaise =
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION 'not with us'; END $$;\n";
const std::string kTrigger = std::string(kRaise) +
    "CREATE TRIGGER refuse BEFORE UPDATE ON wal_checkpoints FOR EACH ROW "
    "EXECUTE FUNCTION refuse();\n";
const std::string kTriggerAtCommit = std::string(kRaise) +
    "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON wal_checkpoints "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();\n";

class RefusedPosition : public ChangedDatabase, public ::testing::WithParamInterface<Refusal> {};

INSTANTIATE_TEST_SUITE_P(
    Checkpoints, RefusedPosition,
    ::testing::Values(
        Refusal{"postgres_check", Kind::kPostgres,
                "ALTER TABLE wal_checkpoints ADD CONSTRAINT low CHECK (lsn < 40);\n",
                "ALTER TABLE wal_checkpoints DROP CONSTRAINT low;\n", "SQLSTATE 23514"},
        Refusal{"postgres_trigger", Kind::kPostgres, kTrigger.c_str(),
                "DROP TRIGGER refuse ON wal_checkpoints;\n", "SQLSTATE P0001"},
        Refusal{"postgres_trigger_at_commit", Kind::kPostgres, kTriggerAtCommit.c_str(),
                "DROP TRIGGER refuse ON wal_checkpoints;\n", "SQLSTATE P0001"},
        Refusal{"mariadb_check", Kind::kMariadb,
                "ALTER TABLE wal_checkpoints ADD CONSTRAINT low CHECK (lsn < 40);\n",
                "ALTER TABLE wal_checkpoints DROP CONSTRAINT low;\n", "MySQL 4025"},
        Refusal{"mariadb_trigger", Kind::kMariadb,
                "CREATE TRIGGER refuse BEFORE UPDATE ON wal_checkpoints FOR EACH ROW "
                "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not with us';\n",
                "DROP TRIGGER refuse;\n", "MySQL 1644"},
        Refusal{"sqlite_trigger", Kind::kSqlite,
                "CREATE TRIGGER refuse BEFORE UPDATE ON wal_checkpoints "
                "BEGIN SELECT RAISE(ABORT, 'not with us'); END;\n",
                "DROP TRIGGER refuse;\n", "SQLite 1811"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(RefusedPosition, LettersNothingAndIsWaitedFor) {
  OpenAndMeet(GetParam().kind);
  Sql(GetParam().breaks);
  Write(12);
  ASSERT_TRUE(WaitForError(GetParam().code)) << storage_->GetStats().alarm;
  ASSERT_TRUE(WaitForAlarm("wal_checkpoints does not take")) << storage_->GetStats().alarm;
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  Sql(GetParam().mends);
  Flush();
  ExpectExactlyOnce();
}

TEST_P(RefusedPosition, IsWaitedForFromTheFirstContact) {
  OpenAndMeet(GetParam().kind);
  storage_.reset();
  Sql(GetParam().breaks);
  OpenAgain(FaultOptions());
  Write(12);
  ASSERT_TRUE(WaitForAlarm("wal_checkpoints does not take")) << storage_->GetStats().alarm;
  Sql(GetParam().mends);
  Flush();
  ExpectExactlyOnce();
}

}  // namespace
}  // namespace taskwal
