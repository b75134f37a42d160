#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/no_new_threads.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flusher_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The process dies in its n-th file system call, for every n; a database that is asked throughout
// sees each acknowledged record once.
TEST(FlusherCrash, BringsEachRecordOnceWhereverItIsKilled) {
  for (std::uint64_t n = 1;; n += 3) {
    FakeClock clock;
    SimulatedFileSystem fs(n);
    storage::MemoryBackend memory;
    ScriptedBackend backend(memory);
    backend.RejectActivities([](const Activity& a) { return a.id == "log-7"; });
    Options options;
    options.wal_dir = "/wal";
    options.batch_size = 6;
    options.max_flush_retries = 0;
    OperationLog log(fs, clock);
    for (int i = 0; i < 30; ++i)
      log.LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
    log.Sync();
    bool has_crashed = true;
    for (int life = 0; life < 3; ++life) {
      if (life > 0) log.Open();
      if (life == 0) fs.CrashAfter(n);
      {
        auto letters = DeadLetters::Open(fs, "/wal", false);
        if (letters.ok()) {
          Flusher flusher(log.log(), backend, **letters, clock, options, fs);
          for (int turn = 0; turn < 60; ++turn) {
            while (flusher.Step()) {
            }
            clock.Advance(seconds(1));
          }
          if (life > 0) {
            EXPECT_EQ(flusher.flushed_lsn(), 30u) << n;
            EXPECT_EQ((*letters)->count(), 1u) << n;
          }
        }
      }
      if (life == 0) has_crashed = fs.crashed();
      log.Abandon();
      fs.Kill();
    }
    EXPECT_EQ((*memory.Connect())->Count()->activities, 29u) << n;
    std::size_t rows = 0;
    for (const auto& batch : backend.committed()) rows += batch.activities;
    EXPECT_EQ(rows, 29u) << n;
    if (!has_crashed) break;
  }
}

std::ptrdiff_t Lines(const char* file) {
  std::ifstream in(file);
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
}

std::ptrdiff_t RunningThreads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

class FlusherThreadsTest : public ::testing::Test {
 protected:
  FlusherThreadsTest() {
    options_.wal_dir = "/wal";
    options_.worker_count = 2;
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(2);
    options_.breaker_open_time = milliseconds(1);
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    flusher_ =
        std::make_unique<Flusher>(log_.log(), backend_, *letters_, Clock::Real(), options_, fs_);
  }

  const std::ptrdiff_t at_first_ = RunningThreads();  // without the reader and the workers
  SimulatedFileSystem fs_;
  OperationLog log_{fs_, Clock::Real()};
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
};

TEST_F(FlusherThreadsTest, FlushesWhatSeveralThreadsAppend) {
  ASSERT_OK(flusher_->Start());
  std::vector<std::thread> producers;
  for (int producer = 0; producer < 4; ++producer) {
    producers.emplace_back([&, producer] {
      for (int i = 0; i < 250; ++i) {
        const std::string id = std::to_string(producer) + "-" + std::to_string(i);
        log_.LogActivity(id, "task-" + id);
      }
    });
  }
  for (std::thread& producer : producers) producer.join();
  EXPECT_OK(flusher_->WaitFlushed(log_.log().end_lsn(), {}));
  EXPECT_EQ((*memory_.Connect())->Count()->activities, 1000u);
  flusher_->Stop();
  flusher_->Stop();
}

// The stack of a thread that has ended stays mapped until it is joined.
TEST_F(FlusherThreadsTest, NothingIsKeptOfWorkersThatHaveEnded) {
  constexpr int kTurns = 100;
  ASSERT_OK(flusher_->Start());
  ASSERT_OK(flusher_->SetWorkerCount(1));
  // The reader's and one worker's.
  const auto await_two = [this] {
    const auto until = std::chrono::steady_clock::now() + seconds(60);
    while (RunningThreads() > at_first_ + 2) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(milliseconds(1));
    }
  };
  await_two();
  const std::ptrdiff_t before = Lines("/proc/self/maps");
  for (int i = 0; i < kTurns; ++i) {
    ASSERT_OK(flusher_->SetWorkerCount(2));
    ASSERT_OK(flusher_->SetWorkerCount(1));
    await_two();
  }
  EXPECT_LT(Lines("/proc/self/maps"), before + kTurns / 2);
}

TEST_F(FlusherThreadsTest, GetsThroughEveryKindOfTrouble) {
  backend_.RefuseConnections(2);
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kLostBefore, ApplyFault::kLostAfter,
                        ApplyFault::kThrows, ApplyFault::kThrowsAfter, ApplyFault::kLate,
                        ApplyFault::kMoved, ApplyFault::kThrowsOddly});
  ASSERT_OK(flusher_->Start());
  for (int i = 0; i < 300; ++i) {
    const std::string id = std::to_string(i);
    log_.LogActivity(id, "task-" + id);
    if (i % 50 == 0) {
      EXPECT_OK(flusher_->WaitFlushed(log_.log().end_lsn(), {}));
    }
  }
  EXPECT_OK(flusher_->WaitFlushed(log_.log().end_lsn(), {}));
  EXPECT_EQ((*memory_.Connect())->Count()->activities, 300u);
  EXPECT_EQ(flusher_->GetStats().applied, 300u);
  EXPECT_EQ(flusher_->GetStats().duplicates, 0u);
}

TEST_F(FlusherThreadsTest, EndsAWaitOnADeadlineAStopAndTheEnd) {
  backend_.RefuseConnections(UINT32_MAX);
  ASSERT_OK(flusher_->Start());
  log_.Save("a");
  EXPECT_THAT(flusher_->WaitFlushed(1, {Clock::Real().Now() + milliseconds(1), {}}),
              StatusIs(StatusCode::kUnavailable));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(flusher_->WaitFlushed(1, {Monotonic::max(), stop.get_token()}),
              StatusIs(StatusCode::kUnavailable));
  std::thread waiter(
      [&] { EXPECT_THAT(flusher_->WaitFlushed(1, {}), StatusIs(StatusCode::kUnavailable)); });
  flusher_->Stop();
  waiter.join();
}

TEST_F(FlusherThreadsTest, EndsAWaitWhenFenced) {
  log_.Save("a");
  ASSERT_OK((*memory_.Connect())
                ->RegisterLog(log_.log().state().wal_id, 99,
                              std::vector<wal::Lsn>(OperationLog::kPartitions, 0)));
  ASSERT_OK(flusher_->Start());
  EXPECT_THAT(flusher_->WaitFlushed(1, {}), StatusIs(StatusCode::kFenced));
}

TEST_F(FlusherThreadsTest, StartsAgainWhereTheSystemGaveNoThread) {
  log_.Save("a");
  {
    const NoNewThreads none;
    EXPECT_THAT(flusher_->Start(), StatusIs(StatusCode::kUnavailable));
  }
  ASSERT_OK(flusher_->Start());
  EXPECT_OK(flusher_->WaitFlushed(1, {}));
  {
    const NoNewThreads none;
    EXPECT_OK(flusher_->Start());  // all of them run
  }
}

}  // namespace
}  // namespace taskwal::pipeline
