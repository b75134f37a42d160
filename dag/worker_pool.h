// The threads that run node functions. Any thread may call it, its own jobs included.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// What the exception being handled says of itself. In a catch block only.
std::string ThrownText();

class WorkerPool {
 public:
  // kUnavailable when the system gives no more threads.
  static Result<std::unique_ptr<WorkerPool>> Start(std::uint32_t workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Higher priority first, then in the order submitted. What a job throws is logged and goes no
  // further. Never blocks: the queue's bound is the caller's (a graph submits each node once at a
  // time). After Stop the job is dropped.
  void Submit(std::int32_t priority, std::function<void()> job);

  // Drops the jobs that have not begun and returns when the others have ended. Not from a job.
  void Stop();

 private:
  struct Job {
    std::int32_t priority;
    std::uint64_t number;
    std::function<void()> run;
    friend bool operator<(const Job& a, const Job& b) {
      return a.priority != b.priority ? a.priority < b.priority : a.number > b.number;
    }
  };

  WorkerPool() = default;
  void Work();
  bool Take(std::function<void()>* job);

  std::vector<std::jthread> threads_;  // changed by Start and Stop only

  Mutex mutex_;
  CondVar changed_;
  std::priority_queue<Job> queue_ GUARDED_BY(mutex_);
  std::uint64_t submitted_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace taskwal::dag
