// A MariaDB server of this test binary's own: private data, a socket in a temporary directory and a
// free loopback port, unprivileged, a direct child that dies with the test. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/private_server.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {

class MariadbServer {
 public:
  // The one most tests share, started at first use and ended with the binary. Each takes a database
  // of its own on it (NewDatabase). Never null: without a server the binary ends with a message.
  static MariadbServer& Shared();
  // One for a test that stops it, kills it or sets it up otherwise. `arguments` come last.
  static std::unique_ptr<MariadbServer> Start(const std::vector<std::string>& arguments = {});
  // A further node of a cluster, whose data come from another one: not waited for. Ask IsUp.
  static std::unique_ptr<MariadbServer> Join(const std::vector<std::string>& arguments);
  ~MariadbServer();
  MariadbServer(const MariadbServer&) = delete;
  MariadbServer& operator=(const MariadbServer&) = delete;

  // An empty database with a fresh name, and its owner's DSN over loopback (the password needs
  // percent-encoding) or over the socket.
  std::string NewDatabase();
  [[nodiscard]] std::string Dsn(const std::string& database) const;
  [[nodiscard]] std::string SocketDsn(const std::string& database) const;
  // With another port (that of a proxy).
  [[nodiscard]] std::string DsnAt(std::uint16_t port, const std::string& database) const;
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string socket() const { return dir_.File("s"); }
  [[nodiscard]] pid_t pid() const { return server_->pid(); }

  // As root, in `database` where one is given. A failure fails the test.
  using Rows = std::vector<std::vector<std::string>>;
  Rows Query(const std::string& sql, const std::string& database = {});
  // Nothing where it fails.
  Rows TryQuery(const std::string& sql);
  std::string Value(const std::string& sql, const std::string& database = {});
  // A counter of SHOW GLOBAL STATUS.
  std::uint64_t Status(const std::string& name);

  [[nodiscard]] bool IsUp() const;  // answers questions about its tables
  void Kill();       // -9
  void Stop();       // in good order
  void Launch();     // without waiting
  void StartAgain();

 private:
  explicit MariadbServer(std::vector<std::string> arguments);
  std::string OwnTemporaries() const;
  void Install() const;
  void Own(const std::string& path) const;
  // Returns what went wrong.
  std::string Ask(const std::string& sql, const std::string& database, Rows* rows) const;

  TempDir dir_;
  const std::vector<std::string> arguments_;
  std::uint16_t port_ = 0;
  std::unique_ptr<Child> server_;
};

// A global variable of the server, for as long as this lives.
class ServerSetting {
 public:
  ServerSetting(MariadbServer& server, const std::string& name, const std::string& value);
  ~ServerSetting();
  ServerSetting(const ServerSetting&) = delete;
  ServerSetting& operator=(const ServerSetting&) = delete;

 private:
  MariadbServer& server_;
  const std::string name_, before_;
};

// The owner's right to everything, taken away for as long as this lives. Sessions that there are
// keep what they have.
class RevokedRights {
 public:
  explicit RevokedRights(MariadbServer& server);
  ~RevokedRights();
  RevokedRights(const RevokedRights&) = delete;
  RevokedRights& operator=(const RevokedRights&) = delete;

 private:
  MariadbServer& server_;
};

}  // namespace taskwal
