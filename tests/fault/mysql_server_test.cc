// A real MariaDB server and our tables in it: migrations that meet or are cut short, what JSON it
// takes, settings that lose commits, sockets, lists of hosts, TLS.
#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <future>
#include <sstream>
#include <string>
#include <vector>

#include "base/logging.h"
#include "storage/schema.h"
#include "tests/fault/mysql_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// --- the schema

TEST_F(MysqlServer, ManyThatOpenAtOnceMakeOneSchema) {
  const std::string dsn = server_->Dsn(server_->NewDatabase());
  std::vector<std::future<Uuid>> ids;
  for (int i = 0; i < 8; ++i) {
    ids.push_back(std::async(std::launch::async, [&] {
      const auto backend = OpenMysql(dsn);
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
    const auto reader =
        OpenMysql(server_->Dsn(database), seconds(5), BulkPath::kByCapability, false);
    EXPECT_THAT(reader->Connect(), StatusIs(StatusCode::kNotFound, HasSubstr("schema migrate")));
    EXPECT_OK(OpenMysql(server_->Dsn(database))->Connect()) << made;
    EXPECT_EQ(server_->Value("SELECT count(*) FROM taskwal_schema", database), "2");
    EXPECT_OK(reader->Connect());
  }
}

TEST_F(MysqlServer, AColumnThatAMigrationCutShortHasAddedIsNotAddedAgain) {
  server_->Query("DELETE FROM taskwal_schema WHERE version = 2", database_);
  const auto reader =
      OpenMysql(server_->Dsn(database_), seconds(5), BulkPath::kByCapability, false);
  EXPECT_THAT(reader->Connect(), StatusIs(StatusCode::kInvalidArgument,
                                          HasSubstr("run `taskwal schema migrate` first")));
  const auto backend = OpenMysql(server_->Dsn(database_));
  ASSERT_OK(backend->Connect());
  EXPECT_EQ(server_->Value("SELECT max(version) FROM taskwal_schema", database_), "2");
  EXPECT_OK(reader->Connect());
}

TEST_F(MysqlServer, WhoMeetsAnotherMigratorTriesAgainLater) {
  const std::string database = server_->NewDatabase();
  const std::string name = "(CONCAT('taskwal_', MD5('" + database + "')))";
  const auto backend = OpenMysql(server_->Dsn(database), seconds(2));
  {
    Rival migrator(*server_, database);
    migrator.Do("DO GET_LOCK" + name.substr(0, name.size() - 1) + ", 0)");
    EXPECT_THAT(backend->Connect(),
                StatusIs(StatusCode::kUnavailable,
                         AllOf(HasSubstr("another process is migrating"), HasSubstr("try again"))));
    EXPECT_THAT(server_->Query("SHOW TABLES", database), ::testing::IsEmpty());
  }
  EXPECT_TRUE(Eventually([&] { return server_->Value("SELECT IS_FREE_LOCK" + name) == "1"; }));
  EXPECT_OK(backend->Connect());
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

// --- JSON

// What is checked before a call is acknowledged is at least what this server asks for.
TEST_F(MysqlServer, EscapesInJsonAreTakenAsTheCallsTakeThem) {
  std::vector<TaskChange> taken;
  for (const char* json : {R"("\ud83d\ude00")", R"("\uDBFF\uDFFF\ud800\udc00")", R"("\u0000")",
                           R"("\ud7ff\ue000\uffff")", R"({"\ud83d\ude00":"\\ud800"})"}) {
    Task task = MakeTask("t" + std::to_string(taken.size()));
    task.payload = json;
    EXPECT_OK(CheckTask(task)) << json;
    taken.push_back(Put(task, {9, 9}));
  }
  EXPECT_OK(session_->Apply(MakeBatch(taken)));
  EXPECT_EQ(Counted(), std::to_string(taken.size()) + " 0");
  for (const char* half : {R"("\ud800")", R"("\udc00")", R"("\udc00\ud800")"}) {
    Task task = MakeTask("half");
    task.payload = half;
    EXPECT_FALSE(CheckTask(task).ok()) << half;
  }
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
  EXPECT_OK(OpenMysql(durable.Dsn(durable.NewDatabase()))->Connect());
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

TEST_F(MysqlServer, ASettingThatIsChangedLaterIsSeenByTheNextConnection) {
  std::ostringstream lines;
  SetLogger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines)));
  EXPECT_OK(backend_->Connect());
  EXPECT_EQ(lines.str(), "");
  {
    const ServerSetting setting(*server_, "innodb_flush_log_at_trx_commit", "2");
    EXPECT_OK(backend_->Connect());
    EXPECT_THAT(lines.str(), HasSubstr("innodb_flush_log_at_trx_commit is not 1"));
    lines.str("");
    EXPECT_OK(backend_->Connect());
    EXPECT_EQ(lines.str(), "");
  }
  SetLogger(nullptr);
}

TEST_F(MysqlServer, TheToolSaysOnceThatCommitsMayBeLostAndOnlyWhereItMakesSome) {
  const std::string dsn = server_->Dsn(database_);
  const TempDir dir;
  const ServerSetting setting(*server_, "innodb_flush_log_at_trx_commit", "2");
  const RunOutcome ingest =
      taskwal::Run({TASKWAL_TOOL, "ingest", "--wal", dir.File("wal"), "--db", dsn},
                   R"({"op":"log_activity","activity":{"id":"a"}})" "\n");
  EXPECT_EQ(ingest.exit.code, 0);
  EXPECT_THAT(ingest.err, AllOf(StartsWith("taskwal warning: "),
                                HasSubstr("innodb_flush_log_at_trx_commit is not 1")));
  EXPECT_EQ(std::count(ingest.err.begin(), ingest.err.end(), '\n'), 1) << ingest.err;
  const RunOutcome query = taskwal::Run({TASKWAL_TOOL, "query", "stats", "--db", dsn});
  EXPECT_EQ(query.exit.code, 0);
  EXPECT_EQ(query.err, "");
}

// --- the ways in

TEST_F(MysqlServer, TheSocketIsAWayIn) {
  const auto backend = OpenMysql(server_->SocketDsn(database_));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  EXPECT_OK(session->Apply(OneTask()));
  EXPECT_EQ(backend->db_id(), backend_->db_id());
}

TEST_F(MysqlServer, TheNextHostOfAListIsTried) {
  const std::string dead = "127.0.0.1:" + std::to_string(FreePort());
  std::string dsn = dsn_;
  dsn.insert(dsn.rfind('@') + 1, dead + ",");
  EXPECT_OK(OpenMysql(dsn)->Connect());
}

TEST(MysqlTls, ParametersOfTheDsnDecideWhomToTrust) {
  const Certificates certificates("mysql");
  const std::string ca = certificates.File("ca", "pem"), other = certificates.File("other", "pem");
  auto server = MariadbServer::Start({"--ssl-ca=" + ca,
                                      "--ssl-cert=" + certificates.File("server", "pem"),
                                      "--ssl-key=" + certificates.File("server", "key")});
  server->Query("ALTER USER 'owner'@'127.0.0.1' REQUIRE SSL");
  const std::string dsn = server->Dsn(server->NewDatabase());
  EXPECT_THAT(OpenMysql(dsn)->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("1045")));
  EXPECT_OK(OpenMysql(dsn + "?ssl_mode=required")->Connect());
  EXPECT_OK(OpenMysql(dsn + "?ssl_mode=verify_ca&ssl_ca=" + ca)->Connect());
  EXPECT_OK(OpenMysql(dsn + "?ssl_mode=verify_identity&ssl_ca=" + ca)->Connect());
  for (const std::string mode : {"ssl_verify_server_cert=1", "ssl_mode=verify_ca"}) {
    EXPECT_THAT(OpenMysql(dsn + "?" + mode + "&ssl_ca=" + other)->Connect(),
                StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2026)")))
        << mode;
  }
}

// Over TCP all the same, and not to the machine's own server behind its default socket.
TEST(MysqlTls, ACertificateForLocalhostIsForLocalhost) {
  const Certificates certificates("mysql", "localhost");
  const std::string ca = certificates.File("ca", "pem");
  auto server = MariadbServer::Start({"--ssl-ca=" + ca,
                                      "--ssl-cert=" + certificates.File("server", "pem"),
                                      "--ssl-key=" + certificates.File("server", "key")});
  const std::string verified = "?ssl_mode=verify_identity&ssl_ca=" + ca;
  const std::string by_address = server->Dsn(server->NewDatabase());
  std::string by_name = by_address;
  by_name.replace(by_name.rfind("@127.0.0.1"), 10, "@localhost");
  EXPECT_OK(OpenMysql(by_name + verified)->Connect());
  EXPECT_OK(OpenMysql(by_name)->Connect());
  EXPECT_THAT(OpenMysql(by_address + verified)->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(MySQL 2026)")));
  std::string list = by_name;
  list.insert(list.rfind('@') + 1, "127.0.0.1:" + std::to_string(FreePort()) + ",");
  EXPECT_OK(OpenMysql(list)->Connect());
  EXPECT_OK(OpenMysql(list + verified)->Connect());
}

TEST(MysqlTls, AServerWithoutTlsIsRefusedWhereItIsAskedFor) {
  MariadbServer& server = MariadbServer::Shared();
  EXPECT_THAT(OpenMysql(server.Dsn(server.NewDatabase()) + "?ssl_mode=required")->Connect(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("TLS is asked for")));
}

}  // namespace
}  // namespace taskwal::storage
