// Dead letters as they show through running storage: limits, age, alarm, and the control interface.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/file_system.h"
#include "base/mutex.h"
#include "pipeline/metrics_snapshot.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/dead_letters.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class StorageLettersTest : public ::testing::Test {
 protected:
  StorageLettersTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(5);
    options_.breaker_open_time = milliseconds(20);
    options_.max_flush_retries = 0;
    options_.metrics_interval = milliseconds(5);
    options_.shutdown_timeout = seconds(20);
    database_.FailApply([this](const storage::Batch& batch) { return Judge(batch); });
  }
  ~StorageLettersTest() override {
    Accept();
    if (storage_ == nullptr) return;
    EXPECT_OK(storage_->Close());
  }

  void Open() {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  Status Judge(const storage::Batch& batch) {
    MutexLock lock(mutex_);
    for (const auto& task : batch.tasks) {
      if (refused_.contains(task.id)) return Status::Rejected("test: constraint (SQL 4711)");
    }
    for (const auto& row : batch.activities) {
      if (refused_.contains(row.activity.id)) {
        return Status::Rejected("test: constraint (SQL 4711)");
      }
    }
    return Status::Ok();
  }
  void Refuse(const std::string& id) {
    MutexLock lock(mutex_);
    refused_.insert(id);
  }
  void Accept() {
    MutexLock lock(mutex_);
    refused_.clear();
  }
  void Save(const std::string& id) {
    Task task;
    task.id = id;
    ASSERT_OK(storage_->SaveTask(task, {}));
  }
  void Log(const std::string& id) {
    Activity activity;
    activity.id = id;
    ASSERT_OK(storage_->LogActivity(activity, {}));
  }
  void Flush() { ASSERT_OK(storage_->Flush(seconds(20))); }
  std::string MetricsFile() {
    auto text = ReadFile(FileSystem::Real(), wal::JoinPath(options_.wal_dir, kMetricsFileName));
    return text.ok() ? std::move(text).value() : std::string();
  }
  // The monitor looks at the letters before it writes the file.
  void AwaitLooks() {
    std::string seen = MetricsFile();
    for (int turn = 0; turn < 3; ++turn) {
      Await([&] { return MetricsFile() != seen; });
      seen = MetricsFile();
    }
  }
  DeadLetterControl& letters() { return *storage_->GetDeadLetters(); }
  static DeadLetterSelection All() {
    DeadLetterSelection selection;
    selection.all = true;
    return selection;
  }
  template <typename Condition>
  void Await(Condition&& condition) {
    const auto until = std::chrono::steady_clock::now() + seconds(30);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  TempDir dir_;
  Mutex mutex_;
  std::set<std::string> refused_ GUARDED_BY(mutex_);
  SwitchableDatabase database_;
  SwitchableDatabase second_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
};

TEST_F(StorageLettersTest, ARetryReachesTheDatabaseAndIsReadThen) {
  Refuse("t");
  Open();
  Save("t");
  Flush();
  ASSERT_OK_AND_ASSIGN(const auto list, letters().List(10));
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].sql_code, "SQL 4711");
  EXPECT_THAT(storage_->GetTask("t"), StatusIs(StatusCode::kNotFound));
  Accept();
  ASSERT_OK_AND_ASSIGN(const auto outcomes, letters().Retry(All(), seconds(20)));
  ASSERT_THAT(outcomes, SizeIs(1));
  EXPECT_EQ(outcomes[0].result, RetryResult::kApplied) << outcomes[0].error;
  EXPECT_OK(storage_->GetTask("t"));
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.dead_letters.open, 0u);
  EXPECT_EQ(stats.dead_letters.retried, 1u);
  EXPECT_EQ(stats.accepted, stats.applied + stats.dead_lettered);
}

TEST_F(StorageLettersTest, ARetryOfADatabaseThatIsAwayIsPendingAndComesLater) {
  Refuse("t");
  Open();
  Save("t");
  Flush();
  Accept();
  database_.GoAway();
  ASSERT_OK_AND_ASSIGN(const auto outcomes, letters().Retry(All(), milliseconds(20)));
  ASSERT_THAT(outcomes, SizeIs(1));
  EXPECT_EQ(outcomes[0].result, RetryResult::kPending);
  EXPECT_THAT(outcomes[0].error, HasSubstr("not in the database in time"));
  database_.ComeBack();
  Flush();
  EXPECT_OK(storage_->GetTask("t"));
}

TEST_F(StorageLettersTest, ALetterThatIsRetriedTwiceMeanwhileIsCountedOnce) {
  options_.initial_backoff = options_.max_backoff = seconds(2);
  options_.breaker_failures = 0;
  Refuse("a");
  Open();
  Log("a");
  Flush();
  Accept();
  // The worker waits with another record in hand, so that the retries come in one batch.
  database_.GoAway();
  Log("b");
  Await([&] { return storage_->GetStats().flush_errors >= 2; });
  for (int i = 0; i < 4; ++i) ASSERT_OK(letters().Retry(All(), milliseconds(5)));
  database_.ComeBack();
  Flush();
  const DeadLetterStats counts = storage_->GetStats().dead_letters;
  EXPECT_EQ(counts.retried, 1u);
  EXPECT_EQ(counts.added, counts.open + counts.retried);
}

TEST_F(StorageLettersTest, AFullStoreOpensTheBreakerAndTheLogWaits) {
  options_.dead_letter_count_max = 2;
  for (const char* id : {"a", "b", "c"}) Refuse(id);
  Open();
  Save("a");
  Flush();
  Save("b");
  Flush();
  EXPECT_THAT(storage_->GetStats().alarm, HasSubstr("nearly full"));
  Save("c");
  Await([&] { return storage_->GetStats().alarm.find("are full") != std::string::npos; });
  EXPECT_EQ(storage_->GetStats().pending, 1u);
  EXPECT_EQ(storage_->GetStats().dead_letters.open, 2u);
  Await([&] { return storage_->GetStats().breaker_state != "closed"; });
  ASSERT_OK(letters().Purge(All()));
  Flush();
  EXPECT_EQ(storage_->GetStats().dead_letters.open, 1u);
}

TEST_F(StorageLettersTest, TheLimitOfBytesHoldsAsWell) {
  options_.dead_letter_bytes_max = 100;
  for (const char* id : {"a", "b"}) Refuse(id);
  Open();
  Save("a");
  Flush();
  Save("b");
  Await([&] {
    return storage_->GetStats().alarm.find("dead_letter_bytes_max") != std::string::npos;
  });
  Accept();
  Flush();
}

TEST_F(StorageLettersTest, WithoutLettersTheLogWaitsForARefusedRowAndKeepsIt) {
  options_.dead_letter_enabled = false;
  Refuse("a");
  Open();
  Save("a");
  Await([&] {
    return storage_->GetStats().alarm.find("dead letters are off") != std::string::npos;
  });
  EXPECT_THAT(storage_->GetStats().alarm, HasSubstr("SQL 4711")) << "what the row is refused for";
  Await([&] { return storage_->GetControl()->Buffer().targets.front().breaker.opened >= 1; });
  EXPECT_EQ(storage_->GetStats().pending, 1u);
  EXPECT_EQ(storage_->GetStats().dead_letters.added, 0u);
  // And over a restart, until it is taken.
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, {}),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  Open();
  EXPECT_EQ(storage_->GetStats().pending, 1u);
  Accept();
  Flush();
  EXPECT_OK(storage_->GetTask("a"));
  EXPECT_EQ(storage_->GetStats().alarm, "");
  EXPECT_EQ(storage_->GetStats().dead_letters.added, 0u);
}

TEST_F(StorageLettersTest, OpenedWithLettersAgainARefusedRowBecomesOne) {
  options_.dead_letter_enabled = false;
  Refuse("a");
  Open();
  Save("a");
  Save("b");
  Await([&] { return !storage_->GetStats().alarm.empty(); });
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, {}),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  options_.dead_letter_enabled = true;
  Open();
  Flush();
  EXPECT_EQ(storage_->GetStats().dead_letters.open, 1u);
  EXPECT_OK(storage_->GetTask("b"));
}

TEST_F(StorageLettersTest, OldActivitiesExpireAndOldTasksRaiseTheAlarm) {
  options_.dead_letter_age_max = milliseconds(1);
  for (const char* id : {"a", "t"}) Refuse(id);
  Open();
  Log("a");
  Save("t");
  Flush();
  Await([&] { return storage_->GetStats().dead_letters.expired == 1; });
  Await([&] { return !storage_->GetStats().alarm.empty(); });
  EXPECT_THAT(storage_->GetStats().alarm, HasSubstr("older than dead_letter_age_max"));
  ASSERT_OK_AND_ASSIGN(const auto list, letters().List(10));
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].task_id, "t");
}

TEST_F(StorageLettersTest, NothingExpiresWithoutAnAge) {
  options_.dead_letter_age_max = milliseconds(0);
  Refuse("a");
  Open();
  Log("a");
  Flush();
  AwaitLooks();
  EXPECT_EQ(storage_->GetStats().dead_letters.open, 1u);
  EXPECT_EQ(storage_->GetStats().alarm, "");
}

TEST_F(StorageLettersTest, NothingExpiresBeforeItsTime) {
  options_.dead_letter_age_max = std::chrono::hours(1);
  Refuse("a");
  Open();
  Log("a");
  Flush();
  AwaitLooks();
  EXPECT_EQ(storage_->GetStats().dead_letters.open, 1u);
  EXPECT_EQ(storage_->GetStats().dead_letters.expired, 0u);
}

TEST_F(StorageLettersTest, LettersOfASecondTargetAreItsOwn) {
  second_.FailApply([this](const storage::Batch& batch) { return Judge(batch); });
  std::vector<Task> tasks(40);
  for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].id = "t" + std::to_string(i);
  WalStorageSetup setup;
  setup.options = options_;
  setup.targets.push_back({"one", 1, database_.Open()});
  setup.targets.push_back({"two", 1, second_.Open()});
  auto opened = WalTaskStorage::Open(std::move(setup));
  ASSERT_OK(opened);
  storage_ = std::move(opened).value();
  for (const Task& task : tasks) Refuse(task.id);
  ASSERT_OK(storage_->SaveTasks(tasks, {}));
  Flush();
  ASSERT_OK_AND_ASSIGN(const auto both, letters().List(10));
  ASSERT_THAT(both, SizeIs(2));  // the same LSN, refused by each
  EXPECT_NE(both[0].id, both[1].id);
  Accept();
  ASSERT_OK_AND_ASSIGN(const auto outcomes, letters().Retry(All(), seconds(20)));
  ASSERT_THAT(outcomes, SizeIs(2));
  for (const RetryOutcome& outcome : outcomes) EXPECT_EQ(outcome.result, RetryResult::kApplied);
  auto in_one = std::move(database_.data().Connect()).value();
  auto in_two = std::move(second_.data().Connect()).value();
  EXPECT_EQ(in_one->Count()->tasks + in_two->Count()->tasks, tasks.size());
  EXPECT_GT(in_one->Count()->tasks, 0u);
  EXPECT_GT(in_two->Count()->tasks, 0u);
  ASSERT_OK(storage_->Close());
  storage_.reset();
}

TEST_F(StorageLettersTest, AClosedStorageRetriesNothing) {
  Refuse("t");
  Open();
  Save("t");
  Flush();
  ASSERT_OK(storage_->Close());
  ASSERT_OK_AND_ASSIGN(const auto outcomes, letters().Retry(All(), seconds(1)));
  ASSERT_THAT(outcomes, SizeIs(1));
  EXPECT_EQ(outcomes[0].result, RetryResult::kPending);
  EXPECT_THAT(letters().Purge(All()), StatusIs(StatusCode::kClosed));
  storage_.reset();
}

}  // namespace
}  // namespace taskwal::pipeline
