// A thread that looks and tends, again and again, until it is told to end. `look` may call the
// user's code, which may hang: then the thread is left behind, and whoever owns it goes on. It
// looks once more when it is told to end.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

class MonitorThread {
 public:
  using Until = std::chrono::steady_clock::time_point;

  // What `look` uses outlives this; what `tend` uses may end as soon as StopBy has returned,
  // whatever it says. `tend` returns when the next turn is due. kUnavailable when the system gives
  // no more threads.
  static Result<std::unique_ptr<MonitorThread>> Start(std::function<void()> look,
                                                      std::function<Until()> tend);
  ~MonitorThread();  // waits for it

  // Its next turn is due at once. Never waits.
  void Wake() EXCLUDES(mutex_);

  // False when it still hangs in `look` at that time. Looks no more once it is past.
  bool StopBy(Until until) EXCLUDES(mutex_);

 private:
  MonitorThread(std::function<void()> look, std::function<Until()> tend)
      : look_(std::move(look)), tend_(std::move(tend)) {}
  void Run() EXCLUDES(mutex_);
  bool Look() EXCLUDES(mutex_);
  bool Ends() EXCLUDES(mutex_);

  const std::function<void()> look_;
  const std::function<Until()> tend_;
  Mutex mutex_;
  CondVar changed_;
  bool ends_ GUARDED_BY(mutex_) = false;
  bool is_woken_ GUARDED_BY(mutex_) = false;
  bool is_past_ GUARDED_BY(mutex_) = false;  // the time to end
  bool is_looking_ GUARDED_BY(mutex_) = false;
  bool has_looked_last_ GUARDED_BY(mutex_) = false;
  std::jthread thread_;
};

}  // namespace taskwal::pipeline
