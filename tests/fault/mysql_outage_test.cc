// The whole pipeline into a real MariaDB server through a network that misbehaves: commits in
// doubt, silence, cuts anywhere, a server that dies, rows and tables that are not as they should
// be. What was acknowledged is there exactly once at the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/logger.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/random.h"
#include "storage/backend.h"
#include "taskwal/control.h"
#include "taskwal/open.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/tcp_proxy.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

class MysqlOutage : public ::testing::Test {
 protected:
  void Open(milliseconds database_timeout = seconds(10), milliseconds batch_timeout = {}) {
    Options options;
    options.batch_timeout = batch_timeout;
    options.on_flush = [this](const FlushEvent& event) {
      MutexLock lock(mutex_);
      if (!event.status.ok()) errors_ += event.status.ToString() + "\n";
    };
    options.wal_dir = dir_.File("wal");
    options.durability = Durability::kProcess;
    options.database_timeout = database_timeout;
    options.initial_backoff = milliseconds(5);
    options.max_backoff = milliseconds(50);
    options.breaker_failures = 1000;
    options.recovery_timeout = seconds(5);
    options.logger = std::make_shared<spdlog::logger>("quiet");
    ASSERT_OK_AND_ASSIGN(storage_,
                         OpenTaskStorage(server_.DsnAt(proxy_.port(), database_), options));
  }

  // Tasks that are saved, started and completed, and two activities each.
  void Work(int tasks) {
    for (const int end = worked_ + tasks; worked_ < end; ++worked_) {
      const std::string id = "t" + std::to_string(worked_);
      Task task;
      task.id = id;
      ASSERT_OK(storage_->SaveTask(task));
      for (const TaskStatus status : {TaskStatus::kRunning, TaskStatus::kCompleted}) {
        ASSERT_OK(storage_->UpdateTaskStatus(id, status));
        Activity activity;
        activity.task_id = id;
        activity.action = TaskStatusName(status);
        ASSERT_OK(storage_->LogActivity(activity));
      }
    }
  }

  std::string Value(const std::string& sql) { return server_.Value(sql, database_); }

  // All of Work, each once.
  void ExpectExactlyOnce() {
    ASSERT_OK(storage_->Flush(seconds(60)));
    const std::string count = std::to_string(worked_);
    EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks WHERE status = 'completed' AND "
                    "completed_at IS NOT NULL AND started_at IS NOT NULL"),
              count);
    EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks"), count);
    EXPECT_EQ(Value("SELECT count(*) FROM dag_task_activity_logs"), std::to_string(2 * worked_));
    EXPECT_EQ(Value("SELECT count(DISTINCT task_id, action) FROM dag_task_activity_logs"),
              std::to_string(2 * worked_));
    const Stats stats = storage_->GetStats();
    EXPECT_EQ(stats.duplicates, 0u);
    EXPECT_EQ(stats.dead_lettered, 0u);
    EXPECT_EQ(stats.applied, stats.accepted);
    EXPECT_EQ(stats.alarm, "");
  }

  TempDir dir_;
  MariadbServer& server_ = MariadbServer::Shared();
  const std::string database_ = server_.NewDatabase();
  TcpProxy proxy_{server_.port()};
  int worked_ = 0;
  Mutex mutex_;
  std::string errors_ GUARDED_BY(mutex_);
  std::unique_ptr<TaskStorage> storage_;  // the last: its threads call on_flush
};

// The server takes twenty milliseconds for a row: it gives up what takes longer than the batch has,
// and takes all of it in smaller pieces.
TEST_F(MysqlOutage, SlowTransactionsAreCutAndComeInSmallerOnes) {
  Open();
  ASSERT_OK(storage_->Close());
  server_.Query("CREATE TRIGGER slow BEFORE INSERT ON dag_task_activity_logs FOR EACH ROW "
                "DO SLEEP(0.02)",
                database_);
  Open(seconds(60), milliseconds(500));
  ASSERT_OK(storage_->GetControl()->SetWorkerCount(1));
  Work(40);
  ExpectExactlyOnce();
  std::uint64_t timeouts = 0;
  const BufferSnapshot buffer = storage_->GetControl()->Buffer();
  for (const WorkerSnapshot& worker : buffer.targets.front().workers) timeouts += worker.timeouts;
  EXPECT_GE(timeouts, 1u);
  MutexLock lock(mutex_);
  EXPECT_THAT(errors_, HasSubstr("(MySQL 1969)"));
}

// --- a commit without an answer

TEST_F(MysqlOutage, ASessionSaysThatItsCommitIsInDoubt) {
  const auto activity = [](const std::string& id) {
    storage::Batch batch;
    batch.activities.resize(1);
    batch.activities[0].activity.id = id;
    batch.activities[0].activity.created_at = Time(std::chrono::hours(1));
    return batch;
  };
  const std::vector<std::pair<CommitFault, std::string>> faults = {
      {CommitFault::kCutBefore, "before"},
      {CommitFault::kCutAfter, "after"},
      {CommitFault::kHalfAnswer, "half"}};
  for (const auto& [fault, id] : faults) {
    ASSERT_OK_AND_ASSIGN(const auto backend,
                         storage::MakeBackend(server_.DsnAt(proxy_.port(), database_),
                                              {milliseconds(1000)}));
    ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
    proxy_.OnCommit(fault);
    EXPECT_THAT(session->Apply(activity(id)), StatusIs(StatusCode::kInDoubt)) << id;
    // The connection is gone for good, and says so without waiting.
    EXPECT_THAT(session->Ping(), StatusIs(StatusCode::kUnavailable)) << id;
  }
  EXPECT_TRUE(Eventually([&] {
    return Value("SELECT group_concat(id ORDER BY id) FROM dag_task_activity_logs") == "after,half";
  }));
}

TEST_F(MysqlOutage, ACommitThatNeverArrivedIsRepeated) {
  Open();
  proxy_.OnCommit(CommitFault::kCutBefore);
  Work(20);
  EXPECT_TRUE(proxy_.WaitForCommitFault());
  ExpectExactlyOnce();
}

TEST_F(MysqlOutage, ACommitWhoseAnswerWasLostIsNotRepeated) {
  Open();
  proxy_.OnCommit(CommitFault::kCutAfter);
  Work(20);
  EXPECT_TRUE(proxy_.WaitForCommitFault());
  ExpectExactlyOnce();
}

TEST_F(MysqlOutage, ACommitThatLandsAfterTheReconnectIsNotDoneTwice) {
  Open();
  Work(1);
  ASSERT_OK(storage_->Flush(seconds(30)));
  proxy_.OnCommit(CommitFault::kHold);
  Work(20);
  EXPECT_TRUE(proxy_.WaitForCommitFault());
  // The flusher is back, has read the old watermark, and waits behind the row that the first
  // transaction still holds.
  EXPECT_TRUE(Eventually([&] { return server_.Status("Innodb_row_lock_current_waits") > 0; }));
  proxy_.ReleaseCommit();
  ExpectExactlyOnce();
}

TEST_F(MysqlOutage, HalfAnAnswerToACommitIsSettledAfterTheTimeLimit) {
  Open(seconds(1));
  proxy_.OnCommit(CommitFault::kHalfAnswer);
  Work(20);
  EXPECT_TRUE(proxy_.WaitForCommitFault());
  ExpectExactlyOnce();
}

// --- silence

TEST_F(MysqlOutage, SilenceHangsNothing) {
  Open(seconds(1));
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(30)));
  proxy_.Blackhole(true);
  const auto start = std::chrono::steady_clock::now();
  Work(5);
  EXPECT_THAT(storage_->Flush(milliseconds(300)), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->Count(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->Ping(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->QueryTasks({}), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(300)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  // Three calls of a second or two, one under way when it was told to stop; not for ever.
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(20));
  proxy_.Blackhole(false);
  Open();
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(Value("SELECT count(*) FROM dag_task_activity_logs"), "30");
}

TEST_F(MysqlOutage, OpeningAgainstSilenceGoesOnWithTheLog) {
  proxy_.Blackhole(true);
  Open(seconds(1));
  Work(5);
  proxy_.Blackhole(false);
  ExpectExactlyOnce();
}

// Each byte for itself is in time.
TEST_F(MysqlOutage, APeerThatDripsEndsNoCallLate) {
  ASSERT_OK_AND_ASSIGN(const auto backend,
                       storage::MakeBackend(server_.DsnAt(proxy_.port(), database_),
                                            {milliseconds(2000)}));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  proxy_.Drip(milliseconds(500));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(session->Ping(), StatusIs(StatusCode::kUnavailable, HasSubstr("time limit")));
  EXPECT_THAT(backend->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("time limit")));
  // The greeting alone has more than fifty bytes.
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(15));
}

TEST_F(MysqlOutage, TheToolComesToAnEndAgainstSilence) {
  proxy_.Blackhole(true);
  const std::string dsn = server_.DsnAt(proxy_.port(), database_);
  const RunOutcome ingest = taskwal::Run(
      {TASKWAL_TOOL, "ingest", "--wal", dir_.File("tool"), "--db", dsn, "--drain-timeout", "1s",
       "--set", "database_timeout=1s", "--set", "recovery_timeout=1s"},
      "{\"op\":\"save_task\",\"task\":{\"id\":\"t\"}}\n", {}, seconds(60));
  EXPECT_EQ(ingest.exit.code, 4) << ingest.err;
  EXPECT_THAT(ingest.out, HasSubstr("\"lsn\":1"));
  EXPECT_THAT(ingest.err + ingest.out, ::testing::Not(HasSubstr("p@ss")));
  proxy_.Blackhole(false);
  const RunOutcome recover = taskwal::Run(
      {TASKWAL_TOOL, "recover", "--wal", dir_.File("tool"), "--db", dsn}, {}, {}, seconds(60));
  EXPECT_EQ(recover.exit.code, 0) << recover.err;
  EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks"), "1");
}

TEST_F(MysqlOutage, ASlowNetworkIsOnlySlow) {
  Open();
  proxy_.Delay(milliseconds(30));
  Work(20);
  ExpectExactlyOnce();
}

// --- cuts and crashes

TEST_F(MysqlOutage, CutsAnywhereLoseAndDoubleNothing) {
  const char* given = std::getenv("TASKWAL_CUTS");
  const std::uint64_t cuts = given != nullptr ? std::strtoull(given, nullptr, 10) : 30;
  const char* given_seed = std::getenv("TASKWAL_SEED");
  Random random(given_seed != nullptr ? std::strtoull(given_seed, nullptr, 10) : 20261121);
  Open();
  Work(1);
  ASSERT_OK(storage_->Flush(seconds(30)));
  for (std::uint64_t cut = 1; cut <= cuts; ++cut) {
    // Within the handshake, a batch, or its answers.
    proxy_.CutAfter(1 + random.Below(6000));
    while (proxy_.cuts() < cut) {
      Work(2);
      const Status flushed = storage_->Flush(milliseconds(200));
      EXPECT_TRUE(flushed.ok() || flushed.code() == StatusCode::kUnavailable);
    }
  }
  ExpectExactlyOnce();
}

TEST_F(MysqlOutage, AServerThatDiesAndComesBackMissesNothing) {
  Open();
  for (int i = 0; i < 3; ++i) {
    Work(50);
    server_.Kill();
    Work(50);
    server_.StartAgain();
    ASSERT_OK(storage_->Flush(seconds(60)));
  }
  ExpectExactlyOnce();
}

// --- rows and tables

TEST_F(MysqlOutage, APoisonRowLosesOnlyItself) {
  Open();
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(30)));
  server_.Query("ALTER TABLE dag_task_activity_logs ADD CHECK (action <> 'poison')", database_);
  Activity poison;
  poison.id = "poison";
  poison.action = "poison";
  Work(5);
  ASSERT_OK(storage_->LogActivity(poison));
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks WHERE status = 'completed'"), "15");
  EXPECT_EQ(Value("SELECT count(*) FROM dag_task_activity_logs"), "30");
  EXPECT_EQ(storage_->GetStats().dead_lettered, 1u);
  ASSERT_OK(storage_->Close());
  const RunOutcome letters =
      taskwal::Run({TASKWAL_TOOL, "dlq", "list", "--wal", dir_.File("wal"), "--json"});
  EXPECT_THAT(letters.out, HasSubstr("MySQL 4025"));
}

// MariaDB's JSON_VALID reads down to 31 levels.
TEST_F(MysqlOutage, JsonDeeperThanTheServerReadsIsStoredAsItWasGiven) {
  std::vector<std::string> deep;
  for (const std::size_t levels : {31, 32, 40, 10000}) {
    deep.push_back(std::string(levels, '[') + std::string(levels, ']'));
  }
  std::string mixed;  // 16 brackets of either kind
  for (int i = 0; i < 16; ++i) mixed += R"([ {"a":)";
  deep.push_back(mixed + "1");
  for (int i = 0; i < 16; ++i) deep.back() += "}]";
  Open();
  for (std::size_t i = 0; i < deep.size(); ++i) {
    Task task;
    task.id = "deep" + std::to_string(i);
    task.payload = deep[i];
    ASSERT_OK(storage_->SaveTask(task));
    Activity activity;
    activity.id = task.id;
    activity.data = deep[i];
    ASSERT_OK(storage_->LogActivity(activity));
  }
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  for (std::size_t i = 0; i < deep.size(); ++i) {
    const std::string where = " WHERE id = 'deep" + std::to_string(i) + "'";
    EXPECT_EQ(Value("SELECT payload FROM dag_tasks" + where), deep[i]);
    EXPECT_EQ(Value("SELECT data FROM dag_task_activity_logs" + where), deep[i]);
  }
}

// Whoever writes beside taskwal.
TEST_F(MysqlOutage, TheTablesTakeNoTextThatIsNotJson) {
  Open();
  ASSERT_OK(storage_->Close());
  for (const char* text : {"text", "", "[1, 2", R"({"a":})", "[[[[[[[[[[[[[[["}) {
    server_.TryQuery("INSERT INTO " + database_ + ".dag_task_activity_logs (id, message, data, "
                     "created_at) VALUES ('a', '', '" + std::string(text) + "', now())");
    EXPECT_EQ(Value("SELECT count(*) FROM dag_task_activity_logs"), "0") << text;
  }
}

TEST_F(MysqlOutage, ADroppedColumnLettersNothingAndTheLogWaits) {
  Open();
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(30)));
  server_.Query("ALTER TABLE dag_task_activity_logs DROP COLUMN level", database_);
  Work(5);
  EXPECT_TRUE(Eventually(
      [&] { return storage_->GetStats().alarm.find("MySQL 1054") != std::string::npos; }));
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  server_.Query("ALTER TABLE dag_task_activity_logs ADD COLUMN level VARCHAR(16)", database_);
  ExpectExactlyOnce();
}

TEST_F(MysqlOutage, ARevokedRightLettersNothingAndTheLogWaits) {
  Open();
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(30)));
  {
    const RevokedRights revoked(server_);
    proxy_.CutAll();  // a session keeps the rights it began with
    Work(5);
    EXPECT_TRUE(Eventually([&] {
      return storage_->GetStats().alarm.find("a right is missing") != std::string::npos;
    }));
    EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  }
  ExpectExactlyOnce();
}

TEST_F(MysqlOutage, AReadOnlyServerIsWaitedFor) {
  Open();
  Work(5);
  ASSERT_OK(storage_->Flush(seconds(30)));
  {
    const ServerSetting read_only(server_, "read_only", "1");
    Work(5);
    EXPECT_TRUE(Eventually(
        [&] { return storage_->GetStats().alarm.find("read-only") != std::string::npos; }));
  }
  ExpectExactlyOnce();
}

// --- what the documents show

TEST_F(MysqlOutage, TheExampleRuns) {
  const std::string folder = TASKWAL_SOURCE_DIR "/examples/mysql/";
  const RunOutcome made = taskwal::Run({"sh", "-c", "mariadb --no-defaults -u root -S " +
                                        server_.socket() + " < " + folder + "setup.sql"});
  ASSERT_EQ(made.exit.code, 0) << made.err;
  const std::string tools = std::filesystem::path(TASKWAL_TOOL).parent_path().string();
  const std::string dsn = "mysql://taskwal_example:change%20me@127.0.0.1:" +
                          std::to_string(server_.port()) + "/taskwal_example";
  const RunOutcome run = taskwal::Run({folder + "run.sh", dsn}, {},
                                      {{"PATH=" + tools + ":/usr/bin:/bin"}, {}});
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("order-3"));
  EXPECT_EQ(server_.Value("SELECT count(*) FROM dag_tasks WHERE status = 'completed'",
                          "taskwal_example"),
            "3");
}

}  // namespace
}  // namespace taskwal
