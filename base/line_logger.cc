#include "base/line_logger.h"

#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>

#include <utility>

#include "base/mutex.h"

namespace taskwal {
namespace {

class LineSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit LineSink(std::function<void(std::string_view)> put) : put_(std::move(put)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    MutexLock lock(mutex_);
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    put_({line.data(), line.size()});
  }
  void flush_() override {}

  const std::function<void(std::string_view)> put_;
  Mutex mutex_;
};

}  // namespace

std::shared_ptr<spdlog::logger> MakeLineLogger(std::function<void(std::string_view line)> put) {
  auto logger =
      std::make_shared<spdlog::logger>("taskwal", std::make_shared<LineSink>(std::move(put)));
  logger->set_level(spdlog::level::warn);
  return logger;
}

}  // namespace taskwal
