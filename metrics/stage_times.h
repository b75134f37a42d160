// Latencies of calls by stage. Recording takes no lock, and for most appends no clock either.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "metrics/histogram.h"

namespace taskwal {

struct StageTimes {
  Histogram append, commit, read;

  void Reset() {
    append.Reset();
    commit.Reset();
    read.Reset();
  }
};

// True for one call in 64 of each thread: reading the clock twice costs a third of an append.
inline bool IsSampled() {
  thread_local std::uint32_t calls = 0;
  return (calls++ & 63) == 0;
}

// Records how long it lives; null: nothing.
class StageTimer {
 public:
  StageTimer(Histogram* into, Clock& clock) : into_(into), clock_(clock) {
    if (into_ != nullptr) start_ = clock_.Now();
  }
  ~StageTimer() {
    if (into_ != nullptr) into_->Record(clock_.Now() - start_);
  }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  Histogram* const into_;
  Clock& clock_;
  Monotonic start_{};
};

}  // namespace taskwal
