#include "base/logging.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace taskwal {
namespace {

std::shared_ptr<spdlog::logger> MakeDefaultLogger() {
  auto logger = std::make_shared<spdlog::logger>(
      "taskwal", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::level::warn);
  return logger;
}

// Loggers of the past stay alive, since any thread may still hold a reference to one.
class CurrentLogger {
 public:
  CurrentLogger() { Set(MakeDefaultLogger()); }

  spdlog::logger& Get() { return *current_.load(); }
  void Set(std::shared_ptr<spdlog::logger> logger) {
    MutexLock lock(mutex_);
    current_.store(logger.get());
    kept_.push_back(std::move(logger));
  }

 private:
  std::atomic<spdlog::logger*> current_{nullptr};
  Mutex mutex_;
  std::vector<std::shared_ptr<spdlog::logger>> kept_ GUARDED_BY(mutex_);
};

// Never destroyed: threads and destructors may log until the very end of the process.
CurrentLogger& Current() {
  static auto* current = new CurrentLogger;
  return *current;
}

}  // namespace

spdlog::logger& Logger() { return Current().Get(); }

void SetLogger(std::shared_ptr<spdlog::logger> logger) {
  Current().Set(logger ? std::move(logger) : MakeDefaultLogger());
}

}  // namespace taskwal
