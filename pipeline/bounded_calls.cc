#include "pipeline/bounded_calls.h"

#include <algorithm>
#include <thread>

#include "base/threads.h"

namespace taskwal::pipeline {
namespace {

// A wait without a deadline: some standard libraries overflow at the end of time.
constexpr std::chrono::hours kLongWait{1};

}  // namespace

struct BoundedCalls::Shared {
  Mutex mutex;
  CondVar changed;
  std::uint32_t underway GUARDED_BY(mutex) = 0;

  // For a change, which may be any; false at the end.
  bool Wait(const wal::Deadline& end) REQUIRES(mutex) {
    if (IsOver(end)) return false;
    changed.WaitUntil(mutex, std::min(end.at, std::chrono::steady_clock::now() + kLongWait));
    return true;
  }
};

BoundedCalls::BoundedCalls() : shared_(std::make_shared<Shared>()) {}

BoundedCalls::~BoundedCalls() { AwaitAll(Monotonic::max()); }

bool BoundedCalls::IsOver(const wal::Deadline& end) {
  return end.stop.stop_requested() || std::chrono::steady_clock::now() >= end.at;
}

BoundedCalls::Outcome BoundedCalls::RunUntil(const wal::Deadline& end,
                                             std::function<void()> call) {
  struct Turn {
    bool is_over = false;  // under the mutex
  };
  const auto turn = std::make_shared<Turn>();
  const std::shared_ptr<Shared> shared = shared_;
  // Outlives the lock below: its end waits for a notice under way, which takes the mutex.
  const std::stop_callback wake(end.stop, [shared] {
    MutexLock told(shared->mutex);
    shared->changed.NotifyAll();
  });
  MutexLock lock(shared->mutex);
  while (shared->underway >= kUnderwayMax) {
    if (!shared->Wait(end)) return Outcome::kOver;
  }
  if (IsOver(end)) return Outcome::kOver;  // too late to begin
  ++shared->underway;
  auto thread = StartThread<std::thread>([shared, turn, call = std::move(call)]() mutable {
    call();
    call = nullptr;  // what it holds goes before it counts as over
    MutexLock over(shared->mutex);
    turn->is_over = true;
    --shared->underway;
    shared->changed.NotifyAll();
  });
  if (!thread.ok()) {
    --shared->underway;
    return Outcome::kNoThread;
  }
  thread->detach();
  while (!turn->is_over) {
    if (!shared->Wait(end)) return Outcome::kOver;
  }
  return Outcome::kBack;
}

bool BoundedCalls::AwaitAll(std::chrono::steady_clock::time_point until) {
  MutexLock lock(shared_->mutex);
  while (shared_->underway > 0) {
    if (!shared_->Wait({until, {}})) return false;
  }
  return true;
}

bool BoundedCalls::IsUnderway() const {
  MutexLock lock(shared_->mutex);
  return shared_->underway > 0;
}

}  // namespace taskwal::pipeline
