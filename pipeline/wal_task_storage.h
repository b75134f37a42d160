// TaskStorage over all stages: the log in front, the flusher behind it, reads through the overlay;
// and the orderly end of it all.
//
//   OpenTaskStorage ─▶ prepare (salvage) ─▶ log, dead letters, flusher ─▶ first contact ─▶ open
//   open ─ Shutdown ─▶ handlers ─▶ refuse calls ─▶ drain as told ─▶ stop flushers ─▶ seal the log
//
// A mutation takes no lock, allocates nothing and makes no system call beyond what its durability
// level asks for. Except: an activity's id that is made is allocated, as the answer brings it, and
// so is data that a ContextScope adds to; behind limits (Options) a call takes one mutex, and one
// in each monitoring_interval looks at the load. Any thread.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/logging.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "pipeline/admission/admission.h"
#include "pipeline/admission/load_gauge.h"
#include "metrics/stage_times.h"
#include "pipeline/call_gate.h"
#include "pipeline/callback_watch.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/flusher.h"
#include "pipeline/letter_desk.h"
#include "pipeline/metrics_snapshot.h"
#include "pipeline/monitor_thread.h"
#include "pipeline/read_overlay.h"
#include "pipeline/shutdown_handlers.h"
#include "pipeline/storage_control.h"
#include "pipeline/targets/target_queries.h"
#include "pipeline/targets/target_set.h"
#include "recovery/prepare_log.h"
#include "recovery/salvage.h"
#include "storage/backend.h"
#include "taskwal/options.h"
#include "taskwal/task_storage.h"
#include "wal/log.h"

namespace taskwal::pipeline {

struct WalStorageSetup {
  Options options;  // checked
  std::unique_ptr<storage::Backend> backend;  // the only database; or:
  std::vector<TargetSetup> targets;           // several (Options::targets is not looked at here)
  FileSystem* fs = &FileSystem::Real();
  Clock* clock = &Clock::Real();
  bool create = true;    // false: kNotFound when there is no log
  bool salvage = false;  // recovery::Salvage before the log is opened
  // Opening is for the database's sake: waits for it as long as recovery_timeout says.
  bool needs_database = false;
  std::stop_token stop;  // a requested stop ends the wait for the first contact
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
  std::chrono::milliseconds waited{0};  // for an answer that did not come
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

  Result<Task> GetTask(std::string_view id, const CallLimits& limits = {}) override;
  Result<TaskPage> QueryTasks(const TaskQuery& query, const CallLimits& limits = {}) override;
  Result<ActivityPage> QueryActivities(const ActivityQuery& query,
                                       const CallLimits& limits = {}) override;
  Result<StoredCounts> Count(const CallLimits& limits = {}) override;
  Result<TaskPage> ResumableTasks(Paging paging, const CallLimits& limits = {}) override;

  Result<std::uint64_t> CleanupOldTasks(Time before, std::vector<TaskStatus> statuses,
                                        const CallLimits& limits = {}) override;
  Result<std::uint64_t> CleanupOldActivityLogs(Time before, const CallLimits& limits = {}) override;

  Status Ping(const CallLimits& limits = {}) override;
  Status Flush(std::chrono::milliseconds timeout) override;
  Status Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) override;
  Status Close() override;
  Status OnShutdown(std::string name, std::function<void()> handler,
                    std::chrono::milliseconds timeout) override;
  bool IsShutdown() override;
  Control* GetControl() override { return control_.get(); }
  DeadLetterControl* GetDeadLetters() override { return desk_.get(); }
  Metrics* GetMetrics() override { return metrics_.get(); }
  Stats GetStats() override;
  Status SetTargetHealth(std::string_view name, bool in_service) override;

  // Drains within the deadline, then brings every task to its home under the weights this storage
  // was opened with, and records these. Calls are refused meanwhile, and for good when it fails:
  // what is left is done by the next open. kUnavailable: not drained, nothing was moved, or a
  // database went away.
  Status Rebalance(std::chrono::milliseconds drain_timeout, const MoveProgress& on_progress);

  // For the tool and its reports.
  [[nodiscard]] LetterDesk& letter_desk() { return *desk_; }
  [[nodiscard]] const wal::Log& log() const { return *log_; }
  [[nodiscard]] const DeadLetters& dead_letters() const { return *letters_; }
  [[nodiscard]] FlusherStats flusher_stats() const { return targets_->Totals(); }
  [[nodiscard]] wal::Lsn flushed_lsn() const { return targets_->flushed_lsn(); }

 private:
  explicit WalTaskStorage(const WalStorageSetup& setup);

  // --- opening
  Status OpenParts(WalStorageSetup setup, OpenReport* report);
  Status OpenLog(wal::LogStart start, std::vector<TargetSetup> list);
  void FindKnownLosses(OpenReport* report) const;
  Status FirstContact(const WalStorageSetup& setup, OpenReport* report);
  [[nodiscard]] bool HangsOnContact(const WalStorageSetup& setup, const OpenReport& report) const;
  Status CheckRecoveryAllowed(const Status& contact) const;
  void Announce(const OpenReport& report) const;
  MonitorThread::Until Tend();
  void WriteMetricsLine();
  void WriteMetricsFile(bool has_ended);
  void TendLetters();
  // Null where nothing is to be measured.
  Histogram* Timed(Histogram* times) const { return options_.enable_metrics ? times : nullptr; }
  [[nodiscard]] std::string LetterAlarm(const DeadLetterStats& letters) const;
  void MakeDesks();

  // --- writing
  wal::Deadline MakeDeadline(std::chrono::milliseconds timeout, const std::stop_token& stop) const;
  Monotonic StartOf(const WriteOptions& options) const;
  wal::Deadline EndOf(const WriteOptions& options, Monotonic start) const;
  bool Protects(const WriteOptions& options) const {
    return options_.protect_terminal_status && !options.reset;
  }
  struct Place {             // where a record goes
    enum class Rule : std::uint8_t { kGiven, kHome, kTurn };
    std::uint64_t key = 0;
    std::uint16_t target = 0;
    // Append fills the target in where it is the home of `key`, or whose turn it is.
    Rule rule = Rule::kGiven;
  };
  static Place HomeOf(std::string_view task_id);
  template <typename Encode>
  Result<wal::Lsn> Append(storage::OperationType type, Place* place, std::size_t bytes, Time now,
                          const WriteOptions& options, Encode&& encode,
                          std::int32_t rank = kTaskRank);
  Result<ActivityAck> AppendActivity(const Activity& activity, const WriteOptions& options);
  Result<LetterDesk::Sent> AppendRetry(const wal::RecordHeader& header,
                                       std::span<const std::byte> body, bool goes_home,
                                       std::chrono::milliseconds timeout,
                                       const std::stop_token& stop);
  Status Settle(wal::Lsn lsn, std::uint16_t target, const WriteOptions& options,
                Monotonic start);

  // --- reading, life
  Status CheckReadable(Consistency consistency = Consistency::kEventual,
                       const CallLimits& limits = {});
  Status AwaitCalls(const wal::Deadline& deadline) const;
  Status Drain(ShutdownMode mode, const wal::Deadline& deadline);
  [[nodiscard]] wal::Deadline DeadlineOf(ShutdownMode mode, std::chrono::milliseconds timeout);
  [[nodiscard]] Monotonic WaitsUntil(ShutdownMode mode, std::chrono::milliseconds timeout) const;
  std::vector<std::string> RunHandlers(ShutdownMode mode, const wal::Deadline& deadline);
  Status StopParts(const Status& drained, std::vector<std::string> hanging,
                   std::optional<Monotonic> until);
  std::vector<std::string> StopThreads(std::optional<Monotonic> end);
  void LeaveBehind();

  // shared_ptr: see CallbackWatch.
  const std::shared_ptr<CallbackWatch> callbacks_ = std::make_shared<CallbackWatch>();
  const Options options_;
  const LoggerLease logger_;  // ends behind all that logs
  FileSystem& fs_;
  Clock& clock_;

  // In order of construction: each borrows from those before it.
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<LoadGauge> gauge_;
  std::unique_ptr<Admission> admission_;
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<StorageControl> control_;
  std::unique_ptr<LetterDesk> desk_;
  std::unique_ptr<StorageMetrics> metrics_;
  std::unique_ptr<TargetQueries> queries_;
  std::unique_ptr<ReadOverlay> overlay_;
  BacklogCount backlog_;                 // at open
  wal::Lsn flushed_at_open_ = 0;         // STATE's word, until the databases' is known
  std::uint64_t recovered_at_open_ = 0;  // records rescued or pending
  std::uint64_t damaged_at_open_ = 0;

  CallGate gate_;
  std::atomic<bool> readable_{false};
  std::atomic<std::uint64_t> filtered_{0};
  StageTimes times_;
  ShutdownHandlers handlers_;
  // A call or a callback did not come back; set and read by those who end the storage.
  bool is_hung_ = false;

  enum class Life : std::uint8_t { kOpen, kClosing, kClosed };
  Mutex mutex_;
  CondVar changed_;
  Life life_ GUARDED_BY(mutex_) = Life::kOpen;
  Status closed_with_ GUARDED_BY(mutex_);

  // The monitor's.
  std::string letter_alarm_;
  MonitorThread::Until next_file_{}, next_line_{};
  std::unique_ptr<MonitorThread> monitor_;
};

}  // namespace taskwal::pipeline
