// A primary with a streaming standby behind one DSN: the primary is killed in the middle of
// flushing and the standby promoted, with all of the commits, without the last of them, and
// without them where the log has let them go.
#include <gmock/gmock.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ringbuffer_sink.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>

#include "base/file_system.h"
#include "base/logging.h"
#include "storage/operation.h"
#include "taskwal/dead_letters.h"
#include "tests/fault/database_faults.h"
#include "tests/support/postgres_server.h"
#include "wal/state_file.h"

namespace taskwal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PostgresFailover : public DatabaseFaults {
 protected:
  PostgresFailover() {
    SetLogger(std::make_shared<spdlog::logger>("test", events_));
    standby_ = PostgresServer::StandbyOf(*primary_);
  }
  ~PostgresFailover() override {
    storage_.reset();
    SetLogger(nullptr);
  }

  // Transactions small enough for a kill to come in the middle of many.
  void OpenOnBoth(std::uint32_t batch_size, Options options) {
    options.batch_size = batch_size;
    options.flush_linger = Milliseconds(0);
    // A server that is being promoted is asked often.
    options.breaker_failures = 1000;
    Open(primary_->DsnWith(*standby_, database_), std::move(options));
  }

  std::int64_t StoredOn(const PostgresServer& server) const {
    return std::stoll(server.Value("SELECT count(*) FROM dag_task_activity_logs", database_));
  }
  wal::Lsn WatermarkOn(const PostgresServer& server) const {
    return std::stoull(server.Value("SELECT max(lsn) FROM wal_checkpoints", database_));
  }
  // Until the log has let everything up to there go.
  void WaitForRetired(wal::Lsn lsn) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (wal::ReadState(FileSystem::Real(), dir_.File("wal"))->first_lsn <= lsn) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(Milliseconds(20));
    }
  }
  void WaitForStored(std::int64_t activities) {
    ASSERT_TRUE(primary_->WaitUntil("SELECT count(*) >= " + std::to_string(activities) +
                                        " FROM dag_task_activity_logs",
                                    database_));
  }

  // The primary is gone, and the log goes on taking calls meanwhile.
  void FailOver() {
    primary_->Kill();
    Write(50);
    standby_->Promote();
  }

  static std::set<std::string> Column(const PostgresServer& server, const std::string& database,
                                      const std::string& query) {
    std::istringstream lines(
        server.Value("SELECT string_agg(id, ' ') FROM (" + query + ") AS found", database));
    return {std::istream_iterator<std::string>(lines), {}};
  }
  // Whether a declared loss is about the record.
  static bool IsNamed(const std::vector<DeadLetterInfo>& losses, wal::Lsn lsn,
                      std::uint32_t partition) {
    return std::any_of(losses.begin(), losses.end(), [&](const DeadLetterInfo& loss) {
      const auto of = loss.metadata.find("partitions");
      const bool is_of = of == loss.metadata.end() ||
                         ("," + of->second + ",").find("," + std::to_string(partition) + ",") !=
                             std::string::npos;
      return loss.is_loss && is_of && loss.from_lsn <= lsn && lsn <= loss.to_lsn;
    });
  }
  static std::string TextOf(const std::vector<DeadLetterInfo>& losses) {
    std::string text;
    for (const DeadLetterInfo& loss : losses) {
      if (!text.empty()) text += "; ";
      text += std::to_string(loss.from_lsn) + " to " + std::to_string(loss.to_lsn);
      const auto of = loss.metadata.find("partitions");
      if (of != loss.metadata.end()) text += " of partitions " + of->second;
    }
    return text;
  }

  // The logger's lines that hold `part`.
  std::vector<std::string> EventsWith(std::string_view part) const {
    std::vector<std::string> lines = events_->last_formatted();
    std::erase_if(lines, [&](const std::string& line) {
      return line.find(part) == std::string::npos;
    });
    return lines;
  }

  // Shared with the logger, as spdlog has it.
  const std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> events_ =
      std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(1000);
  const std::unique_ptr<PostgresServer> primary_ = PostgresServer::Start();
  const std::string database_ = primary_->NewDatabase();
  std::unique_ptr<PostgresServer> standby_;
};

TEST_F(PostgresFailover, SynchronousStandbyLacksNothing) {
  primary_->Set("synchronous_standby_names", "*");
  ASSERT_TRUE(primary_->WaitUntil("SELECT count(*) = 1 FROM pg_stat_replication "
                                  "WHERE sync_state = 'sync'"));
  OpenOnBoth(50, FaultOptions());
  Write(10);
  Flush();
  Write(2000);
  WaitForStored(200);
  FailOver();
  Flush();
  ExpectExactlyOnce();
  EXPECT_THAT(EventsWith("database_went_back"), ElementsAre());
}

TEST_F(PostgresFailover, CommitsThatTheStandbyLacksAreReplayed) {
  OpenOnBoth(200, FaultOptions());
  Write(200);
  Flush();
  standby_->StopFollowing();
  const std::int64_t kept = StoredOn(*standby_);
  Write(3000);
  WaitForStored(kept + 1200);
  FailOver();
  Flush();
  // Each as often as it was accepted, though many were brought twice.
  ExpectExactlyOnce();
  EXPECT_EQ(StoredOn(*standby_), written_);
  EXPECT_THAT(EventsWith("database_went_back"), ElementsAre(HasSubstr("action=replay")));
}

// Nothing is written any more that would meet the promoted server.
TEST_F(PostgresFailover, IdleLogNoticesAndReplays) {
  Options options = FaultOptions();
  options.health_check_interval = Milliseconds(200);
  OpenOnBoth(200, std::move(options));
  Write(10);
  Flush();
  standby_->StopFollowing();
  Write(500);
  Flush();
  primary_->Kill();
  standby_->Promote();
  EXPECT_TRUE(standby_->WaitUntil("SELECT count(*) = 510 FROM dag_task_activity_logs", database_));
  Flush();
  ExpectExactlyOnce();
}

// In the middle of flushing, so that some partitions are there further than others.
TEST_F(PostgresFailover, CommitsThatTheLogHasLetGoAreNamedExactly) {
  Options options = FaultOptions();
  options.segment_bytes = 64u << 10;
  options.retention_bytes = 0;
  const std::uint32_t partitions = options.partitions;
  ASSERT_GT(partitions, 1u);
  OpenOnBoth(200, std::move(options));
  Write(200);
  Flush();
  Write(2000);
  WaitForStored(500);
  standby_->StopFollowing();
  const wal::Lsn kept = WatermarkOn(*standby_);
  Write(4000);
  Flush();
  WaitForRetired(kept + 5000);
  FailOver();
  Flush();

  ASSERT_OK_AND_ASSIGN(const auto letters, storage_->GetDeadLetters()->List(1000));
  std::uint64_t missing = 0;
  const std::set<std::string> tasks = Column(*standby_, database_, "SELECT id FROM dag_tasks");
  const std::set<std::string> ended =
      Column(*standby_, database_, "SELECT id FROM dag_tasks WHERE status = 'completed'");
  const std::set<std::string> logged =
      Column(*standby_, database_, "SELECT id FROM dag_task_activity_logs");
  for (int n = 0; n < written_; ++n) {
    const std::string number = std::to_string(n);
    const std::string task = "t" + number;
    const std::uint32_t partition = wal::PartitionOf(storage::KeyOf(task), partitions);
    // Each task's three records stand one behind the other.
    const wal::Lsn lsn = 3 * static_cast<wal::Lsn>(n) + 1;
    const bool has_save = !IsNamed(letters, lsn, partition);
    const bool has_activity = !IsNamed(letters, lsn + 1, partition);
    const bool has_end = has_save && !IsNamed(letters, lsn + 2, partition);
    EXPECT_EQ(tasks.contains(task), has_save) << task;
    EXPECT_EQ(logged.contains("a" + number), has_activity) << task;
    EXPECT_EQ(ended.contains(task), has_end) << task;
    missing += has_activity ? 0 : 1;
  }
  EXPECT_GE(missing, 1000u);

  const std::string text = TextOf(letters);
  EXPECT_THAT(EventsWith("database_went_back"),
              ElementsAre(HasSubstr(" missing=\"" + text + "\" ")));
  EXPECT_THAT(storage_->GetStats().alarm, HasSubstr("LSN " + text + " are not"));
}

}  // namespace
}  // namespace taskwal
