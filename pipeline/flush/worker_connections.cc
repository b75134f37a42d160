#include "pipeline/flush/worker_connections.h"

#include <algorithm>
#include <utility>

namespace taskwal::pipeline {

bool WorkerConnections::Opened(std::uint32_t worker) {
  MutexLock lock(mutex_);
  ++open_;
  std::erase(asking_, worker);
  if (!asking_.empty()) return false;
  return std::exchange(refusals_, 0) > 0;
}

bool WorkerConnections::Closed() {
  MutexLock lock(mutex_);
  if (--open_ == 0) refusals_ = 0;
  return open_ == 0;
}

WorkerConnections::Refusal WorkerConnections::Refused(std::uint32_t worker, Monotonic now,
                                                      const RetryPolicy& retry, Random& random) {
  MutexLock lock(mutex_);
  if (open_ == 0) return Refusal::kOfAll;
  refused_at_ = now;
  pause_ = retry.Delay(++refusals_, random);
  if (!HasAsked(worker)) asking_.push_back(worker);
  return refusals_ == 1 ? Refusal::kOfMore : Refusal::kAgain;
}

Monotonic WorkerConnections::next_try(bool urgent) const {
  MutexLock lock(mutex_);
  if (refusals_ == 0) return Monotonic::min();
  return refused_at_ + (urgent ? std::min(pause_, kUrgentRetry) : pause_);
}

bool WorkerConnections::Ask(std::uint32_t worker) {
  MutexLock lock(mutex_);
  if (HasAsked(worker)) return false;
  asking_.push_back(worker);
  return true;
}

void WorkerConnections::Withdraw(std::uint32_t worker) {
  MutexLock lock(mutex_);
  std::erase(asking_, worker);
}

bool WorkerConnections::HandOn(WorkerConnection* connection) {
  MutexLock lock(mutex_);
  if (asking_.empty()) return false;
  handed_[asking_.front()] = std::move(*connection);
  asking_.pop_front();
  return true;
}

WorkerConnection WorkerConnections::Take(std::uint32_t worker) {
  MutexLock lock(mutex_);
  const auto handed = handed_.find(worker);
  if (handed == handed_.end()) return {};
  WorkerConnection connection = std::move(handed->second);
  handed_.erase(handed);
  return connection;
}

bool WorkerConnections::HasAsked(std::uint32_t worker) const {
  return handed_.contains(worker) ||
         std::find(asking_.begin(), asking_.end(), worker) != asking_.end();
}

}  // namespace taskwal::pipeline
