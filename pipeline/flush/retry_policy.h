// How long to wait before the next try after a transient error: exponential, linear or constant,
// bounded, with jitter so that many processes do not come back at once. Pure but for the given
// chance.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/random.h"
#include "taskwal/options.h"

namespace taskwal::pipeline {

// While somebody waits for the flusher no pause is longer than this.
inline constexpr std::chrono::milliseconds kUrgentRetry{5000};

class RetryPolicy {
 public:
  explicit RetryPolicy(const Options& options)
      : strategy_(options.backoff_strategy),
        initial_(static_cast<double>(options.initial_backoff.count())),
        max_(static_cast<double>(options.max_backoff.count())),
        multiplier_(std::max(options.backoff_multiplier, 1.0)),
        has_jitter_(options.backoff_jitter) {}

  // After the `failures`-th failure in a row, from 1. With jitter: between half of it and all.
  std::chrono::milliseconds Delay(std::uint32_t failures, Random& random) const {
    double delay = std::min(Plain(failures), max_);
    if (has_jitter_) delay *= 0.5 + 0.5 * random.Unit();
    return std::chrono::milliseconds(static_cast<std::int64_t>(delay));
  }

 private:
  [[nodiscard]] double Plain(std::uint32_t failures) const {
    switch (strategy_) {
      case Backoff::kConstant: return initial_;
      case Backoff::kLinear: return initial_ * static_cast<double>(std::max(failures, 1u));
      case Backoff::kExponential: break;
    }
    double delay = initial_;
    if (multiplier_ == 1.0) return delay;
    for (std::uint32_t i = 1; i < failures && delay < max_ && delay > 0; ++i) {
      delay *= multiplier_;
    }
    return delay;
  }

  Backoff strategy_;
  double initial_;
  double max_;
  double multiplier_;
  bool has_jitter_;
};

}  // namespace taskwal::pipeline
