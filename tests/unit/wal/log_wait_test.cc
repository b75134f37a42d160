// Who waits for a disk that has stopped answering, and for how long.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>

#include "base/status_macros.h"
#include "tests/support/hanging_file_system.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/wal/log_fixture.h"

namespace taskwal::wal {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using ::testing::Each;
using ::testing::Ne;

class LogWaitTest : public ::testing::Test {
 protected:
  LogWaitTest() {
    LogOptions options;
    options.directory = dir_.File("wal");
    options.ring_bytes = 64u << 10;
    options.segment_bytes = 1u << 20;
    options.sync_interval = hours(1);
    auto log = Log::Open(fs_, Clock::Real(), options, NewLog(fs_, options.directory));
    EXPECT_OK(log);
    log_ = std::move(log).value();
  }
  ~LogWaitTest() override {
    fs_.Answer();
    EXPECT_OK(log_->Close());
  }

  Result<Lsn> Put(std::size_t bytes, const Deadline& deadline) {
    return log_->Append({20, 0, 1, 7}, bytes, Durability::kDisk, {},
                        [](std::span<std::byte> into) {
                          std::memset(into.data(), 'x', into.size());
                        },
                        deadline);
  }
  static Deadline In(std::chrono::nanoseconds time) { return {Clock::Real().Now() + time, {}}; }
  // A record whose caller waits with the disk hanging until somebody is held by it, and answering
  // then.
  Status PutAndWaitUntilHeld(const Deadline& deadline) {
    fs_.Hang();  // before the writer can have synced it
    TASKWAL_ASSIGN(const Lsn lsn, Put(10, {}));
    const std::jthread disk([this] {
      EXPECT_TRUE(fs_.AwaitHeld());
      fs_.Answer();
    });
    return log_->WaitDurable(lsn, deadline);
  }

  static constexpr std::size_t kLarge = 20u << 10;  // above an eighth of the ring

  TempDir dir_;
  HangingFileSystem fs_{FileSystem::Real()};
  std::unique_ptr<Log> log_;
};

// Unless the writer comes first, which is free to.
TEST_F(LogWaitTest, ACallerWithoutADeadlineSyncsByItself) {
  const auto has_led = [this] {
    const auto held = fs_.held();
    return std::find(held.begin(), held.end(), std::this_thread::get_id()) != held.end();
  };
  for (int tries = 0; tries < 100 && !has_led(); ++tries) {
    ASSERT_OK(PutAndWaitUntilHeld({}));
  }
  EXPECT_TRUE(has_led());
}

// However far away it is: nobody knows how long a sync takes.
TEST_F(LogWaitTest, ACallerWithADeadlineLeavesTheSyncToTheWriter) {
  EXPECT_OK(PutAndWaitUntilHeld(In(hours(1))));
  EXPECT_THAT(fs_.held(), Each(Ne(std::this_thread::get_id())));
}

TEST_F(LogWaitTest, ACallerThatMayBeStoppedLeavesTheSyncToTheWriter) {
  const std::stop_source stop;
  EXPECT_OK(PutAndWaitUntilHeld({Monotonic::max(), stop.get_token()}));
  EXPECT_THAT(fs_.held(), Each(Ne(std::this_thread::get_id())));
}

TEST_F(LogWaitTest, ADeadlineEndsTheWaitForASyncThatHangs) {
  fs_.Hang();
  ASSERT_OK_AND_ASSIGN(const Lsn lsn, Put(10, {}));
  EXPECT_THAT(log_->WaitDurable(lsn, In(milliseconds(20))), StatusIs(StatusCode::kUnavailable));
  // And the same beside a caller that has all the time there is.
  ASSERT_TRUE(fs_.AwaitHeld());
  const std::jthread patient([&] { EXPECT_OK(log_->WaitDurable(lsn, {})); });
  EXPECT_THAT(log_->WaitDurable(lsn, In(milliseconds(20))), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(fs_.gave_up());
  fs_.Answer();
}

TEST_F(LogWaitTest, ARecordTooLargeForTheRingIsInDoubtAtItsDeadline) {
  fs_.Hang();
  const auto lsn = Put(kLarge, In(milliseconds(20)));
  EXPECT_THAT(lsn, StatusIs(StatusCode::kInDoubt));
  EXPECT_EQ(lsn.status().lsn(), 1u);
  EXPECT_FALSE(fs_.gave_up());
  fs_.Answer();
  EXPECT_OK(log_->WaitDurable(1, {}));
}

TEST_F(LogWaitTest, ARecordTooLargeForTheRingIsInDoubtWhenStopped) {
  fs_.Hang();
  std::stop_source stop;
  const std::jthread stopping([&] {
    EXPECT_TRUE(fs_.AwaitHeld());
    stop.request_stop();
  });
  EXPECT_THAT(Put(kLarge, {Monotonic::max(), stop.get_token()}), StatusIs(StatusCode::kInDoubt));
  EXPECT_FALSE(fs_.gave_up());
}

TEST_F(LogWaitTest, TheWriterWritesARecordTooLargeForTheRing) {
  ASSERT_OK_AND_ASSIGN(const Lsn lsn, Put(kLarge, In(hours(1))));
  EXPECT_GE(log_->written_lsn(), lsn);
}

TEST(LogDeadlines, HoldThoughTheDeviceDoesNotAnswer) {
  SimulatedFileSystem memory;
  HangingFileSystem disk(memory);
  LogOptions options = SmallLog();
  options.start_threads = true;
  ASSERT_OK_AND_ASSIGN(auto log,
                       Log::Open(disk, Clock::Real(), options, NewLog(disk, kDirectory)));
  const auto soon = [] { return Clock::Real().Now() + std::chrono::milliseconds(20); };
  ASSERT_OK(Put(*log, "a", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(1, {Clock::Real().Now() + std::chrono::milliseconds(900), {}}));
  disk.Hang();
  // Each of these would lead the sync itself if it had the time.
  ASSERT_OK(Put(*log, "b", Durability::kDisk));
  EXPECT_THAT(log->WaitDurable(2, {soon(), {}}), StatusIs(StatusCode::kUnavailable));
  ASSERT_OK(Put(*log, "c", Durability::kDisk));
  EXPECT_THAT(log->WaitDurable(3, {soon(), {}}), StatusIs(StatusCode::kUnavailable));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(log->WaitDurable(3, {Monotonic::max(), stop.get_token()}),
              StatusIs(StatusCode::kUnavailable));
  disk.Answer();
  EXPECT_OK(log->WaitDurable(3, {}));
  EXPECT_OK(log->Close());
}

TEST(LogThreads, AStoppedWaitEndsWhileTheLogIsStuck) {
  TempDir directory;
  LogOptions options;
  options.directory = directory.File("wal");
  FileSystem& fs = FileSystem::Real();
  auto log = Log::Open(fs, Clock::Real(), options, NewLog(fs, options.directory));
  ASSERT_OK(log);
  // A claim that is never published holds up everything behind it.
  auto stuck = (*log)->Reserve({20, 0, 0, 0}, 8, Durability::kProcess, {});
  ASSERT_OK(stuck);
  const auto lsn = Put(**log, "behind", Durability::kDisk);
  ASSERT_OK(lsn);
  std::stop_source stop;
  std::thread stopper([&] { stop.request_stop(); });
  EXPECT_THAT((*log)->WaitDurable(*lsn, {Monotonic::max(), stop.get_token()}),
              StatusIs(StatusCode::kUnavailable));
  stopper.join();
  ASSERT_OK((*log)->Publish(std::move(stuck).value()));
  EXPECT_OK((*log)->WaitDurable(*lsn, {}));
}

// A wait takes its time, and not until the machine's clock says what the log's own says.
TEST_F(LogTest, WaitsNoLongerThoughItsClockIsAheadOfTheMachines) {
  clock_.Advance(hours(24 * 365 * 100));
  auto log = Open();
  for (int i = 0; i < 300; ++i) ASSERT_OK(Put(*log, std::string(100, 'x'), Durability::kProcess));
  EXPECT_OK(log->WaitDurable(log->end_lsn(), {}));
  const auto large = Put(*log, std::string(20'000, 'x'), Durability::kProcess);
  ASSERT_OK(large);
  EXPECT_OK(log->WaitDurable(*large, {}));
}

}  // namespace
}  // namespace taskwal::wal
