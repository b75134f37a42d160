#include "base/clock.h"

#include <thread>

namespace taskwal {
namespace {

class RealClock final : public Clock {
 public:
  Monotonic Now() override { return std::chrono::steady_clock::now(); }
  Time WallNow() override {
    return std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
  }
  void SleepFor(std::chrono::nanoseconds duration) override {
    std::this_thread::sleep_for(duration);
  }
};

}  // namespace

Clock& Clock::Real() {
  // Never destroyed: a call that a shutdown left behind may ask it while the process ends.
  static auto* real = new RealClock;
  return *real;
}

}  // namespace taskwal
