// A peer that never answers holds up no flush, no query and no end.
#include <signal.h>

#include <cstdlib>

#include "storage/backend.h"
#include "tests/fault/database_faults.h"
#include "tests/support/postgres_server.h"
#include "tests/support/tcp_proxy.h"

namespace taskwal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// What a call may take that has to end by a limit of about a second; libpq itself gives a new
// connection two.
constexpr seconds kBound{15};

class PostgresHang : public DatabaseFaults {
 protected:
  PostgresServer& server_ = PostgresServer::Shared();
  const std::string database_ = server_.NewDatabase();
  TcpProxy proxy_{server_.port()};
  const std::string dsn_ = server_.DsnAt(proxy_.port(), database_);
};

TEST_F(PostgresHang, BlackholeEndsEveryCallInTime) {
  Open(dsn_, FaultOptions(milliseconds(1000)));
  Write(10);
  Flush();
  proxy_.Blackhole(true);
  Write(10);
  const Stopwatch flush;
  EXPECT_THAT(storage_->Flush(milliseconds(1000)), StatusIs(StatusCode::kUnavailable));
  EXPECT_LT(flush.elapsed(), kBound);
  const Stopwatch query;
  EXPECT_THAT(storage_->QueryTasks({}), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->Ping(), StatusIs(StatusCode::kUnavailable));
  EXPECT_LT(query.elapsed(), kBound);
  const Stopwatch shutdown;
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(500)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  EXPECT_LT(shutdown.elapsed(), kBound);

  proxy_.CutAll();
  proxy_.Blackhole(false);
  Open(dsn_, FaultOptions());
  Flush();
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
  EXPECT_EQ(counts.tasks, 20u);
  EXPECT_EQ(counts.activities, 20u);
}

TEST_F(PostgresHang, BlackholeAtOpenDelaysNothingButTheFlush) {
  proxy_.Blackhole(true);
  Options options = FaultOptions(milliseconds(1000));
  options.recovery_timeout = milliseconds(100);
  const Stopwatch open;
  Open(dsn_, options);
  Write(10);
  EXPECT_LT(open.elapsed(), kBound);
  proxy_.CutAll();
  proxy_.Blackhole(false);
  Flush();
  ExpectExactlyOnce();
}

// On a Unix socket nothing in TCP or in libpq ends the waiting.
TEST_F(PostgresHang, AStoppedServerProcessEndsNoCallLate) {
  ASSERT_OK_AND_ASSIGN(const auto backend,
                       storage::MakeBackend(server_.SocketDsn(database_), {milliseconds(2000)}));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  const pid_t process = static_cast<pid_t>(std::atol(
      server_.Value("SELECT pid FROM pg_stat_activity WHERE application_name = 'taskwal' "
                    "ORDER BY backend_start DESC LIMIT 1").c_str()));
  ASSERT_GT(process, 0);
  ASSERT_EQ(::kill(process, SIGSTOP), 0);
  const Stopwatch ping;
  EXPECT_THAT(session->Ping(),
              StatusIs(StatusCode::kUnavailable, ::testing::HasSubstr("time limit")));
  EXPECT_LT(ping.elapsed(), kBound);
  ::kill(process, SIGCONT);
}

// Each byte for itself is in time.
TEST_F(PostgresHang, APeerThatDripsEndsNoCallLate) {
  const auto backend = storage::MakeBackend(dsn_, {milliseconds(2000)});
  ASSERT_OK(backend);
  ASSERT_OK_AND_ASSIGN(const auto session, (*backend)->Connect());
  proxy_.Drip(milliseconds(500));
  const Stopwatch calls;
  EXPECT_THAT(session->Ping(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT((*backend)->Connect(), StatusIs(StatusCode::kUnavailable));
  EXPECT_LT(calls.elapsed(), kBound);
}

TEST_F(PostgresHang, SlowNetworkIsOnlySlow) {
  proxy_.Delay(milliseconds(20));
  Open(dsn_, FaultOptions());
  Write(50);
  Flush();
  ExpectExactlyOnce();
}

}  // namespace
}  // namespace taskwal
