#include "tests/support/fake_clock.h"

namespace taskwal {

Monotonic FakeClock::Now() {
  MutexLock lock(mutex_);
  return now_;
}

Time FakeClock::WallNow() {
  MutexLock lock(mutex_);
  return std::chrono::floor<std::chrono::microseconds>(wall_);
}

void FakeClock::Advance(std::chrono::nanoseconds duration) {
  MutexLock lock(mutex_);
  now_ += duration;
  wall_ += duration;
}

void FakeClock::StepWall(std::chrono::nanoseconds duration) {
  MutexLock lock(mutex_);
  wall_ += duration;
}

}  // namespace taskwal
