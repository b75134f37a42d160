#include "bench/quill_peer.h"

#ifdef TASKWAL_HAVE_QUILL
#include <quill/Backend.h>
#include <quill/Frontend.h>
#include <quill/LogMacros.h>
#include <quill/sinks/FileSink.h>

#include <array>
#include <atomic>
#include <exception>
#include <string_view>

#include "storage/operation.h"
#endif

namespace taskwal::bench {

#ifdef TASKWAL_HAVE_QUILL

namespace {

constexpr std::size_t kRecordBytesMax = 4096;

// Bounded, as all that it is measured with: a queue that grows would show what memory costs. Each
// thread has one, of half of what spdlog's takes here for all of them.
struct QueueOptions : quill::FrontendOptions {
  static constexpr quill::QueueType queue_type = quill::QueueType::BoundedBlocking;
  static constexpr std::size_t initial_queue_capacity = 1024 * 1024;
};
using Frontend = quill::FrontendImpl<QueueOptions>;
using Logger = quill::LoggerImpl<QueueOptions>;

class QuillWriter final : public Writer {
 public:
  // Throws what quill throws.
  explicit QuillWriter(const std::string& path) {
    quill::BackendOptions options;
    options.check_printable_char = {};  // the bytes as they are, as the others write them
    options.check_backend_singleton_instance = false;
    // Told here as well: that a full queue made somebody wait, as it is to.
    options.error_notifier = [this](const std::string& message) {
      if (message.find("Quill INFO:") == std::string::npos) has_failed_.store(true);
    };
    quill::Backend::start(options);
    try {
      quill::FileSinkConfig file;
      file.set_open_mode('w');
      logger_ = Frontend::create_or_get_logger(
          "peer", Frontend::create_or_get_sink<quill::FileSink>(path, file),
          quill::PatternFormatterOptions("%(message)"));
    } catch (...) {
      quill::Backend::stop();
      throw;
    }
  }
  ~QuillWriter() override {
    logger_->flush_log();
    Frontend::remove_logger_blocking(logger_);
    quill::Backend::stop();
  }

  std::uint64_t Append(const Activity& activity) override {
    thread_local std::array<std::byte, kRecordBytesMax> record;
    const std::size_t bytes = storage::EncodedBytes(activity, activity.id);
    storage::Encode(activity, activity.id, *activity.created_at, std::span(record).first(bytes));
    const std::string_view text(reinterpret_cast<const char*>(record.data()), bytes);
    QUILL_LOG_INFO(logger_, "{}", text);
    return next_.fetch_add(1, std::memory_order_relaxed);
  }
  bool WaitDurable(std::uint64_t) override { return health().ok(); }
  [[nodiscard]] Status health() const override {
    return has_failed_.load() ? Status::IoError("quill could not write") : Status::Ok();
  }

 private:
  std::atomic<std::uint64_t> next_{1};
  std::atomic<bool> has_failed_{false};
  Logger* logger_ = nullptr;  // quill's own, until it is removed there
};

}  // namespace

Result<std::unique_ptr<Writer>> OpenQuill(const std::string& path) {
  try {
    return std::unique_ptr<Writer>(std::make_unique<QuillWriter>(path));
  } catch (const std::exception& error) {
    return Status::IoError(error.what());
  }
}

#else

Result<std::unique_ptr<Writer>> OpenQuill(const std::string&) {
  return Status::Unavailable("built without quill");
}

#endif

}  // namespace taskwal::bench
