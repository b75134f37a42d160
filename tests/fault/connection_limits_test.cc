// How many connections a storage has open to a server, how many it keeps, and for how long: as the
// server counts them.
#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <set>

#include "tests/fault/database_faults.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"

namespace taskwal {
namespace {

class ConnectionLimits : public DatabaseFaults, public ::testing::WithParamInterface<const char*> {
 protected:
  ConnectionLimits() {
    if (is_postgres_) {
      database_ = PostgresServer::Shared().NewDatabase();
      // A name of its own to be found by.
      dsn_ = PostgresServer::Shared().Dsn(database_) + "&application_name=" + database_;
    } else {
      database_ = MariadbServer::Shared().NewDatabase();
      dsn_ = MariadbServer::Shared().Dsn(database_);
    }
  }

  // The server takes no more of the owner's at once; 0: any number.
  void LimitOwner(int connections) const {
    if (is_postgres_) {
      const int limit = connections == 0 ? -1 : connections;
      PostgresServer::Shared().Query("ALTER ROLE owner CONNECTION LIMIT " + std::to_string(limit));
    } else {
      MariadbServer::Shared().Query("ALTER USER 'owner'@'127.0.0.1' WITH MAX_USER_CONNECTIONS " +
                                    std::to_string(connections));
    }
  }

  // The server's numbers of our connections.
  std::set<std::string> Connections() const {
    std::set<std::string> ids;
    const auto add = [&](const auto& rows) {
      for (const auto& row : rows) ids.insert(row.at(0));
    };
    if (is_postgres_) {
      add(PostgresServer::Shared().Query(
          "SELECT pid FROM pg_stat_activity WHERE application_name = '" + database_ + "'"));
    } else {
      add(MariadbServer::Shared().Query(
          "SELECT id FROM information_schema.processlist WHERE db = '" + database_ + "'"));
    }
    return ids;
  }

  // A server notices a little later that a connection was closed.
  static bool Eventually(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(Milliseconds(10));
    }
    return true;
  }

  // So many callers at once, each of whom asks the database that often.
  std::vector<std::jthread> StartReaders(int count, int calls) {
    std::vector<std::jthread> readers;
    for (int i = 0; i < count; ++i) {
      readers.emplace_back([this, calls] {
        for (int n = 0; n < calls; ++n) EXPECT_OK(storage_->GetTask("t0"));
      });
    }
    return readers;
  }

  const bool is_postgres_ = std::string_view(GetParam()) == "postgres";
  std::string database_, dsn_;
};
INSTANTIATE_TEST_SUITE_P(Servers, ConnectionLimits, ::testing::Values("postgres", "mariadb"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(ConnectionLimits, NoMoreAreOpenThanAllowed) {
  Options options = FaultOptions(std::chrono::seconds(60));
  options.max_open_conns = 3;
  options.worker_count = 8;
  Open(dsn_, std::move(options));
  Write(10);
  Flush();
  std::vector<std::jthread> readers = StartReaders(8, 100);
  std::size_t most = 0;
  for (int i = 0; i < 20; ++i) {
    Write(20);
    most = std::max(most, Connections().size());
  }
  readers.clear();
  Flush();
  EXPECT_GE(most, 2u);
  EXPECT_LE(most, 3u);
  ExpectExactlyOnce();
}

TEST_P(ConnectionLimits, NoMoreAreKeptThanAllowed) {
  for (const std::uint32_t kept : {2u, 0u}) {
    Options options = FaultOptions(std::chrono::seconds(60));
    options.wal_dir = dir_.File("wal" + std::to_string(kept));
    options.max_idle_conns = kept;
    options.worker_count = 1;
    storage_.reset();
    ASSERT_TRUE(Eventually([this] { return Connections().empty(); }));
    Open(dsn_, std::move(options));
    Write(1);
    Flush();
    StartReaders(8, 50).clear();
    // Beside that of the flusher.
    EXPECT_TRUE(Eventually([&] { return Connections().size() <= kept + 1; }))
        << Connections().size();
  }
}

TEST_P(ConnectionLimits, AllIsBroughtThoughTheServerGivesFewerThanThereAreWorkers) {
  Options options = FaultOptions(std::chrono::seconds(60));
  options.worker_count = 4;
  options.batch_size = 50;
  LimitOwner(2);
  Open(dsn_, std::move(options));
  for (int round = 0; round < 5; ++round) {
    Write(200);
    Flush();
    EXPECT_LE(Connections().size(), 2u);
  }
  EXPECT_TRUE(HasMet(is_postgres_ ? "too many connections" : "max_user_connections"));
  LimitOwner(0);
  EXPECT_TRUE(Eventually([this] {
    Write(200);
    Flush();
    return Connections().size() > 2;
  }));
  ExpectExactlyOnce();
}

TEST_P(ConnectionLimits, OldOnesAreReplaced) {
  Options options = FaultOptions();
  options.conn_max_lifetime = Milliseconds(20);
  Open(dsn_, std::move(options));
  Write(10);
  Flush();
  EXPECT_OK(storage_->GetTask("t0"));
  const std::set<std::string> first = Connections();
  EXPECT_FALSE(first.empty());
  EXPECT_TRUE(Eventually([&] {
    Write(10);
    Flush();
    EXPECT_OK(storage_->GetTask("t0"));
    const std::set<std::string> now = Connections();
    return std::none_of(first.begin(), first.end(),
                        [&](const std::string& id) { return now.contains(id); });
  }));
  ExpectExactlyOnce();
}

}  // namespace
}  // namespace taskwal
