#include "bench/product_log.h"

#include "base/clock.h"
#include "base/file_system.h"
#include "base/posix_file_system.h"
#include "base/status_macros.h"
#include "pipeline/read_overlay.h"
#include "recovery/prepare_log.h"
#include "storage/operation.h"

namespace taskwal::bench {
namespace {

constexpr auto kSettleEvery = std::chrono::milliseconds(5);

}  // namespace

Result<std::unique_ptr<wal::Log>> OpenProductLog(const std::string& directory,
                                                 const wal::LogOptions& options) {
  FileSystem& fs = FileSystem::Real();
  SetIoUringAllowed(Options{}.io_uring);
  recovery::PrepareOptions how;
  how.directory = directory;
  recovery::PrepareReport report;
  TASKWAL_ASSIGN(wal::LogStart start, recovery::PrepareLog(fs, how, &report));
  return wal::Log::Open(fs, Clock::Real(), options, std::move(start));
}

Result<std::unique_ptr<ProductLog>> ProductLog::Open(const std::string& directory,
                                                     Durability level) {
  wal::LogOptions options;
  options.directory = directory;
  options.retention_bytes = 0;
  options.index_keys = pipeline::IndexOperation;
  TASKWAL_ASSIGN(std::unique_ptr<wal::Log> log, OpenProductLog(directory, options));
  return std::unique_ptr<ProductLog>(new ProductLog(std::move(log), level));
}

ProductLog::ProductLog(std::unique_ptr<wal::Log> log, Durability level)
    : log_(std::move(log)), level_(level) {
  settling_ = std::jthread([this](const std::stop_token& stop) {
    while (!stop.stop_requested() && log_->Retire(log_->written_lsn(), {}).ok()) {
      Clock::Real().SleepFor(kSettleEvery);
    }
  });
}

ProductLog::~ProductLog() = default;

std::uint64_t ProductLog::Append(const Activity& activity) {
  const wal::RecordHeader header{static_cast<std::uint8_t>(storage::OperationType::kActivityLog), 0,
                                 storage::KeyOf(activity.task_id), 1};
  const Result<wal::Lsn> lsn = log_->Append(
      header, storage::EncodedBytes(activity, activity.id), level_, {},
      [&](std::span<std::byte> into) {
        storage::Encode(activity, activity.id, *activity.created_at, into);
      });
  return lsn.ok() ? *lsn : 0;
}

bool ProductLog::WaitDurable(std::uint64_t position) {
  return log_->WaitDurable(position, {}).ok();
}

}  // namespace taskwal::bench
