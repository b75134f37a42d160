// What users want done at the shutdown. Each handler runs on a thread of its own, so that one that
// hangs can be left behind: its thread ends whenever it returns, and touches nothing of ours. Any
// thread may add; they are run once.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

class ShutdownHandlers {
 public:
  ShutdownHandlers(const Options& options, Clock& clock) : options_(options), clock_(clock) {}

  // `timeout` 0: its share of what is left then. kClosed once they have been run.
  Status Add(std::string name, std::function<void()> handler, std::chrono::milliseconds timeout)
      EXCLUDES(mutex_);
  // One after the other, the one added last first. Each may take its own timeout, or else an equal
  // share of the time that is left, with one more share for what comes after them all; none goes on
  // behind the deadline. Returns what was left behind.
  std::vector<std::string> RunInTurn(Monotonic deadline) EXCLUDES(mutex_);
  // All at once.
  std::vector<std::string> RunTogether(Monotonic deadline) EXCLUDES(mutex_);

 private:
  struct Handler {
    std::string name;
    std::function<void()> run;
    std::chrono::milliseconds timeout{0};
  };
  struct Run;

  std::vector<Handler> TakeAll() EXCLUDES(mutex_);
  static std::shared_ptr<Run> Start(const std::function<void()>& handler);
  void Await(const Handler& handler, Run& run, Monotonic deadline);
  void Report(const Handler& handler, const std::string& what);

  const Options options_;
  Clock& clock_;
  Mutex mutex_;
  std::vector<Handler> handlers_ GUARDED_BY(mutex_);
  bool are_taken_ GUARDED_BY(mutex_) = false;
  // Of the thread that runs them.
  std::vector<std::string> left_;
  bool is_unheard_ = false;  // on_error has hung: it is told nothing more
};

}  // namespace taskwal::pipeline
