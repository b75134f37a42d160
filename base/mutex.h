// Mutex, MutexLock and CondVar with Clang's thread-safety attributes (LevelDB's port_stdcxx.h is
// the model). Use these, never std::mutex: the `tsafe` preset checks GUARDED_BY and REQUIRES.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TASKWAL_ATTRIBUTE(x) __attribute__((x))
#else
#define TASKWAL_ATTRIBUTE(x)
#endif

#define CAPABILITY(x) TASKWAL_ATTRIBUTE(capability(x))
#define SCOPED_CAPABILITY TASKWAL_ATTRIBUTE(scoped_lockable)
#define GUARDED_BY(x) TASKWAL_ATTRIBUTE(guarded_by(x))
#define PT_GUARDED_BY(x) TASKWAL_ATTRIBUTE(pt_guarded_by(x))
#define REQUIRES(...) TASKWAL_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) TASKWAL_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) TASKWAL_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define RELEASE(...) TASKWAL_ATTRIBUTE(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) TASKWAL_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS TASKWAL_ATTRIBUTE(no_thread_safety_analysis)

namespace taskwal {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ACQUIRE() { mutex_.lock(); }
  void Unlock() RELEASE() { mutex_.unlock(); }
  bool TryLock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits release the mutex and take it again before they return; they may wake for no reason.
class CondVar {
 public:
  void Wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // False when the time has passed.
  bool WaitFor(Mutex& mutex, std::chrono::nanoseconds timeout) REQUIRES(mutex) {
    return WaitUntil(mutex, std::chrono::steady_clock::now() + timeout);
  }
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point until) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = condition_.wait_until(lock, until) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace taskwal
