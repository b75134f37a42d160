// A door in front of a log with little room, on a clock that stands still, for the tests of it.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "pipeline/admission/admission.h"
#include "tests/support/fake_clock.h"

namespace taskwal::pipeline {

// A log with room for so many records, on a clock that stands still.
class AdmissionTest : public ::testing::Test {
 protected:
  AdmissionTest() { options_.block_timeout = std::chrono::milliseconds(0); }

  void Make() {
    gauge_ = std::make_unique<LoadGauge>(options_);
    admission_ = std::make_unique<Admission>(options_, clock_, *gauge_, [this] { return load_; });
  }
  Result<wal::Lsn> Enter(std::int32_t rank = kTaskRank,
                         std::chrono::milliseconds timeout = std::chrono::milliseconds(0),
                         std::size_t bytes = 100, std::stop_token stop = {}) {
    const Admission::Call call{rank, bytes, timeout, std::move(stop), false};
    return admission_->Enter(call, [this, rank](const wal::Deadline&) { return Append(rank); });
  }
  // What the log does.
  Result<wal::Lsn> Append(std::int32_t rank) {
    ++asked_[static_cast<std::size_t>(rank)];
    std::int64_t room = room_.load();
    while (room > 0 && !room_.compare_exchange_weak(room, room - 1)) {
    }
    if (room <= 0) return Status::Overloaded("the log is full");
    MutexLock lock(mutex_);
    entered_.push_back(rank);
    return ++lsn_;
  }
  // A caller that waits, on a thread of its own.
  struct Waiter {
    std::int32_t rank = 0;
    std::optional<Result<wal::Lsn>> result;
    std::stop_source stop;
    std::jthread thread;
  };
  Waiter& Wait(std::int32_t rank, std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    const std::uint64_t before = admission_->Snapshot().waiting;
    waiters_.push_back(std::make_unique<Waiter>());
    Waiter& waiter = *waiters_.back();
    waiter.rank = rank;
    waiter.thread = std::jthread([this, &waiter, rank, timeout] {
      waiter.result = Enter(rank, timeout, 100, waiter.stop.get_token());
    });
    AwaitWaiting(before + 1);
    return waiter;
  }
  void AwaitWaiting(std::uint64_t count) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (admission_->Snapshot().waiting != count) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
  }
  void AwaitAsked(std::int32_t rank, std::uint64_t times) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (asked_[static_cast<std::size_t>(rank)] < times) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
  }
  Result<wal::Lsn> ResultOf(Waiter& waiter) {
    waiter.thread.join();
    return *waiter.result;
  }
  std::uint64_t Dropped(DropReason reason) { return admission_->drops().of(reason); }
  std::vector<std::int32_t> entered() {
    MutexLock lock(mutex_);
    return entered_;
  }
  // The monitor looks, at so many failed of 100 transactions.
  void LookAt(int failed) {
    for (int i = 0; i < 100; ++i) {
      if (i < failed) {
        gauge_->OnFailed();
      } else {
        gauge_->OnCommitted(std::chrono::milliseconds(1));
      }
    }
    clock_.Advance(options_.monitoring_interval);
    admission_->MaybeLook();
  }

  FakeClock clock_;
  Options options_;
  LoadSample load_;
  std::atomic<std::int64_t> room_{1'000'000};
  std::array<std::atomic<std::uint64_t>, kTaskRank + 1> asked_{};  // the log for room, by rank
  std::unique_ptr<LoadGauge> gauge_;
  std::unique_ptr<Admission> admission_;
  std::vector<std::unique_ptr<Waiter>> waiters_;

  Mutex mutex_;
  wal::Lsn lsn_ GUARDED_BY(mutex_) = 0;
  std::vector<std::int32_t> entered_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::pipeline
