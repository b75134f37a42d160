// Keeps a database that fails again and again from being asked at every turn. One per target,
// shared by its workers. Any thread.
//
//            failures in a row reach the limit, or Trip           the open time has passed
//   closed ──────────────────────────────────────────▶ open ────────────────────────────▶ half-open
//     ▲                                                 ▲                                     │
//     │                                                 └──────────── the trial failed ───────┤
//     └──────────────────────────────────── the trial succeeded ──────────────────────────────┘
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/mutex.h"

namespace taskwal::pipeline {

class CircuitBreaker {
 public:
  enum class State : std::uint8_t { kClosed, kOpen, kHalfOpen };

  // `failures_max` 0: never opens by itself.
  CircuitBreaker(std::uint32_t failures_max, std::chrono::milliseconds open_time);

  // Whether a call may be made now. Half-open lets one through at a time. Whoever is let through
  // reports with OnSuccess or OnFailure. `urgent`: somebody waits, so an open breaker lets a trial
  // through kUrgentRetry after it opened, if that is sooner.
  bool Allow(Monotonic now, bool urgent);
  void OnSuccess();
  void OnFailure(Monotonic now);
  // Opens at once, whatever the count.
  void Trip(Monotonic now);

  [[nodiscard]] State state() const;
  // When Allow may say yes again; `now` itself while it is not open.
  [[nodiscard]] Monotonic next_trial(Monotonic now, bool urgent) const;

 private:
  void Open(Monotonic now) REQUIRES(mutex_);
  [[nodiscard]] Monotonic TrialAt(bool urgent) const REQUIRES(mutex_);

  const std::uint32_t failures_max_;
  const std::chrono::milliseconds open_time_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_) = State::kClosed;
  std::uint32_t failures_ GUARDED_BY(mutex_) = 0;  // in a row
  Monotonic opened_at_ GUARDED_BY(mutex_){};
  bool on_trial_ GUARDED_BY(mutex_) = false;       // half-open: one call is out
};

// "closed", "open", "half-open".
std::string_view BreakerStateName(CircuitBreaker::State state);

}  // namespace taskwal::pipeline
