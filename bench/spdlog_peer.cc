#include "bench/spdlog_peer.h"

#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>

#include <array>
#include <atomic>

#include "storage/operation.h"

namespace taskwal::bench {
namespace {

constexpr std::size_t kQueueMessages = 8192;  // spdlog's default
constexpr std::size_t kRecordBytesMax = 4096;

class SpdlogWriter final : public Writer {
 public:
  explicit SpdlogWriter(const std::string& path)
      : pool_(std::make_shared<spdlog::details::thread_pool>(kQueueMessages, 1)),
        logger_(std::make_shared<spdlog::async_logger>(
            "peer", std::make_shared<spdlog::sinks::basic_file_sink_mt>(path, true), pool_,
            spdlog::async_overflow_policy::block)) {
    logger_->set_pattern("%v");
    logger_->set_error_handler([this](const std::string&) { has_failed_.store(true); });
  }

  std::uint64_t Append(const Activity& activity) override {
    thread_local std::array<std::byte, kRecordBytesMax> record;
    const std::size_t bytes = storage::EncodedBytes(activity, activity.id);
    storage::Encode(activity, activity.id, *activity.created_at, std::span(record).first(bytes));
    logger_->info(spdlog::string_view_t(reinterpret_cast<const char*>(record.data()), bytes));
    return next_.fetch_add(1, std::memory_order_relaxed);
  }
  bool WaitDurable(std::uint64_t) override { return health().ok(); }
  [[nodiscard]] Status health() const override {
    return has_failed_.load() ? Status::IoError("spdlog could not write") : Status::Ok();
  }

 private:
  std::atomic<std::uint64_t> next_{1};
  std::atomic<bool> has_failed_{false};
  std::shared_ptr<spdlog::details::thread_pool> pool_;
  std::shared_ptr<spdlog::async_logger> logger_;
};

}  // namespace

Result<std::unique_ptr<Writer>> OpenSpdlog(const std::string& path) {
  try {
    return std::unique_ptr<Writer>(std::make_unique<SpdlogWriter>(path));
  } catch (const spdlog::spdlog_ex& error) {
    return Status::IoError(error.what());
  }
}

}  // namespace taskwal::bench
