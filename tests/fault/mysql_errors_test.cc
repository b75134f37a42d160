// What every failure of a real MariaDB server becomes: nothing of it is a row's fault.
#include <gmock/gmock.h>

#include <future>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage/mysql/mysql_connection.h"
#include "storage/mysql/mysql_dsn.h"
#include "tests/fault/mysql_fixture.h"

namespace taskwal::storage {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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

// A node of a cluster whose transaction another one broke may go on behind it as if there had been
// none, and a COMMIT then succeeds.
TEST_F(MysqlServer, ATransactionThatTheServerEndedIsNotCommitted) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget target, ParseMysqlDsn(dsn_));
  ASSERT_OK_AND_ASSIGN(const auto connection, MysqlConnection::Open(target, "mysql", seconds(30)));
  const auto write = [&](const char* in_between) {
    return connection->Run("write", [&]() -> Status {
      connection->Begin();
      connection->Execute("DELETE FROM dag_tasks");
      connection->Execute(in_between);
      return connection->Commit();
    });
  };
  EXPECT_OK(write("DO 1"));
  EXPECT_THAT(write("ROLLBACK"), StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1213)")));
  EXPECT_OK(write("DO 1"));
}

TEST_F(MysqlServer, WorkBesideAStatementIsDoneWhileTheServerIsAtIt) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget target, ParseMysqlDsn(dsn_));
  ASSERT_OK_AND_ASSIGN(const auto connection, MysqlConnection::Open(target, "mysql", seconds(30)));
  ASSERT_OK_AND_ASSIGN(const auto holder, MysqlConnection::Open(target, "mysql", seconds(30)));
  EXPECT_OK(holder->Run("hold", [&]() -> Status {
    holder->Execute("DO GET_LOCK('beside', 0)");
    return Status::Ok();
  }));
  // The statement ends with the lock only because of what is done beside it.
  const auto is_ours = connection->Run("wait", [&]() -> Result<std::int64_t> {
    connection->Execute("DO GET_LOCK('beside', 10)", [&] {
      EXPECT_OK(holder->Run("release", [&]() -> Status {
        holder->Execute("DO RELEASE_LOCK('beside')");
        return Status::Ok();
      }));
    });
    MysqlResult owner = connection->Query("SELECT IS_USED_LOCK('beside') <=> CONNECTION_ID()");
    owner.Step();
    return owner.Int();
  });
  ASSERT_OK(is_ours);
  EXPECT_EQ(*is_ours, 1);
}

TEST_F(MysqlServer, WorkThatFailsBesideAStatementLeavesNoAnswerBehind) {
  ASSERT_OK(session_->Apply(OneTask()));
  ASSERT_OK_AND_ASSIGN(const MysqlTarget target, ParseMysqlDsn(dsn_));
  ASSERT_OK_AND_ASSIGN(const auto connection, MysqlConnection::Open(target, "mysql", seconds(30)));
  const auto write = [&](const char* sql) {
    return connection->Run("write", [&]() -> Status {
      connection->Begin();
      connection->Execute(sql, [] { throw std::runtime_error("out of memory"); });
      return connection->Commit();
    });
  };
  EXPECT_THAT(write("DELETE FROM dag_tasks"),
              StatusIs(StatusCode::kUnavailable, HasSubstr("out of memory")));
  EXPECT_THAT(write("DELETE FROM nowhere"),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1146)")));
  const auto stored = connection->Run("count", [&]() -> Result<std::int64_t> {
    MysqlResult count = connection->Query("SELECT count(*) FROM dag_tasks");
    count.Step();
    return count.Int();
  });
  ASSERT_OK(stored);
  EXPECT_EQ(*stored, 1);
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
  EXPECT_THAT(OpenMysql(dsn)->Connect(),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("wrong user or password"), HasSubstr("(MySQL 1045)"),
                             HasSubstr("owner:***@"), Not(HasSubstr("hunter2")))));
}

TEST_F(MysqlServer, ARefusedConnectionIsUnavailable) {
  EXPECT_THAT(OpenMysql(server_->DsnAt(FreePort(), database_))->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2002)")));
  EXPECT_THAT(OpenMysql("mysql://owner@localhost/d?unix_socket=/nonexistent")->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2002)")));
}

TEST_F(MysqlServer, AnUnknownDatabaseIsAwaitedOrNotFound) {
  const std::string dsn = server_->Dsn("t_absent");
  EXPECT_THAT(OpenMysql(dsn)->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1049)")));
  EXPECT_THAT(OpenMysql(dsn, seconds(5), BulkPath::kByCapability, false)->Connect(),
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
  rival.Do("INSERT INTO dag_tasks (id, error, created_at, updated_at) "
           "SELECT concat('r', seq), '', now(), now() FROM seq_1_to_1000");
  rival.Do("UPDATE dag_tasks SET error = 'mine' WHERE id = 'z'");
  auto applied = std::async(std::launch::async, [&] {
    return session_->Apply(MakeBatch({Put(MakeTask("a"), {2, 2}), Put(MakeTask("z"), {2, 2})}));
  });
  EXPECT_TRUE(Eventually([&] { return server_->Status("Innodb_row_lock_current_waits") > 0; }));
  rival.Do("UPDATE dag_tasks SET error = 'mine' WHERE id = 'a'");
  rival.Do("COMMIT");
  EXPECT_THAT(applied.get(), StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1213)")));
  EXPECT_TRUE(session_->HasGivenWay());
  EXPECT_OK(session_->Ping());
  EXPECT_FALSE(session_->HasGivenWay());
}

// Whoever asks has no transaction to repeat: a read goes on by itself, as long as this comes to an
// end.
TEST_F(MysqlServer, ADeadlockOfAReadIsNotTheCallersBusiness) {
  ASSERT_OK(session_->Apply(MakeBatch({Put(MakeTask("t"), {1, 1})}, {MakeActivity("a")})));
  server_->Query("CREATE SEQUENCE asked", database_);
  const auto busy = [&](const std::string& condition) {
    server_->Query("CREATE OR REPLACE FUNCTION busy() RETURNS INT BEGIN IF " + condition +
                       " THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF; "
                       "RETURN 1; END",
                   database_);
  };
  busy("nextval(asked) % 3 <> 0");
  for (const std::string table : {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints"}) {
    server_->Query("RENAME TABLE " + table + " TO real_" + table, database_);
    server_->Query("CREATE ALGORITHM = TEMPTABLE VIEW " + table + " AS SELECT * FROM real_" +
                       table + " WHERE busy() = 1",
                   database_);
  }
  EXPECT_OK(session_->GetTask("t"));
  EXPECT_OK(session_->QueryTasks({}));
  EXPECT_OK(session_->QueryActivities({}));
  EXPECT_OK(session_->ReadLog(log_));
  EXPECT_OK(session_->HighestStamp());
  busy("TRUE");
  EXPECT_THAT(session_->GetTask("t"),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 1213)")));
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

}  // namespace
}  // namespace taskwal::storage
