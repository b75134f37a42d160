#include "base/logging.h"

#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <atomic>
#include <iterator>
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
  void Set(const std::shared_ptr<spdlog::logger>& logger) {
    MutexLock lock(mutex_);
    base_ = logger.get();
    Keep(logger);
    Choose();
  }
  void Lease(const std::shared_ptr<spdlog::logger>& logger) {
    MutexLock lock(mutex_);
    leased_.push_back(logger.get());
    Keep(logger);
    Choose();
  }
  void GiveBack(const std::shared_ptr<spdlog::logger>& logger) {
    MutexLock lock(mutex_);
    const auto last = std::find(leased_.rbegin(), leased_.rend(), logger.get());
    leased_.erase(std::next(last).base());
    Choose();
  }

 private:
  void Keep(const std::shared_ptr<spdlog::logger>& logger) REQUIRES(mutex_) {
    if (std::find(kept_.begin(), kept_.end(), logger) == kept_.end()) kept_.push_back(logger);
  }
  void Choose() REQUIRES(mutex_) { current_.store(leased_.empty() ? base_ : leased_.back()); }

  std::atomic<spdlog::logger*> current_{nullptr};
  Mutex mutex_;
  spdlog::logger* base_ GUARDED_BY(mutex_) = nullptr;
  std::vector<spdlog::logger*> leased_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<spdlog::logger>> kept_ GUARDED_BY(mutex_);
};

class EventSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  EventSink(const std::string& event, std::function<void(std::string_view)> take)
      : mark_(" event=" + event + " "), take_(std::move(take)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    const std::size_t mark = text.find(mark_);
    if (mark == std::string_view::npos) return;
    MutexLock lock(mutex_);
    take_(text.substr(mark + mark_.size()));
  }
  void flush_() override {}

  const std::string mark_;
  const std::function<void(std::string_view)> take_;
  Mutex mutex_;
};

// Never destroyed: threads and destructors may log until the very end of the process.
CurrentLogger& Current() {
  static auto* current = new CurrentLogger;
  return *current;
}

}  // namespace

spdlog::logger& Logger() { return Current().Get(); }

void SetLogger(std::shared_ptr<spdlog::logger> logger) {
  Current().Set(logger ? logger : MakeDefaultLogger());
}

std::shared_ptr<spdlog::logger> MakeEventLogger(const std::string& event,
                                                std::function<void(std::string_view)> take) {
  auto logger = std::make_shared<spdlog::logger>(
      "taskwal", std::make_shared<EventSink>(event, std::move(take)));
  logger->set_level(spdlog::level::warn);
  return logger;
}

LoggerLease::LoggerLease(std::shared_ptr<spdlog::logger> logger) : logger_(std::move(logger)) {
  if (logger_) Current().Lease(logger_);
}

LoggerLease::~LoggerLease() {
  if (logger_) Current().GiveBack(logger_);
}

}  // namespace taskwal
