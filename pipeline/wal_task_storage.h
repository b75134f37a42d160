// TaskStorage over all stages: the log in front, the flusher behind it, reads through the overlay;
// and the orderly end of it all.
//
//   OpenTaskStorage ─▶ prepare (salvage) ─▶ log, dead letters, flusher ─▶ first contact ─▶ open
//   open ─ Shutdown ─▶ refuse calls ─▶ drain as told ─▶ stop flusher ─▶ seal the log ─▶ closed
//
// A mutation takes no lock, allocates nothing and makes no system call beyond what its durability
// level asks for. Any thread.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "pipeline/database_calls.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/flusher.h"
#include "pipeline/read_overlay.h"
#include "recovery/prepare_log.h"
#include "recovery/salvage.h"
#include "storage/backend.h"
#include "taskwal/options.h"
#include "taskwal/task_storage.h"
#include "wal/log.h"

namespace taskwal::pipeline {

struct WalStorageSetup {
  Options options;  // checked
  std::unique_ptr<storage::Backend> backend;
  FileSystem* fs = &FileSystem::Real();
  Clock* clock = &Clock::Real();
  bool create = true;    // false: kNotFound when there is no log
  bool salvage = false;  // recovery::Salvage before the log is opened
};

// What opening found and did.
struct OpenReport {
  recovery::PrepareReport prepared;
  recovery::SalvageReport salvaged;
  std::uint64_t rescued = 0;
  std::uint64_t damaged = 0;        // regions that hold or held synced records
  std::vector<wal::LsnRange> lost;  // losses met by an earlier open, whose files are still there
  wal::LsnRange pending;            // not known to be in the database yet
  Status contact;                   // of the first try to reach the database
};

class WalTaskStorage final : public TaskStorage {
 public:
  // Errors as OpenTaskStorage; `report` may be null. `contact` of kUnavailable is no error.
  static Result<std::unique_ptr<WalTaskStorage>> Open(WalStorageSetup setup,
                                                      OpenReport* report = nullptr);
  ~WalTaskStorage() override;
  WalTaskStorage(const WalTaskStorage&) = delete;
  WalTaskStorage& operator=(const WalTaskStorage&) = delete;

  Result<Ack> SaveTask(const Task& task, const WriteOptions& options) override;
  Result<Ack> SaveTasks(std::span<const Task> tasks, const WriteOptions& options) override;
  Result<Ack> UpdateTaskStatus(std::string_view id, TaskStatus status, std::string_view error,
                               const WriteOptions& options) override;
  Result<Ack> DeleteTask(std::string_view id, const WriteOptions& options) override;
  Result<Ack> DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) override;
  Result<ActivityAck> LogActivity(const Activity& activity, const WriteOptions& options) override;
  Status Wait(std::uint64_t lsn, WaitFor what, Durability level,
              std::chrono::milliseconds timeout) override;

  Result<Task> GetTask(std::string_view id) override;
  Result<TaskPage> QueryTasks(const TaskQuery& query) override;
  Result<ActivityPage> QueryActivities(const ActivityQuery& query) override;
  Result<StoredCounts> Count() override;
  Result<TaskPage> ResumableTasks(Paging paging) override;

  Result<std::uint64_t> CleanupOldTasks(Time before, std::vector<TaskStatus> statuses) override;
  Result<std::uint64_t> CleanupOldActivityLogs(Time before) override;

  Status Ping() override;
  Status Flush(std::chrono::milliseconds timeout) override;
  Status Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) override;
  Status Close() override;
  Stats GetStats() override;

  // For the tool's report.
  [[nodiscard]] const wal::Log& log() const { return *log_; }
  [[nodiscard]] const DeadLetters& dead_letters() const { return *letters_; }
  [[nodiscard]] FlusherStats flusher_stats() const { return flusher_->GetStats(); }
  [[nodiscard]] wal::Lsn flushed_lsn() const { return flusher_->flushed_lsn(); }

 private:
  explicit WalTaskStorage(WalStorageSetup setup);

  // --- opening
  Status OpenParts(bool create, bool salvage, OpenReport* report);
  Status OpenLog(wal::LogStart start);
  void FindKnownLosses(OpenReport* report) const;
  Status FirstContact(OpenReport* report);
  Status CheckRecoveryAllowed(const Status& contact) const;
  void Announce(const OpenReport& report) const;
  void RunContact();
  void RunMetrics();

  // --- writing
  wal::Deadline MakeDeadline(std::chrono::milliseconds timeout, const std::stop_token& stop) const;
  template <typename Encode>
  Result<wal::Lsn> Append(storage::OperationType type, std::uint64_t key, std::size_t bytes,
                          Time now, const WriteOptions& options, Encode&& encode);
  Status Settle(wal::Lsn lsn, const WriteOptions& options);

  // --- reading, life
  Status CheckReadable(Consistency consistency);
  Status Drain(ShutdownMode mode, const wal::Deadline& deadline);
  Status StopParts(const Status& drained);
  void EndThreads();

  const Options options_;
  FileSystem& fs_;
  Clock& clock_;

  // In order of construction: each borrows from those before it.
  const std::unique_ptr<storage::Backend> backend_;
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
  std::unique_ptr<DatabaseCalls> database_;
  std::unique_ptr<ReadOverlay> overlay_;
  wal::Lsn flushed_at_open_ = 0;         // STATE's word, until the database's is known
  std::uint64_t recovered_at_open_ = 0;  // records rescued or pending
  std::uint64_t damaged_at_open_ = 0;

  std::atomic<bool> accepting_{false};
  std::atomic<bool> readable_{false};
  std::atomic<std::uint64_t> dropped_{0};

  enum class Life : std::uint8_t { kOpen, kClosing, kClosed };
  enum class Go : std::uint8_t { kUndecided, kYes, kNo };
  Mutex mutex_;
  CondVar changed_;
  Life life_ GUARDED_BY(mutex_) = Life::kOpen;
  Status closed_with_ GUARDED_BY(mutex_);
  std::optional<Status> contacted_ GUARDED_BY(mutex_);
  Go flusher_may_start_ GUARDED_BY(mutex_) = Go::kUndecided;
  bool threads_end_ GUARDED_BY(mutex_) = false;

  std::jthread contact_thread_;
  std::jthread metrics_thread_;
};

}  // namespace taskwal::pipeline
