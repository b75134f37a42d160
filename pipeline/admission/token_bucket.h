// A rate with bursts: tokens drip in at `rate` per second up to `burst`, each call takes one. Not
// thread-safe.
#pragma once

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace taskwal::pipeline {

class TokenBucket {
 public:
  // Starts full. Rate 0: there is always a token.
  TokenBucket(double rate, double burst, Monotonic now)
      : rate_(rate), burst_(std::max(burst, 1.0)), tokens_(burst_), filled_at_(now) {}

  bool TryTake(Monotonic now) {
    if (rate_ <= 0) return true;
    Fill(now);
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }
  // Of a call that came to nothing.
  void GiveBack() { tokens_ = std::min(tokens_ + 1, burst_); }
  // What is in it stays, up to the new burst; a bucket that had no rate starts full.
  void SetRate(double rate, double burst, Monotonic now) {
    Fill(now);
    const bool was_unlimited = rate_ <= 0;
    rate_ = rate;
    burst_ = std::max(burst, 1.0);
    tokens_ = was_unlimited ? burst_ : std::min(tokens_, burst_);
  }
  // How long until there is a token, if nobody takes one.
  std::chrono::nanoseconds NextIn(Monotonic now) {
    if (rate_ <= 0) return std::chrono::nanoseconds(0);
    Fill(now);
    const double missing = std::max(1 - tokens_, 0.0);
    return std::chrono::nanoseconds(static_cast<std::int64_t>(missing / rate_ * 1e9));
  }
  double tokens(Monotonic now) {
    Fill(now);
    return tokens_;
  }

 private:
  void Fill(Monotonic now) {
    const std::chrono::duration<double> passed = now - filled_at_;
    if (passed.count() > 0) {
      tokens_ = std::min(tokens_ + passed.count() * rate_, burst_);
      filled_at_ = now;
    }
  }

  double rate_;
  double burst_;
  double tokens_;
  Monotonic filled_at_;
};

}  // namespace taskwal::pipeline
