// What only a real server can show of the backend: the way rows are written, the schema's making,
// the session's settings.
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/logging.h"
#include "base/status_macros.h"
#include "storage/backend.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/certificates.h"
#include "tests/support/postgres_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class PostgresServerTest : public ::testing::Test {
 protected:
  std::unique_ptr<Session> Connect(const BackendOptions& options = {}) {
    auto backend = MakeBackend(server_.Dsn(database_), options);
    EXPECT_OK(backend);
    backend_ = std::move(backend).value();
    auto session = backend_->Connect();
    EXPECT_OK(session);
    return session.ok() ? std::move(session).value() : nullptr;
  }

  PostgresServer& server_ = PostgresServer::Shared();
  const std::string database_ = server_.NewDatabase();
  std::unique_ptr<Backend> backend_;
};

TEST_F(PostgresServerTest, ABatchIsAHandfulOfBulkStatements) {
  const auto session = Connect();
  server_.Query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
  Batch batch;
  batch.wal_id = Uuid::Make();
  batch.epoch = 1;
  ASSERT_OK(session->RegisterLog(batch.wal_id, 1, std::vector<Lsn>(16, 0)));
  for (std::uint32_t p = 0; p < 16; ++p) batch.moves.push_back({p, 0, 2000});
  for (int i = 1000; i < 2000; ++i) {
    batch.tasks.push_back(Put(MakeTask("t" + std::to_string(i)), {1, 1}));
    batch.activities.push_back({MakeActivity("a" + std::to_string(i)), 1});
  }
  server_.Query("SELECT pg_stat_statements_reset()");
  ASSERT_OK(session->Apply(batch));
  const auto rows = server_.Query(
      "SELECT split_part(query, ' ', 1), calls, rows FROM pg_stat_statements "
      "WHERE userid = 'owner'::regrole ORDER BY 1");
  EXPECT_THAT(rows, ElementsAre(ElementsAre("BEGIN", "1", "0"), ElementsAre("COMMIT", "1", "0"),
                                ElementsAre("COPY", "1", "1000"),
                                ElementsAre("INSERT", "1", "1000"),
                                ElementsAre("UPDATE", "1", "16")));
}

// CockroachDB is used like this: no COPY, no advisory locks, and no temporary tables anyway.
TEST_F(PostgresServerTest, AServerThatCallsItselfCockroachIsAskedForArraysAlone) {
  server_.Query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
  server_.PassForCockroach(database_);
  server_.Query("SELECT pg_stat_statements_reset()");
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(server_.ShadowedDsn(database_), {}));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  Batch batch;
  batch.wal_id = Uuid::Make();
  batch.epoch = 1;
  ASSERT_OK(session->RegisterLog(batch.wal_id, 1, std::vector<Lsn>(16, 0)));
  for (std::uint32_t p = 0; p < 16; ++p) batch.moves.push_back({p, 0, 2000});
  for (int i = 1000; i < 2000; ++i) {
    batch.tasks.push_back(Put(MakeTask("t" + std::to_string(i)), {1, 1}));
    batch.activities.push_back({MakeActivity("a" + std::to_string(i)), 1});
  }
  ASSERT_OK(session->Apply(batch));
  ASSERT_OK_AND_ASSIGN(const ApplyResult twice, session->Apply(batch));
  EXPECT_EQ(twice.outcome, ApplyResult::Outcome::kWatermarkMoved);
  const std::string asked = "FROM pg_stat_statements WHERE userid = 'owner'::regrole AND query ~* ";
  EXPECT_EQ(server_.Value("SELECT count(*) " + asked +
                          "'^copy|temp|advisory_xact_lock\\(| collate'"),
            "0");
  EXPECT_THAT(server_.Query("SELECT calls, rows " + asked + "'^insert into dag_.*unnest'"),
              ElementsAre(ElementsAre("1", "1000"), ElementsAre("1", "1000")));
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_tasks", database_), "1000");
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_task_activity_logs", database_), "1000");
}

TEST_F(PostgresServerTest, ManyOpenersMakeOneSchema) {
  std::vector<std::unique_ptr<Backend>> backends;
  for (int i = 0; i < 8; ++i) {
    ASSERT_OK_AND_ASSIGN(auto backend, MakeBackend(server_.Dsn(database_), {}));
    backends.push_back(std::move(backend));
  }
  {
    std::vector<std::jthread> openers;
    for (const auto& backend : backends) {
      openers.emplace_back([&] { EXPECT_OK(backend->Connect()); });
    }
  }
  for (const auto& backend : backends) EXPECT_EQ(backend->db_id(), backends[0]->db_id());
  EXPECT_EQ(server_.Value("SELECT count(*) FROM taskwal_schema", database_), "2");
}

TEST_F(PostgresServerTest, NewerSchemaIsRefusedWithWhatToDo) {
  Connect();
  server_.Query("INSERT INTO taskwal_schema SELECT 99, now(), db_id FROM taskwal_schema LIMIT 1",
                database_);
  EXPECT_THAT(backend_->Connect(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("use a newer taskwal")));
}

TEST_F(PostgresServerTest, MigrationThatWasCutShortIsRepeated) {
  Connect();
  server_.Query("DELETE FROM taskwal_schema; DROP TABLE wal_checkpoints", database_);
  ASSERT_OK_AND_ASSIGN(const auto another, MakeBackend(server_.Dsn(database_), {}));
  ASSERT_OK(another->Connect());
  EXPECT_EQ(server_.Value("SELECT to_regclass('wal_checkpoints')", database_), "wal_checkpoints");
}

TEST_F(PostgresServerTest, QueriesMakeNoTables) {
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(server_.Dsn(database_), {.create = false}));
  EXPECT_THAT(backend->Connect(),
              StatusIs(StatusCode::kNotFound, HasSubstr("taskwal schema migrate")));
  EXPECT_EQ(server_.Value("SELECT to_regclass('dag_tasks')", database_), "NULL");
}

TEST_F(PostgresServerTest, TheToolSaysOnceThatCommitsMayBeLostAndOnlyWhereItMakesSome) {
  const std::string dsn = server_.Dsn(database_);
  const TempDir dir;
  server_.Query("ALTER ROLE owner SET synchronous_commit = off");
  const RunOutcome ingest =
      taskwal::Run({TASKWAL_TOOL, "ingest", "--wal", dir.File("wal"), "--db", dsn},
                   R"({"op":"log_activity","activity":{"id":"a"}})" "\n");
  const RunOutcome query = taskwal::Run({TASKWAL_TOOL, "query", "stats", "--db", dsn});
  server_.Query("ALTER ROLE owner RESET synchronous_commit");
  EXPECT_EQ(ingest.exit.code, 0);
  EXPECT_THAT(ingest.err, AllOf(StartsWith("taskwal warning: "),
                                HasSubstr("settings=\"synchronous_commit=off\"")));
  EXPECT_EQ(std::count(ingest.err.begin(), ingest.err.end(), '\n'), 1) << ingest.err;
  EXPECT_EQ(query.exit.code, 0);
  EXPECT_EQ(query.err, "");
}

TEST_F(PostgresServerTest, CommitsWaitForTheDiskWhateverTheServerIsSetTo) {
  server_.Query("ALTER ROLE owner SET synchronous_commit = off");
  std::ostringstream lines;
  SetLogger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines)));
  const auto session = Connect();
  ASSERT_OK(backend_->Connect());
  SetLogger(nullptr);
  server_.Query("ALTER ROLE owner RESET synchronous_commit");
  const std::string text = lines.str();
  EXPECT_THAT(text, HasSubstr("settings=\"synchronous_commit=off\""));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  // A row that says under which setting it was written.
  server_.Query("ALTER TABLE dag_tasks ALTER COLUMN processing_state SET DEFAULT ''; "
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "NEW.processing_state = current_setting('synchronous_commit'); RETURN NEW; END $$; "
                "CREATE TRIGGER note BEFORE INSERT ON dag_tasks FOR EACH ROW "
                "EXECUTE FUNCTION note()",
                database_);
  Batch batch;
  batch.tasks = {Put(MakeTask("t"), {1, 1})};
  ASSERT_OK(session->Apply(batch));
  EXPECT_EQ(server_.Value("SELECT processing_state FROM dag_tasks", database_), "on");
}

// What a role or a database asks of its sessions is not for ours: each row says under which
// settings it was written.
TEST_F(PostgresServerTest, KeepsIdleSessionsAndReadsWhatIsCommitted) {
  server_.Query("ALTER ROLE owner SET idle_session_timeout = '1h'; "
                "ALTER ROLE owner SET default_transaction_isolation = 'serializable'");
  const auto session = Connect();
  server_.Query("ALTER ROLE owner RESET idle_session_timeout; "
                "ALTER ROLE owner RESET default_transaction_isolation");
  server_.Query("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "NEW.processing_state = current_setting('idle_session_timeout') || ', ' || "
                "current_setting('transaction_isolation'); RETURN NEW; END $$; "
                "CREATE TRIGGER note BEFORE INSERT ON dag_tasks FOR EACH ROW "
                "EXECUTE FUNCTION note()",
                database_);
  Batch batch;
  batch.tasks = {Put(MakeTask("t"), {1, 1})};
  ASSERT_OK(session->Apply(batch));
  EXPECT_EQ(server_.Value("SELECT processing_state FROM dag_tasks", database_),
            "0, read committed");
}

TEST_F(PostgresServerTest, ARolesShortTimeForStatementsIsNotOurs) {
  server_.Query("ALTER ROLE owner SET statement_timeout = '1ms'");
  const auto session = Connect();
  server_.Query("ALTER ROLE owner RESET statement_timeout");
  ASSERT_NE(session, nullptr);
  server_.Query("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'; "
                "CREATE TRIGGER slow BEFORE INSERT ON dag_tasks FOR EACH ROW "
                "EXECUTE FUNCTION slow()",
                database_);
  Batch batch;
  batch.tasks = {Put(MakeTask("t"), {1, 1})};
  EXPECT_OK(session->Apply(batch));
}

// Each waits for the others' lock with a snapshot that must not be older than what they commit.
TEST_F(PostgresServerTest, ManyFirstOpenersMakeOneSchemaUnderRepeatableReadToo) {
  server_.Query("ALTER ROLE owner SET default_transaction_isolation = 'repeatable read'");
  std::vector<Uuid> ids(6);
  {
    std::vector<std::jthread> openers;
    for (Uuid& id : ids) {
      openers.emplace_back([this, &id] {
        const auto backend = MakeBackend(server_.Dsn(database_), {});
        ASSERT_OK(backend);
        EXPECT_OK((*backend)->Connect());
        id = (*backend)->db_id();
      });
    }
  }
  server_.Query("ALTER ROLE owner RESET default_transaction_isolation");
  for (const Uuid& id : ids) EXPECT_EQ(id, ids.front());
  EXPECT_EQ(server_.Value("SELECT count(*) FROM taskwal_schema", database_), "2");
}

TEST_F(PostgresServerTest, WarnsOnceOfAServerThatLosesCommits) {
  const auto server = PostgresServer::Start({"fsync=off", "full_page_writes=off"});
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(server->Dsn(server->NewDatabase()), {}));
  std::ostringstream lines;
  SetLogger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines)));
  ASSERT_OK(backend->Connect());
  ASSERT_OK(backend->Connect());
  SetLogger(nullptr);
  const std::string text = lines.str();
  EXPECT_THAT(text, HasSubstr("settings=\"fsync=off, full_page_writes=off\""));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

Result<std::unique_ptr<Session>> ConnectTo(const std::string& dsn) {
  TASKWAL_ASSIGN(const auto backend, MakeBackend(dsn, {}));
  return backend->Connect();
}

TEST(PostgresTls, ParametersOfTheUriDecideWhomToTrust) {
  const Certificates certificates("postgres");
  const std::string ca = certificates.File("ca", "pem"), other = certificates.File("other", "pem");
  const auto server =
      PostgresServer::Start({"ssl=on", "ssl_cert_file=" + certificates.File("server", "pem"),
                             "ssl_key_file=" + certificates.File("server", "key")});
  const std::string database = server->NewDatabase();
  const std::string dsn = server->Dsn(database);
  ASSERT_OK_AND_ASSIGN(const auto session, ConnectTo(dsn + "&sslmode=require"));
  EXPECT_EQ(server->Value("SELECT string_agg(DISTINCT ssl::text, ',') FROM pg_stat_ssl "
                          "JOIN pg_stat_activity USING (pid) WHERE application_name = 'taskwal'"),
            "true");
  EXPECT_OK(ConnectTo(dsn + "&sslmode=verify-ca&sslrootcert=" + ca));
  EXPECT_OK(ConnectTo(dsn + "&sslmode=verify-full&sslrootcert=" + ca));
  for (const std::string mode : {"verify-ca", "verify-full"}) {
    EXPECT_THAT(ConnectTo(dsn + "&sslmode=" + mode + "&sslrootcert=" + other),
                StatusIs(StatusCode::kUnavailable, HasSubstr("certificate verify failed")))
        << mode;
  }
}

TEST_F(PostgresServerTest, AServerWithoutTlsIsRefusedWhereItIsAskedFor) {
  EXPECT_THAT(ConnectTo(server_.Dsn(database_) + "&sslmode=require"),
              StatusIs(StatusCode::kUnavailable, HasSubstr("does not support SSL")));
}

TEST_F(PostgresServerTest, ExampleRuns) {
  const std::string tool(TASKWAL_TOOL);
  const char* path = std::getenv("PATH");
  ChildOptions options;
  options.environment = {"PATH=" + tool.substr(0, tool.rfind('/')) + ":" + path};
  const RunOutcome outcome = taskwal::Run(
      {TASKWAL_SOURCE_DIR "/examples/postgres/run.sh", server_.Dsn(database_)}, "", options);
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_tasks WHERE status = 'completed' "
                          "AND payload ->> 'n' IN ('1', '2', '3')",
                          database_),
            "3");
}

}  // namespace
}  // namespace taskwal::storage
