// The server goes, comes back, refuses rows or is mended under the running storage.
#include "taskwal/control.h"
#include "tests/fault/database_faults.h"
#include "tests/support/postgres_server.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class PostgresOutage : public DatabaseFaults {
 protected:
  void OpenAndMeet() {
    Open(server_.Dsn(database_), FaultOptions());
    Write(10);
    Flush();
  }

  void Sql(const std::string& sql) { server_.Query(sql, database_); }

  // What is written waits and nothing is lettered, until the database is as it was.
  void ExpectWaitUntilMended(const std::string& breaks, const std::string& mends,
                             const std::string& state) {
    OpenAndMeet();
    Sql(breaks);
    Write(10);
    ASSERT_TRUE(WaitForError(state)) << last_error().ToString();
    EXPECT_THAT(last_error(), StatusIs(StatusCode::kUnavailable));
    // A worker whose session was ended first says that, until it has a new one.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (storage_->GetStats().alarm.find(state) == std::string::npos) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << storage_->GetStats().alarm;
      std::this_thread::sleep_for(Milliseconds(1));
    }
    EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
    Sql(mends);
    Flush();
    ExpectExactlyOnce();
  }

  PostgresServer& server_ = PostgresServer::Shared();
  const std::string database_ = server_.NewDatabase();
};

// The server takes twenty milliseconds for a row: it gives up what takes longer than the batch has,
// and takes all of it in smaller pieces.
TEST_F(PostgresOutage, SlowTransactionsAreCutAndComeInSmallerOnes) {
  OpenAndMeet();
  Sql("CREATE FUNCTION slow() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; "
      "END $$ LANGUAGE plpgsql; CREATE TRIGGER slow BEFORE INSERT ON dag_task_activity_logs "
      "FOR EACH ROW EXECUTE FUNCTION slow()");
  ASSERT_OK(storage_->Close());
  Options options = FaultOptions(std::chrono::seconds(60));
  options.batch_timeout = Milliseconds(500);
  options.worker_count = 1;
  Open(server_.Dsn(database_), options);
  Write(60);
  Flush();
  EXPECT_THAT(last_error(), StatusIs(StatusCode::kUnavailable, HasSubstr("57014")));
  std::uint64_t timeouts = 0;
  const BufferSnapshot buffer = storage_->GetControl()->Buffer();
  for (const WorkerSnapshot& worker : buffer.targets.front().workers) timeouts += worker.timeouts;
  EXPECT_GE(timeouts, 1u);
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
  EXPECT_EQ(counts.activities, 70u);
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  EXPECT_EQ(storage_->GetStats().duplicates, 0u);
}

TEST_F(PostgresOutage, KilledServerCostsNothing) {
  const auto server = PostgresServer::Start();
  Open(server->Dsn(server->NewDatabase()), FaultOptions());
  Write(10);
  Flush();
  for (int round = 0; round < 3; ++round) {
    Write(10);
    server->Kill();
    Write(10);
    server->StartAgain();
    Flush();
  }
  server->Stop();
  Write(10);
  server->StartAgain();
  Flush();
  ExpectExactlyOnce();
}

TEST_F(PostgresOutage, PoisonLosesOnlyItsRow) {
  OpenAndMeet();
  Sql("ALTER TABLE dag_task_activity_logs ADD CONSTRAINT taste CHECK (message <> 'poison')");
  Write(300, written_ + 137);
  Flush();
  EXPECT_THAT(last_error(),
              StatusIs(StatusCode::kRejected, AllOf(HasSubstr("SQLSTATE 23514"),
                                                    HasSubstr("\"taste\""),
                                                    ::testing::Not(HasSubstr("a147")))));
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.dead_lettered, 1u);
  EXPECT_EQ(stats.accepted, stats.applied + 1);
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_task_activity_logs", database_), "309");
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_tasks WHERE status = 'completed'", database_),
            "310");
}

TEST_F(PostgresOutage, PoisonAmongTasksTakesWhatDependsOnIt) {
  OpenAndMeet();
  Sql("ALTER TABLE dag_tasks ADD CONSTRAINT taste CHECK (id <> 't27')");
  Write(30);
  Flush();
  // Its save is refused, and so its update goes with it.
  EXPECT_EQ(storage_->GetStats().dead_lettered, 2u);
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_tasks WHERE status = 'completed'", database_),
            "39");
}

TEST_F(PostgresOutage, DroppedColumnLettersNothing) {
  ExpectWaitUntilMended("ALTER TABLE dag_task_activity_logs DROP COLUMN level",
                        "ALTER TABLE dag_task_activity_logs ADD COLUMN level text NOT NULL "
                        "DEFAULT 'info'",
                        "SQLSTATE 42703");
}

TEST_F(PostgresOutage, RevokedRightLettersNothing) {
  ExpectWaitUntilMended("REVOKE UPDATE ON dag_tasks FROM owner",
                        "GRANT UPDATE ON dag_tasks TO owner", "SQLSTATE 42501");
}

TEST_F(PostgresOutage, RenamedTableLettersNothing) {
  ExpectWaitUntilMended("ALTER TABLE dag_tasks RENAME TO elsewhere",
                        "ALTER TABLE elsewhere RENAME TO dag_tasks", "SQLSTATE 42P01");
}

TEST_F(PostgresOutage, ReadOnlyServerLettersNothing) {
  ExpectWaitUntilMended("ALTER ROLE owner SET default_transaction_read_only = on; "
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'taskwal'",
                        "ALTER ROLE owner RESET default_transaction_read_only; "
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'taskwal'",
                        "SQLSTATE 25006");
}

// Every row is refused: that is a broken schema, not poison.
TEST_F(PostgresOutage, ConstraintThatRefusesAllLettersAFewAndWaits) {
  OpenAndMeet();
  Sql("ALTER TABLE dag_task_activity_logs ADD CONSTRAINT taste CHECK (message = 'sweet') "
      "NOT VALID");
  Write(100);
  EXPECT_THAT(storage_->Flush(Milliseconds(2000)), StatusIs(StatusCode::kUnavailable));
  EXPECT_LE(storage_->GetStats().dead_lettered, 20u);
  // What is no activity still goes through, and each time the alarm is off for a moment.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (storage_->GetStats().alarm.empty()) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(Milliseconds(1));
  }
  Sql("ALTER TABLE dag_task_activity_logs DROP CONSTRAINT taste");
  Flush();
  EXPECT_EQ(storage_->GetStats().alarm, "");
}

// An activity that another log, or another program, has written already.
TEST_F(PostgresOutage, KnownActivityIsADuplicateAndNoPoison) {
  OpenAndMeet();
  Sql("INSERT INTO dag_task_activity_logs (id, message, created_at) "
      "VALUES ('a15', 'first', now())");
  Write(10);
  Flush();
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.duplicates, 1u);
  EXPECT_EQ(stats.dead_lettered, 0u);
  EXPECT_EQ(server_.Value("SELECT message FROM dag_task_activity_logs WHERE id = 'a15'", database_),
            "first");
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_task_activity_logs", database_), "20");
}

}  // namespace
}  // namespace taskwal
