// What a database must do. TaskStorage is declared in include/; this is the seam behind it: one
// Backend per target, one Session per connection. Drivers' exceptions end in each backend's
// *_errors.cc.
//
// Backend: any thread. Session: one thread at a time. Every call ends by Options::database_timeout.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "storage/created_rank.h"
#include "storage/operation.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::storage {

using Lsn = std::uint64_t;

// Where a row came from: within one log the LSN decides, between logs the higher (stamp, wal_id).
struct Origin {
  Lsn lsn = 0;
  std::uint64_t stamp = 0;
};

// A field that a status update sets, clears or leaves.
struct TimeChange {
  enum class Kind : std::uint8_t { kKeep, kSet, kClear } kind = Kind::kKeep;
  Time value{};
  friend bool operator==(const TimeChange&, const TimeChange&) = default;
};

struct StatusPatch {
  TaskStatus status{};
  std::string error;
  Time updated_at{};
  TimeChange started_at;
  TimeChange completed_at;
  friend bool operator==(const StatusPatch&, const StatusPatch&) = default;
};

// Operations of one batch on one task, composed to one (pipeline/flush/batch.h).
struct TaskChange {
  enum class Kind : std::uint8_t {
    kPut,       // the whole row; created_at as created_rank decides
    kPatch,     // an existing row only
    kDelete,
    kReplace,   // delete, then put: nothing of an existing row is kept
  };
  Kind kind = Kind::kPut;
  std::string id;
  Origin origin;       // of the last operation composed
  Task task;           // kPut, kReplace: created_at and updated_at are set
  // kPut, kReplace: where task.created_at comes from. It is handed in even where the row is a newer
  // one of another log's.
  std::string created_rank{kUnknownCreatedRank};
  StatusPatch patch;   // kPatch
  // kPut, kPatch: a row whose task has ended is left as it is.
  bool open_only = false;
  // A task's first change in the batch has turn 0; what cannot be composed with it follows in the
  // next.
  std::uint32_t turn = 0;
};

struct WatermarkMove {
  std::uint32_t partition = 0;
  Lsn expected = 0;
  Lsn to = 0;
};

// One transaction: the watermarks by compare-and-set first, then the rows, in this order: dag
// deletes, task changes (sorted by turn, then id), activities (sorted by id).
struct Batch {
  Uuid wal_id;
  std::uint64_t epoch = 0;
  std::vector<WatermarkMove> moves;
  struct DagDelete { std::string dag_id; Origin origin; };
  std::vector<DagDelete> dag_deletes;
  std::vector<TaskChange> tasks;
  struct ActivityRow { Activity activity; Lsn lsn = 0; };
  std::vector<ActivityRow> activities;
  // True: rows may be there already (a replay, or an activity id came twice).
  bool idempotent = false;
  // Applying it ends by then, too: kUnavailable, or kInDoubt where the commit was sent. 0: by
  // Options::database_timeout alone.
  std::chrono::milliseconds time_max{0};
};

struct ApplyResult {
  enum class Outcome : std::uint8_t {
    kApplied,
    kWatermarkMoved,  // nothing was done: a stored watermark or epoch is not the expected one;
                      // ReadLog and decide
    kRepeatIdempotent,  // nothing was done: an activity id is there already; set idempotent
  };
  Outcome outcome = Outcome::kApplied;
  std::uint64_t duplicates = 0;  // activities that were there already
};

struct LogRow {           // wal_checkpoints of one wal_id
  std::uint64_t epoch = 0;
  std::vector<Lsn> watermarks;  // by partition; empty: this database does not know the log
};

class Session {
 public:
  virtual ~Session() = default;

  // --- writing: kUnavailable (retry), kInDoubt (commit sent, no answer: read the watermark),
  // kRejected (a row of the batch can never be taken; nothing was done), kFenced.
  virtual Result<ApplyResult> Apply(const Batch& batch) = 0;
  // Behind an Apply that is kUnavailable: the database answers, and has undone it all for the sake
  // of another transaction (a deadlock, a serialization failure, another node's commit). The same
  // again may well be taken.
  [[nodiscard]] virtual bool HasGivenWay() const { return false; }
  virtual Result<LogRow> ReadLog(const Uuid& wal_id) = 0;
  // Makes the log known (watermarks at `start`, one per partition) or raises its epoch; kFenced
  // when the stored epoch is higher. Durable on return.
  virtual Result<LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                     std::span<const Lsn> start) = 0;
  // That it answers, and is the database that was met by Connect: kUnavailable where another one's
  // tables have come in their place.
  virtual Status Ping() = 0;

  // --- reading
  struct StoredTask { Task task; Uuid wal_id; Origin origin; std::string created_rank; };
  virtual Result<StoredTask> GetTask(std::string_view id) = 0;  // kNotFound
  virtual Result<TaskPage> QueryTasks(const TaskQuery& query) = 0;
  virtual Result<TaskPage> ResumableTasks(const Paging& paging) = 0;
  virtual Result<ActivityPage> QueryActivities(const ActivityQuery& query) = 0;
  virtual Result<StoredCounts> Count() = 0;
  // The highest stamp of any operation on tasks committed here; 0 when there was none.
  virtual Result<std::uint64_t> HighestStamp() = 0;
  // A batch of terminal tasks older than `before`: ids only; then deleted one batch at a time.
  virtual Result<std::vector<std::string>> OldTasks(Time before,
                                                    std::span<const TaskStatus> statuses,
                                                    std::string_view after,
                                                    std::uint32_t limit) = 0;
  // Deletes those still in `statuses` and older than `before`; returns how many. In both, only
  // terminal statuses count; empty means all three.
  virtual Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                            std::span<const TaskStatus> statuses) = 0;
  // At most `limit` rows; returns how many went.
  virtual Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) = 0;
};

struct BackendOptions {
  std::chrono::milliseconds timeout{30000};
  // False (queries): neither the database nor its tables are made or migrated; Connect answers
  // kNotFound where they are missing.
  bool create = true;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // "sqlite", "memory"; and the DSN with its password masked, for messages.
  [[nodiscard]] virtual std::string_view kind() const = 0;
  [[nodiscard]] virtual const std::string& name() const = 0;
  // Connections that may write at once; workers beyond it are not started.
  [[nodiscard]] virtual std::uint32_t writers_max() const = 0;
  // True for memory: its commits count as durable, and it forgets all when the process ends.
  [[nodiscard]] virtual bool is_volatile() const = 0;
  // Connects; checks or migrates the schema at the first connection. All of it has the time of one
  // call, but that libpq counts whole seconds, at least two for each address. kUnavailable: retry;
  // also where another database is there than the one met first, or one without our tables.
  // kInvalidArgument: the database's schema is newer than this program.
  virtual Result<std::unique_ptr<Session>> Connect() = 0;
  // Made with the database, kept in its schema-version table. Known after a first Connect.
  [[nodiscard]] virtual Uuid db_id() const = 0;
};

// A backend for the DSN (storage/dsn.h). kInvalidArgument names the kinds this program has.
Result<std::unique_ptr<Backend>> MakeBackend(std::string_view dsn, const BackendOptions& options);

// Page tokens: opaque text of the last row's (created_at, id).
std::string MakePageToken(Time created_at, std::string_view id);
std::optional<std::pair<Time, std::string>> ParsePageToken(std::string_view token);

}  // namespace taskwal::storage
