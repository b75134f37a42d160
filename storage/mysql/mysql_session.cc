#include "storage/mysql/mysql_session.h"

#include <algorithm>
#include <stdexcept>

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/mysql/mysql_writes.h"
#include "storage/schema.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

// Where one row was older than the stored one, others will be: each such batch is written twice.
constexpr std::uint32_t kComparedBatches = 100;

// The first statement of every transaction that writes rows: it takes effect only where this log is
// still ours and exactly at the position the batch begins behind. One statement for all partitions;
// the conditions name its primary keys, so it locks no other worker's.
std::string MoveWatermarkSql(const Batch& batch, const std::string& wal_id,
                             std::string_view also) {
  std::string partitions, expected, to;
  for (const WatermarkMove& move : batch.moves) {
    const std::string partition = std::to_string(move.partition);
    const std::string when = " WHEN " + partition + " THEN ";
    partitions += (partitions.empty() ? "" : ", ") + partition;
    expected += when + std::to_string(move.expected);
    to += when + std::to_string(move.to);
  }
  return "UPDATE wal_checkpoints SET lsn = CASE `partition`" + to +
         " END, stamp = GREATEST(stamp, " + std::to_string(HighestStampOf(batch)) +
         "), updated_at = '" + MysqlTimeText(Clock::Real().WallNow()) + "' WHERE wal_id = '" +
         wal_id + "' AND `partition` IN (" + partitions +
         ") AND epoch = " + std::to_string(batch.epoch) + " AND lsn = CASE `partition`" + expected +
         " END" + std::string(also);
}

// Without its key a table takes each row as a new one, and nothing says so. These ask no row, but
// fail where the key is not there, and keep it there until the transaction ends.
constexpr std::string_view kWhileKeysStand =
    " AND NOT EXISTS (SELECT 1 FROM dag_tasks FORCE INDEX (PRIMARY) WHERE FALSE)"
    " AND NOT EXISTS (SELECT 1 FROM dag_task_activity_logs FORCE INDEX (PRIMARY) WHERE FALSE)";

// A character set is named where it has not every character. A default of NULL is told as NULL by
// MySQL and as 'NULL' by MariaDB.
constexpr const char* kOurColumns =
    "SELECT table_name, column_name, CONCAT(column_type, CASE WHEN character_set_name NOT IN "
    "('utf8mb4', 'utf16', 'utf16le', 'utf32', 'gb18030') "
    "THEN CONCAT(' character set ', character_set_name) "
    "ELSE '' END), (is_nullable = 'NO' AND column_default IS NULL "
    "AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%') "
    "FROM information_schema.columns WHERE table_schema = DATABASE() "
    "AND table_name IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints')";

// The first so many bytes of a column are not all of it. What a view rests on is not seen here.
constexpr const char* kOurKeys =
    "SELECT table_name, GROUP_CONCAT(column_name ORDER BY column_name), 'table' "
    "FROM information_schema.statistics WHERE table_schema = DATABASE() "
    "AND table_name IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints') "
    "AND index_name = 'PRIMARY' GROUP BY table_name HAVING COUNT(sub_part) = 0 "
    "UNION ALL SELECT table_name, IF(table_name = 'wal_checkpoints', 'partition,wal_id', 'id'), "
    "'view' "
    "FROM information_schema.views WHERE table_schema = DATABASE() "
    "AND table_name IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints')";

}  // namespace

Result<ApplyResult> MysqlSession::Apply(const Batch& batch) {
  BatchPart part = BatchPart::kPosition;
  auto result = Write(batch, &part);
  if (result.status().code() != StatusCode::kRejected) return result;
  // Before anybody looks for a row to blame.
  TASKWAL_ASSIGN(const std::string fault, FindSchemaFault());
  if (!fault.empty()) return RefusedBySchema(fault, result.status());
  if (part == BatchPart::kPosition) return RefusedByCheckpoints(result.status());
  return result;
}

Result<std::string> MysqlSession::FindSchemaFault() {
  return connection_->RunRepeatedly("check the schema", [&]() -> Result<std::string> {
    std::vector<FoundColumn> found;
    MysqlResult rows = connection_->Query(kOurColumns);
    while (rows.Step()) {
      std::string table = rows.Text(), name = rows.Text(), type = rows.Text();
      found.push_back({std::move(table), std::move(name), std::move(type), rows.Int() == 1});
    }
    std::string fault = SchemaFault(DatabaseKind::kMysql, found);
    if (!fault.empty() || !connection_->capabilities().key_hints) return fault;
    std::vector<FoundKey> found_keys;
    has_views_ = false;
    MysqlResult keys = connection_->Query(kOurKeys);
    while (keys.Step()) {
      std::string table = keys.Text(), columns = keys.Text();
      has_views_ = has_views_ || keys.Text() == "view";
      found_keys.push_back({std::move(table), std::move(columns)});
    }
    return KeyFault(found_keys);
  });
}

Result<ApplyResult> MysqlSession::Write(const Batch& batch, BatchPart* part) {
  const std::string wal_id = batch.wal_id.ToString();
  const auto time = TimeOf(batch, connection_->timeout());
  return connection_->RunWithin(time, "write a batch", [&]() -> Result<ApplyResult> {
    if (compared_batches_left_ > 0) {
      --compared_batches_left_;
      return WriteOnce(batch, wal_id, false, part);
    }
    try {
      return WriteOnce(batch, wal_id, true, part);
    } catch (const MysqlError& e) {
      // Another log's row is newer, or a retried letter's. Or it is poison: then it is so again.
      if (e.number() != kMysqlNotNull) throw;
    }
    connection_->Rollback();
    compared_batches_left_ = kComparedBatches;
    return WriteOnce(batch, wal_id, false, part);
  });
}

Result<ApplyResult> MysqlSession::WriteOnce(const Batch& batch, const std::string& wal_id,
                                            bool each_newer, BatchPart* part) {
  *part = BatchPart::kPosition;
  connection_->Begin();
  // Moving many watermarks takes the server about as long as the rows of a small batch take us.
  BatchWrites writes(*connection_, batch, wal_id);
  if (!MoveWatermarks(batch, wal_id, [&] { writes.LayOut(each_newer); })) {
    connection_->Rollback();
    ApplyResult result;
    result.outcome = ApplyResult::Outcome::kWatermarkMoved;
    return result;
  }
  *part = BatchPart::kRows;
  return WriteRows(batch, &writes);
}

Result<ApplyResult> MysqlSession::WriteRows(const Batch& batch, BatchWrites* writes) {
  writes->DeleteDags();
  writes->WriteTasks();
  ApplyResult result;
  try {
    result.duplicates = writes->InsertActivities();
  } catch (const MysqlError& e) {
    // In the idempotent form it is no id that collides, but some key that somebody added: poison.
    if (e.number() != kMysqlDuplicateKey || batch.idempotent) throw;
    connection_->Rollback();
    result.outcome = ApplyResult::Outcome::kRepeatIdempotent;
    return result;
  }
  TASKWAL_TRY(connection_->Commit());
  return result;
}

bool MysqlSession::MoveWatermarks(const Batch& batch, const std::string& wal_id,
                                  const std::function<void()>& meanwhile) {
  if (!batch.moves.empty()) {
    const bool can_hint = connection_->capabilities().key_hints && !has_views_;
    const std::string_view also = can_hint ? kWhileKeysStand : "";
    return connection_->Execute(MoveWatermarkSql(batch, wal_id, also), meanwhile) ==
           batch.moves.size();
  }
  const std::uint64_t stamp = HighestStampOf(batch);
  if (stamp == 0) {
    meanwhile();
    return true;
  }
  connection_->Execute("UPDATE wal_checkpoints SET stamp = GREATEST(stamp, " +
                       std::to_string(stamp) + ") WHERE wal_id = '" + wal_id +
                       "' AND `partition` = 0",
                       meanwhile);
  return true;
}

LogRow MysqlSession::SelectLog(const std::string& wal_id, std::string_view locking) {
  LogRow row;
  MysqlResult stored = connection_->Query(
      "SELECT `partition`, lsn, epoch FROM wal_checkpoints WHERE wal_id = '" + wal_id +
      "' ORDER BY `partition`" + std::string(locking));
  while (stored.Step()) {
    if (stored.Int() != static_cast<std::int64_t>(row.watermarks.size())) {
      throw std::runtime_error(LacksPartition(wal_id));
    }
    row.watermarks.push_back(static_cast<Lsn>(stored.Int()));
    row.epoch = std::max(row.epoch, static_cast<std::uint64_t>(stored.Int()));
  }
  return row;
}

// False when somebody else made the log known in the same moment.
bool MysqlSession::InsertLog(const std::string& wal_id, std::uint64_t epoch,
                             std::span<const Lsn> start) {
  const std::string rest = std::to_string(epoch) + ", '" +
                           MysqlTimeText(Clock::Real().WallNow()) + "')";
  std::string sql = "INSERT INTO wal_checkpoints (wal_id, `partition`, lsn, epoch, updated_at) "
                    "VALUES ";
  for (std::size_t partition = 0; partition < start.size(); ++partition) {
    if (partition > 0) sql += ", ";
    sql += "('" + wal_id + "', " + std::to_string(partition) + ", " +
           std::to_string(start[partition]) + ", " + rest;
  }
  try {
    connection_->Execute(sql);
    return true;
  } catch (const MysqlError& e) {
    if (e.number() != kMysqlDuplicateKey) throw;
    return false;
  }
}

Result<LogRow> MysqlSession::ReadLog(const Uuid& wal_id) {
  auto row = connection_->RunRepeatedly("read the watermarks", [&]() -> Result<LogRow> {
    return SelectLog(wal_id.ToString(), "");
  });
  // Where keys cannot be asked for, what is said of columns is no reason to wait either.
  if (!row.ok() || !connection_->capabilities().key_hints) return row;
  TASKWAL_ASSIGN(const std::string fault, FindSchemaFault());
  return fault.empty() ? std::move(row) : WrongSchema(connection_->name(), fault);
}

Result<LogRow> MysqlSession::RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                         std::span<const Lsn> start) {
  const std::string id = wal_id.ToString();
  auto row = connection_->RunRepeatedly("register the log", [&]() -> Result<LogRow> {
    connection_->Begin();
    LogRow stored = SelectLog(id, " FOR UPDATE");
    if (stored.epoch > epoch) return LaterOpener(connection_->name(), id, stored.epoch, epoch);
    if (stored.watermarks.empty()) {
      if (!InsertLog(id, epoch, start)) {
        return Status::Unavailable(connection_->name() + ": another opener registers this log");
      }
      stored.watermarks.assign(start.begin(), start.end());
    } else {
      connection_->Execute("UPDATE wal_checkpoints SET epoch = " + std::to_string(epoch) +
                           " WHERE wal_id = '" + id + "'");
    }
    stored.epoch = epoch;
    TASKWAL_TRY(connection_->Commit());
    return stored;
  });
  // No row of a log's is concerned: the table is not as it should be.
  if (row.status().code() == StatusCode::kRejected) return RefusedByCheckpoints(row.status());
  return row;
}

bool MysqlSession::HasGivenWay() const { return connection_->has_given_way(); }

Status MysqlSession::Ping() {
  return connection_->RunRepeatedly("ping", [&]() -> Status {
    // Of our tables, so that a missing right shows.
    MysqlResult rows = connection_->Query(kSelectDbId);
    return CheckMet(connection_->name(), db_id_, rows.Step() ? rows.Id() : Uuid());
  });
}

}  // namespace taskwal::storage
