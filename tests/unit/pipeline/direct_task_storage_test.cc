// What calls are promised where they go straight to the database (Options::wal_enabled is off).
#include "pipeline/direct_task_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DirectTaskStorageTest : public ::testing::Test {
 protected:
  void Open(Clock& clock = Clock::Real()) {
    auto opened = DirectTaskStorage::Open(database_.Open(), clock, options_);
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  Status Log(const WriteOptions& options) {
    Activity activity;
    activity.task_id = "t";
    return storage_->LogActivity(activity, options).status();
  }

  FakeClock clock_;
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<DirectTaskStorage> storage_;
};

TEST_F(DirectTaskStorageTest, ACallsTimeIsThatOfItsTransaction) {
  milliseconds time{-1};
  database_.FailApply([&time](const storage::Batch& batch) {
    time = batch.time_max;
    return Status::Ok();
  });
  Open();
  WriteOptions options;
  ASSERT_OK(Log(options));
  EXPECT_EQ(time, milliseconds(0));  // as long as the database may take
  options.timeout = milliseconds(0);
  ASSERT_OK(Log(options));
  EXPECT_EQ(time, milliseconds(0));
  options.timeout = hours(1);
  Task task;
  task.id = "t";
  const std::vector<std::function<Status()>> calls = {
      [&] { return Log(options); },
      [&] { return storage_->SaveTask(task, options).status(); },
      [&] { return storage_->SaveTasks(std::vector{task}, options).status(); },
      [&] { return storage_->UpdateTaskStatus("t", TaskStatus::kRunning, {}, options).status(); },
      [&] { return storage_->DeleteTask("t", options).status(); },
      [&] { return storage_->DeleteTasksByDag("d", options).status(); }};
  for (const auto& call : calls) {
    time = milliseconds(0);
    ASSERT_OK(call());
    EXPECT_GT(time, milliseconds(0));
    EXPECT_LE(time, hours(1));
  }
}

// Else what is saved after it would be taken for older than what is there, and dropped.
TEST_F(DirectTaskStorageTest, StampsGrowOverARestartThoughTheClockStepsBack) {
  Open(clock_);
  Task task;
  task.id = "t";
  task.error = "first";
  ASSERT_OK_AND_ASSIGN(const Ack first, storage_->SaveTask(task, {}));
  storage_.reset();
  clock_.StepWall(-hours(1));
  Open(clock_);
  task.error = "second";
  ASSERT_OK_AND_ASSIGN(const Ack second, storage_->SaveTask(task, {}));
  EXPECT_GT(second.lsn, first.lsn);
  ASSERT_OK_AND_ASSIGN(const Task stored, storage_->GetTask("t"));
  EXPECT_EQ(stored.error, "second");
}

TEST_F(DirectTaskStorageTest, AnActivityToBeKeptIsNotFiltered) {
  options_.min_activity_level = Level::kFatal;
  Open();
  WriteOptions options;
  ASSERT_OK(Log(options));
  options.keep = true;
  ASSERT_OK(Log(options));
  ASSERT_OK_AND_ASSIGN(const StoredCounts stored, storage_->Count());
  EXPECT_EQ(stored.activities, 1u);
  EXPECT_EQ(storage_->GetStats().filtered, 1u);
}

TEST_F(DirectTaskStorageTest, AStopIsLookedAtBeforeTheTransaction) {
  int transactions = 0;
  database_.FailApply([&transactions](const storage::Batch&) {
    ++transactions;
    return Status::Ok();
  });
  Open();
  std::stop_source source;
  WriteOptions options;
  options.stop = source.get_token();
  ASSERT_OK(Log(options));
  source.request_stop();
  EXPECT_THAT(Log(options), StatusIs(StatusCode::kOverloaded, HasSubstr("told to stop")));
  EXPECT_EQ(transactions, 1);
}

TEST_F(DirectTaskStorageTest, ACallWaitsForAConnectionNoLongerThanItsTime) {
  options_.max_open_conns = 1;
  options_.database_timeout = hours(1);
  std::latch has_begun(1);
  std::latch release(1);
  database_.FailApply([&](const storage::Batch&) {
    has_begun.count_down();
    release.wait();
    return Status::Ok();
  });
  Open();
  std::jthread first([&] { EXPECT_OK(Log({})); });
  has_begun.wait();
  WriteOptions options;
  options.timeout = milliseconds(5);
  // On a busy machine the caller may be back before the reason is there.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  Status refused;
  do {
    refused = Log(options);
    EXPECT_THAT(refused, StatusIs(StatusCode::kUnavailable));
  } while (!HasFailure() && refused.message().find("max_open_conns") == std::string::npos &&
           std::chrono::steady_clock::now() < until);
  EXPECT_THAT(refused.message(), HasSubstr("max_open_conns"));
  release.count_down();
}

TEST_F(DirectTaskStorageTest, HandlersRunInReverseWhileCallsAreStillTaken) {
  std::vector<std::string> ran;
  Open();
  ASSERT_OK(storage_->OnShutdown("first", [&] { ran.push_back("first"); }, {}));
  ASSERT_OK(storage_->OnShutdown("second", [&] {
    ran.push_back("second");
    EXPECT_TRUE(storage_->IsShutdown());
    EXPECT_OK(Log({}));
  }, {}));
  EXPECT_FALSE(storage_->IsShutdown());
  ASSERT_OK(storage_->Close());
  EXPECT_THAT(ran, ElementsAre("second", "first"));
  EXPECT_THAT(Log({}), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->OnShutdown("late", [] {}, {}), StatusIs(StatusCode::kClosed));
  EXPECT_OK(storage_->Shutdown(ShutdownMode::kImmediate, {}));
  EXPECT_EQ(ran.size(), 2u);
}

TEST_F(DirectTaskStorageTest, AHandlerThatHangsIsNamedAndLeftBehind) {
  const auto release = std::make_shared<std::latch>(1);
  Open();
  ASSERT_OK(storage_->OnShutdown("hangs", [release] { release->wait(); }, {}));
  const Status closed = storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(20));
  EXPECT_THAT(closed, StatusIs(StatusCode::kUnavailable, HasSubstr("shutdown handler hangs")));
  EXPECT_EQ(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(20)).message(),
            closed.message());
  release->count_down();
}

}  // namespace
}  // namespace taskwal::pipeline
