#include "pipeline/flush/circuit_breaker.h"

#include <algorithm>

#include "base/logging.h"
#include "pipeline/flush/retry_policy.h"

namespace taskwal::pipeline {

BreakerLimits BreakerLimitsOf(const Options& options) {
  BreakerLimits limits;
  limits.failures_max = options.breaker_failures;
  limits.error_rate = options.breaker_error_rate;
  limits.requests_min = options.breaker_min_requests;
  limits.window = options.breaker_window;
  limits.open_time = options.breaker_open_time;
  limits.trials = options.breaker_trials;
  limits.trial_interval = options.breaker_trial_interval;
  return limits;
}

CircuitBreaker::CircuitBreaker(const BreakerLimits& limits,
                               std::function<void(State from, State to)> on_change)
    : limits_(limits),
      on_change_(std::move(on_change)),
      calls_(limits.window),
      failed_calls_(limits.window) {}

bool CircuitBreaker::Allow(Monotonic now, bool urgent) {
  bool is_allowed = true;
  State before = State::kClosed;
  State after = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    if (state_ == State::kOpen && now >= TrialAt(urgent)) {
      state_ = State::kHalfOpen;
      trials_out_ = trials_good_ = 0;
      last_trial_ = now - limits_.trial_interval;
    }
    if (state_ == State::kOpen) is_allowed = false;
    if (state_ == State::kHalfOpen) is_allowed = AllowTrial(now);
    ++(is_allowed ? counts_.requests : counts_.refused);
    after = state_;
  }
  Tell(before, after);
  return is_allowed;
}

bool CircuitBreaker::AllowTrial(Monotonic now) {
  // One that has not been heard of for so long never will be: it must not keep the rest out.
  if (now - last_trial_ >= limits_.open_time) trials_out_ = 0;
  if (trials_out_ + trials_good_ >= std::max(limits_.trials, 1u)) return false;
  if (now - last_trial_ < limits_.trial_interval) return false;
  ++trials_out_;
  last_trial_ = now;
  return true;
}

void CircuitBreaker::OnSuccess(Monotonic now) {
  State before = State::kClosed;
  State after = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    ++counts_.successes;
    // A call that was let through before the breaker opened proves nothing about the time since.
    if (state_ == State::kOpen) return;
    calls_.Add(now);
    failures_ = 0;
    if (state_ == State::kHalfOpen) {
      trials_out_ -= std::min(trials_out_, 1u);
      if (++trials_good_ >= limits_.trials) CloseAgain();
    }
    after = state_;
  }
  Tell(before, after);
}

void CircuitBreaker::OnFailure(Monotonic now) {
  State before = State::kClosed;
  State after = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    ++counts_.failures;
    if (state_ == State::kOpen) return;
    ++failures_;
    calls_.Add(now);
    failed_calls_.Add(now);
    if (state_ == State::kHalfOpen || IsTooMuch(now)) Open(now);
    after = state_;
  }
  Tell(before, after);
}

bool CircuitBreaker::IsTooMuch(Monotonic now) {
  if (limits_.failures_max > 0 && failures_ >= limits_.failures_max) return true;
  const std::uint64_t calls = calls_.Count(now);
  if (limits_.error_rate <= 0 || calls < limits_.requests_min) return false;
  const auto failed = static_cast<double>(failed_calls_.Count(now));
  return failed >= limits_.error_rate * static_cast<double>(calls);
}

void CircuitBreaker::Trip(Monotonic now) {
  State before = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    Open(now);
  }
  Tell(before, State::kOpen);
}

void CircuitBreaker::Reset() {
  State before = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    CloseAgain();
  }
  Tell(before, State::kClosed);
}

CircuitBreaker::State CircuitBreaker::state() const {
  MutexLock lock(mutex_);
  return state_;
}

Monotonic CircuitBreaker::next_trial(Monotonic now, bool urgent) const {
  MutexLock lock(mutex_);
  if (state_ == State::kOpen) return std::max(now, TrialAt(urgent));
  if (state_ == State::kHalfOpen) return std::max(now, last_trial_ + limits_.trial_interval);
  return now;
}

BreakerSnapshot CircuitBreaker::Snapshot(Monotonic now) {
  MutexLock lock(mutex_);
  BreakerSnapshot snapshot = counts_;
  snapshot.state = BreakerStateName(state_);
  snapshot.consecutive_failures = failures_;
  const std::uint64_t calls = calls_.Count(now);
  if (calls > 0) {
    snapshot.error_rate =
        static_cast<double>(failed_calls_.Count(now)) / static_cast<double>(calls);
  }
  return snapshot;
}

// What was counted before belongs to the time before.
void CircuitBreaker::CloseAgain() {
  state_ = State::kClosed;
  failures_ = 0;
  calls_.Clear();
  failed_calls_.Clear();
}

void CircuitBreaker::Open(Monotonic now) {
  if (state_ != State::kOpen) ++counts_.opened;
  state_ = State::kOpen;
  opened_at_ = now;
}

Monotonic CircuitBreaker::TrialAt(bool urgent) const {
  return opened_at_ + (urgent ? std::min(limits_.open_time, kUrgentRetry) : limits_.open_time);
}

void CircuitBreaker::Tell(State from, State to) const {
  if (from == to || !on_change_) return;
  try {
    on_change_(from, to);
  } catch (...) {
    Logger().error("flusher event=on_breaker_threw");
  }
}

std::string_view BreakerStateName(CircuitBreaker::State state) {
  switch (state) {
    case CircuitBreaker::State::kOpen: return "open";
    case CircuitBreaker::State::kHalfOpen: return "half-open";
    default: return "closed";
  }
}

}  // namespace taskwal::pipeline
