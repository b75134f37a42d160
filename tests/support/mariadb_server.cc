#include "tests/support/mariadb_server.h"

#include <gtest/gtest.h>
#include <mysql.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace taskwal {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartMax{60};
constexpr const char* kOwner = "'owner'@'127.0.0.1'";
constexpr const char* kPassword = "p@ss:w/rd %41";
constexpr const char* kPasswordInDsn = "p%40ss%3Aw%2Frd%20%2541";

// The test fails by it, and what it has made goes.
[[noreturn]] void GiveUp(const std::string& why) {
  throw std::runtime_error("these tests need MariaDB (scripts/setup installs it): " + why);
}

std::string ContentOf(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct CloseConnection {
  void operator()(MYSQL* mysql) const { mysql_close(mysql); }
};
using Connection = std::unique_ptr<MYSQL, CloseConnection>;

Connection ConnectAsRoot(const std::string& socket, const std::string& database) {
  Connection mysql(mysql_init(nullptr));
  const unsigned int seconds = 10;
  mysql_options(mysql.get(), MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
  const char* name = database.empty() ? nullptr : database.c_str();
  if (mysql_real_connect(mysql.get(), nullptr, "root", nullptr, name, 0, socket.c_str(), 0) ==
      nullptr) {
    return nullptr;
  }
  return mysql;
}

}  // namespace

MariadbServer& MariadbServer::Shared() {
  static const std::unique_ptr<MariadbServer> server = Start();
  return *server;
}

std::unique_ptr<MariadbServer> MariadbServer::Start(const std::vector<std::string>& arguments) {
  std::unique_ptr<MariadbServer> server(new MariadbServer(arguments));
  server->Install();
  server->StartAgain();
  for (const std::string user : {kOwner, "'owner'@'localhost'"}) {
    server->Query("CREATE USER " + user + " IDENTIFIED BY '" + kPassword + "'");
    server->Query("GRANT ALL ON `t\\_%`.* TO " + user);
  }
  return server;
}

MariadbServer::MariadbServer(std::vector<std::string> arguments)
    : arguments_(std::move(arguments)), port_(FreePort()) {
  Own(dir_.path());
}

MariadbServer::~MariadbServer() = default;

std::unique_ptr<MariadbServer> MariadbServer::Join(const std::vector<std::string>& arguments) {
  std::unique_ptr<MariadbServer> server(new MariadbServer(arguments));
  std::filesystem::create_directory(server->dir_.File("data"));
  server->Own(server->dir_.File("data"));
  server->Launch();
  return server;
}

void MariadbServer::Own(const std::string& path) const {
  if (::geteuid() != 0) return;
  const passwd* user = ::getpwnam("mysql");
  if (user == nullptr) GiveUp("there is no user mysql");
  if (::chown(path.c_str(), user->pw_uid, user->pw_gid) != 0) GiveUp("chown failed");
}

// At its start a server removes what it takes for the temporary tables of a dead one: in /tmp those
// of the servers that start beside it, too.
std::string MariadbServer::OwnTemporaries() const { return "--tmpdir=" + dir_.path(); }

void MariadbServer::Install() const {
  std::vector<std::string> command = {"mariadb-install-db", "--no-defaults",
                                      "--datadir=" + dir_.File("data"), OwnTemporaries(),
                                      "--auth-root-authentication-method=normal", "--skip-test-db",
                                      "--skip-name-resolve", "--innodb-log-file-size=8M"};
  // Those that shape the files must be the same from the start.
  for (const std::string& argument : arguments_) {
    if (argument.starts_with("--innodb")) command.push_back(argument);
  }
  const RunOutcome made = Run(Unprivileged("mysql", std::move(command)), {}, {{}, dir_.path()});
  if (made.exit.code != 0) GiveUp("mariadb-install-db: " + made.err + made.out);
}

void MariadbServer::Launch() {
  std::vector<std::string> command = {
      "/usr/sbin/mariadbd", "--no-defaults", "--datadir=" + dir_.File("data"), OwnTemporaries(),
      "--socket=" + dir_.File("s"), "--pid-file=" + dir_.File("pid"),
      "--log-error=" + dir_.File("log"), "--bind-address=127.0.0.1",
      "--port=" + std::to_string(port_), "--skip-name-resolve",
      // What a server may be set to that ours must not depend on.
      "--character-set-server=latin1", "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
      "--default-time-zone=+05:45", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M",
      "--performance-schema=OFF"};
  command.insert(command.end(), arguments_.begin(), arguments_.end());
  auto child = Child::Start(Unprivileged("mysql", std::move(command)), {{}, dir_.path()});
  if (!child.ok()) GiveUp(child.status().ToString());
  server_ = std::move(child).value();
}

void MariadbServer::StartAgain() {
  Launch();
  const auto until = SteadyClock::now() + kStartMax;
  while (!IsUp()) {
    if (HasEnded(server_->pid()) || SteadyClock::now() > until) {
      GiveUp("mariadbd did not start:\n" + ContentOf(dir_.File("log")) + server_->errors());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// A node of a cluster takes connections before it takes statements.
bool MariadbServer::IsUp() const {
  Rows users;
  return Ask("SELECT count(*) FROM mysql.global_priv", "", &users).empty();
}

void MariadbServer::Kill() {
  server_->Kill(SIGKILL);
  server_->Wait();
}

void MariadbServer::Stop() {
  server_->Kill(SIGTERM);
  server_->Wait();
}

std::string MariadbServer::NewDatabase() {
  static std::atomic<int> made{0};
  std::string name = "t_" + std::to_string(++made);
  Query("CREATE DATABASE " + name);
  return name;
}

std::string MariadbServer::Dsn(const std::string& database) const { return DsnAt(port_, database); }

std::string MariadbServer::SocketDsn(const std::string& database) const {
  return std::string("mysql://owner:") + kPasswordInDsn + "@localhost/" + database +
         "?unix_socket=" + dir_.File("s");
}

std::string MariadbServer::DsnAt(std::uint16_t port, const std::string& database) const {
  return std::string("mysql://owner:") + kPasswordInDsn + "@127.0.0.1:" + std::to_string(port) +
         "/" + database;
}

std::string MariadbServer::Ask(const std::string& sql, const std::string& database,
                               Rows* rows) const {
  const Connection mysql = ConnectAsRoot(dir_.File("s"), database);
  if (mysql == nullptr) return "cannot connect";
  if (mysql_real_query(mysql.get(), sql.data(), sql.size()) != 0) return mysql_error(mysql.get());
  MYSQL_RES* result = mysql_store_result(mysql.get());
  if (result == nullptr) return mysql_error(mysql.get());
  while (MYSQL_ROW row = mysql_fetch_row(result)) {
    const unsigned long* lengths = mysql_fetch_lengths(result);
    rows->emplace_back();
    for (unsigned i = 0; i < mysql_num_fields(result); ++i) {
      rows->back().emplace_back(row[i] != nullptr ? std::string(row[i], lengths[i]) : "NULL");
    }
  }
  mysql_free_result(result);
  return "";
}

MariadbServer::Rows MariadbServer::Query(const std::string& sql, const std::string& database) {
  Rows rows;
  const std::string error = Ask(sql, database, &rows);
  if (!error.empty()) ADD_FAILURE() << sql << ": " << error;
  return rows;
}

MariadbServer::Rows MariadbServer::TryQuery(const std::string& sql) {
  Rows rows;
  return Ask(sql, "", &rows).empty() ? rows : Rows();
}

std::string MariadbServer::Value(const std::string& sql, const std::string& database) {
  const Rows rows = Query(sql, database);
  return rows.empty() || rows[0].empty() ? "" : rows[0][0];
}

ServerSetting::ServerSetting(MariadbServer& server, const std::string& name,
                             const std::string& value)
    : server_(server), name_(name), before_(server.Value("SELECT @@global." + name)) {
  server_.Query("SET GLOBAL " + name + " = " + value);
}

ServerSetting::~ServerSetting() { server_.Query("SET GLOBAL " + name_ + " = " + before_); }

RevokedRights::RevokedRights(MariadbServer& server) : server_(server) {
  server_.Query(std::string("REVOKE ALL ON `t\\_%`.* FROM ") + kOwner);
}

RevokedRights::~RevokedRights() {
  server_.Query(std::string("GRANT ALL ON `t\\_%`.* TO ") + kOwner);
}

std::uint64_t MariadbServer::Status(const std::string& name) {
  const Rows rows = Query("SHOW GLOBAL STATUS LIKE '" + name + "'");
  return rows.size() == 1 ? std::strtoull(rows[0][1].c_str(), nullptr, 10) : 0;
}

}  // namespace taskwal
