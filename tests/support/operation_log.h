// A log opened for a test, and short calls that append operations to it. Without threads: what is
// appended is written and synced by Sync().
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "recovery/prepare_log.h"
#include "storage/operation.h"
#include "wal/log.h"

namespace taskwal {

class OperationLog {
 public:
  static constexpr std::uint32_t kPartitions = 4;

  OperationLog(FileSystem& fs, Clock& clock, std::string directory = "/wal")
      : fs_(fs), clock_(clock), directory_(std::move(directory)) {
    Open();
  }

  void Open(std::uint64_t segment_bytes = 64u << 20) {
    recovery::PrepareReport report;
    auto start = recovery::PrepareLog(fs_, {directory_, kPartitions, true, nullptr}, &report);
    TASKWAL_CHECK(start.ok());
    wal::LogOptions options;
    options.directory = directory_;
    options.ring_bytes = 1u << 20;
    options.segment_bytes = segment_bytes;
    options.start_threads = false;
    options.segment_retention = std::chrono::milliseconds(0);
    options.retention_bytes = 0;
    auto log = wal::Log::Open(fs_, clock_, options, std::move(start).value());
    TASKWAL_CHECK(log.ok());
    log_ = std::move(log).value();
  }
  void Close() {
    TASKWAL_CHECK(log_->Close().ok());
    log_.reset();
  }
  void Abandon() { log_.reset(); }

  wal::Log& log() { return *log_; }
  // Of what is appended from now on.
  void set_target(std::uint16_t target) { target_ = target; }
  [[nodiscard]] const std::string& directory() const { return directory_; }

  wal::Lsn Save(const std::string& id, const std::string& dag_id = {},
                std::size_t payload_bytes = 0) {
    Task task;
    task.id = id;
    task.dag_id = dag_id;
    if (payload_bytes > 0) task.payload = "\"" + std::string(payload_bytes, 'x') + "\"";
    const Time now = clock_.WallNow();
    return Append(storage::OperationType::kTaskUpdate, id, storage::EncodedBytes(task),
                  [&](std::span<std::byte> into) { storage::Encode(task, now, into); });
  }
  wal::Lsn SaveAll(const std::vector<std::string>& ids) {
    std::vector<Task> tasks;
    for (const std::string& id : ids) {
      tasks.emplace_back();
      tasks.back().id = id;
    }
    const Time now = clock_.WallNow();
    return Append(storage::OperationType::kBatchUpdate, ids.front(), storage::EncodedBytes(tasks),
                  [&](std::span<std::byte> into) { storage::Encode(tasks, now, into); });
  }
  wal::Lsn Update(const std::string& id, TaskStatus status, const std::string& error = {}) {
    const Time now = clock_.WallNow();
    return Append(storage::OperationType::kStatusUpdate, id,
                  storage::EncodedStatusUpdateBytes(id, error), [&](std::span<std::byte> into) {
                    storage::EncodeStatusUpdate(id, status, error, now, into);
                  });
  }
  wal::Lsn Delete(const std::string& id) {
    return AppendName(storage::OperationType::kTaskDelete, id);
  }
  wal::Lsn DeleteDag(const std::string& dag_id) {
    return AppendName(storage::OperationType::kDagDelete, dag_id);
  }
  wal::Lsn LogActivity(const std::string& id, const std::string& task_id) {
    Activity activity;
    activity.task_id = task_id;
    const Time now = clock_.WallNow();
    return Append(storage::OperationType::kActivityLog, task_id,
                  storage::EncodedBytes(activity, id), [&](std::span<std::byte> into) {
                    storage::Encode(activity, id, now, into);
                  });
  }
  // A record whose type says task_update and whose body is none.
  wal::Lsn Garbage(const std::string& id) {
    return Append(storage::OperationType::kTaskUpdate, id, 3, [](std::span<std::byte> into) {
      std::fill(into.begin(), into.end(), std::byte{0xff});
    });
  }

  void Sync() {
    if (log_->end_lsn() == 0) return;
    TASKWAL_CHECK(log_->WaitDurable(log_->end_lsn(), {}).ok());
  }
  static std::uint32_t PartitionOf(const std::string& id) {
    return wal::PartitionOf(storage::KeyOf(id), kPartitions);
  }
  // "<prefix>0", "<prefix>1", …: the n-th of those in this partition.
  static std::string IdIn(std::uint32_t partition, int n = 0, const std::string& prefix = "task-") {
    for (int i = 0;; ++i) {
      std::string id = prefix + std::to_string(i);
      if (PartitionOf(id) == partition && n-- == 0) return id;
    }
  }

 private:
  wal::Lsn AppendName(storage::OperationType type, const std::string& name) {
    const Time now = clock_.WallNow();
    return Append(type, name, storage::EncodedNameBytes(name), [&](std::span<std::byte> into) {
      storage::EncodeName(name, now, into);
    });
  }
  template <typename Encode>
  wal::Lsn Append(storage::OperationType type, const std::string& key_text, std::size_t bytes,
                  Encode&& encode) {
    wal::RecordHeader header;
    header.type = static_cast<std::uint8_t>(type);
    header.target = target_;
    header.key = storage::KeyOf(key_text);
    header.stamp = log_->NextStamp(clock_.WallNow());
    const auto lsn = log_->Append(header, bytes, Durability::kProcess, {}, encode);
    TASKWAL_CHECK(lsn.ok());
    return *lsn;
  }

  FileSystem& fs_;
  Clock& clock_;
  const std::string directory_;
  std::unique_ptr<wal::Log> log_;
  std::uint16_t target_ = 0;
};

}  // namespace taskwal
