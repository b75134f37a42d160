// A thread that looks and tends, again and again, until it is told to end. `look` may call the
// user's code, which may hang: then the thread is left behind, and whoever owns it goes on.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "base/mutex.h"

namespace taskwal::pipeline {

class MonitorThread {
 public:
  using Until = std::chrono::steady_clock::time_point;

  // What `look` uses outlives this; what `tend` uses may end as soon as StopBy has returned,
  // whatever it says. `tend` returns when the next turn is due.
  MonitorThread(std::function<void()> look, std::function<Until()> tend);
  ~MonitorThread();  // waits for it

  // False when it still hangs in `look` at that time.
  bool StopBy(Until until) EXCLUDES(mutex_);

 private:
  void Run() EXCLUDES(mutex_);
  bool Look() EXCLUDES(mutex_);

  const std::function<void()> look_;
  const std::function<Until()> tend_;
  Mutex mutex_;
  CondVar changed_;
  bool ends_ GUARDED_BY(mutex_) = false;
  bool is_looking_ GUARDED_BY(mutex_) = false;
  std::jthread thread_;
};

}  // namespace taskwal::pipeline
