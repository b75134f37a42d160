#include "pipeline/monitor_thread.h"

#include <utility>

namespace taskwal::pipeline {

MonitorThread::MonitorThread(std::function<void()> look, std::function<Until()> tend)
    : look_(std::move(look)), tend_(std::move(tend)), thread_([this] { Run(); }) {}

MonitorThread::~MonitorThread() { StopBy({}); }

bool MonitorThread::StopBy(Until until) {
  {
    MutexLock lock(mutex_);
    ends_ = true;
    changed_.NotifyAll();
    bool in_time = true;
    while (is_looking_ && in_time) in_time = changed_.WaitUntil(mutex_, until);
    if (is_looking_) return false;
  }
  if (thread_.joinable()) thread_.join();
  return true;
}

// False when it is to end: what `tend` uses may be gone by then.
bool MonitorThread::Look() {
  {
    MutexLock lock(mutex_);
    if (ends_) return false;
    is_looking_ = true;
  }
  look_();
  MutexLock lock(mutex_);
  is_looking_ = false;
  changed_.NotifyAll();
  return !ends_;
}

void MonitorThread::Run() {
  while (Look()) {
    const Until due = tend_();
    MutexLock lock(mutex_);
    bool in_time = true;
    while (!ends_ && in_time) in_time = changed_.WaitUntil(mutex_, due);
  }
}

}  // namespace taskwal::pipeline
