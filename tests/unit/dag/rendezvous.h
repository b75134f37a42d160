// A place where several threads meet.
#pragma once

#include <chrono>
#include <cstddef>

#include "base/mutex.h"

namespace taskwal {

class Rendezvous {
 public:
  explicit Rendezvous(std::size_t expected) : expected_(expected) {}

  // True once all have arrived; false when they have not within 30 s.
  bool Arrive() {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    MutexLock lock(mutex_);
    ++arrived_;
    changed_.NotifyAll();
    while (arrived_ < expected_) {
      if (!changed_.WaitUntil(mutex_, until)) return arrived_ >= expected_;
    }
    return true;
  }

 private:
  const std::size_t expected_;
  Mutex mutex_;
  CondVar changed_;
  std::size_t arrived_ GUARDED_BY(mutex_) = 0;
};

}  // namespace taskwal
