// Keeps a database that fails again and again from being asked at every turn. One per target,
// shared by its workers. Any thread.
//
//        failures in a row or a share of them reach     the open time has passed
//        the limit, or Trip
//   closed ─────────────────────────────────▶ open ────────────────────────────▶ half-open
//     ▲                                        ▲                                     │
//     │                                        └──────────── a trial failed ─────────┤
//     └──────────── all trials succeeded, or Reset ──────────────────────────────────┘
//
// In two steps: Allow asks, and whoever is let through reports with OnSuccess or OnFailure.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "pipeline/admission/sliding_window.h"
#include "taskwal/control.h"
#include "taskwal/options.h"

namespace taskwal::pipeline {

struct BreakerLimits {
  std::uint32_t failures_max = 5;        // in a row; 0: not looked at
  double error_rate = 0;                 // failed share within the window; 0: not looked at
  std::uint32_t requests_min = 10;       // within the window, before its share counts
  std::chrono::milliseconds window{60000};
  std::chrono::milliseconds open_time{60000};
  std::uint32_t trials = 1;              // let through half-open; all must succeed
  std::chrono::milliseconds trial_interval{0};  // between the starts of two of them, at least
  // One that has not reported by then never will; 0: it always does.
  std::chrono::milliseconds trial_timeout{0};
};

BreakerLimits BreakerLimitsOf(const Options& options);

class CircuitBreaker {
 public:
  enum class State : std::uint8_t { kClosed, kOpen, kHalfOpen };

  // `on_change`: called with no lock held, by the thread whose call made the change.
  explicit CircuitBreaker(const BreakerLimits& limits,
                          std::function<void(State from, State to)> on_change = {});

  // Grows with every change of the state.
  using Period = std::uint64_t;
  // Whether a call may be made now. `urgent`: somebody waits, so an open breaker lets a trial
  // through kUrgentRetry after it opened, if that is sooner. `period`: when it was let through, for
  // the report; may be null.
  bool Allow(Monotonic now, bool urgent, Period* period = nullptr) EXCLUDES(mutex_);
  // What became of a call. One of another period than the present one proves nothing of this one.
  void OnSuccess(Monotonic now, std::optional<Period> period = {}) EXCLUDES(mutex_);
  void OnFailure(Monotonic now, std::optional<Period> period = {}) EXCLUDES(mutex_);
  // The call was not made after all: another may be.
  void OnUntried(std::optional<Period> period = {}) EXCLUDES(mutex_);
  // Opens at once, whatever the count.
  void Trip(Monotonic now) EXCLUDES(mutex_);
  // Closes at once and forgets what it has counted.
  void Reset() EXCLUDES(mutex_);

  [[nodiscard]] State state() const EXCLUDES(mutex_);
  // When Allow may say yes again, if no call is reported until then; `now` itself while it may at
  // once.
  [[nodiscard]] Monotonic next_trial(Monotonic now, bool urgent) const EXCLUDES(mutex_);
  [[nodiscard]] BreakerSnapshot Snapshot(Monotonic now) EXCLUDES(mutex_);

 private:
  bool AllowTrial(Monotonic now) REQUIRES(mutex_);
  [[nodiscard]] bool HasTrialLeft() const REQUIRES(mutex_);
  [[nodiscard]] bool IsLate(std::optional<Period> period) const REQUIRES(mutex_);
  void CloseAgain() REQUIRES(mutex_);
  void Open(Monotonic now) REQUIRES(mutex_);
  [[nodiscard]] bool IsTooMuch(Monotonic now) REQUIRES(mutex_);
  [[nodiscard]] Monotonic TrialAt(bool urgent) const REQUIRES(mutex_);
  void Tell(State from, State to) const EXCLUDES(mutex_);

  const BreakerLimits limits_;
  const std::function<void(State, State)> on_change_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_) = State::kClosed;
  Period period_ GUARDED_BY(mutex_) = 0;
  std::uint32_t failures_ GUARDED_BY(mutex_) = 0;   // in a row
  SlidingWindow calls_ GUARDED_BY(mutex_);          // that have been reported
  SlidingWindow failed_calls_ GUARDED_BY(mutex_);
  Monotonic opened_at_ GUARDED_BY(mutex_){};
  std::uint32_t trials_out_ GUARDED_BY(mutex_) = 0;   // half-open: under way
  std::uint32_t trials_good_ GUARDED_BY(mutex_) = 0;  // half-open: have succeeded
  Monotonic last_trial_ GUARDED_BY(mutex_){};
  BreakerSnapshot counts_ GUARDED_BY(mutex_);
};

// "closed", "open", "half-open".
std::string_view BreakerStateName(CircuitBreaker::State state);

}  // namespace taskwal::pipeline
