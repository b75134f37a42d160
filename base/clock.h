// Time as an interface, so that tests own it.
#pragma once

#include <chrono>

#include "taskwal/task.h"

namespace taskwal {

using Monotonic = std::chrono::steady_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Monotonic Now() = 0;   // never steps back; for waits, ages and latencies
  virtual Time WallNow() = 0;    // UTC; may step
  virtual void SleepFor(std::chrono::nanoseconds duration) = 0;

  // The machine's clock; lives for ever.
  static Clock& Real();
};

}  // namespace taskwal
