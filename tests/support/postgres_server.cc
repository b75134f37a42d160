#include "tests/support/postgres_server.h"

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "tests/support/private_server.h"

// libpqxx before 7.6.1 leaks the result of a statement on which the connection was lost: it asks
// that connection for its encoding, which throws (github.com/jtv/libpqxx/pull/500). The name is one
// that the leak checker asks for.
extern "C" const char* __lsan_default_suppressions();  // NOLINT
extern "C" const char* __lsan_default_suppressions() {
  return "leak:PQmakeEmptyPGresult\n";
}

namespace taskwal {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartMax{60};
constexpr std::chrono::seconds kWaitMax{30};
constexpr const char* kPrograms = "/usr/lib/postgresql/15/bin/";
constexpr const char* kPassword = "p@ss:w/rd %41";
constexpr const char* kPasswordInDsn = "p%40ss%3Aw%2Frd%20%2541";

// The test fails by it, and what it has made goes.
[[noreturn]] void GiveUp(const std::string& why) {
  throw std::runtime_error("these tests need PostgreSQL (scripts/setup installs it): " + why);
}

struct Finish {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, Finish>;

Connection ConnectAsSuperuser(const std::string& directory, std::uint16_t port,
                              const std::string& database) {
  const std::string conninfo = "host=" + directory + " port=" + std::to_string(port) +
                               " user=postgres dbname=postgres connect_timeout=10 options=" +
                               "-csearch_path=" + database;
  Connection connection(PQconnectdb(conninfo.c_str()));
  return PQstatus(connection.get()) == CONNECTION_OK ? std::move(connection) : nullptr;
}

}  // namespace

PostgresServer& PostgresServer::Shared() {
  static const std::unique_ptr<PostgresServer> server = Start();
  return *server;
}

std::unique_ptr<PostgresServer> PostgresServer::Start(const std::vector<std::string>& settings,
                                                      const std::vector<std::string>& wrapper) {
  std::unique_ptr<PostgresServer> server(new PostgresServer(settings, wrapper));
  server->Install();
  server->StartAgain();
  server->Query("CREATE ROLE owner LOGIN PASSWORD '" + std::string(kPassword) + "'");
  return server;
}

std::unique_ptr<PostgresServer> PostgresServer::StandbyOf(const PostgresServer& primary) {
  std::unique_ptr<PostgresServer> standby(new PostgresServer(primary.settings_, {}));
  standby->InstallFrom(primary);
  standby->StartAgain();
  EXPECT_TRUE(standby->WaitUntil("SELECT count(*) = 1 FROM pg_stat_wal_receiver "
                                 "WHERE status = 'streaming'"));
  return standby;
}

PostgresServer::PostgresServer(std::vector<std::string> settings, std::vector<std::string> wrapper)
    : settings_(std::move(settings)), wrapper_(std::move(wrapper)), port_(FreePort()) {}

// Waits for its processes: what they still write would be left behind.
PostgresServer::~PostgresServer() {
  server_->Kill(SIGCONT);
  server_->Kill(SIGQUIT);
  server_->Wait();
}

void PostgresServer::TakeDirectory() {
  if (::geteuid() != 0) return;
  const passwd* user = ::getpwnam("postgres");
  if (user == nullptr) GiveUp("there is no user postgres");
  if (::chown(dir_.path().c_str(), user->pw_uid, user->pw_gid) != 0) GiveUp("chown failed");
}

void PostgresServer::Install() {
  TakeDirectory();
  const RunOutcome made =
      Run(Unprivileged("postgres", {std::string(kPrograms) + "initdb", "-D", dir_.File("data"),
                                    "-A", "trust", "-U", "postgres", "-E", "UTF8",
                                    "--locale=C.UTF-8", "--no-sync"}),
          {}, {{}, dir_.path()});
  if (made.exit.code != 0) GiveUp("initdb: " + made.err + made.out);
  std::ofstream(dir_.File("data/pg_hba.conf"))
      << "local all,replication postgres trust\nlocal all all scram-sha-256\n"
      << "host all all 127.0.0.1/32 scram-sha-256\n";
}

void PostgresServer::InstallFrom(const PostgresServer& primary) {
  TakeDirectory();
  const RunOutcome made = Run(
      Unprivileged("postgres",
                   {std::string(kPrograms) + "pg_basebackup", "-h", primary.dir_.path(), "-p",
                    std::to_string(primary.port_), "-U", "postgres", "-D", dir_.File("data"), "-R",
                    "-X", "stream", "-c", "fast", "--no-sync"}),
      {}, {{}, dir_.path()});
  if (made.exit.code != 0) GiveUp("pg_basebackup: " + made.err + made.out);
}

void PostgresServer::StartAgain() {
  std::vector<std::string> command = wrapper_;
  command.insert(command.end(), {std::string(kPrograms) + "postgres", "-D", dir_.File("data"), "-p",
                                 std::to_string(port_), "-k", dir_.path()});
  std::vector<std::string> settings = {
      "listen_addresses=127.0.0.1", "shared_buffers=32MB", "max_connections=60",
      "shared_preload_libraries=pg_stat_statements",
      // What a server may be set to that ours must not depend on.
      "timezone=Asia/Kathmandu", "datestyle=SQL, DMY"};
  settings.insert(settings.end(), settings_.begin(), settings_.end());
  for (const std::string& setting : settings) command.insert(command.end(), {"-c", setting});
  const std::vector<std::string> line = Unprivileged("postgres", std::move(command));
  const auto until = SteadyClock::now() + kStartMax;
  const auto launch = [&] {
    auto child = Child::Start(line, {{}, dir_.path()});
    if (!child.ok()) GiveUp(child.status().ToString());
    server_ = std::move(child).value();
  };
  // Processes of a server that was killed take a while to notice: it does not start beside them.
  const auto is_too_early = [&] {
    return server_->errors().find("pre-existing shared memory") != std::string::npos;
  };
  launch();
  while (ConnectAsSuperuser(dir_.path(), port_, "public") == nullptr) {
    const bool is_late = SteadyClock::now() > until;
    if (is_late || (HasEnded(server_->pid()) && !is_too_early())) {
      GiveUp("postgres did not start: " + server_->errors());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (!is_too_early()) continue;
    server_->Wait();
    launch();
  }
}

void PostgresServer::Kill() {
  server_->Kill(SIGKILL);
  server_->Wait();
}

void PostgresServer::Stop() {
  server_->Kill(SIGINT);
  server_->Wait();
}

void PostgresServer::Set(const std::string& setting, const std::string& value) {
  Query("ALTER SYSTEM SET " + setting + " = '" + value + "'");
  Query("SELECT pg_reload_conf()");
}

void PostgresServer::StopFollowing() {
  Set("primary_conninfo", "");
  EXPECT_TRUE(WaitUntil("SELECT count(*) = 0 FROM pg_stat_wal_receiver"));
  EXPECT_TRUE(WaitUntil("SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()"));
}

void PostgresServer::Promote() {
  EXPECT_EQ(Value("SELECT pg_promote()"), "t");
}

std::string PostgresServer::NewDatabase() {
  static std::atomic<int> made{0};
  std::string name = "t_" + std::to_string(++made);
  Query("CREATE SCHEMA " + name + " AUTHORIZATION owner");
  return name;
}

std::string PostgresServer::Dsn(const std::string& database) const {
  return DsnAt(port_, database);
}

std::string PostgresServer::ShadowedDsn(const std::string& database) const {
  return Dsn(database) + "%2Cpg_catalog";
}

void PostgresServer::PassForCockroach(const std::string& database) const {
  Query("CREATE FUNCTION version() RETURNS text LANGUAGE sql AS "
        "$$ SELECT 'CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu)' $$",
        database);
  for (const char* lock : {"pg_try_advisory_xact_lock_shared(integer)",
                           "pg_advisory_xact_lock(bigint)"}) {
    Query(std::string("CREATE FUNCTION ") + lock + " RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
          "RAISE EXCEPTION 'unimplemented' USING ERRCODE = 'feature_not_supported'; END $$",
          database);
  }
}

std::string PostgresServer::SocketDsn(const std::string& database) const {
  return std::string("postgresql://owner:") + kPasswordInDsn + "@/postgres?host=" +
         dir_.path() + "&port=" + std::to_string(port_) + "&options=-csearch_path%3D" + database;
}

std::string PostgresServer::DsnAt(std::uint16_t port, const std::string& database) const {
  return std::string("postgresql://owner:") + kPasswordInDsn + "@127.0.0.1:" +
         std::to_string(port) + "/postgres?options=-csearch_path%3D" + database;
}

std::string PostgresServer::DsnWith(const PostgresServer& other,
                                    const std::string& database) const {
  std::string dsn = Dsn(database) + "&target_session_attrs=read-write";
  dsn.insert(dsn.find("/postgres?"), ",127.0.0.1:" + std::to_string(other.port_));
  return dsn;
}

PostgresServer::Rows PostgresServer::Query(const std::string& sql,
                                           const std::string& database) const {
  Rows rows;
  const Connection connection = ConnectAsSuperuser(dir_.path(), port_, database);
  if (connection == nullptr) {
    ADD_FAILURE() << sql << ": cannot connect";
    return rows;
  }
  const std::unique_ptr<PGresult, decltype(&PQclear)> result(
      PQexec(connection.get(), sql.c_str()), &PQclear);
  const ExecStatusType status = PQresultStatus(result.get());
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    ADD_FAILURE() << sql << ": " << PQerrorMessage(connection.get());
    return rows;
  }
  for (int row = 0; row < PQntuples(result.get()); ++row) {
    rows.emplace_back();
    for (int column = 0; column < PQnfields(result.get()); ++column) {
      const bool is_null = PQgetisnull(result.get(), row, column) == 1;
      rows.back().emplace_back(is_null ? "NULL" : PQgetvalue(result.get(), row, column));
    }
  }
  return rows;
}

std::string PostgresServer::Value(const std::string& sql, const std::string& database) const {
  const Rows rows = Query(sql, database);
  return rows.empty() || rows[0].empty() ? "" : rows[0][0];
}

bool PostgresServer::WaitUntil(const std::string& sql, const std::string& database) const {
  const auto until = SteadyClock::now() + kWaitMax;
  while (Value(sql, database) != "t") {
    if (SteadyClock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace taskwal
