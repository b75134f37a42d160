// One thread that calls functions at their time: the timeout of an attempt, the end of a retry's
// delay. Any thread may call it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "taskwal/status.h"

namespace taskwal::dag {

class Timers {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Id {
    TimePoint time;
    std::uint64_t number = 0;
    friend auto operator<=>(const Id&, const Id&) = default;
  };

  // kUnavailable when the system gives no more threads.
  static Result<std::unique_ptr<Timers>> Start();
  ~Timers();
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;

  // `call` runs once on the timer thread, without a lock held; it must be short and not throw.
  Id At(TimePoint time, std::function<void()> call);
  // On return the call has ended or will never begin. Not from a call.
  void Cancel(const Id& id);
  // Drops what is still to come; returns when a call under way has ended.
  void Stop();

 private:
  Timers() = default;
  void Work();
  bool Take(Id* id, std::function<void()>* call);

  std::jthread thread_;  // changed by Start and Stop only

  Mutex mutex_;
  CondVar changed_;
  std::map<Id, std::function<void()>> calls_ GUARDED_BY(mutex_);
  std::uint64_t made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t running_ GUARDED_BY(mutex_) = 0;  // number of the call under way; 0: none
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace taskwal::dag
