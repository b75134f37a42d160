#include "storage/call_watchdog.h"

#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <thread>

#include "base/mutex.h"

namespace taskwal::storage {
namespace {

class WatchThread {
 public:
  // Never destroyed: a call that a shutdown left behind may be watched while the process ends.
  static WatchThread& Get() {
    static auto* thread = new WatchThread;
    return *thread;
  }

  std::uint64_t Arm(int fd, Monotonic deadline) {
    MutexLock lock(mutex_);
    const std::uint64_t call = ++calls_;
    if (fd < 0) return call;
    armed_[call] = {fd, deadline};
    // With one timeout for all calls, only the first call after a pause has to wake it.
    if (deadline < wakes_at_) changed_.NotifyOne();
    return call;
  }

  void Disarm(std::uint64_t call) {
    MutexLock lock(mutex_);
    armed_.erase(call);
  }

  bool HasFired(std::uint64_t call) {
    MutexLock lock(mutex_);
    const auto armed = armed_.find(call);
    return armed != armed_.end() && armed->second.has_fired;
  }

 private:
  struct Armed {
    int fd = -1;
    Monotonic deadline{};
    bool has_fired = false;
  };

  WatchThread() : thread_([this] { Work(); }) {}

  void Work() {
    MutexLock lock(mutex_);
    for (;;) {
      wakes_at_ = ShutDownOverdue();
      if (wakes_at_ == Monotonic::max()) {
        changed_.Wait(mutex_);
      } else {
        changed_.WaitUntil(mutex_, wakes_at_);
      }
    }
  }

  // Returns the next deadline. Under the lock, so that no call ends meanwhile and its descriptor
  // gets another owner; shutdown() does not block.
  Monotonic ShutDownOverdue() REQUIRES(mutex_) {
    const Monotonic now = Clock::Real().Now();
    Monotonic next = Monotonic::max();
    for (auto& [call, armed] : armed_) {
      if (armed.has_fired) continue;
      if (armed.deadline <= now) {
        ::shutdown(armed.fd, SHUT_RDWR);
        armed.has_fired = true;
      } else {
        next = std::min(next, armed.deadline);
      }
    }
    return next;
  }

  Mutex mutex_;
  CondVar changed_;
  std::uint64_t calls_ GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, Armed> armed_ GUARDED_BY(mutex_);
  Monotonic wakes_at_ GUARDED_BY(mutex_) = Monotonic::min();

  std::jthread thread_;  // the last member: works on the others from its start
};

}  // namespace

CallWatchdog::CallWatchdog(int fd, Monotonic deadline)
    : call_(WatchThread::Get().Arm(fd, deadline)) {}

CallWatchdog::~CallWatchdog() { WatchThread::Get().Disarm(call_); }

bool CallWatchdog::has_fired() const { return WatchThread::Get().HasFired(call_); }

}  // namespace taskwal::storage
