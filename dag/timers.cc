#include "dag/timers.h"

#include <string>
#include <system_error>

namespace taskwal::dag {

Result<std::unique_ptr<Timers>> Timers::Start() {
  std::unique_ptr<Timers> timers(new Timers);
  try {
    timers->thread_ = std::jthread([t = timers.get()] { t->Work(); });
  } catch (const std::system_error& e) {
    return Status::Unavailable(std::string("cannot start the timer thread: ") + e.what());
  }
  return timers;
}

Timers::~Timers() { Stop(); }

Timers::Id Timers::At(TimePoint time, std::function<void()> call) {
  MutexLock lock(mutex_);
  const Id id{time, ++made_};
  if (stopping_) return id;
  calls_.emplace(id, std::move(call));
  changed_.NotifyAll();
  return id;
}

void Timers::Cancel(const Id& id) {
  MutexLock lock(mutex_);
  calls_.erase(id);
  while (running_ == id.number) changed_.Wait(mutex_);
}

void Timers::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    calls_.clear();
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Timers::Work() {
  Id id;
  std::function<void()> call;
  while (Take(&id, &call)) {
    call();
    call = nullptr;
    MutexLock lock(mutex_);
    running_ = 0;
    changed_.NotifyAll();
  }
}

bool Timers::Take(Id* id, std::function<void()>* call) {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (calls_.empty()) {
      changed_.Wait(mutex_);
      continue;
    }
    const auto first = calls_.begin();
    if (first->first.time > std::chrono::steady_clock::now()) {
      changed_.WaitUntil(mutex_, TimePoint(first->first.time));
      continue;
    }
    *id = first->first;
    *call = std::move(first->second);
    calls_.erase(first);
    running_ = id->number;
    return true;
  }
  return false;
}

}  // namespace taskwal::dag
