#include "storage/postgres/postgres_session.h"

#include <algorithm>
#include <pqxx/except>
#include <stdexcept>

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/postgres/postgres_bulk.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

// The first statement of every transaction that writes rows: it takes effect only where this log is
// still ours and exactly at the position the batch begins behind. It waits for a transaction of
// ours whose connection was cut and which may yet be committed.
constexpr const char* kMoveWatermarks =
    "UPDATE wal_checkpoints AS c SET lsn = m.lsn, stamp = greatest(c.stamp, $5::bigint), "
    "updated_at = $6::timestamptz FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) "
    "AS m (partition, expected, lsn) WHERE c.wal_id = $4::uuid AND c.partition = m.partition "
    "AND c.epoch = $7::bigint AND c.lsn = m.expected";

constexpr const char* kRaiseStamp =
    "UPDATE wal_checkpoints SET stamp = greatest(stamp, $2::bigint) "
    "WHERE wal_id = $1::uuid AND partition = 0";

constexpr const char* kDeleteDag =
    "DELETE FROM dag_tasks WHERE dag_id = $1::text AND CASE WHEN wal_id = $2::uuid "
    "THEN wal_lsn < $3::bigint ELSE (wal_stamp, wal_id) < ($4::bigint, $2::uuid) END";

}  // namespace

Result<ApplyResult> PostgresSession::Apply(const Batch& batch) {
  return connection_->Run("write a batch", [&]() -> Result<ApplyResult> {
    ApplyResult result;
    connection_->Begin();
    if (!MoveWatermarks(batch)) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kWatermarkMoved;
      return result;
    }
    DeleteDags(batch);
    ChangeTasks(batch);
    const std::optional<std::uint64_t> duplicates = InsertActivities(batch);
    if (!duplicates) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kRepeatIdempotent;
      return result;
    }
    result.duplicates = *duplicates;
    connection_->Commit();
    return result;
  });
}

bool PostgresSession::MoveWatermarks(const Batch& batch) {
  const std::uint64_t stamp = HighestStampOf(batch);
  PostgresParams params;
  if (batch.moves.empty()) {
    connection_->Execute(kRaiseStamp, params.Add(batch.wal_id).Add(stamp));
    return true;
  }
  const auto number = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  params.AddArray(batch.moves, [&](const WatermarkMove& m) { return number(m.partition); });
  params.AddArray(batch.moves, [&](const WatermarkMove& m) { return number(m.expected); });
  params.AddArray(batch.moves, [&](const WatermarkMove& m) { return number(m.to); });
  params.Add(batch.wal_id).Add(stamp).Add(Clock::Real().WallNow()).Add(batch.epoch);
  return connection_->Execute(kMoveWatermarks, params) == batch.moves.size();
}

void PostgresSession::DeleteDags(const Batch& batch) {
  for (const auto& [dag_id, origin] : batch.dag_deletes) {
    PostgresParams params;
    params.Add(dag_id).Add(batch.wal_id).Add(origin.lsn).Add(origin.stamp);
    connection_->Execute(kDeleteDag, params);
  }
}

void PostgresSession::ChangeTasks(const Batch& batch) {
  for (const auto turn : TurnsOf(batch)) {
    for (const bool open_only : {false, true}) ChangeTasks(batch.wal_id, turn, open_only);
  }
}

// One statement for each kind of change. In a turn a task is in one of them only, so their order
// among themselves does not matter.
void PostgresSession::ChangeTasks(const Uuid& wal_id, std::span<const TaskChange> changes,
                                  bool open_only) {
  TaskRows keeping, replacing, patches, deletes;
  for (const TaskChange& change : changes) {
    if (change.open_only != open_only) continue;
    switch (change.kind) {
      case TaskChange::Kind::kPut:
        (change.keep_created_at ? keeping : replacing).push_back(&change);
        break;
      case TaskChange::Kind::kReplace: replacing.push_back(&change); break;
      case TaskChange::Kind::kPatch: patches.push_back(&change); break;
      case TaskChange::Kind::kDelete: deletes.push_back(&change); break;
    }
  }
  if (!keeping.empty()) PutTasks(*connection_, wal_id, keeping, true);
  if (!replacing.empty()) PutTasks(*connection_, wal_id, replacing, false);
  if (!patches.empty()) PatchTasks(*connection_, wal_id, patches);
  if (!deletes.empty()) storage::DeleteTasks(*connection_, wal_id, deletes);
}

std::optional<std::uint64_t> PostgresSession::InsertActivities(const Batch& batch) {
  if (batch.activities.empty()) return 0;
  if (!batch.idempotent && features_.has_copy) {
    if (CopyActivities(batch)) return 0;
    return std::nullopt;
  }
  return batch.activities.size() - MergeActivities(*connection_, batch.activities);
}

bool PostgresSession::CopyActivities(const Batch& batch) {
  try {
    storage::CopyActivities(*connection_, batch.activities);
    return true;
  } catch (const pqxx::unique_violation&) {
    return false;
  } catch (const pqxx::feature_not_supported&) {
    // A table with row-level security, or another server: the next attempt goes the other way.
    features_.has_copy = false;
    throw;
  }
}

LogRow PostgresSession::SelectLog(const Uuid& wal_id, std::string_view lock) {
  LogRow row;
  PostgresRows rows = connection_->Query(
      "SELECT partition, lsn, epoch FROM wal_checkpoints WHERE wal_id = $1 ORDER BY partition" +
          std::string(lock),
      {wal_id.ToString()});
  while (rows.Step()) {
    if (rows.Int() != static_cast<std::int64_t>(row.watermarks.size())) {
      throw std::runtime_error("wal_checkpoints lacks a partition of log " + wal_id.ToString());
    }
    row.watermarks.push_back(static_cast<Lsn>(rows.Int()));
    row.epoch = std::max(row.epoch, static_cast<std::uint64_t>(rows.Int()));
  }
  return row;
}

// False when somebody else made the log known in the same moment.
bool PostgresSession::InsertLog(const Uuid& wal_id, std::uint64_t epoch,
                                std::span<const Lsn> start) {
  PostgresParams params;
  params.AddArray(start, [](Lsn lsn) { return static_cast<std::int64_t>(lsn); });
  params.Add(wal_id).Add(epoch).Add(Clock::Real().WallNow());
  return connection_->Execute(
             "INSERT INTO wal_checkpoints (wal_id, partition, lsn, epoch, updated_at) "
             "SELECT $2::uuid, s.number - 1, s.lsn, $3::bigint, $4::timestamptz "
             "FROM unnest($1::bigint[]) WITH ORDINALITY AS s (lsn, number) "
             "ON CONFLICT (wal_id, partition) DO NOTHING",
             params) == start.size();
}

Result<LogRow> PostgresSession::ReadLog(const Uuid& wal_id) {
  return connection_->Run("read the watermarks",
                          [&]() -> Result<LogRow> { return SelectLog(wal_id, ""); });
}

Result<LogRow> PostgresSession::RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                            std::span<const Lsn> start) {
  return connection_->Run("register the log", [&]() -> Result<LogRow> {
    connection_->Begin();
    LogRow row = SelectLog(wal_id, " FOR UPDATE");
    if (row.epoch > epoch) {
      return LaterOpener(connection_->name(), wal_id.ToString(), row.epoch, epoch);
    }
    if (row.watermarks.empty()) {
      if (!InsertLog(wal_id, epoch, start)) {
        return Status::Unavailable(connection_->name() + ": another opener registers this log");
      }
      row.watermarks.assign(start.begin(), start.end());
    } else {
      PostgresParams params;
      connection_->Execute("UPDATE wal_checkpoints SET epoch = $1::bigint WHERE wal_id = $2::uuid",
                           params.Add(epoch).Add(wal_id));
    }
    row.epoch = epoch;
    connection_->Commit();
    return row;
  });
}

Status PostgresSession::Ping() {
  return connection_->Run("ping", [&]() -> Status {
    connection_->Query("SELECT max(version) FROM taskwal_schema");
    return Status::Ok();
  });
}

}  // namespace taskwal::storage
