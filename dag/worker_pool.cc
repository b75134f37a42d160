#include "dag/worker_pool.h"

#include <exception>
#include <system_error>

#include "base/logging.h"

namespace taskwal::dag {
namespace {

void RunCaught(const std::function<void()>& job) {
  try {
    job();
  } catch (...) {
    Logger().error("event=job_threw what=\"{}\"", ThrownText());
  }
}

}  // namespace

std::string ThrownText() {
  try {
    throw;
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "something that is no std::exception";
  }
}

Result<std::unique_ptr<WorkerPool>> WorkerPool::Start(std::uint32_t workers) {
  std::unique_ptr<WorkerPool> pool(new WorkerPool);
  try {
    for (std::uint32_t i = 0; i < workers; ++i) {
      pool->threads_.emplace_back([p = pool.get()] { p->Work(); });
    }
  } catch (const std::system_error& e) {
    return Status::Unavailable("cannot start worker thread " +
                               std::to_string(pool->threads_.size() + 1) + " of " +
                               std::to_string(workers) + ": " + e.what());
  }
  return pool;
}

WorkerPool::~WorkerPool() { Stop(); }

void WorkerPool::Submit(std::int32_t priority, std::function<void()> job) {
  MutexLock lock(mutex_);
  if (stopping_) return;
  queue_.push({priority, submitted_++, std::move(job)});
  changed_.NotifyOne();
}

void WorkerPool::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  threads_.clear();  // joins
}

void WorkerPool::Work() {
  std::function<void()> job;
  while (Take(&job)) {
    RunCaught(job);
    job = nullptr;
  }
}

bool WorkerPool::Take(std::function<void()>* job) {
  MutexLock lock(mutex_);
  while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
  if (stopping_) return false;
  *job = queue_.top().run;
  queue_.pop();
  return true;
}

}  // namespace taskwal::dag
