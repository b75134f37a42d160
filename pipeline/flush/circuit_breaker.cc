#include "pipeline/flush/circuit_breaker.h"

#include <algorithm>

#include "pipeline/flush/retry_policy.h"

namespace taskwal::pipeline {

CircuitBreaker::CircuitBreaker(std::uint32_t failures_max, std::chrono::milliseconds open_time)
    : failures_max_(failures_max), open_time_(open_time) {}

bool CircuitBreaker::Allow(Monotonic now, bool urgent) {
  MutexLock lock(mutex_);
  if (state_ == State::kClosed) return true;
  if (state_ == State::kOpen) {
    if (now < TrialAt(urgent)) return false;
    state_ = State::kHalfOpen;
    on_trial_ = false;
  }
  if (on_trial_) return false;
  on_trial_ = true;
  return true;
}

void CircuitBreaker::OnSuccess() {
  MutexLock lock(mutex_);
  // A call that was let through before the breaker opened proves nothing about the time since.
  if (state_ == State::kOpen) return;
  state_ = State::kClosed;
  failures_ = 0;
  on_trial_ = false;
}

void CircuitBreaker::OnFailure(Monotonic now) {
  MutexLock lock(mutex_);
  if (state_ == State::kOpen) return;
  ++failures_;
  const bool too_many = failures_max_ > 0 && failures_ >= failures_max_;
  if (state_ == State::kHalfOpen || too_many) Open(now);
}

void CircuitBreaker::Trip(Monotonic now) {
  MutexLock lock(mutex_);
  Open(now);
}

CircuitBreaker::State CircuitBreaker::state() const {
  MutexLock lock(mutex_);
  return state_;
}

Monotonic CircuitBreaker::next_trial(Monotonic now, bool urgent) const {
  MutexLock lock(mutex_);
  return state_ == State::kOpen ? std::max(now, TrialAt(urgent)) : now;
}

void CircuitBreaker::Open(Monotonic now) {
  state_ = State::kOpen;
  opened_at_ = now;
  on_trial_ = false;
}

Monotonic CircuitBreaker::TrialAt(bool urgent) const {
  return opened_at_ + (urgent ? std::min(open_time_, kUrgentRetry) : open_time_);
}

std::string_view BreakerStateName(CircuitBreaker::State state) {
  switch (state) {
    case CircuitBreaker::State::kOpen: return "open";
    case CircuitBreaker::State::kHalfOpen: return "half-open";
    default: return "closed";
  }
}

}  // namespace taskwal::pipeline
