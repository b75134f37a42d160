// Tables and triggers that somebody changed under the running process, on each database: what keeps
// good rows out is waited for and letters nothing; what a trigger refuses is poison.
#include <gmock/gmock.h>

#include <string>

#include "taskwal/dead_letters.h"
#include "tests/fault/changed_database.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

class WrongSchema : public ChangedDatabase, public ::testing::WithParamInterface<Change> {};

INSTANTIATE_TEST_SUITE_P(
    Tables, WrongSchema,
    ::testing::Values(
        Change{"postgres_foreign_column_of_activities", Kind::kPostgres,
               "ALTER TABLE dag_task_activity_logs ADD COLUMN owner text NOT NULL DEFAULT 'x';\n"
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN owner DROP DEFAULT;\n",
               "ALTER TABLE dag_task_activity_logs DROP COLUMN owner;\n", "SQLSTATE 23502"},
        Change{"postgres_foreign_column_of_tasks", Kind::kPostgres,
               "ALTER TABLE dag_tasks ADD COLUMN owner text NOT NULL DEFAULT 'x';\n"
               "ALTER TABLE dag_tasks ALTER COLUMN owner DROP DEFAULT;\n",
               "ALTER TABLE dag_tasks ALTER COLUMN owner SET DEFAULT 'x';\n", "SQLSTATE 23502"},
        Change{"postgres_column_of_another_type", Kind::kPostgres,
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN message DROP DEFAULT, "
               "ALTER COLUMN message TYPE integer USING 0;\n",
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN message TYPE text USING '';\n",
               "SQLSTATE 22P02"},
        Change{"postgres_narrower_guard", Kind::kPostgres,
               "ALTER TABLE dag_tasks ALTER COLUMN wal_stamp TYPE integer USING 0;\n",
               "ALTER TABLE dag_tasks ALTER COLUMN wal_stamp TYPE bigint;\n", "SQLSTATE 22003"},
        Change{"postgres_narrower_stamp_of_the_log", Kind::kPostgres,
               "ALTER TABLE wal_checkpoints ALTER COLUMN stamp TYPE integer USING 0;\n",
               "ALTER TABLE wal_checkpoints ALTER COLUMN stamp TYPE bigint;\n", "SQLSTATE 22003"},
        Change{"postgres_shorter_text", Kind::kPostgres,
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN message TYPE varchar(10) "
               "USING '';\n",
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN message TYPE text;\n",
               "SQLSTATE 22001"},
        Change{"postgres_shorter_domain", Kind::kPostgres,
               "CREATE DOMAIN short AS varchar(10);\n"
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN message DROP DEFAULT, "
               "ALTER COLUMN message TYPE short USING '';\n",
               "ALTER TABLE dag_task_activity_logs ALTER COLUMN message TYPE text;\n",
               "SQLSTATE 22001"},
        Change{"postgres_shorter_json", Kind::kPostgres,
               "ALTER TABLE dag_tasks ALTER COLUMN payload TYPE varchar(10) USING NULL;\n",
               "ALTER TABLE dag_tasks ALTER COLUMN payload TYPE json USING payload::json;\n",
               "SQLSTATE 22001"},
        Change{"mariadb_narrower_guard", Kind::kMariadb,
               "UPDATE dag_tasks SET wal_stamp = 0;\n"
               "ALTER TABLE dag_tasks MODIFY wal_stamp INT NOT NULL DEFAULT 0;\n",
               "ALTER TABLE dag_tasks MODIFY wal_stamp BIGINT NOT NULL DEFAULT 0;\n",
               "MySQL 1264"},
        Change{"mariadb_narrower_stamp_of_the_log", Kind::kMariadb,
               "UPDATE wal_checkpoints SET stamp = 0;\n"
               "ALTER TABLE wal_checkpoints MODIFY stamp INT NOT NULL DEFAULT 0;\n",
               "ALTER TABLE wal_checkpoints MODIFY stamp BIGINT NOT NULL DEFAULT 0;\n",
               "MySQL 1264"},
        Change{"mariadb_shorter_text", Kind::kMariadb,
               "UPDATE dag_task_activity_logs SET message = '';\n"
               "ALTER TABLE dag_task_activity_logs MODIFY message VARCHAR(10) NOT NULL;\n",
               "ALTER TABLE dag_task_activity_logs MODIFY message MEDIUMTEXT NOT NULL;\n",
               "MySQL 1406"},
        Change{"mariadb_shorter_json", Kind::kMariadb,
               "UPDATE dag_tasks SET payload = NULL;\n"
               "ALTER TABLE dag_tasks MODIFY payload VARCHAR(10);\n",
               "ALTER TABLE dag_tasks MODIFY payload LONGTEXT;\n", "MySQL 1406"},
        Change{"mariadb_foreign_column", Kind::kMariadb,
               "ALTER TABLE dag_task_activity_logs ADD COLUMN owner INT NOT NULL;\n",
               "ALTER TABLE dag_task_activity_logs DROP COLUMN owner;\n", "MySQL 1364"},
        Change{"mariadb_column_of_another_type", Kind::kMariadb,
               "UPDATE dag_task_activity_logs SET message = '0';\n"
               "ALTER TABLE dag_task_activity_logs MODIFY message INT NOT NULL;\n",
               "ALTER TABLE dag_task_activity_logs MODIFY message MEDIUMTEXT NOT NULL;\n",
               "MySQL 1366"},
        Change{"sqlite_foreign_column", Kind::kSqlite,
               "ALTER TABLE dag_task_activity_logs RENAME TO kept;\n"
               "CREATE TABLE dag_task_activity_logs (id TEXT PRIMARY KEY NOT NULL, task_id TEXT, "
               "dag_id TEXT, node_id TEXT, action TEXT, message TEXT, data TEXT, level TEXT, "
               "created_at TEXT, priority INTEGER, owner TEXT NOT NULL);\n",
               "DROP TABLE dag_task_activity_logs;\n"
               "ALTER TABLE kept RENAME TO dag_task_activity_logs;\n",
               "SQLite 1299"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(WrongSchema, LettersNothingAndIsWaitedFor) {
  OpenAndMeet(GetParam().kind);
  Sql(GetParam().breaks);
  Write(40);
  ASSERT_TRUE(WaitForError(GetParam().code)) << storage_->GetStats().alarm;
  ASSERT_TRUE(WaitForAlarm("the tables are not as taskwal made them: column "));
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  Sql(GetParam().mends);
  Flush();
  ExpectExactlyOnce();
}

TEST_P(WrongSchema, IsToldAtTheFirstContact) {
  OpenAndMeet(GetParam().kind);
  storage_.reset();
  Sql(GetParam().breaks);
  OpenAgain(FaultOptions());
  ASSERT_TRUE(WaitForAlarm("the tables are not as taskwal made them: column "));
  Sql(GetParam().mends);
  Write(10);
  Flush();
  ExpectExactlyOnce();
}

// A table that has lost its primary key takes a row that it has as another one, and says nothing.
class DroppedKey : public ChangedDatabase, public ::testing::WithParamInterface<Change> {
 protected:
  void ExpectWaitUntilMended() {
    ASSERT_TRUE(WaitForAlarm(GetParam().alarm)) << storage_->GetStats().alarm;
    EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
    Sql(GetParam().mends);
    Flush();
    ASSERT_TRUE(WaitForNoAlarm());
    ExpectExactlyOnce();
  }
};

INSTANTIATE_TEST_SUITE_P(
    Keys, DroppedKey,
    ::testing::Values(
        Change{"postgres_tasks", Kind::kPostgres,
               "ALTER TABLE dag_tasks DROP CONSTRAINT dag_tasks_pkey;\n",
               "ALTER TABLE dag_tasks ADD PRIMARY KEY (id);\n", "42P10",
               "table dag_tasks has no primary key on exactly (id)"},
        Change{"postgres_activities", Kind::kPostgres,
               "ALTER TABLE dag_task_activity_logs DROP CONSTRAINT dag_task_activity_logs_pkey;\n",
               "ALTER TABLE dag_task_activity_logs ADD PRIMARY KEY (id);\n", "",
               "table dag_task_activity_logs has no primary key on exactly (id)"},
        Change{"postgres_wider_key", Kind::kPostgres,
               "ALTER TABLE dag_tasks DROP CONSTRAINT dag_tasks_pkey, "
               "ADD PRIMARY KEY (id, created_at);\n",
               "ALTER TABLE dag_tasks DROP CONSTRAINT dag_tasks_pkey, ADD PRIMARY KEY (id);\n",
               "42P10", "table dag_tasks has no primary key on exactly (id)"},
        Change{"mariadb_tasks", Kind::kMariadb, "ALTER TABLE dag_tasks DROP PRIMARY KEY;\n",
               "ALTER TABLE dag_tasks ADD PRIMARY KEY (id);\n", "MySQL 1176",
               "table dag_tasks has no primary key on exactly (id)"},
        Change{"mariadb_activities", Kind::kMariadb,
               "ALTER TABLE dag_task_activity_logs DROP PRIMARY KEY;\n",
               "ALTER TABLE dag_task_activity_logs ADD PRIMARY KEY (id);\n", "MySQL 1176",
               "table dag_task_activity_logs has no primary key on exactly (id)"},
        Change{"sqlite_tasks", Kind::kSqlite,
               "ALTER TABLE dag_tasks RENAME TO kept;\n"
               "CREATE TABLE dag_tasks AS SELECT * FROM kept;\n",
               "DROP TABLE dag_tasks;\nALTER TABLE kept RENAME TO dag_tasks;\n", "SQLite 1",
               "table dag_tasks has no primary key on exactly (id)"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(DroppedKey, UnderTheRunningProcessIsWaitedForAndDoublesNothing) {
  const std::string code = GetParam().code;
  // Where a write is refused, none must be kept back by a look that comes before it.
  OpenAndMeet(GetParam().kind, code.empty() ? Watchful() : FaultOptions());
  Sql(GetParam().breaks);
  for (const char* id : {"t0", "t1", "t2"}) {
    Task again;
    again.id = id;
    again.status = TaskStatus::kCompleted;
    ASSERT_OK(storage_->SaveTask(again));
  }
  Write(5);
  if (!code.empty()) {
    EXPECT_TRUE(WaitForError(code));
  }
  ExpectWaitUntilMended();
}

TEST_P(DroppedKey, BeforeTheFirstContactIsWaitedForAndDoublesNothing) {
  OpenAndMeet(GetParam().kind);
  storage_.reset();
  Sql(GetParam().breaks);
  OpenAgain(Watchful());
  Write(5);
  ExpectWaitUntilMended();
}

// The tables are as they should be but for one row: it goes, and it alone.
struct Trigger {
  const char* name;
  Kind kind;
  const char* refuses;
  const char* code;
};

class RefusingTrigger : public ChangedDatabase, public ::testing::WithParamInterface<Trigger> {};

INSTANTIATE_TEST_SUITE_P(
    Triggers, RefusingTrigger,
    ::testing::Values(
        Trigger{"postgres", Kind::kPostgres,
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE EXCEPTION 'not with us'; END $$;\n"
                "CREATE TRIGGER refuse BEFORE INSERT ON dag_task_activity_logs FOR EACH ROW "
                "WHEN (NEW.message = 'poison') EXECUTE FUNCTION refuse();\n",
                "SQLSTATE P0001"},
        Trigger{"postgres_at_commit", Kind::kPostgres,
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE EXCEPTION 'not with us'; END $$;\n"
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON dag_task_activity_logs "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
                "WHEN (NEW.message = 'poison') EXECUTE FUNCTION refuse();\n",
                "SQLSTATE P0001"},
        Trigger{"mariadb", Kind::kMariadb,
                "CREATE TRIGGER refuse BEFORE INSERT ON dag_task_activity_logs FOR EACH ROW "
                "IF NEW.message = 'poison' THEN SIGNAL SQLSTATE '45000' "
                "SET MESSAGE_TEXT = 'not with us'; END IF;\n",
                "MySQL 1644"},
        Trigger{"sqlite", Kind::kSqlite,
                "CREATE TRIGGER refuse BEFORE INSERT ON dag_task_activity_logs "
                "WHEN NEW.message = 'poison' BEGIN SELECT RAISE(ABORT, 'not with us'); END;\n",
                "SQLite 1811"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(RefusingTrigger, CostsItsRowAloneWithTheServersCode) {
  OpenAndMeet(GetParam().kind);
  Sql(GetParam().refuses);
  Write(100, written_ + 37);
  Flush();
  ASSERT_OK_AND_ASSIGN(const auto letters, storage_->GetDeadLetters()->List(10));
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters[0].sql_code, GetParam().code);
  EXPECT_THAT(letters[0].error, HasSubstr("not with us"));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
  EXPECT_EQ(counts.tasks, 110u);
  EXPECT_EQ(counts.activities, 109u);
  EXPECT_EQ(storage_->GetStats().alarm, "");
}

// Every activity is refused, by a rule that was made under the running process.
struct Rule {
  const char* name;
  Kind kind;
  const char* refuses;
  const char* mends;
};

class RefusesAll : public ChangedDatabase, public ::testing::WithParamInterface<Rule> {
 protected:
  Options ManyWorkers() {
    Options options = FaultOptions();
    options.worker_count = 4;
    options.shutdown_timeout = Milliseconds(0);
    return options;
  }
  // Until the database has refused rows `times` times more.
  void WaitForRefusals(std::uint64_t times) {
    const std::uint64_t goal = storage_->GetStats().flush_errors + times;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (storage_->GetStats().flush_errors < goal) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << storage_->GetStats().alarm;
      std::this_thread::sleep_for(Milliseconds(5));
    }
  }
};

INSTANTIATE_TEST_SUITE_P(
    Rules, RefusesAll,
    ::testing::Values(
        Rule{"postgres", Kind::kPostgres,
             "ALTER TABLE dag_task_activity_logs ADD CONSTRAINT taste CHECK (message = 'sweet') "
             "NOT VALID;\n",
             "ALTER TABLE dag_task_activity_logs DROP CONSTRAINT taste;\n"},
        Rule{"mariadb", Kind::kMariadb,
             "CREATE TRIGGER taste BEFORE INSERT ON dag_task_activity_logs FOR EACH ROW "
             "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not with us';\n",
             "DROP TRIGGER taste;\n"},
        Rule{"sqlite", Kind::kSqlite,
             "CREATE TRIGGER taste BEFORE INSERT ON dag_task_activity_logs "
             "BEGIN SELECT RAISE(ABORT, 'not with us'); END;\n",
             "DROP TRIGGER taste;\n"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(RefusesAll, LettersTenHoweverManyWorkersAndRestartsMeetIt) {
  OpenAndMeet(GetParam().kind, ManyWorkers());
  Sql(GetParam().refuses);
  Write(300);  // 900 records: of no batch is 1 % more than ten
  ASSERT_TRUE(WaitForAlarm("nothing more is dead-lettered"));
  WaitForRefusals(40);
  for (int life = 0; life < 3; ++life) {
    ASSERT_OK_AND_ASSIGN(const auto letters, storage_->GetDeadLetters()->List(100));
    EXPECT_EQ(letters.size(), 10u) << "life " << life;
    storage_.reset();
    OpenAgain(ManyWorkers());
    WaitForRefusals(10);
    ASSERT_TRUE(WaitForAlarm("nothing more is dead-lettered"));
    WaitForRefusals(10);
  }
  Sql(GetParam().mends);
  Flush();
  ASSERT_OK_AND_ASSIGN(const auto letters, storage_->GetDeadLetters()->List(100));
  EXPECT_EQ(letters.size(), 10u);
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
  EXPECT_EQ(counts.tasks, 310u);
  EXPECT_EQ(counts.activities, 300u);
  EXPECT_EQ(storage_->GetStats().alarm, "");
}

}  // namespace
}  // namespace taskwal
