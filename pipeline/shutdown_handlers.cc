#include "pipeline/shutdown_handlers.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "base/threads.h"
#include "pipeline/error_hook.h"

namespace taskwal::pipeline {
namespace {

// How often the clock is looked at, which may be another one than the condition variable's.
constexpr auto kSlice = std::chrono::milliseconds(5);
// For on_error to hear of a handler.
constexpr auto kTellTime = std::chrono::milliseconds(500);

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
    End(what.empty() ? "" : "threw: " + what);
  }
  void End(const std::string& what) {
    MutexLock lock(mutex);
    is_done = true;
    error = what;
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

std::shared_ptr<ShutdownHandlers::Run> ShutdownHandlers::Start(
    const std::function<void()>& handler) {
  auto run = std::make_shared<Run>();
  auto thread = StartThread<std::thread>([run, handler] { run->Do(handler); });
  if (thread.ok()) {
    thread->detach();
  } else {
    run->End("was not called: " + thread.status().message());
  }
  return run;
}

std::vector<std::string> ShutdownHandlers::RunInTurn(Monotonic deadline) {
  const std::vector<Handler> handlers = TakeAll();
  for (std::size_t i = 0; i < handlers.size(); ++i) {
    const Monotonic now = clock_.Now();
    const auto time = std::max(deadline - now, Monotonic::duration(0));
    const auto share = time / static_cast<std::int64_t>(handlers.size() - i + 1);
    const bool has_own = handlers[i].timeout.count() > 0;
    const auto run = Start(handlers[i].run);
    Await(handlers[i], *run, has_own ? deadline : now + share);
  }
  return left_;
}

std::vector<std::string> ShutdownHandlers::RunTogether(Monotonic deadline) {
  const std::vector<Handler> handlers = TakeAll();
  std::vector<std::shared_ptr<Run>> runs;
  for (const Handler& handler : handlers) runs.push_back(Start(handler.run));
  for (std::size_t i = 0; i < runs.size(); ++i) Await(handlers[i], *runs[i], deadline);
  return left_;
}

void ShutdownHandlers::Await(const Handler& handler, Run& run, Monotonic deadline) {
  if (handler.timeout.count() > 0) {
    deadline = std::min(deadline, clock_.Now() + handler.timeout);
  }
  bool is_done = false;
  std::string error = "takes too long, and is left behind";
  {
    MutexLock lock(run.mutex);
    while (!run.is_done && clock_.Now() < deadline) run.changed.WaitFor(run.mutex, kSlice);
    is_done = run.is_done;
    if (is_done) error = run.error;
  }
  if (!is_done) left_.push_back("shutdown handler " + handler.name);
  if (!error.empty()) Report(handler, error);
}

// On a thread of its own, too: the callback may hang as any handler may.
void ShutdownHandlers::Report(const Handler& handler, const std::string& what) {
  Logger().error("shutdown handler={} error=\"{}\"", handler.name, what);
  if (!options_.on_error || is_unheard_) return;
  const ErrorEvent event{"shutdown", "", 0, handler.name + ": " + what};
  const auto told = Start([options = options_, event] { TellError(options, event); });
  const auto until = std::chrono::steady_clock::now() + kTellTime;
  MutexLock lock(told->mutex);
  bool in_time = true;
  while (!told->is_done && in_time) in_time = told->changed.WaitUntil(told->mutex, until);
  is_unheard_ = !told->is_done;
  if (is_unheard_) left_.emplace_back("on_error");
}

}  // namespace taskwal::pipeline
