// The connections of one flusher's workers. Each worker opens one of its own, as long as the
// database gives that many. Where it gives fewer (a limit of the user's or the server's), those
// that have one hand it on between two batches, in the order in which the others have asked: so
// whatever a worker holds is brought, a batch in doubt and a barrier included, which are its own.
//
//   refused, while another worker has one ─▶ asks ─┬─▶ is handed one
//                                                  └─▶ opens one, at the next try
//
// No worker tries before that, so that batches are not accompanied by refusals. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/random.h"
#include "pipeline/flush/retry_policy.h"
#include "storage/backend.h"

namespace taskwal::pipeline {

struct WorkerConnection {
  std::unique_ptr<storage::Session> session;  // null: none
  Monotonic opened_at{};
};

class WorkerConnections {
 public:
  // The worker has opened one. True: there were too few until now, and nobody asks any more.
  bool Opened(std::uint32_t worker) EXCLUDES(mutex_);
  // One that was opened, or handed on, is gone. True: it was the last.
  bool Closed() EXCLUDES(mutex_);
  enum class Refusal : std::uint8_t {
    kOfAll,   // no worker has a connection: it is not their number
    kOfMore,  // others have one, and the worker asks for it; the next try comes after a pause
    kAgain,   // the same, and there have been too few before
  };
  // A try was refused.
  Refusal Refused(std::uint32_t worker, Monotonic now, const RetryPolicy& retry, Random& random)
      EXCLUDES(mutex_);
  // The earliest time of the next try. `urgent`: somebody waits for the flusher.
  [[nodiscard]] Monotonic next_try(bool urgent) const EXCLUDES(mutex_);

  // True where it has not asked before: those who have one are to be woken.
  bool Ask(std::uint32_t worker) EXCLUDES(mutex_);
  // It needs none any more; what it has been handed meanwhile stays its own.
  void Withdraw(std::uint32_t worker) EXCLUDES(mutex_);
  // To whoever asked first, who is to be woken. False: nobody asks.
  bool HandOn(WorkerConnection* connection) EXCLUDES(mutex_);
  // What the worker was handed, once.
  WorkerConnection Take(std::uint32_t worker) EXCLUDES(mutex_);

 private:
  [[nodiscard]] bool HasAsked(std::uint32_t worker) const REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::uint32_t open_ GUARDED_BY(mutex_) = 0;      // of all workers
  std::deque<std::uint32_t> asking_ GUARDED_BY(mutex_);
  std::map<std::uint32_t, WorkerConnection> handed_ GUARDED_BY(mutex_);  // and not taken yet
  std::uint32_t refusals_ GUARDED_BY(mutex_) = 0;  // in a row
  Monotonic refused_at_ GUARDED_BY(mutex_){};
  std::chrono::milliseconds pause_ GUARDED_BY(mutex_){0};
};

}  // namespace taskwal::pipeline
