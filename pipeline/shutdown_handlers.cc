#include "pipeline/shutdown_handlers.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "pipeline/error_hook.h"

namespace taskwal::pipeline {
namespace {

// How often the clock is looked at, which may be another one than the condition variable's.
constexpr auto kSlice = std::chrono::milliseconds(5);

}  // namespace

// Shared with the handler's thread, which may outlive everything else.
struct ShutdownHandlers::Run {
  Mutex mutex;
  CondVar changed;
  bool is_done GUARDED_BY(mutex) = false;
  std::string error GUARDED_BY(mutex);

  void Do(const std::function<void()>& handler) {
    std::string what;
    try {
      handler();
    } catch (const std::exception& e) {
      what = e.what();
    } catch (...) {
      what = "an exception of unknown type";
    }
    MutexLock lock(mutex);
    is_done = true;
    error = what.empty() ? "" : "threw: " + what;
    changed.NotifyAll();
  }
};

Status ShutdownHandlers::Add(std::string name, std::function<void()> handler,
                             std::chrono::milliseconds timeout) {
  MutexLock lock(mutex_);
  if (are_taken_) return Status::Closed("the shutdown has begun: " + name + " comes too late");
  handlers_.push_back({std::move(name), std::move(handler), timeout});
  return Status::Ok();
}

std::vector<ShutdownHandlers::Handler> ShutdownHandlers::TakeAll() {
  MutexLock lock(mutex_);
  are_taken_ = true;
  std::vector<Handler> all = std::exchange(handlers_, {});
  std::reverse(all.begin(), all.end());
  return all;
}

std::shared_ptr<ShutdownHandlers::Run> ShutdownHandlers::Start(const Handler& handler) {
  auto run = std::make_shared<Run>();
  std::thread([run, handler = handler.run] { run->Do(handler); }).detach();
  return run;
}

void ShutdownHandlers::RunInTurn(Monotonic deadline) {
  const std::vector<Handler> handlers = TakeAll();
  for (std::size_t i = 0; i < handlers.size(); ++i) {
    const Monotonic now = clock_.Now();
    const auto left = std::max(deadline - now, Monotonic::duration(0));
    const auto share = left / static_cast<std::int64_t>(handlers.size() - i + 1);
    const auto run = Start(handlers[i]);
    Await(handlers[i], *run, now + share);
  }
}

void ShutdownHandlers::RunTogether(Monotonic deadline) {
  const std::vector<Handler> handlers = TakeAll();
  std::vector<std::shared_ptr<Run>> runs;
  for (const Handler& handler : handlers) runs.push_back(Start(handler));
  for (std::size_t i = 0; i < runs.size(); ++i) Await(handlers[i], *runs[i], deadline);
}

void ShutdownHandlers::Await(const Handler& handler, Run& run, Monotonic deadline) const {
  if (handler.timeout.count() > 0) {
    deadline = std::min(deadline, clock_.Now() + handler.timeout);
  }
  std::string error = "takes too long, and is left behind";
  {
    MutexLock lock(run.mutex);
    while (!run.is_done && clock_.Now() < deadline) run.changed.WaitFor(run.mutex, kSlice);
    if (run.is_done) error = run.error;
  }
  if (!error.empty()) Report(handler, error);
}

void ShutdownHandlers::Report(const Handler& handler, const std::string& what) const {
  Logger().error("shutdown handler={} error=\"{}\"", handler.name, what);
  TellError(options_, {"shutdown", "", 0, handler.name + ": " + what});
}

}  // namespace taskwal::pipeline
