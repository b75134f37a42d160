// Threads where the system may start no more of them, and what is to end on one of its own.
#pragma once

#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "taskwal/status.h"

namespace taskwal {

inline Status NoMoreThreads() {
  return Status::Unavailable(
      "the system starts no more threads (see ulimit -u, and pids.max of the control group)");
}

// One that runs `body`; kUnavailable where there is none to be had.
template <typename Thread, typename Body>
Result<Thread> StartThread(Body&& body) {
  try {
    return Thread(std::forward<Body>(body));
  } catch (const std::system_error&) {
    return NoMoreThreads();
  }
}

// Never waits: `what` ends when all that hangs in it has returned, on a thread of its own. Where
// there is none to be had it is kept for good.
template <typename What>
void EndElsewhere(std::unique_ptr<What> what) {
  const auto left = std::make_shared<std::unique_ptr<What>>(std::move(what));
  auto thread = StartThread<std::thread>([left] { left->reset(); });
  if (thread.ok()) return thread->detach();
  static auto* const mutex = new Mutex;
  static auto* const kept = new std::vector<std::shared_ptr<std::unique_ptr<What>>>;
  MutexLock lock(*mutex);
  kept->push_back(left);
}

}  // namespace taskwal
