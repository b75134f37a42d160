// What opening does: the database that is away or another one, recovery, directories.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <latch>
#include <string>
#include <thread>
#include <utility>

#include "tests/unit/pipeline/wal_task_storage_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

TEST_F(WalTaskStorageTest, RecoveryThatIsOffRefusesALogWithUnflushedRecords) {
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  options_.enable_recovery = false;
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kRejected, HasSubstr("taskwal recover")));
  database_.ComeBack();
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kRejected, HasSubstr("LSN 1 to 1")));
  EXPECT_EQ(Stored().tasks, 0u);  // a refusal brings nothing
  options_.enable_recovery = true;
  Open();
  ASSERT_OK(storage_->Close());
  storage_.reset();
  options_.enable_recovery = false;
  Open();
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, ARecoveryCallbackThatThrowsIsToldAndTheLogIsOpen) {
  options_.on_recovery = [](const RecoveryEvent&) { throw std::runtime_error("not caught"); };
  std::string told;
  options_.on_error = [&](const ErrorEvent& event) { told = event.message; };
  ASSERT_NO_THROW(Open());
  EXPECT_EQ(told, "on_recovery threw");
  EXPECT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
}

TEST_F(WalTaskStorageTest, RecoveryIsToldOnceInsideOpen) {
  int told = 0;
  RecoveryEvent event;
  options_.on_recovery = [&](const RecoveryEvent& given) {
    ++told;
    event = given;
  };
  Open();
  EXPECT_EQ(told, 1);
  EXPECT_GT(event.first_pending, event.last_pending);  // nothing pending
  database_.GoAway();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  Open();
  EXPECT_EQ(told, 2);
  EXPECT_EQ(event.last_pending, 1u);
  EXPECT_EQ(event.corrupt, 0u);
  database_.ComeBack();
}

TEST_F(WalTaskStorageTest, ADatabaseThatHangsAtOpenIsWaitedForNoLongerThanAsked) {
  std::latch let_go(1);
  database_.OnConnect([&] { let_go.wait(); });
  options_.recovery_timeout = milliseconds(10);
  OpenReport report;
  Open(&report);
  EXPECT_THAT(report.contact, StatusIs(StatusCode::kUnavailable, HasSubstr("not answered")));
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));  // meanwhile everything else works
  let_go.count_down();
  EXPECT_OK(storage_->Flush(seconds(20)));
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, ADatabaseThatIsSilentAtOpenDelaysNothingButTheFlush) {
  std::latch let_go(1);
  database_.OnConnect([&] { let_go.wait(); });
  options_.recovery_timeout = std::chrono::hours(1);
  std::promise<void> is_open;
  std::jthread last_resort([&, opened = is_open.get_future()] {
    opened.wait_for(seconds(60));
    let_go.count_down();
  });
  OpenReport report;
  Open(&report);
  EXPECT_THAT(report.contact, StatusIs(StatusCode::kUnavailable, HasSubstr("not answered")));
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  is_open.set_value();
  last_resort.join();
  EXPECT_OK(storage_->Flush(seconds(20)));
  EXPECT_EQ(Stored().tasks, 1u);
}

// It answers later than one that has nothing to say is waited for (1 s); but whether the log may be
// opened is its to say. The sleep is the database's own time: nobody counts on when it ends.
TEST_F(WalTaskStorageTest, ADatabaseThatMayRefuseTheLogIsWaitedFor) {
  const auto be_slow = [] { std::this_thread::sleep_for(milliseconds(1500)); };
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
  storage_.reset();
  const std::string original = options_.wal_dir;
  std::filesystem::copy(original, dir_.File("copy"), std::filesystem::copy_options::recursive);
  options_.wal_dir = dir_.File("copy");
  database_.OnConnect(be_slow);
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kFenced));

  options_.wal_dir = original;
  database_.OnConnect({});
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("u"), {}));
  ASSERT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  database_.ComeBack();
  database_.OnConnect(be_slow);
  options_.enable_recovery = false;
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kRejected));
}

TEST_F(WalTaskStorageTest, ASecondOpenOfTheDirectoryIsRefused) {
  Open();
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kUnavailable, HasSubstr(std::to_string(::getpid()))));
}

TEST_F(WalTaskStorageTest, ANewDirectoryIsMadeOnlyWhereThatIsWanted) {
  WalStorageSetup setup;
  setup.options = options_;
  setup.backend = database_.Open();
  setup.create = false;
  EXPECT_THAT(WalTaskStorage::Open(std::move(setup)), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(FileSystem::Real().Stat(options_.wal_dir), StatusIs(StatusCode::kNotFound));
}

TEST_F(WalTaskStorageTest, ACopyIsRefusedByTheDatabaseOfTheOriginal) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
  storage_.reset();
  std::filesystem::copy(options_.wal_dir, dir_.File("copy"),
                        std::filesystem::copy_options::recursive);
  options_.wal_dir = dir_.File("copy");
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kFenced, HasSubstr("taskwal adopt")));
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kFenced));  // and so it stays
  options_.wal_dir = dir_.File("wal");
  EXPECT_OK(TryOpen());
}

TEST_F(WalTaskStorageTest, AnotherDatabaseIsRefused) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
  storage_.reset();
  SwitchableDatabase other;
  WalStorageSetup setup;
  setup.options = options_;
  setup.backend = other.Open();
  EXPECT_THAT(WalTaskStorage::Open(std::move(setup)),
              StatusIs(StatusCode::kFenced, HasSubstr("--new-db")));
  EXPECT_OK(TryOpen());
}

}  // namespace
}  // namespace taskwal::pipeline
