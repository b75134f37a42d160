#include "bench/backlog.h"

#include "base/status_macros.h"
#include "bench/product_log.h"
#include "bench/workload.h"
#include "pipeline/read_overlay.h"
#include "storage/operation.h"

namespace taskwal::bench {
namespace {

Result<std::unique_ptr<wal::Log>> OpenForBacklog(const std::string& directory) {
  wal::LogOptions options;
  options.directory = directory;
  options.index_keys = pipeline::IndexOperation;
  return OpenProductLog(directory, options);
}

wal::RecordHeader HeaderOf(storage::OperationType type, const std::string& task_id) {
  return {static_cast<std::uint8_t>(type), 0, storage::KeyOf(task_id), 1};
}

}  // namespace

Status MakeActivityLog(const std::string& directory, std::uint64_t activities) {
  TASKWAL_ASSIGN(const auto log, OpenForBacklog(directory));
  for (std::uint64_t n = 0; n < activities; ++n) {
    const Activity activity = MakeActivity(n);
    const auto header = HeaderOf(storage::OperationType::kActivityLog, activity.task_id);
    const auto lsn =
        log->Append(header, storage::EncodedBytes(activity, activity.id), Durability::kProcess, {},
                    [&](std::span<std::byte> into) {
                      storage::Encode(activity, activity.id, *activity.created_at, into);
                    });
    TASKWAL_TRY(lsn.status());
  }
  return log->Close();
}

Status MakeTaskLog(const std::string& directory, const TaskLogPlan& plan) {
  TASKWAL_ASSIGN(const auto log, OpenForBacklog(directory));
  Time now{std::chrono::seconds(1'790'000'000)};
  for (std::uint64_t n = 0; n < plan.saves; ++n, now += std::chrono::microseconds(1)) {
    const Task task = MakeTask(n / plan.in_a_row % plan.tasks);
    const auto header = HeaderOf(storage::OperationType::kTaskUpdate, task.id);
    const auto lsn =
        log->Append(header, storage::EncodedBytes(task), Durability::kProcess, {},
                    [&](std::span<std::byte> into) { storage::Encode(task, now, into); });
    TASKWAL_TRY(lsn.status());
  }
  return log->Close();
}

}  // namespace taskwal::bench
