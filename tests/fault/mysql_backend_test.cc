// The MySQL backend on a real MariaDB server: which path its rows take, what every failure of the
// server becomes, migrations that meet or are cut short, TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mysql.h>
#include <spdlog/sinks/ostream_sink.h>

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/logging.h"
#include "storage/dsn.h"
#include "storage/mysql/mysql_backend.h"
#include "storage/schema.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Outcome = ApplyResult::Outcome;
using BulkPath = MysqlBackend::BulkPath;

std::unique_ptr<Backend> OpenAt(const std::string& dsn, milliseconds timeout = seconds(20),
                                BulkPath path = BulkPath::kByCapability, bool create = true) {
  auto target = ParseMysqlDsn(dsn);
  EXPECT_OK(target);
  return std::make_unique<MysqlBackend>(MaskDsn(dsn), *target, BackendOptions{timeout, create},
                                        path);
}

bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

class MysqlServer : public ::testing::Test {
 protected:
  void SetUp() override { UseServer(MariadbServer::Shared()); }

  void UseServer(MariadbServer& server) {
    server_ = &server;
    database_ = server.NewDatabase();
    dsn_ = server.Dsn(database_);
    Reopen(seconds(20));
  }
  void Reopen(milliseconds timeout, BulkPath path = BulkPath::kByCapability) {
    backend_ = OpenAt(dsn_, timeout, path);
    ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
    ASSERT_OK(session_->RegisterLog(log_, 1, std::vector<Lsn>{0}));
  }
  Batch MakeBatch(std::vector<TaskChange> tasks, std::vector<Activity> activities = {}) const {
    Batch batch;
    batch.wal_id = log_;
    batch.epoch = 1;
    batch.tasks = std::move(tasks);
    for (Activity& activity : activities) batch.activities.push_back({std::move(activity), 1});
    return batch;
  }
  Batch OneTask(const std::string& id = "t") const {
    return MakeBatch({Put(MakeTask(id), {9, 9})});
  }
  std::string Admin(const std::string& sql) { return server_->Value(sql, database_); }
  std::string Counted() {
    return Admin("SELECT count(*) FROM dag_tasks") + " " +
           Admin("SELECT count(*) FROM dag_task_activity_logs");
  }

  MariadbServer* server_ = nullptr;
  std::string database_, dsn_;
  const Uuid log_ = Uuid::Make();
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Session> session_;
};

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

TEST_F(MysqlServer, ArrayBindingIsTakenWhereTheServerHasIt) {
  const std::uint64_t before = server_->Status("Com_stmt_execute");
  ASSERT_OK(session_->Apply(OneTask()));
  EXPECT_EQ(server_->Status("Com_stmt_execute"), before + 1);
  Reopen(seconds(20), BulkPath::kMultiRow);
  ASSERT_OK(session_->Apply(OneTask("u")));
  EXPECT_EQ(server_->Status("Com_stmt_execute"), before + 1);
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
        Poison{"against_a_narrower_column",
               [] {
                 return std::string("ALTER TABLE dag_tasks MODIFY retry_count TINYINT NOT NULL");
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

// --- the server's trouble

TEST_F(MysqlServer, ADroppedColumnOrTableIsNoPoison) {
  server_->Query("ALTER TABLE dag_tasks DROP COLUMN sub_dag_path", database_);
  EXPECT_THAT(session_->Apply(OneTask()),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1054)")));
  server_->Query("ALTER TABLE dag_tasks ADD COLUMN sub_dag_path TEXT NOT NULL", database_);
  EXPECT_OK(session_->Apply(OneTask()));
  server_->Query("DROP TABLE dag_task_activity_logs", database_);
  EXPECT_THAT(session_->Apply(MakeBatch({}, {MakeActivity("a")})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1146)")));
}

TEST_F(MysqlServer, AMissingRightIsNoPoison) {
  const std::string user = "'owner'@'127.0.0.1'";
  {
    const RevokedRights revoked(*server_);
    EXPECT_THAT(backend_->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1044)")));
    server_->Query("GRANT SELECT, UPDATE ON " + database_ + ".* TO " + user);
    ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
    EXPECT_THAT(session_->Apply(OneTask()),
                StatusIs(StatusCode::kUnavailable,
                         AllOf(HasSubstr("a right is missing"), HasSubstr("(MySQL 1142)"))));
  }
  server_->Query("REVOKE SELECT, UPDATE ON " + database_ + ".* FROM " + user);
  ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
  EXPECT_OK(session_->Apply(OneTask()));
}

TEST_F(MysqlServer, AWrongPasswordIsSaidWithoutIt) {
  const std::string dsn = "mysql://owner:hunter2@127.0.0.1:" + std::to_string(server_->port()) +
                          "/" + database_;
  EXPECT_THAT(OpenAt(dsn)->Connect(),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("wrong user or password"), HasSubstr("(MySQL 1045)"),
                             HasSubstr("owner:***@"), Not(HasSubstr("hunter2")))));
}

TEST_F(MysqlServer, ARefusedConnectionIsUnavailable) {
  EXPECT_THAT(OpenAt(server_->DsnAt(FreePort(), database_))->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2002)")));
  EXPECT_THAT(OpenAt("mysql://owner@localhost/d?unix_socket=/nonexistent")->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2002)")));
}

TEST_F(MysqlServer, AnUnknownDatabaseIsAwaitedOrNotFound) {
  const std::string dsn = server_->Dsn("t_absent");
  EXPECT_THAT(OpenAt(dsn)->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1049)")));
  EXPECT_THAT(OpenAt(dsn, seconds(5), BulkPath::kByCapability, false)->Connect(),
              StatusIs(StatusCode::kNotFound, HasSubstr("(MySQL 1049)")));
}

TEST_F(MysqlServer, AReadOnlyServerIsUnavailable) {
  {
    const ServerSetting read_only(*server_, "read_only", "1");
    EXPECT_THAT(session_->Apply(OneTask()),
                StatusIs(StatusCode::kUnavailable,
                         AllOf(HasSubstr("read-only"), HasSubstr("(MySQL 1290)"))));
    EXPECT_OK(session_->Ping());
  }
  EXPECT_OK(session_->Apply(OneTask()));
}

TEST_F(MysqlServer, TooManyConnectionsAreUnavailable) {
  const ServerSetting few(*server_, "max_connections", "10");
  std::vector<std::unique_ptr<Session>> sessions;
  Status refused;
  while (refused.ok() && sessions.size() < 20) {
    auto session = backend_->Connect();
    refused = session.status();
    if (session.ok()) sessions.push_back(std::move(session).value());
  }
  EXPECT_THAT(refused, StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1040)")));
  sessions.clear();
  EXPECT_TRUE(Eventually([&] { return backend_->Connect().ok(); }));
}

TEST_F(MysqlServer, AFullTablespaceIsNoPoison) {
  const std::vector<std::string> small = {
      "--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:20M"};
  auto server = MariadbServer::Start(small);
  UseServer(*server);
  Status full;
  for (int i = 0; i < 100 && full.ok(); ++i) {
    Task task = MakeTask("t" + std::to_string(i));
    task.payload = '"' + std::string(1u << 20, 'x') + '"';
    full = session_->Apply(MakeBatch({Put(task, {9, 9})})).status();
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1114)")));
}

TEST_F(MysqlServer, ALostConnectionStaysLostAndAFreshOneWorks) {
  const std::string id = Admin("SELECT id FROM information_schema.processlist WHERE user = 'owner' "
                               "AND db = '" + database_ + "'");
  server_->Query("KILL " + id);
  EXPECT_TRUE(Eventually([&] { return !session_->Ping().ok(); }));
  EXPECT_THAT(session_->Apply(OneTask()),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 20")));
  ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
  EXPECT_OK(session_->Apply(OneTask()));
}

TEST_F(MysqlServer, AKilledServerIsUnavailableUntilItIsBack) {
  server_->Kill();
  EXPECT_THAT(session_->Apply(OneTask()), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(backend_->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 200")));
  server_->StartAgain();
  ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
  EXPECT_OK(session_->Apply(OneTask()));
}

// --- locks and time

// A second client with a transaction of its own.
class Rival {
 public:
  Rival(const MariadbServer& server, const std::string& database) : mysql_(mysql_init(nullptr)) {
    const std::string socket = server.socket();
    EXPECT_NE(mysql_real_connect(mysql_, nullptr, "root", nullptr, database.c_str(), 0,
                                 socket.c_str(), 0),
              nullptr);
    Do("BEGIN");
  }
  ~Rival() { mysql_close(mysql_); }
  Rival(const Rival&) = delete;
  Rival& operator=(const Rival&) = delete;

  void Do(const std::string& sql) {
    EXPECT_EQ(mysql_real_query(mysql_, sql.data(), sql.size()), 0) << mysql_error(mysql_);
  }

 private:
  MYSQL* mysql_;
};

TEST_F(MysqlServer, ALockWaitTimeoutIsUnavailableAndRollsEverythingBack) {
  Reopen(seconds(3));
  ASSERT_OK(session_->Apply(OneTask("z")));
  Rival rival(*server_, database_);
  rival.Do("UPDATE dag_tasks SET error = 'mine' WHERE id = 'z'");
  const Batch batch = MakeBatch({Put(MakeTask("a"), {10, 10}), Put(MakeTask("z"), {10, 10})});
  EXPECT_THAT(session_->Apply(batch),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1205)")));
  rival.Do("COMMIT");
  EXPECT_EQ(Counted(), "1 0");
  EXPECT_OK(session_->Apply(OneTask("a")));
}

TEST_F(MysqlServer, ADeadlockIsUnavailable) {
  ASSERT_OK(session_->Apply(MakeBatch({Put(MakeTask("a"), {1, 1}), Put(MakeTask("z"), {1, 1})})));
  Rival rival(*server_, database_);
  // With more done than we have: the victim is the other one.
  rival.Do("INSERT INTO dag_tasks (id, created_at, updated_at) "
           "SELECT concat('r', seq), now(), now() FROM seq_1_to_1000");
  rival.Do("UPDATE dag_tasks SET error = 'mine' WHERE id = 'z'");
  auto applied = std::async(std::launch::async, [&] {
    return session_->Apply(MakeBatch({Put(MakeTask("a"), {2, 2}), Put(MakeTask("z"), {2, 2})}));
  });
  EXPECT_TRUE(Eventually([&] { return server_->Status("Innodb_row_lock_current_waits") > 0; }));
  rival.Do("UPDATE dag_tasks SET error = 'mine' WHERE id = 'a'");
  rival.Do("COMMIT");
  EXPECT_THAT(applied.get(), StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1213)")));
  EXPECT_OK(session_->Ping());
}

TEST_F(MysqlServer, AStatementEndsAtTheTimeLimitAndTheConnectionGoesOn) {
  Reopen(seconds(2));
  server_->Query("CREATE TRIGGER slow BEFORE INSERT ON dag_tasks FOR EACH ROW DO SLEEP(30)",
                 database_);
  EXPECT_THAT(session_->Apply(OneTask()),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("time limit"), HasSubstr("(MySQL 1969)"))));
  server_->Query("DROP TRIGGER slow", database_);
  EXPECT_OK(session_->Apply(OneTask()));
}

TEST_F(MysqlServer, SessionsBringTheirOwnSettings) {
  Reopen(seconds(2));
  // As one of them sees it.
  server_->Query("CREATE TRIGGER told BEFORE INSERT ON dag_tasks FOR EACH ROW "
                 "SET NEW.error = concat_ws(' ', @@idle_write_transaction_timeout, "
                 "@@innodb_lock_wait_timeout, @@max_statement_time, @@tx_isolation, "
                 "@@time_zone, @@wsrep_sync_wait)",
                 database_);
  ASSERT_OK(session_->Apply(OneTask()));
  EXPECT_EQ(session_->GetTask("t")->task.error,
            "2 1 1.800000 READ-COMMITTED +00:00 1");
}

// --- the schema

TEST_F(MysqlServer, ManyThatOpenAtOnceMakeOneSchema) {
  const std::string dsn = server_->Dsn(server_->NewDatabase());
  std::vector<std::future<Uuid>> ids;
  for (int i = 0; i < 8; ++i) {
    ids.push_back(std::async(std::launch::async, [&] {
      const auto backend = OpenAt(dsn);
      EXPECT_OK(backend->Connect());
      return backend->db_id();
    }));
  }
  const Uuid first = ids[0].get();
  EXPECT_FALSE(first.IsZero());
  for (std::size_t i = 1; i < ids.size(); ++i) EXPECT_EQ(ids[i].get(), first);
}

TEST_F(MysqlServer, AMigrationThatWasCutShortAnywhereIsGoneOnWith) {
  ASSERT_OK_AND_ASSIGN(const auto migrations, MigrationsOf("mysql"));
  const std::string script(migrations[0]);
  std::vector<std::string> tables;
  for (std::size_t at = 0, end = 0; (end = script.find(";\n", at)) != std::string::npos;
       at = end + 2) {
    tables.push_back(script.substr(at, end - at));
  }
  ASSERT_EQ(tables.size(), 4u);
  for (std::size_t made = 0; made <= tables.size(); ++made) {
    const std::string database = server_->NewDatabase();
    for (std::size_t i = 0; i < made; ++i) server_->Query(tables[i], database);
    // Not yet a database of ours for those who may not make one.
    const auto reader = OpenAt(server_->Dsn(database), seconds(5), BulkPath::kByCapability, false);
    EXPECT_THAT(reader->Connect(), StatusIs(StatusCode::kNotFound, HasSubstr("schema migrate")));
    EXPECT_OK(OpenAt(server_->Dsn(database))->Connect()) << made;
    EXPECT_EQ(server_->Value("SELECT count(*) FROM taskwal_schema", database), "1");
    EXPECT_OK(reader->Connect());
  }
}

TEST_F(MysqlServer, ANewerSchemaIsRefused) {
  server_->Query("INSERT INTO taskwal_schema VALUES (99, now(), '')", database_);
  EXPECT_THAT(backend_->Connect(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("use a newer taskwal")));
}

TEST_F(MysqlServer, OnceMadeTheSchemaNeedsNoRightToMakeTables) {
  const std::string user = "'owner'@'127.0.0.1'";
  const std::string rights = "SELECT, INSERT, UPDATE, DELETE ON " + database_ + ".*";
  {
    const RevokedRights revoked(*server_);
    server_->Query("GRANT " + rights + " TO " + user);
    ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
    EXPECT_OK(session_->Apply(OneTask()));
  }
  server_->Query("REVOKE " + rights + " FROM " + user);
}

// --- what would lose commits

TEST_F(MysqlServer, AServerThatMayLoseCommitsIsNamedOnce) {
  std::ostringstream lines;
  SetLogger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines)));
  auto server = MariadbServer::Start(
      {"--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--log-bin",
       "--binlog-format=MIXED", "--server-id=1"});
  UseServer(*server);
  EXPECT_OK(backend_->Connect());
  MariadbServer& durable = MariadbServer::Shared();
  EXPECT_OK(OpenAt(durable.Dsn(durable.NewDatabase()))->Connect());
  SetLogger(nullptr);
  std::vector<std::string> warnings;
  std::istringstream in(lines.str());
  for (std::string line; std::getline(in, line);) warnings.push_back(line);
  EXPECT_THAT(warnings,
              ::testing::ElementsAre(HasSubstr("innodb_flush_log_at_trx_commit is not 1"),
                                     HasSubstr("innodb_doublewrite is off"),
                                     HasSubstr("sync_binlog is not 1")));
  EXPECT_OK(session_->Apply(OneTask()));
}

// --- the ways in

TEST_F(MysqlServer, TheSocketIsAWayIn) {
  const auto backend = OpenAt(server_->SocketDsn(database_));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  EXPECT_OK(session->Apply(OneTask()));
  EXPECT_EQ(backend->db_id(), backend_->db_id());
}

TEST_F(MysqlServer, TheNextHostOfAListIsTried) {
  const std::string dead = "127.0.0.1:" + std::to_string(FreePort());
  std::string dsn = dsn_;
  dsn.insert(dsn.rfind('@') + 1, dead + ",");
  EXPECT_OK(OpenAt(dsn)->Connect());
}

class MysqlTls : public ::testing::Test {
 protected:
  // An authority of its own, and a certificate for 127.0.0.1 signed by it.
  void SetUp() override {
    for (const char* name : {"ca", "other"}) {
      Tool({"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
            std::string("/CN=") + name, "-keyout", File(name, "key"), "-out", File(name, "pem")});
    }
    Tool({"req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-addext",
          "subjectAltName=IP:127.0.0.1", "-keyout", File("server", "key"), "-out",
          File("server", "csr")});
    Tool({"x509", "-req", "-in", File("server", "csr"), "-CA", File("ca", "pem"), "-CAkey",
          File("ca", "key"), "-CAcreateserial", "-days", "30", "-copy_extensions", "copy", "-out",
          File("server", "pem")});
    Tool({"rsa", "-in", File("server", "key"), "-out", File("server", "key")});
    std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
    std::filesystem::permissions(File("server", "key"), std::filesystem::perms(0644));
  }

  std::string File(const std::string& name, const char* kind) const {
    return dir_.File(name + "." + kind);
  }
  static void Tool(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    const RunOutcome made = taskwal::Run(arguments);
    ASSERT_EQ(made.exit.code, 0) << made.err;
  }

  TempDir dir_;
};

TEST_F(MysqlTls, ParametersOfTheDsnDecideWhomToTrust) {
  auto server = MariadbServer::Start({"--ssl-ca=" + File("ca", "pem"),
                                      "--ssl-cert=" + File("server", "pem"),
                                      "--ssl-key=" + File("server", "key")});
  server->Query("ALTER USER 'owner'@'127.0.0.1' REQUIRE SSL");
  const std::string dsn = server->Dsn(server->NewDatabase());
  EXPECT_THAT(OpenAt(dsn)->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("1045")));
  EXPECT_OK(OpenAt(dsn + "?ssl_mode=required")->Connect());
  EXPECT_OK(OpenAt(dsn + "?ssl_mode=verify_identity&ssl_ca=" + File("ca", "pem"))->Connect());
  EXPECT_THAT(OpenAt(dsn + "?ssl_verify_server_cert=1&ssl_ca=" + File("other", "pem"))->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2026)")));
}

TEST_F(MysqlTls, AServerWithoutTlsIsRefusedWhereItIsAskedFor) {
  MariadbServer& server = MariadbServer::Shared();
  EXPECT_THAT(OpenAt(server.Dsn(server.NewDatabase()) + "?ssl_mode=required")->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("TLS is asked for")));
}

}  // namespace
}  // namespace taskwal::storage
