#include "dag/sleep.h"

#include "base/mutex.h"

namespace taskwal::dag {

bool SleepUnlessStopped(std::chrono::nanoseconds duration, const std::stop_token& stop) {
  const auto until = std::chrono::steady_clock::now() + duration;
  Mutex mutex;
  CondVar changed;
  // Under the lock, or the wake-up could fall between the check and the wait below.
  const std::stop_callback wake(stop, [&mutex, &changed] {
    MutexLock lock(mutex);
    changed.NotifyAll();
  });
  MutexLock lock(mutex);
  while (!stop.stop_requested()) {
    if (!changed.WaitUntil(mutex, until)) return !stop.stop_requested();
  }
  return false;
}

}  // namespace taskwal::dag
