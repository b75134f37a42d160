// Making a connection ready takes many questions: all of them together have the time of one call.
#include <gtest/gtest.h>

#include "storage/backend.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tcp_proxy.h"

namespace taskwal::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kTimeout{3000};

// Over a network that takes `delay` in each direction. The tables are there already.
Result<std::unique_ptr<Session>> ConnectSlowly(const std::string& dsn, TcpProxy* proxy,
                                               milliseconds delay) {
  const auto maker = MakeBackend(dsn, {seconds(60)});
  if (!maker.ok()) return maker.status();
  const auto made = (*maker)->Connect();
  if (!made.ok()) return made.status();
  proxy->Delay(delay);
  const auto backend = MakeBackend(dsn, {kTimeout});
  if (!backend.ok()) return backend.status();
  return (*backend)->Connect();
}

// Two questions to connect and at least four behind it: 3.36 s, no single step near the limit.
TEST(ConnectTime, IsOneLimitForAllThatMakesAPostgresConnectionReady) {
  PostgresServer& server = PostgresServer::Shared();
  TcpProxy proxy(server.port());
  const std::string dsn = server.DsnAt(proxy.port(), server.NewDatabase());
  EXPECT_THAT(ConnectSlowly(dsn, &proxy, milliseconds(280)), StatusIs(StatusCode::kUnavailable));
}

// A greeting, a question to connect and at least ten behind it: 3.45 s.
TEST(ConnectTime, IsOneLimitForAllThatMakesAMariadbConnectionReady) {
  MariadbServer& server = MariadbServer::Shared();
  TcpProxy proxy(server.port());
  const std::string dsn = server.DsnAt(proxy.port(), server.NewDatabase());
  EXPECT_THAT(ConnectSlowly(dsn, &proxy, milliseconds(150)), StatusIs(StatusCode::kUnavailable));
}

}  // namespace
}  // namespace taskwal::storage
