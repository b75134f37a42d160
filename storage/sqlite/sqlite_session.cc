#include "storage/sqlite/sqlite_session.h"

#include <algorithm>
#include <stdexcept>

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

// The first statement of every transaction that writes rows: it takes effect only where this log is
// still ours and exactly at the position the batch begins behind.
constexpr std::string_view kMoveWatermark =
    "UPDATE wal_checkpoints SET lsn = ?1, stamp = max(stamp, ?2), updated_at = ?3 "
    "WHERE wal_id = ?4 AND partition = ?5 AND epoch = ?6 AND lsn = ?7";

constexpr std::string_view kRaiseStamp =
    "UPDATE wal_checkpoints SET stamp = max(stamp, ?1) WHERE wal_id = ?2 AND partition = 0";

// In each: whether the operation comes after what the row holds. Within one log the LSN decides,
// between logs the higher (stamp, wal_id).
constexpr std::string_view kInsertTask =
    "INSERT INTO dag_tasks (id, dag_id, node_id, current_node_id, sub_dag_path, processing_state, "
    "payload, status, error, retry_count, max_retries, priority, created_at, updated_at, "
    "started_at, completed_at, wal_id, wal_lsn, wal_stamp) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) "
    "ON CONFLICT (id) DO UPDATE SET dag_id = excluded.dag_id, node_id = excluded.node_id, "
    "current_node_id = excluded.current_node_id, sub_dag_path = excluded.sub_dag_path, "
    "processing_state = excluded.processing_state, payload = excluded.payload, "
    "status = excluded.status, error = excluded.error, retry_count = excluded.retry_count, "
    "max_retries = excluded.max_retries, priority = excluded.priority, "
    "created_at = CASE WHEN ?20 THEN created_at ELSE excluded.created_at END, "
    "updated_at = excluded.updated_at, started_at = excluded.started_at, "
    "completed_at = excluded.completed_at, wal_id = excluded.wal_id, wal_lsn = excluded.wal_lsn, "
    "wal_stamp = excluded.wal_stamp "
    "WHERE CASE WHEN wal_id = excluded.wal_id THEN wal_lsn < excluded.wal_lsn "
    "ELSE (wal_stamp, wal_id) < (excluded.wal_stamp, excluded.wal_id) END";

constexpr std::string_view kPatchTask =
    "UPDATE dag_tasks SET status = ?1, error = ?2, updated_at = ?3, "
    "started_at = CASE ?4 WHEN 0 THEN started_at WHEN 1 THEN ?5 END, "
    "completed_at = CASE ?6 WHEN 0 THEN completed_at WHEN 1 THEN ?7 END, "
    "wal_id = ?8, wal_lsn = ?9, wal_stamp = ?10 WHERE id = ?11 AND "
    "CASE WHEN wal_id = ?8 THEN wal_lsn < ?9 ELSE (wal_stamp, wal_id) < (?10, ?8) END";
static_assert(static_cast<int>(TimeChange::Kind::kKeep) == 0 &&
              static_cast<int>(TimeChange::Kind::kSet) == 1);

constexpr std::string_view kDeleteTask =
    "DELETE FROM dag_tasks WHERE id = ?1 AND "
    "CASE WHEN wal_id = ?2 THEN wal_lsn < ?3 ELSE (wal_stamp, wal_id) < (?4, ?2) END";

constexpr std::string_view kDeleteDag =
    "DELETE FROM dag_tasks WHERE dag_id = ?1 AND "
    "CASE WHEN wal_id = ?2 THEN wal_lsn < ?3 ELSE (wal_stamp, wal_id) < (?4, ?2) END";

constexpr std::string_view kInsertActivity =
    "INSERT INTO dag_task_activity_logs (id, task_id, dag_id, node_id, action, message, data, "
    "level, created_at, priority) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) "
    "ON CONFLICT (id) DO NOTHING";

void InsertTask(SqliteStatement& insert, const TaskChange& change, const std::string& wal_id) {
  const Task& task = change.task;
  const bool keep = change.kind == TaskChange::Kind::kPut && change.keep_created_at;
  insert.Start().Bind(change.id).Bind(task.dag_id).Bind(task.node_id).Bind(task.current_node_id);
  insert.Bind(task.sub_dag_path).Bind(task.processing_state).Bind(task.payload).Bind(task.status);
  insert.Bind(task.error).Bind(std::int64_t{task.retry_count}).Bind(std::int64_t{task.max_retries});
  insert.Bind(std::int64_t{task.priority}).Bind(task.created_at).Bind(task.updated_at);
  insert.Bind(task.started_at).Bind(task.completed_at).Bind(wal_id).Bind(change.origin.lsn);
  insert.Bind(change.origin.stamp).Bind(std::int64_t{keep}).Run();
}

void BindChange(SqliteStatement& patch, const TimeChange& change) {
  patch.Bind(static_cast<std::int64_t>(change.kind)).Bind(change.value);
}

void PatchTask(SqliteStatement& update, const TaskChange& change, const std::string& wal_id) {
  const StatusPatch& patch = change.patch;
  update.Start().Bind(patch.status).Bind(patch.error).Bind(patch.updated_at);
  BindChange(update, patch.started_at);
  BindChange(update, patch.completed_at);
  update.Bind(wal_id).Bind(change.origin.lsn).Bind(change.origin.stamp).Bind(change.id).Run();
}

}  // namespace

Result<ApplyResult> SqliteSession::Apply(const Batch& batch) {
  const std::string wal_id = batch.wal_id.ToString();
  return connection_->Run("write a batch", [&]() -> Result<ApplyResult> {
    connection_->Begin();
    ApplyResult result;
    if (!MoveWatermarks(batch, wal_id)) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kWatermarkMoved;
      return result;
    }
    DeleteDags(batch, wal_id);
    ChangeTasks(batch, wal_id);
    result.duplicates = InsertActivities(batch);
    TASKWAL_TRY(connection_->Commit());
    return result;
  });
}

bool SqliteSession::MoveWatermarks(const Batch& batch, const std::string& wal_id) {
  const std::uint64_t stamp = HighestStampOf(batch);
  if (batch.moves.empty()) {
    connection_->Cached(kRaiseStamp).Start().Bind(stamp).Bind(wal_id).Run();
    return true;
  }
  const Time now = Clock::Real().WallNow();
  SqliteStatement& update = connection_->Cached(kMoveWatermark);
  for (const WatermarkMove& move : batch.moves) {
    update.Start().Bind(move.to).Bind(stamp).Bind(now).Bind(wal_id);
    update.Bind(std::uint64_t{move.partition}).Bind(batch.epoch).Bind(move.expected);
    if (update.Run() == 0) return false;
  }
  return true;
}

void SqliteSession::DeleteDags(const Batch& batch, const std::string& wal_id) {
  for (const auto& [dag_id, origin] : batch.dag_deletes) {
    SqliteStatement& erase = connection_->Cached(kDeleteDag).Start();
    erase.Bind(dag_id).Bind(wal_id).Bind(origin.lsn).Bind(origin.stamp).Run();
  }
}

void SqliteSession::ChangeTasks(const Batch& batch, const std::string& wal_id) {
  if (batch.tasks.empty()) return;
  static const std::string kInsertOpenTask = std::string(kInsertTask) + AndIsOpen("");
  static const std::string kPatchOpenTask = std::string(kPatchTask) + AndIsOpen("");
  SqliteStatement& insert = connection_->Cached(kInsertTask);
  SqliteStatement& update = connection_->Cached(kPatchTask);
  SqliteStatement& erase = connection_->Cached(kDeleteTask);
  for (const TaskChange& change : batch.tasks) {
    switch (change.kind) {
      case TaskChange::Kind::kPut:
      case TaskChange::Kind::kReplace:
        InsertTask(change.open_only ? connection_->Cached(kInsertOpenTask) : insert, change,
                   wal_id);
        break;
      case TaskChange::Kind::kPatch:
        PatchTask(change.open_only ? connection_->Cached(kPatchOpenTask) : update, change, wal_id);
        break;
      case TaskChange::Kind::kDelete:
        erase.Start().Bind(change.id).Bind(wal_id).Bind(change.origin.lsn);
        erase.Bind(change.origin.stamp).Run();
        break;
    }
  }
}

// Inserted idempotently whether or not the batch asks for it: SQLite looks for the id in either
// case.
std::uint64_t SqliteSession::InsertActivities(const Batch& batch) {
  if (batch.activities.empty()) return 0;
  std::uint64_t duplicates = 0;
  SqliteStatement& insert = connection_->Cached(kInsertActivity);
  for (const auto& [activity, lsn] : batch.activities) {
    insert.Start().Bind(activity.id).Bind(activity.task_id).Bind(activity.dag_id);
    insert.Bind(activity.node_id).Bind(activity.action).Bind(activity.message).Bind(activity.data);
    insert.Bind(activity.level).Bind(activity.created_at).Bind(std::int64_t{activity.priority});
    if (insert.Run() == 0) ++duplicates;
  }
  return duplicates;
}

LogRow SqliteSession::SelectLog(const std::string& wal_id) {
  LogRow row;
  SqliteStatement& select = connection_->Cached(
      "SELECT partition, lsn, epoch FROM wal_checkpoints WHERE wal_id = ? ORDER BY partition");
  select.Start().Bind(wal_id);
  while (select.Step()) {
    if (select.Int() != static_cast<std::int64_t>(row.watermarks.size())) {
      throw std::runtime_error("wal_checkpoints lacks a partition of log " + wal_id);
    }
    row.watermarks.push_back(static_cast<Lsn>(select.Int()));
    row.epoch = std::max(row.epoch, static_cast<std::uint64_t>(select.Int()));
  }
  select.Reset();
  return row;
}

void SqliteSession::InsertLog(const std::string& wal_id, std::uint64_t epoch,
                              std::span<const Lsn> start) {
  const Time now = Clock::Real().WallNow();
  SqliteStatement& insert = connection_->Cached(
      "INSERT INTO wal_checkpoints (wal_id, partition, lsn, epoch, updated_at) "
      "VALUES (?, ?, ?, ?, ?)");
  for (std::size_t partition = 0; partition < start.size(); ++partition) {
    insert.Start().Bind(wal_id).Bind(std::uint64_t{partition}).Bind(start[partition]);
    insert.Bind(epoch).Bind(now).Run();
  }
}

Result<LogRow> SqliteSession::ReadLog(const Uuid& wal_id) {
  return connection_->Run("read the watermarks",
                          [&]() -> Result<LogRow> { return SelectLog(wal_id.ToString()); });
}

Result<LogRow> SqliteSession::RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                          std::span<const Lsn> start) {
  const std::string id = wal_id.ToString();
  return connection_->Run("register the log", [&]() -> Result<LogRow> {
    connection_->Begin();
    LogRow row = SelectLog(id);
    if (row.epoch > epoch) return LaterOpener(connection_->name(), id, row.epoch, epoch);
    if (row.watermarks.empty()) {
      InsertLog(id, epoch, start);
      row.watermarks.assign(start.begin(), start.end());
    } else {
      SqliteStatement& raise =
          connection_->Cached("UPDATE wal_checkpoints SET epoch = ? WHERE wal_id = ?");
      raise.Start().Bind(epoch).Bind(id).Run();
    }
    row.epoch = epoch;
    TASKWAL_TRY(connection_->Commit());
    return row;
  });
}

Status SqliteSession::Ping() {
  return connection_->Run("ping", [&]() -> Status {
    // Reads the file, which `SELECT 1` alone would not.
    connection_->Cached("SELECT max(version) FROM taskwal_schema").Start().Step();
    return Status::Ok();
  });
}

}  // namespace taskwal::storage
