// Running storage over a database that can be taken away, for tests of what the parts do under
// pressure: each of them fails when its part does nothing.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "pipeline/wal_task_storage.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {

class PressureTest : public ::testing::Test {
 protected:
  using milliseconds = std::chrono::milliseconds;

  PressureTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.durability = Durability::kProcess;
    options_.block_timeout = milliseconds(0);
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(5);
    options_.breaker_open_time = milliseconds(5);
    options_.monitoring_interval = milliseconds(1);
    options_.adaptive_thresholds = false;
    options_.on_recovery = [users = users_](const RecoveryEvent&) {};
  }
  ~PressureTest() override {
    database_.ComeBack();
    Close();
  }
  // For tests whose callbacks use variables of theirs: no callback comes after it.
  void Close() {
    if (storage_ != nullptr) {
      EXPECT_OK(storage_->Close());
      storage_.reset();
    }
    AwaitLeftBehind();
  }
  // Until all parts of earlier storages are gone, with what a shutdown has left behind.
  void AwaitLeftBehind() {
    Await([&] { return users_.use_count() == 2; });
    std::shared_ptr<int>(users_).reset();  // what they did has happened before
  }

  void Open() {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    setup.clock = clock_;
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  Control& control() { return *storage_->GetControl(); }
  Status Log(std::int32_t priority = 3, Level level = Level::kInfo) {
    Activity activity;
    activity.task_id = "t";
    activity.action = "step";
    activity.priority = priority;
    activity.level = level;
    return storage_->LogActivity(activity, {}).status();
  }
  // Of so many calls, how many were taken.
  int LogMany(int calls, std::int32_t priority = 3) {
    int taken = 0;
    for (int i = 0; i < calls; ++i) taken += Log(priority).ok() ? 1 : 0;
    return taken;
  }
  Status Save(const std::string& id, milliseconds timeout = std::chrono::seconds(20)) {
    Task task;
    task.id = id;
    WriteOptions options;
    options.timeout = timeout;
    return storage_->SaveTask(task, options).status();
  }
  StoredCounts Stored() {
    auto session = database_.data().Connect();
    EXPECT_OK(session);
    return *(*session)->Count();
  }
  std::uint64_t pending() { return storage_->GetStats().pending; }
  template <typename Condition>
  void Await(Condition&& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  TempDir dir_;
  SwitchableDatabase database_;
  // Every part with the options has a share of it: here, in options_, and in each that lives.
  const std::shared_ptr<int> users_ = std::make_shared<int>(0);
  Options options_;
  Clock* clock_ = &Clock::Real();
  std::unique_ptr<WalTaskStorage> storage_;
};

// Stands still until a test moves it, and counts who looks at it.
class CountingClock final : public Clock {
 public:
  Monotonic Now() override {
    {
      MutexLock lock(mutex_);
      ++looks_[std::this_thread::get_id()];
    }
    return clock_.Now();
  }
  Time WallNow() override { return clock_.WallNow(); }
  void SleepFor(std::chrono::nanoseconds duration) override { clock_.SleepFor(duration); }

  void Advance(std::chrono::nanoseconds duration) { clock_.Advance(duration); }
  std::uint64_t looks(std::thread::id thread) {
    MutexLock lock(mutex_);
    return looks_[thread];
  }

 private:
  FakeClock clock_;
  Mutex mutex_;
  std::map<std::thread::id, std::uint64_t> looks_ GUARDED_BY(mutex_);
};

// The same on a clock that stands still. The database takes one record at a time, and as many as it
// is allowed to; the monitor looks when told.
class SteppedPressureTest : public PressureTest {
 protected:
  SteppedPressureTest() {
    clock_ = &time_;
    options_.monitoring_interval = std::chrono::hours(1);
    options_.initial_backoff = options_.max_backoff = milliseconds(0);
    options_.breaker_failures = 0;
    options_.flush_linger = milliseconds(0);
    options_.worker_count = 1;
    options_.batch_size = 1;
    options_.pressure_records = 0;
    options_.pressure_latency = milliseconds(0);
    options_.pressure_error_rate = options_.emergency_error_rate = 0;
    options_.pressure_inflow = 0;
    database_.FailApply([this](const storage::Batch&) { return TakeOne(); });
  }
  ~SteppedPressureTest() override { Drain(); }

  // Everything is let through, and the storage closed.
  void Drain() {
    allowed_ = kAll;
    const std::jthread time([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        time_.Advance(milliseconds(1));
        std::this_thread::sleep_for(milliseconds(1));
      }
    });
    Close();
  }
  // Lets the database take so many records, and waits until it has.
  void Apply(std::int64_t records) {
    const std::uint64_t before = storage_->GetStats().applied;
    allowed_ = records;
    Await([&] { return storage_->GetStats().applied == before + std::uint64_t(records); });
  }
  // One look of the monitor.
  BackpressureSnapshot Look() {
    const std::size_t before = control().Backpressure().history.size();
    time_.Advance(options_.monitoring_interval);
    Await([&] { return control().Backpressure().history.size() == before + 1; });
    return control().Backpressure();
  }

  // What an attempt comes to.
  Status TakeOne() {
    std::int64_t left = allowed_;
    while (left > 0 && !allowed_.compare_exchange_weak(left, left - 1)) {
    }
    if (left != 0) return Status::Ok();
    // It is asked again at once, and again.
    std::this_thread::sleep_for(milliseconds(1));
    return Status::Unavailable("test: no more is allowed");
  }

  static constexpr std::int64_t kAll = -1;

  CountingClock time_;
  std::atomic<std::int64_t> allowed_{kAll};
};

}  // namespace taskwal::pipeline
