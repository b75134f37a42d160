#include "pipeline/flush/circuit_breaker.h"

#include <algorithm>

#include "base/logging.h"
#include "pipeline/flush/retry_policy.h"

namespace taskwal::pipeline {
namespace {

// A trial connects, asks twice what the database has, and applies a batch.
constexpr int kTrialCalls = 4;

}  // namespace

BreakerLimits BreakerLimitsOf(const Options& options) {
  BreakerLimits limits;
  limits.failures_max = options.breaker_failures;
  limits.error_rate = options.breaker_error_rate;
  limits.requests_min = options.breaker_min_requests;
  limits.window = options.breaker_window;
  limits.open_time = options.breaker_open_time;
  limits.trials = options.breaker_trials;
  limits.trial_interval = options.breaker_trial_interval;
  limits.trial_timeout = kTrialCalls * options.database_timeout + options.batch_timeout;
  return limits;
}

CircuitBreaker::CircuitBreaker(const BreakerLimits& limits,
                               std::function<void(State from, State to)> on_change)
    : limits_(limits),
      on_change_(std::move(on_change)),
      calls_(limits.window),
      failed_calls_(limits.window) {}

bool CircuitBreaker::Allow(Monotonic now, bool urgent, Period* period) {
  bool is_allowed = true;
  State before = State::kClosed;
  State after = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    if (state_ == State::kOpen && now >= TrialAt(urgent)) {
      state_ = State::kHalfOpen;
      ++period_;
      trials_out_ = trials_good_ = 0;
      last_trial_ = now - limits_.trial_interval;
    }
    if (state_ == State::kOpen) is_allowed = false;
    if (state_ == State::kHalfOpen) is_allowed = AllowTrial(now);
    ++(is_allowed ? counts_.requests : counts_.refused);
    after = state_;
    if (is_allowed && period != nullptr) *period = period_;
  }
  Tell(before, after);
  return is_allowed;
}

bool CircuitBreaker::AllowTrial(Monotonic now) {
  const bool has_deadline = limits_.trial_timeout.count() > 0;
  if (has_deadline && now - last_trial_ >= limits_.trial_timeout) trials_out_ = 0;
  if (!HasTrialLeft()) return false;
  if (now - last_trial_ < limits_.trial_interval) return false;
  ++trials_out_;
  last_trial_ = now;
  return true;
}

bool CircuitBreaker::HasTrialLeft() const {
  return trials_out_ + trials_good_ < std::max(limits_.trials, 1u);
}

bool CircuitBreaker::IsLate(std::optional<Period> period) const {
  return period && *period != period_;
}

void CircuitBreaker::OnSuccess(Monotonic now, std::optional<Period> period) {
  State before = State::kClosed;
  State after = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    ++counts_.successes;
    if (state_ == State::kOpen || IsLate(period)) return;
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

void CircuitBreaker::OnFailure(Monotonic now, std::optional<Period> period) {
  State before = State::kClosed;
  State after = State::kClosed;
  {
    MutexLock lock(mutex_);
    before = state_;
    ++counts_.failures;
    if (state_ == State::kOpen || IsLate(period)) return;
    ++failures_;
    calls_.Add(now);
    failed_calls_.Add(now);
    if (state_ == State::kHalfOpen || IsTooMuch(now)) Open(now);
    after = state_;
  }
  Tell(before, after);
}

void CircuitBreaker::OnUntried(std::optional<Period> period) {
  MutexLock lock(mutex_);
  if (!IsLate(period)) trials_out_ -= std::min(trials_out_, 1u);
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
  if (state_ != State::kHalfOpen) return now;
  if (HasTrialLeft()) return std::max(now, last_trial_ + limits_.trial_interval);
  // Nobody is woken by a report.
  const Monotonic look_again = now + kUrgentRetry;
  if (limits_.trial_timeout.count() == 0) return look_again;
  return std::clamp(last_trial_ + limits_.trial_timeout, now, look_again);
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
  if (state_ != State::kClosed) ++period_;
  state_ = State::kClosed;
  failures_ = 0;
  calls_.Clear();
  failed_calls_.Clear();
}

void CircuitBreaker::Open(Monotonic now) {
  if (state_ != State::kOpen) {
    ++counts_.opened;
    ++period_;
  }
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
