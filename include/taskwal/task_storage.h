// TaskStorage: the calls a DAG or task engine makes. Open one with taskwal/open.h.
//
// Every method may be called from any thread. Mutations are acknowledged from the write-ahead log
// and reach the database later, exactly once and in order per task; only clean-up by age goes to
// the database at once. A database outage fails no mutation.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/options.h"
#include "taskwal/stats.h"
#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal {

enum class WaitFor : std::uint8_t {
  kAppended,      // has an LSN: the rest is waited for with Wait()
  kAcknowledged,  // the durability level is reached
  kApplied,       // in the database (or in dead letters)
};

struct WriteOptions {
  std::optional<Durability> durability;              // Options::durability when absent
  WaitFor wait = WaitFor::kAcknowledged;
  // Of the whole call; 0: no waiting (without a log: as absent). Absent: Options::block_timeout
  // for room in the log and for kApplied, and as long as it takes for a sync.
  std::optional<std::chrono::milliseconds> timeout;
  std::stop_token stop;                              // a requested stop ends the waiting
  // kOverloaded at once where the call would have to wait for room; not counted as dropped.
  bool only_if_room = false;
  // Under Options::protect_terminal_status: the call may reopen a task that has ended.
  bool reset = false;
  // Of an activity without which its caller cannot go on: neither filtered by
  // Options::min_activity_level nor dropped by a policy. It waits for room as a task's save does,
  // and among those; where there is none in time it counts as one of them (priority 0).
  bool keep = false;
};

// Of a call that asks the database. With neither it may take Options::database_timeout, for each
// question that it asks and for each database. With either the question is asked on a thread of its
// own, which costs some ten microseconds: kUnavailable when the time is over or a stop is
// requested, and what the database has not answered by then is left behind, to end by
// database_timeout. Up to 16 questions a database may have so; a further one waits, within its own
// time, for one to end. What GetTask and clean-up read of the log's own files takes as long as the
// disk does.
struct CallLimits {
  std::optional<std::chrono::milliseconds> timeout;  // of the whole call
  std::stop_token stop;
};

struct Ack {
  std::uint64_t lsn = 0;  // positive, growing within a log, over restarts too
};

struct ActivityAck {
  std::uint64_t lsn = 0;  // 0: below Options::min_activity_level, and not kept (see keep)
  std::string id;  // the one made; empty when the activity came with its own
};

enum class Consistency : std::uint8_t {
  kEventual,  // what the database has now
  kFlushed,   // waits until everything acknowledged before the call is in the database
};

struct Paging {
  std::uint32_t limit = 100;     // 1 to 10,000
  std::string after;             // next_page of the page before; empty: from the start
  bool newest_first = false;     // order is (created_at, id)
  Consistency consistency = Consistency::kEventual;
};

struct TaskQuery {
  std::optional<std::string> dag_id;
  std::optional<std::string> node_id;
  std::vector<TaskStatus> statuses;        // empty: all
  std::optional<Time> created_from, created_until;  // from <= t < until
  std::optional<Time> updated_from, updated_until;
  Paging paging;
};

struct ActivityQuery {
  std::optional<std::string> task_id;
  std::optional<std::string> dag_id;
  std::optional<std::string> node_id;
  std::optional<std::string> action;
  std::optional<Level> level_min;
  std::optional<Time> created_from, created_until;
  Paging paging;
};

struct TaskPage {
  std::vector<Task> tasks;
  std::string next_page;  // empty: this was the last
};

struct ActivityPage {
  std::vector<Activity> activities;
  std::string next_page;
};

struct StoredCounts {
  std::uint64_t tasks = 0;
  std::uint64_t activities = 0;
  std::vector<std::pair<TaskStatus, std::uint64_t>> tasks_by_status;
};

enum class ShutdownMode : std::uint8_t {
  kImmediate,     // stop now; the log keeps all
  kFlushPending,  // drain without a deadline; the handlers run together
  kGraceful,      // handlers and draining share one deadline
};

class Control;            // taskwal/control.h
class DeadLetterControl;  // taskwal/dead_letters.h
class Metrics;            // taskwal/metrics.h

class TaskStorage {
 public:
  virtual ~TaskStorage() = default;

  // --- mutations: through the log, in order -------------------------------------------------
  // Errors before an LSN is given (kInvalidArgument, kOverloaded, kIoError, kClosed) keep nothing.
  // kInDoubt carries the LSN: the record may still take effect.

  // Replaces the whole task; an absent field is its default; created_at see Task.
  virtual Result<Ack> SaveTask(const Task& task, const WriteOptions& options = {}) = 0;
  // One transaction, or (a row is refused) all in dead letters. Above 128 MiB: kInvalidArgument.
  virtual Result<Ack> SaveTasks(std::span<const Task> tasks, const WriteOptions& options = {}) = 0;
  // Sets status, error, updated_at; running sets started_at and clears completed_at, a terminal
  // status sets completed_at, pending clears both. Changes nothing when there is no such task, nor
  // (as SaveTask does not) where the task has ended and only a reset may reopen it.
  virtual Result<Ack> UpdateTaskStatus(std::string_view id, TaskStatus status,
                                       std::string_view error = {},
                                       const WriteOptions& options = {}) = 0;
  virtual Result<Ack> DeleteTask(std::string_view id, const WriteOptions& options = {}) = 0;
  // Deletes every task of the DAG whose save came before; their activities stay.
  virtual Result<Ack> DeleteTasksByDag(std::string_view dag_id,
                                       const WriteOptions& options = {}) = 0;
  virtual Result<ActivityAck> LogActivity(const Activity& activity,
                                          const WriteOptions& options = {}) = 0;
  // Waits for an LSN of a kAppended call. kUnavailable on timeout: call again.
  virtual Status Wait(std::uint64_t lsn, WaitFor what, Durability level,
                      std::chrono::milliseconds timeout) = 0;

  // --- reads ---------------------------------------------------------------------------------
  // Sees every acknowledged write of this log at once, after a restart too. kNotFound when absent.
  // While the database is away: what the log tells alone, with the time of its save as created_at
  // where none is given; kUnavailable where that is not enough.
  virtual Result<Task> GetTask(std::string_view id, const CallLimits& limits = {}) = 0;
  // With Consistency::kFlushed the limits are those of the wait, too.
  virtual Result<TaskPage> QueryTasks(const TaskQuery& query, const CallLimits& limits = {}) = 0;
  virtual Result<ActivityPage> QueryActivities(const ActivityQuery& query,
                                               const CallLimits& limits = {}) = 0;
  virtual Result<StoredCounts> Count(const CallLimits& limits = {}) = 0;

  // The same queries by the names engines know.
  Result<TaskPage> TasksByDag(std::string_view dag_id, Paging paging = {},
                              const CallLimits& limits = {});
  Result<TaskPage> TasksByStatus(TaskStatus status, Paging paging = {},
                                 const CallLimits& limits = {});
  Result<TaskPage> PendingTasks(Paging paging = {}, const CallLimits& limits = {});
  // Running (interrupted by a crash), or failed with retries left.
  virtual Result<TaskPage> ResumableTasks(Paging paging = {},
                                          const CallLimits& limits = {}) = 0;
  Result<ActivityPage> ActivitiesByTask(std::string_view task_id, Paging paging = {},
                                        const CallLimits& limits = {});
  Result<ActivityPage> ActivitiesByDag(std::string_view dag_id, Paging paging = {},
                                       const CallLimits& limits = {});

  // --- clean-up: directly in the database, in small batches -------------------------------------
  // Deletes tasks last updated before `before` in one of `statuses` (terminal ones only; empty: all
  // three). Tasks with unflushed records are skipped. Returns how many went; what went before an
  // error, or before the call's end, is gone.
  virtual Result<std::uint64_t> CleanupOldTasks(Time before,
                                                std::vector<TaskStatus> statuses = {},
                                                const CallLimits& limits = {}) = 0;
  virtual Result<std::uint64_t> CleanupOldActivityLogs(Time before,
                                                       const CallLimits& limits = {}) = 0;

  // --- life ----------------------------------------------------------------------------------
  // Asks the database; kUnavailable when it does not answer.
  virtual Status Ping(const CallLimits& limits = {}) = 0;
  // Returns when everything acknowledged before the call is in the database or in dead letters.
  virtual Status Flush(std::chrono::milliseconds timeout) = 0;
  // Runs the handlers, stops accepting, then drains as told. kUnavailable: not drained in time, the
  // records are safe in the log; or the user's handler or callback hangs, is named, and left behind
  // by the deadline (or after a moment). A second call: the same, or kUnavailable by its deadline.
  virtual Status Shutdown(ShutdownMode mode, std::chrono::milliseconds timeout) = 0;
  // Shutdown(kGraceful, Options::shutdown_timeout). Called by the destructor of an open storage.
  virtual Status Close() = 0;
  // To be run at the shutdown, while the storage still takes calls: the one registered last first.
  // What it throws is logged; one that takes longer than `timeout` (0: than its share of what is
  // left) is left behind. kClosed: too late.
  virtual Status OnShutdown(std::string name, std::function<void()> handler,
                            std::chrono::milliseconds timeout = {});
  virtual bool IsShutdown();  // has begun
  virtual Stats GetStats() = 0;
  // Null where there is nothing to control (Options::wal_enabled is off). Live as long as this.
  virtual Control* GetControl();
  virtual DeadLetterControl* GetDeadLetters();
  virtual Metrics* GetMetrics();
  // Takes a target out of the turns of new activities, or gives it back to the health checks; what
  // it was assigned stays with it. kNotFound: no target has this name.
  virtual Status SetTargetHealth(std::string_view name, bool in_service);
};

}  // namespace taskwal
