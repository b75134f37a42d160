#include "storage/sqlite/sqlite_session.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "base/clock.h"
#include "base/never_destroyed.h"
#include "base/status_macros.h"
#include "storage/schema.h"
#include "storage/sql_text.h"
#include "storage/sqlite/sqlite_batch_rows.h"

namespace taskwal::storage {
namespace {

// The first statement of every transaction that writes rows: it takes effect only where this log is
// still ours and exactly at the position the batch begins behind.
constexpr std::string_view kMoveWatermark =
    "UPDATE wal_checkpoints SET lsn = ?1, stamp = max(stamp, ?2), updated_at = ?3 "
    "WHERE wal_id = ?4 AND partition = ?5 AND epoch = ?6 AND lsn = ?7";

constexpr std::string_view kRaiseStamp =
    "UPDATE wal_checkpoints SET stamp = max(stamp, ?1) WHERE wal_id = ?2 AND partition = 0";

// In each: whether the operation comes after what the row holds, as in InsertTasksSql.
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

constexpr std::string_view kOurColumns =
    "SELECT t.name, c.name, c.type, c.\"notnull\" AND c.dflt_value IS NULL "
    "FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
    "WHERE t.name IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints')";

constexpr std::string_view kOurKeys =
    "SELECT t.name, (SELECT group_concat(c.name) FROM (SELECT coalesce(name, '') AS name "
    "FROM pragma_index_info(i.name) ORDER BY 1) AS c) "
    "FROM sqlite_master AS t, pragma_index_list(t.name) AS i "
    "WHERE t.name IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints') "
    "AND i.\"unique\" AND NOT i.partial";

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

SqliteSession::SqliteSession(std::unique_ptr<SqliteConnection> connection, const Uuid& db_id)
    : new_activities_(ActivityColumns()),
      new_tasks_(TaskColumns()),
      connection_(std::move(connection)),
      db_id_(db_id) {}

Result<std::unique_ptr<Session>> SqliteSession::Make(std::unique_ptr<SqliteConnection> connection,
                                                     const Uuid& db_id) {
  std::unique_ptr<SqliteSession> session(new SqliteSession(std::move(connection), db_id));
  TASKWAL_TRY(session->connection_->Run("prepare for batches", [&] {
    session->connection_->AddTable(kNewActivities, session->new_activities_);
    session->connection_->AddTable(kNewTasks, session->new_tasks_);
    return Status::Ok();
  }));
  return std::unique_ptr<Session>(std::move(session));
}

Result<ApplyResult> SqliteSession::Apply(const Batch& batch) {
  BatchPart part = BatchPart::kPosition;
  auto result = Write(batch, &part);
  if (result.status().code() != StatusCode::kRejected) return result;
  // Before anybody looks for a row to blame.
  TASKWAL_ASSIGN(const std::string fault, FindSchemaFault());
  if (!fault.empty()) return RefusedBySchema(fault, result.status());
  if (part == BatchPart::kPosition) return RefusedByCheckpoints(result.status());
  return result;
}

Result<std::string> SqliteSession::FindSchemaFault() {
  return connection_->Run("check the schema", [&]() -> Result<std::string> {
    std::vector<FoundColumn> found;
    SqliteStatement& rows = connection_->Cached(kOurColumns).Start();
    while (rows.Step()) {
      std::string table = rows.Text(), name = rows.Text(), type = rows.Text();
      found.push_back({std::move(table), std::move(name), std::move(type), rows.Int() == 1});
    }
    std::string fault = SchemaFault(DatabaseKind::kSqlite, found);
    if (!fault.empty()) return fault;
    std::vector<FoundKey> found_keys;
    SqliteStatement& keys = connection_->Cached(kOurKeys).Start();
    while (keys.Step()) {
      std::string table = keys.Text(), columns = keys.Text();
      found_keys.push_back({std::move(table), std::move(columns)});
    }
    return KeyFault(found_keys);
  });
}

Result<ApplyResult> SqliteSession::Write(const Batch& batch, BatchPart* part) {
  const std::string wal_id = batch.wal_id.ToString();
  const auto time = TimeOf(batch, connection_->timeout());
  return connection_->RunWithin(time, "write a batch", [&]() -> Result<ApplyResult> {
    connection_->Begin();
    ApplyResult result;
    if (!MoveWatermarks(batch, wal_id)) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kWatermarkMoved;
      return result;
    }
    *part = BatchPart::kRows;
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
    if (stamp > 0) connection_->Cached(kRaiseStamp).Start().Bind(stamp).Bind(wal_id).Run();
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

// A task has one change in a turn at most: there the order is free.
void SqliteSession::ChangeTasks(const Batch& batch, const std::string& wal_id) {
  const std::span<const TaskChange> all = batch.tasks;
  for (std::size_t from = 0; from < all.size();) {
    const auto rest = all.subspan(from);
    const auto end = std::ranges::find_if(
        rest, [&](const TaskChange& change) { return change.turn != rest.front().turn; });
    const auto turn = rest.first(static_cast<std::size_t>(end - rest.begin()));
    PutTasks(turn, wal_id);
    ChangeRows(turn, wal_id);
    from += turn.size();
  }
}

void SqliteSession::PutTasks(std::span<const TaskChange> changes, const std::string& wal_id) {
  std::array<std::vector<TaskRow>, 4> rows;  // one for each way to put them
  for (const TaskChange& change : changes) {
    const bool is_new = change.kind == TaskChange::Kind::kReplace;
    if (!is_new && change.kind != TaskChange::Kind::kPut) continue;
    rows.at((is_new ? 2 : 0) + (change.open_only ? 1 : 0)).push_back({&change, &wal_id});
  }
  for (std::size_t way = 0; way < rows.size(); ++way) {
    if (rows[way].empty()) continue;
    new_tasks_.Show(rows[way]);
    const bool open_only = way % 2 == 1;
    const std::uint64_t put =
        connection_->Cached(InsertTasksSql(way >= 2, open_only)).Start().Run();
    if (put < rows[way].size()) connection_->Cached(HandInCreatedAtSql(open_only)).Start().Run();
    new_tasks_.Show({});
  }
}

void SqliteSession::ChangeRows(std::span<const TaskChange> changes, const std::string& wal_id) {
  static const std::string& kPatchOpenTask = NeverDestroyed(
      std::string(kPatchTask) + AndIsOpen(""));
  SqliteStatement& update = connection_->Cached(kPatchTask);
  SqliteStatement& erase = connection_->Cached(kDeleteTask);
  for (const TaskChange& change : changes) {
    if (change.kind == TaskChange::Kind::kPatch) {
      PatchTask(change.open_only ? connection_->Cached(kPatchOpenTask) : update, change, wal_id);
    } else if (change.kind == TaskChange::Kind::kDelete) {
      erase.Start().Bind(change.id).Bind(wal_id).Bind(change.origin.lsn);
      erase.Bind(change.origin.stamp).Run();
    }
  }
}

std::uint64_t SqliteSession::InsertActivities(const Batch& batch) {
  if (batch.activities.empty()) return 0;
  new_activities_.Show(batch.activities);
  const std::uint64_t inserted = connection_->Cached(InsertActivitiesSql()).Start().Run();
  new_activities_.Show({});
  return batch.activities.size() - inserted;
}

LogRow SqliteSession::SelectLog(const std::string& wal_id) {
  LogRow row;
  SqliteStatement& select = connection_->Cached(
      "SELECT partition, lsn, epoch FROM wal_checkpoints WHERE wal_id = ? ORDER BY partition");
  select.Start().Bind(wal_id);
  while (select.Step()) {
    if (select.Int() != static_cast<std::int64_t>(row.watermarks.size())) {
      throw std::runtime_error(LacksPartition(wal_id));
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
  auto row = connection_->Run("read the watermarks",
                              [&]() -> Result<LogRow> { return SelectLog(wal_id.ToString()); });
  if (!row.ok()) return row;
  TASKWAL_ASSIGN(const std::string fault, FindSchemaFault());
  return fault.empty() ? std::move(row) : WrongSchema(connection_->name(), fault);
}

Result<LogRow> SqliteSession::RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                          std::span<const Lsn> start) {
  const std::string id = wal_id.ToString();
  auto registered = connection_->Run("register the log", [&]() -> Result<LogRow> {
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
  // No row of a log's is concerned: the table is not as it should be.
  if (registered.status().code() == StatusCode::kRejected) {
    return RefusedByCheckpoints(registered.status());
  }
  return registered;
}

Status SqliteSession::Ping() {
  return connection_->Run("ping", [&]() -> Status {
    // Reads the file, which `SELECT 1` alone would not.
    SqliteStatement& rows = connection_->Cached(kSelectDbId).Start();
    return CheckMet(connection_->name(), db_id_, rows.Step() ? rows.Id() : Uuid());
  });
}

}  // namespace taskwal::storage
