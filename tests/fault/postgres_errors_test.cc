// Each error of a real server, and what it is taken for.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>

#include "storage/backend.h"
#include "taskwal/open.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/postgres_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using std::chrono::milliseconds;

const Uuid kLog = *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-000000000010");

constexpr const char* kSlowTrigger =
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'; "
    "CREATE TRIGGER slow BEFORE INSERT ON dag_tasks FOR EACH ROW EXECUTE FUNCTION slow()";
constexpr const char* kSomebodySleeps =
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
constexpr const char* kSomebodyIsLockedOut =
    "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')";

class PostgresServerErrors : public ::testing::Test {
 protected:
  void Connect(milliseconds timeout = std::chrono::seconds(10)) {
    ASSERT_OK_AND_ASSIGN(backend_, MakeBackend(server_.Dsn(database_), {timeout}));
    ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
    ASSERT_OK(session_->RegisterLog(kLog, 1, std::vector<Lsn>{0}));
  }

  static Batch BatchOf(std::vector<TaskChange> tasks, std::vector<Activity> activities = {}) {
    Batch batch;
    batch.wal_id = kLog;
    batch.epoch = 1;
    batch.tasks = std::move(tasks);
    for (const Activity& activity : activities) batch.activities.push_back({activity, 1});
    return batch;
  }

  static Status RefusalOf(const std::string& dsn) {
    const auto backend = MakeBackend(dsn, {milliseconds(2000)});
    if (!backend.ok()) return backend.status();
    return (*backend)->Connect().status();
  }

  void Sql(const std::string& sql) { server_.Query(sql, database_); }

  // A superuser's transaction: `first`, then `second` as soon as `condition` holds.
  std::future<void> Between(const std::string& first, const std::string& condition,
                            const std::string& second = "") {
    const std::string wait = "DO $$ BEGIN WHILE NOT " + condition +
                             " LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); "
                             "END LOOP; END $$";
    auto done = std::async(std::launch::async, [this, first, wait, second] {
      Sql("SET deadlock_timeout = '1h'; BEGIN; " + first + "; " + wait + "; " + second +
          "; COMMIT");
    });
    EXPECT_TRUE(server_.WaitUntil(kSomebodySleeps));
    return done;
  }

  PostgresServer& server_ = PostgresServer::Shared();
  const std::string database_ = server_.NewDatabase();
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Session> session_;
};

TEST_F(PostgresServerErrors, RefusedConnectionIsTriedAgain) {
  EXPECT_THAT(RefusalOf("postgresql://owner:hunter2@127.0.0.1:1/db"),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("refused"), Not(HasSubstr("hunter2")))));
}

TEST_F(PostgresServerErrors, WrongPasswordIsTriedAgainAndSaysSo) {
  const std::string at = "@127.0.0.1:" + std::to_string(server_.port()) + "/postgres";
  EXPECT_THAT(RefusalOf("postgresql://owner:hunter2" + at),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("password authentication failed for user \"owner\""),
                             Not(HasSubstr("hunter2")))));
}

TEST_F(PostgresServerErrors, MissingDatabaseIsTriedAgainAndSaysSo) {
  std::string dsn = server_.Dsn(database_);
  dsn.replace(dsn.find("/postgres?"), 10, "/nowhere?");
  EXPECT_THAT(RefusalOf(dsn),
              StatusIs(StatusCode::kUnavailable, HasSubstr("\"nowhere\" does not exist")));
}

TEST_F(PostgresServerErrors, TooManyConnectionsAreTriedAgain) {
  Sql("ALTER ROLE owner CONNECTION LIMIT 0");
  EXPECT_THAT(RefusalOf(server_.Dsn(database_)),
              StatusIs(StatusCode::kUnavailable, HasSubstr("too many connections")));
  Sql("ALTER ROLE owner CONNECTION LIMIT -1");
}

TEST_F(PostgresServerErrors, TerminatedSessionIsUnusable) {
  Connect();
  Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taskwal'");
  EXPECT_THAT(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})),
              StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(session_->Ping(), StatusIs(StatusCode::kUnavailable, HasSubstr("was lost")));
}

TEST_F(PostgresServerErrors, ServerKilledInACallIsUnavailable) {
  const auto server = PostgresServer::Start();
  const std::string database = server->NewDatabase();
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(server->Dsn(database), {}));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  server->Query(kSlowTrigger, database);
  auto call = std::async(std::launch::async, [&] {
    return session->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})).status();
  });
  ASSERT_TRUE(server->WaitUntil(kSomebodySleeps));
  server->Kill();
  EXPECT_THAT(call.get(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(backend->Connect(), StatusIs(StatusCode::kUnavailable));
  server->StartAgain();
  EXPECT_OK(backend->Connect());
}

TEST_F(PostgresServerErrors, DeadlockIsTriedAgain) {
  Connect();
  ASSERT_OK(session_->Apply(BatchOf({Put(MakeTask("a"), {1, 1}), Put(MakeTask("b"), {1, 1})})));
  // The other one takes b, waits until ours has a and waits for b, then wants a.
  auto other = Between("UPDATE dag_tasks SET error = 'x' WHERE id = 'b'", kSomebodyIsLockedOut,
                       "UPDATE dag_tasks SET error = 'x' WHERE id = 'a'");
  EXPECT_THAT(session_->Apply(BatchOf({Put(MakeTask("a"), {2, 2}), Put(MakeTask("b"), {2, 2})})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 40P01")));
  EXPECT_TRUE(session_->HasGivenWay());
  other.get();
  EXPECT_OK(session_->Apply(BatchOf({Put(MakeTask("a"), {2, 2}), Put(MakeTask("b"), {2, 2})})));
}

TEST_F(PostgresServerErrors, SerializationFailureIsTriedAgain) {
  Connect();
  Sql("CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END $$; "
      "CREATE TRIGGER busy BEFORE INSERT ON dag_tasks FOR EACH ROW EXECUTE FUNCTION busy()");
  EXPECT_THAT(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 40001")));
  EXPECT_TRUE(session_->HasGivenWay());
  Sql("DROP TRIGGER busy ON dag_tasks");
  EXPECT_OK(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})));
  EXPECT_FALSE(session_->HasGivenWay());
}

// A breaker that one failure would open: conflicts are none.
TEST_F(PostgresServerErrors, SerializationFailuresOpenNoBreaker) {
  Connect();
  Sql("CREATE SEQUENCE asked; GRANT USAGE ON SEQUENCE asked TO owner; "
      "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "IF nextval('asked') % 4 <> 0 THEN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END IF; "
      "RETURN NULL; END $$; "
      "CREATE TRIGGER busy AFTER INSERT ON dag_tasks FOR EACH STATEMENT EXECUTE FUNCTION busy()");
  std::atomic<int> changes{0};
  const TempDir dir;
  Options options;
  options.wal_dir = dir.File("wal");
  options.breaker_failures = 1;
  options.initial_backoff = options.max_backoff = milliseconds(1);
  options.on_breaker = [&](const BreakerEvent&) { ++changes; };
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(server_.Dsn(database_), options));
  for (int i = 0; i < 20; ++i) {
    Task task;
    task.id = std::to_string(i);
    ASSERT_OK(storage->SaveTask(task));
  }
  ASSERT_OK(storage->Flush(std::chrono::seconds(60)));
  EXPECT_EQ(storage->Count()->tasks, 20u);
  EXPECT_GE(storage->GetStats().flush_errors, 3u);
  storage.reset();
  EXPECT_EQ(changes, 0);
}

// Who waits for another's row would be refused under an isolation that a server or role asks for.
TEST_F(PostgresServerErrors, AConflictIsWaitedForUnderWhateverIsolationIsUsual) {
  Sql("ALTER ROLE owner SET default_transaction_isolation = 'repeatable read'");
  Connect();
  Sql("ALTER ROLE owner RESET default_transaction_isolation");
  ASSERT_OK(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})));
  auto other = Between("UPDATE dag_tasks SET error = 'x' WHERE id = 't'", kSomebodyIsLockedOut);
  EXPECT_OK(session_->Apply(BatchOf({Put(MakeTask("t"), {2, 2})})));
  other.get();
}

TEST_F(PostgresServerErrors, AnEndedConnectionIsCalledLost) {
  for (const bool has_activity : {false, true}) {
    Connect();
    server_.Query("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE "
                  "application_name = 'taskwal'");
    std::vector<Activity> activities;
    if (has_activity) activities.push_back(MakeActivity("a"));
    const Status status = session_->Apply(BatchOf({}, activities)).status();
    EXPECT_FALSE(session_->HasGivenWay());
    EXPECT_THAT(status, StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(status.message(), Not(HasSubstr("encoding")));
  }
}

// Whoever asks has no transaction to repeat: every read and clean-up goes on by itself, as long as
// this comes to an end.
TEST_F(PostgresServerErrors, SerializationFailureOfAReadIsNotTheCallersBusiness) {
  Connect();
  ASSERT_OK(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})}, {MakeActivity("a")})));
  Sql("CREATE SEQUENCE asked; GRANT USAGE ON SEQUENCE asked TO owner; "
      "CREATE FUNCTION busy() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
      "IF nextval('asked') % 3 <> 0 THEN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END IF; "
      "RETURN true; END $$");
  for (const std::string table : {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints"}) {
    Sql("ALTER TABLE " + table + " RENAME TO real_" + table);
    Sql("CREATE VIEW " + table + " AS SELECT * FROM real_" + table + " WHERE busy()");
    Sql("GRANT ALL ON " + table + " TO owner");
  }
  EXPECT_OK(session_->GetTask("t"));
  EXPECT_OK(session_->QueryTasks({}));
  EXPECT_OK(session_->QueryActivities({}));
  EXPECT_OK(session_->ReadLog(kLog));
  EXPECT_OK(session_->HighestStamp());
  Sql("ALTER SEQUENCE asked RESTART");
  EXPECT_OK(session_->OldTasks(Time::max(), {}, "", 10));
  // One that never comes to an end does reach the caller.
  Sql("CREATE OR REPLACE FUNCTION busy() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
      "RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END $$");
  EXPECT_THAT(session_->GetTask("t"),
              StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 40001")));
}

TEST_F(PostgresServerErrors, LockedRowEndsInALockTimeout) {
  Connect(milliseconds(600));
  ASSERT_OK(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})));
  Sql("CREATE TABLE released (id integer)");
  auto other = Between("UPDATE dag_tasks SET error = 'x' WHERE id = 't'",
                       "EXISTS (SELECT FROM released)");
  EXPECT_THAT(session_->Apply(BatchOf({Put(MakeTask("t"), {2, 2})})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 55P03")));
  EXPECT_OK(session_->Ping());
  Sql("INSERT INTO released VALUES (1)");
  other.get();
}

TEST_F(PostgresServerErrors, SlowStatementEndsInAStatementTimeout) {
  Connect(milliseconds(600));
  Sql(kSlowTrigger);
  EXPECT_THAT(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 57014")));
  EXPECT_OK(session_->Ping());
}

// The server may make no file larger than a segment of its own log and half a page: a table that
// grows beyond it meets what a full disk says.
TEST_F(PostgresServerErrors, FullDiskIsTriedAgain) {
  const auto server = PostgresServer::Start({}, {"prlimit", "--fsize=16781312"});
  const std::string database = server->NewDatabase();
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(server->Dsn(database), {}));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  server->Query("INSERT INTO dag_task_activity_logs (id, message, created_at) "
                "SELECT n, repeat('x', 1900), now() FROM generate_series(1, 8100) n",
                database);
  Status status;
  for (int i = 0; i < 200 && status.ok(); ++i) {
    Activity activity = MakeActivity("a" + std::to_string(i));
    activity.message = std::string(1900, 'x');
    status = session->Apply(BatchOf({}, {activity})).status();
  }
  EXPECT_THAT(status, StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 53100")));
}

TEST_F(PostgresServerErrors, ReadOnlyServerIsTriedAgain) {
  Connect();
  Sql("ALTER ROLE owner SET default_transaction_read_only = on");
  ASSERT_OK_AND_ASSIGN(const auto session, backend_->Connect());
  EXPECT_THAT(session->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})),
              StatusIs(StatusCode::kUnavailable, AllOf(HasSubstr("default_transaction_read_only"),
                                                       HasSubstr("SQLSTATE 25006"))));
  Sql("ALTER ROLE owner RESET default_transaction_read_only");
}

TEST_F(PostgresServerErrors, RowsThatTheServerRefusesAreRejected) {
  Connect();
  Sql("ALTER TABLE dag_tasks ADD CONSTRAINT taste CHECK (error <> 'sour')");
  Sql("CREATE UNIQUE INDEX one_name ON dag_tasks (node_id) WHERE node_id <> ''");
  Sql("ALTER TABLE dag_tasks ADD COLUMN short varchar(3) GENERATED ALWAYS AS (processing_state) "
      "STORED");
  Task sour = MakeTask("t");
  sour.error = "sour";
  Task wide = MakeTask("t");
  wide.processing_state = "wide";
  Task named = MakeTask("t"), same = MakeTask("u");
  named.node_id = same.node_id = "n";
  Task nul = MakeTask("t");
  nul.error = std::string("a\0b", 3);
  Task no_json = MakeTask("t");
  no_json.payload = "{";
  const std::vector<std::pair<std::vector<TaskChange>, const char*>> cases = {
      {{Put(sour, {1, 1})}, "SQLSTATE 23514"},
      {{Put(wide, {1, 1})}, "SQLSTATE 22001"},
      {{Put(named, {1, 1}), Put(same, {1, 1})}, "SQLSTATE 23505"},
      {{Put(nul, {1, 1})}, "SQLSTATE 22021"},
      {{Put(no_json, {1, 1})}, "SQLSTATE 22P02"},
  };
  for (const auto& [changes, state] : cases) {
    EXPECT_THAT(session_->Apply(BatchOf(changes)),
                StatusIs(StatusCode::kRejected, HasSubstr(state)));
  }
  EXPECT_OK(session_->Apply(BatchOf({Put(MakeTask("t"), {1, 1})})));
}

TEST_F(PostgresServerErrors, RowsThatCopyRefusesAreRejected) {
  Connect();
  Sql("ALTER TABLE dag_task_activity_logs ADD CONSTRAINT taste CHECK (message <> 'sour')");
  Sql("CREATE UNIQUE INDEX one_action ON dag_task_activity_logs (action) WHERE action <> ''");
  Activity sour = MakeActivity("a");
  sour.message = "sour";
  EXPECT_THAT(session_->Apply(BatchOf({}, {MakeActivity("b"), sour})),
              StatusIs(StatusCode::kRejected,
                       AllOf(HasSubstr("SQLSTATE 23514"), Not(HasSubstr("CONTEXT")))));
  Activity nul = MakeActivity("a");
  nul.message = std::string("a\0b", 3);
  EXPECT_THAT(session_->Apply(BatchOf({}, {nul})),
              StatusIs(StatusCode::kRejected, HasSubstr("SQLSTATE 22021")));
  // Another constraint than the id's: in idempotent form it is still refused.
  Activity one = MakeActivity("a"), two = MakeActivity("b");
  one.action = two.action = "same";
  Batch batch = BatchOf({}, {one, two});
  ASSERT_OK_AND_ASSIGN(const ApplyResult result, session_->Apply(batch));
  EXPECT_EQ(result.outcome, ApplyResult::Outcome::kRepeatIdempotent);
  batch.idempotent = true;
  EXPECT_THAT(session_->Apply(batch), StatusIs(StatusCode::kRejected, HasSubstr("SQLSTATE 23505")));
  Activity no_json = MakeActivity("a");
  no_json.data = "{";
  for (const bool idempotent : {false, true}) {
    Batch bad = BatchOf({}, {no_json});
    bad.idempotent = idempotent;
    EXPECT_THAT(session_->Apply(bad), StatusIs(StatusCode::kRejected, HasSubstr("SQLSTATE 22P02")));
  }
}

TEST_F(PostgresServerErrors, WhereCopyIsNotSupportedArraysAreUsed) {
  Connect();
  Sql("ALTER TABLE dag_task_activity_logs ENABLE ROW LEVEL SECURITY; "
      "ALTER TABLE dag_task_activity_logs FORCE ROW LEVEL SECURITY; "
      "CREATE POLICY everything ON dag_task_activity_logs USING (true)");
  EXPECT_THAT(session_->Apply(BatchOf({}, {MakeActivity("a")})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("SQLSTATE 0A000")));
  ASSERT_OK(session_->Apply(BatchOf({}, {MakeActivity("a")})));
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_task_activity_logs", database_), "1");
}

}  // namespace
}  // namespace taskwal::storage
