// A PostgreSQL server of this test binary's own: private data, a socket in a temporary directory
// and a free loopback port, unprivileged, a direct child that dies with the test. One thread at a
// time, but for Query and Value.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {

class PostgresServer {
 public:
  // The one most tests share, started at first use and ended with the binary. Each takes a database
  // of its own on it (NewDatabase). Without a server the binary ends with a message.
  static PostgresServer& Shared();
  // One for a test that stops it, kills it or sets it up otherwise: "fsync=off". `wrapper` comes
  // before the server's command.
  static std::unique_ptr<PostgresServer> Start(const std::vector<std::string>& settings = {},
                                               const std::vector<std::string>& wrapper = {});
  // One that follows `primary` by streaming, set up alike; returns once it does.
  static std::unique_ptr<PostgresServer> StandbyOf(const PostgresServer& primary);
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  // An empty database with a fresh name, owned by the unprivileged role `owner`. In truth a schema,
  // which the DSN makes the only one: a database of its own would cost each test 7 MB.
  std::string NewDatabase();
  // The owner's, over loopback (the password needs percent-encoding) or over the socket.
  [[nodiscard]] std::string Dsn(const std::string& database) const;
  [[nodiscard]] std::string SocketDsn(const std::string& database) const;
  // What stands in the database comes before the server's own functions.
  [[nodiscard]] std::string ShadowedDsn(const std::string& database) const;
  // To those who come by that DSN the server calls itself CockroachDB, and has no advisory locks.
  void PassForCockroach(const std::string& database) const;
  // With another port (that of a proxy).
  [[nodiscard]] std::string DsnAt(std::uint16_t port, const std::string& database) const;
  // Whichever of the two takes writes.
  [[nodiscard]] std::string DsnWith(const PostgresServer& other, const std::string& database) const;
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] pid_t pid() const { return server_->pid(); }

  // As superuser. A failure fails the test.
  using Rows = std::vector<std::vector<std::string>>;
  Rows Query(const std::string& sql, const std::string& database = "public") const;
  std::string Value(const std::string& sql, const std::string& database = "public") const;
  // True as soon as the query's value is "t"; false after 30 s.
  bool WaitUntil(const std::string& sql, const std::string& database = "public") const;

  void Kill();  // -9
  void Stop();  // in good order
  void StartAgain();
  // Takes effect at once in sessions that follow the server's setting.
  void Set(const std::string& setting, const std::string& value);

  // --- of a standby
  // What the primary commits from now on does not come here any more.
  void StopFollowing();
  void Promote();

 private:
  PostgresServer(std::vector<std::string> settings, std::vector<std::string> wrapper);
  void TakeDirectory();
  void Install();
  void InstallFrom(const PostgresServer& primary);

  TempDir dir_;
  const std::vector<std::string> settings_;
  const std::vector<std::string> wrapper_;
  std::uint16_t port_ = 0;
  std::unique_ptr<Child> server_;
};

}  // namespace taskwal
