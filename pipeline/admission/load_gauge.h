// How the storage stands the load: from what the workers tell of their transactions and what the
// log knows at each look, one of three states, with thresholds that move with what is usual.
//
//              a signal reaches its threshold           twice, or errors at emergency_error_rate
//   normal ───────────────────────────────▶ pressure ───────────────────────────▶ emergency
//      ◀──── all below 0.7 of theirs ──────    ◀────── below 0.7 of that ──────────
//
// Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "base/clock.h"
#include "base/mutex.h"
#include "taskwal/control.h"
#include "taskwal/options.h"

namespace taskwal::pipeline {

// What the log knows at a look.
struct LoadSample {
  std::uint64_t pending = 0;        // records not settled yet
  std::uint64_t pending_bytes = 0;  // of the log on disk
  std::uint64_t arrived = 0;        // records since open
};

class LoadGauge {
 public:
  explicit LoadGauge(const Options& options);

  // --- the workers
  // `settled`: called after each OnSettled, no lock held. Before use.
  void WhenSettled(std::function<void()> settled) { when_settled_ = std::move(settled); }
  void OnSettled(std::uint64_t records, std::uint64_t bytes);
  void OnCommitted(std::chrono::nanoseconds duration) EXCLUDES(mutex_);
  void OnFailed() EXCLUDES(mutex_);

  // --- the monitor
  // One look; the event, when the state has changed by it.
  std::optional<PressureEvent> Look(const LoadSample& sample, Monotonic now) EXCLUDES(mutex_);

  [[nodiscard]] Pressure state() const { return state_.load(std::memory_order_relaxed); }
  // In an emergency: activities of this priority and below are to be thinned out. 0: none.
  [[nodiscard]] std::int32_t shed_up_to() const {
    return shed_up_to_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t settled_records() const { return settled_records_.load(); }
  [[nodiscard]] std::uint64_t settled_bytes() const { return settled_bytes_.load(); }
  [[nodiscard]] BackpressureSnapshot Snapshot() const EXCLUDES(mutex_);

 private:
  struct Scores {
    double pressure = 0;
    double emergency = 0;
    const char* signal = "";  // the worst one
  };
  struct Thresholds {
    double records = 0, latency_ms = 0;
  };

  LoadFigures Measure(const LoadSample& sample, Monotonic now) REQUIRES(mutex_);
  [[nodiscard]] Scores Judge(const LoadFigures& figures) const REQUIRES(mutex_);
  [[nodiscard]] Pressure NextState(const Scores& scores) const;
  [[nodiscard]] std::int32_t NextShedding(Pressure next, const Scores& scores) const;
  void Adapt(Pressure state) REQUIRES(mutex_);
  [[nodiscard]] double Usual(double LoadFigures::*figure) const REQUIRES(mutex_);

  const Options options_;
  const Thresholds given_;
  std::function<void()> when_settled_;

  std::atomic<Pressure> state_{Pressure::kNormal};
  std::atomic<std::int32_t> shed_up_to_{0};
  std::atomic<std::uint64_t> settled_records_{0}, settled_bytes_{0};

  mutable Mutex mutex_;
  Thresholds in_force_ GUARDED_BY(mutex_);
  std::uint64_t changes_ GUARDED_BY(mutex_) = 0;
  // Since the last look.
  std::uint64_t committed_ GUARDED_BY(mutex_) = 0;
  std::uint64_t failed_ GUARDED_BY(mutex_) = 0;
  std::chrono::nanoseconds in_commits_ GUARDED_BY(mutex_){0};
  // Of the last attempts, and of the last look with transactions.
  double attempts_ GUARDED_BY(mutex_) = 0, failures_ GUARDED_BY(mutex_) = 0;
  double latency_ms_ GUARDED_BY(mutex_) = 0;
  bool is_failing_ GUARDED_BY(mutex_) = false;  // the last attempt did
  std::optional<Monotonic> looked_at_ GUARDED_BY(mutex_);
  std::uint64_t last_arrived_ GUARDED_BY(mutex_) = 0, last_pending_ GUARDED_BY(mutex_) = 0;
  std::deque<LoadFigures> history_ GUARDED_BY(mutex_);
  std::deque<Pressure> states_ GUARDED_BY(mutex_);  // beside it
};

}  // namespace taskwal::pipeline
