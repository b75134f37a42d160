#include "pipeline/monitor_thread.h"

#include <utility>

#include "base/status_macros.h"
#include "base/threads.h"

namespace taskwal::pipeline {

Result<std::unique_ptr<MonitorThread>> MonitorThread::Start(std::function<void()> look,
                                                            std::function<Until()> tend) {
  std::unique_ptr<MonitorThread> monitor(new MonitorThread(std::move(look), std::move(tend)));
  TASKWAL_ASSIGN(monitor->thread_,
                 StartThread<std::jthread>([m = monitor.get()] { m->Run(); }));
  return monitor;
}

MonitorThread::~MonitorThread() {
  if (thread_.joinable()) StopBy({});
}

void MonitorThread::Wake() {
  MutexLock lock(mutex_);
  is_woken_ = true;
  changed_.NotifyAll();
}

bool MonitorThread::StopBy(Until until) {
  {
    MutexLock lock(mutex_);
    ends_ = true;
    changed_.NotifyAll();
    bool in_time = true;
    while (!has_looked_last_ && in_time) in_time = changed_.WaitUntil(mutex_, until);
    is_past_ = true;
    if (is_looking_) return false;
  }
  if (thread_.joinable()) thread_.join();
  return true;
}

// False when that was the last time: what `tend` uses may be gone by then.
bool MonitorThread::Look() {
  bool is_last = false;
  {
    MutexLock lock(mutex_);
    if (is_past_) return false;
    is_last = ends_;
    is_woken_ = false;
    is_looking_ = true;
  }
  look_();
  MutexLock lock(mutex_);
  is_looking_ = false;
  has_looked_last_ = is_last;
  changed_.NotifyAll();
  return !is_last;
}

bool MonitorThread::Ends() {
  MutexLock lock(mutex_);
  return ends_;
}

void MonitorThread::Run() {
  while (Look()) {
    if (Ends()) continue;
    const Until due = tend_();
    MutexLock lock(mutex_);
    bool in_time = true;
    while (!ends_ && !is_woken_ && in_time) in_time = changed_.WaitUntil(mutex_, due);
  }
}

}  // namespace taskwal::pipeline
