// A clock that stands still until a test moves it. Any thread may call it; SleepFor does not wait
// but moves the time on.
#pragma once

#include <chrono>

#include "base/clock.h"
#include "base/mutex.h"

namespace taskwal {

class FakeClock final : public Clock {
 public:
  Monotonic Now() override;
  Time WallNow() override;
  void SleepFor(std::chrono::nanoseconds duration) override { Advance(duration); }

  // Both clocks.
  void Advance(std::chrono::nanoseconds duration);
  // The wall clock alone, in either direction, as an operator or NTP does.
  void StepWall(std::chrono::nanoseconds duration);

 private:
  Mutex mutex_;
  Monotonic now_ GUARDED_BY(mutex_) = Monotonic(std::chrono::hours(1));
  std::chrono::sys_time<std::chrono::nanoseconds> wall_ GUARDED_BY(mutex_) =
      std::chrono::sys_days(std::chrono::year(2026) / 1 / 1);
};

}  // namespace taskwal
