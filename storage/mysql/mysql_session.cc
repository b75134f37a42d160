#include "storage/mysql/mysql_session.h"

#include <algorithm>
#include <stdexcept>

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/mysql/mysql_writes.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

// The first statement of every transaction that writes rows: it takes effect only where this log is
// still ours and exactly at the position the batch begins behind. One statement for all partitions;
// the conditions name its primary keys, so it locks no other worker's.
std::string MoveWatermarkSql(const Batch& batch, const std::string& wal_id) {
  std::string to, where;
  for (const WatermarkMove& move : batch.moves) {
    const std::string partition = std::to_string(move.partition);
    to += " WHEN " + partition + " THEN " + std::to_string(move.to);
    if (!where.empty()) where += " OR ";
    where += "(wal_id = '" + wal_id + "' AND `partition` = " + partition +
             " AND lsn = " + std::to_string(move.expected) + ")";
  }
  return "UPDATE wal_checkpoints SET lsn = CASE `partition`" + to +
         " END, stamp = GREATEST(stamp, " + std::to_string(HighestStampOf(batch)) +
         "), updated_at = '" + MysqlTimeText(Clock::Real().WallNow()) +
         "' WHERE epoch = " + std::to_string(batch.epoch) + " AND (" + where + ")";
}

}  // namespace

Result<ApplyResult> MysqlSession::Apply(const Batch& batch) {
  const std::string wal_id = batch.wal_id.ToString();
  return connection_->Run("write a batch", [&]() -> Result<ApplyResult> {
    connection_->Begin();
    ApplyResult result;
    if (!MoveWatermarks(batch, wal_id)) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kWatermarkMoved;
      return result;
    }
    return WriteRows(batch, wal_id);
  });
}

Result<ApplyResult> MysqlSession::WriteRows(const Batch& batch, const std::string& wal_id) {
  DeleteDags(*connection_, batch, wal_id);
  WriteTasks(*connection_, batch, wal_id);
  ApplyResult result;
  try {
    result.duplicates = InsertActivities(*connection_, batch);
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

bool MysqlSession::MoveWatermarks(const Batch& batch, const std::string& wal_id) {
  if (!batch.moves.empty()) {
    return connection_->Execute(MoveWatermarkSql(batch, wal_id)) == batch.moves.size();
  }
  connection_->Execute("UPDATE wal_checkpoints SET stamp = GREATEST(stamp, " +
                       std::to_string(HighestStampOf(batch)) + ") WHERE wal_id = '" + wal_id +
                       "' AND `partition` = 0");
  return true;
}

LogRow MysqlSession::SelectLog(const std::string& wal_id, std::string_view locking) {
  LogRow row;
  MysqlResult stored = connection_->Query(
      "SELECT `partition`, lsn, epoch FROM wal_checkpoints WHERE wal_id = '" + wal_id +
      "' ORDER BY `partition`" + std::string(locking));
  while (stored.Step()) {
    if (stored.Int() != static_cast<std::int64_t>(row.watermarks.size())) {
      throw std::runtime_error("wal_checkpoints lacks a partition of log " + wal_id);
    }
    row.watermarks.push_back(static_cast<Lsn>(stored.Int()));
    row.epoch = std::max(row.epoch, static_cast<std::uint64_t>(stored.Int()));
  }
  return row;
}

void MysqlSession::InsertLog(const std::string& wal_id, std::uint64_t epoch,
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
  connection_->Execute(sql);
}

Result<LogRow> MysqlSession::ReadLog(const Uuid& wal_id) {
  return connection_->Run("read the watermarks",
                          [&]() -> Result<LogRow> { return SelectLog(wal_id.ToString(), ""); });
}

Result<LogRow> MysqlSession::RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                         std::span<const Lsn> start) {
  const std::string id = wal_id.ToString();
  auto row = connection_->Run("register the log", [&]() -> Result<LogRow> {
    connection_->Begin();
    LogRow stored = SelectLog(id, " FOR UPDATE");
    if (stored.epoch > epoch) return LaterOpener(connection_->name(), id, stored.epoch, epoch);
    if (stored.watermarks.empty()) {
      InsertLog(id, epoch, start);
      stored.watermarks.assign(start.begin(), start.end());
    } else {
      connection_->Execute("UPDATE wal_checkpoints SET epoch = " + std::to_string(epoch) +
                           " WHERE wal_id = '" + id + "'");
    }
    stored.epoch = epoch;
    TASKWAL_TRY(connection_->Commit());
    return stored;
  });
  // Somebody else registered it in the same moment: it is looked at again.
  if (row.status().code() == StatusCode::kRejected) {
    return Status::Unavailable(row.status().message());
  }
  return row;
}

Status MysqlSession::Ping() {
  return connection_->Run("ping", [&]() -> Status {
    // Of our tables, so that a missing right shows.
    connection_->Query("SELECT max(version) FROM taskwal_schema");
    return Status::Ok();
  });
}

}  // namespace taskwal::storage
