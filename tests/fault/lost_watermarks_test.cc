// Some of a log's rows in wal_checkpoints are gone, by hand, say: the alarm says what to do, and
// doing it loses nothing.
#include "tests/fault/database_faults.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"

namespace taskwal {
namespace {

class LostWatermarks : public DatabaseFaults, public ::testing::WithParamInterface<const char*> {
 protected:
  LostWatermarks() {
    if (is_postgres_) {
      database_ = PostgresServer::Shared().NewDatabase();
      dsn_ = PostgresServer::Shared().Dsn(database_);
    } else {
      database_ = MariadbServer::Shared().NewDatabase();
      dsn_ = MariadbServer::Shared().Dsn(database_);
    }
  }

  void Sql(const std::string& sql) const {
    if (is_postgres_) {
      PostgresServer::Shared().Query(sql, database_);
    } else {
      MariadbServer::Shared().Query(sql, database_);
    }
  }

  // The rows of some partitions go; until all of them have, the log waits.
  void LoseAndMend(const std::string& is_gone) {
    Open(dsn_, FaultOptions());
    Write(50);
    Flush();
    Sql("DELETE FROM wal_checkpoints WHERE " + is_gone);
    Write(50);
    EXPECT_TRUE(WaitForAlarm("wal_checkpoints lacks a partition of log "));
    EXPECT_TRUE(WaitForAlarm("or delete them all"));
    Sql("DELETE FROM wal_checkpoints");
    Flush();
    ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
    EXPECT_EQ(counts.tasks, 100u);
    EXPECT_EQ(counts.activities, 100u);
    EXPECT_EQ(storage_->GetStats().alarm, "");
    EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  }

  bool WaitForAlarm(std::string_view part) const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (storage_->GetStats().alarm.find(part) == std::string::npos) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(Milliseconds(5));
    }
    return true;
  }

  const bool is_postgres_ = std::string_view(GetParam()) == "postgres";
  std::string database_, dsn_;
};
INSTANTIATE_TEST_SUITE_P(Servers, LostWatermarks, ::testing::Values("postgres", "mariadb"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(LostWatermarks, TheFirstOnes) { LoseAndMend("wal_checkpoints.partition < 3"); }

// What is left looks like a log of fewer partitions.
TEST_P(LostWatermarks, TheLastOnes) { LoseAndMend("wal_checkpoints.partition > 12"); }

}  // namespace
}  // namespace taskwal
