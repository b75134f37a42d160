#include "storage/postgres/postgres_session.h"

#include <algorithm>
#include <pqxx/except>
#include <stdexcept>

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/postgres/postgres_bulk.h"
#include "storage/schema.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

// The first statement of every transaction that writes rows: it takes effect only where this log is
// still ours and exactly at the position the batch begins behind. It waits for a transaction of
// ours whose connection was cut and which may yet be committed. Looking up the few partitions in
// the arrays takes half the time of a join with them.
constexpr const char* kMoveWatermarks =
    "UPDATE wal_checkpoints SET lsn = ($3::bigint[])[array_position($1::bigint[], "
    "partition::bigint)], stamp = greatest(stamp, $5::bigint), updated_at = $6::timestamptz "
    "WHERE wal_id = $4::uuid AND partition = ANY ($1::bigint[]) AND epoch = $7::bigint "
    "AND lsn = ($2::bigint[])[array_position($1::bigint[], partition::bigint)]";

constexpr const char* kRaiseStamp =
    "UPDATE wal_checkpoints SET stamp = greatest(stamp, $2::bigint) "
    "WHERE wal_id = $1::uuid AND partition = 0";

constexpr const char* kDeleteDag =
    "DELETE FROM dag_tasks WHERE dag_id = $1::text AND CASE WHEN wal_id = $2::uuid "
    "THEN wal_lsn < $3::bigint ELSE (wal_stamp, wal_id) < ($4::bigint, $2::uuid) END";

constexpr const char* kEncoding =
    "SELECT coalesce((SELECT setting FROM pg_settings WHERE name = 'server_encoding'), '')";

constexpr const char* kOurColumns =
    "SELECT c.relname, a.attname, CASE t.typtype WHEN 'd' THEN "
    "format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END, "
    "(a.attnotnull AND NOT a.atthasdef AND a.attidentity = '')::int "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
    "JOIN pg_type t ON t.oid = a.atttypid "
    "WHERE c.relname IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints') "
    "AND pg_table_is_visible(c.oid) AND a.attnum > 0 AND NOT a.attisdropped";

// Those that ON CONFLICT can go by: of all rows, of columns alone, and checked at once. What a view
// rests on is not seen here.
constexpr const char* kOurKeys =
    "SELECT c.relname, string_agg(a.attname, ',' ORDER BY a.attname) "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a "
    "ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) "
    "WHERE c.relname IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints') "
    "AND pg_table_is_visible(c.oid) AND i.indisunique AND i.indisvalid AND i.indimmediate "
    "AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid, c.relname "
    "UNION ALL SELECT relname, CASE relname WHEN 'wal_checkpoints' THEN 'partition,wal_id' "
    "ELSE 'id' END FROM pg_class WHERE relkind = 'v' AND pg_table_is_visible(oid) "
    "AND relname IN ('dag_tasks', 'dag_task_activity_logs', 'wal_checkpoints')";

}  // namespace

Result<ApplyResult> PostgresSession::Apply(const Batch& batch) {
  BatchPart part = BatchPart::kPosition;
  auto result = Write(batch, &part);
  if (result.status().code() != StatusCode::kRejected) return result;
  // Before anybody looks for a row to blame.
  TASKWAL_ASSIGN(const std::string fault, FindSchemaFault());
  if (!fault.empty()) return RefusedBySchema(fault, result.status());
  // Other engines may not know SET CONSTRAINTS: a row that they refuse must not wait for that.
  if (part == BatchPart::kCommit && features_.has_key_catalog) {
    TASKWAL_ASSIGN(part, FindPartRefusedAtCommit(batch));
  }
  if (part == BatchPart::kPosition) return RefusedByCheckpoints(result.status());
  return result;
}

// A deferred constraint or trigger is met at the commit, which does not say whose it is: the
// position alone is moved once more, and they are met before it is taken back.
Result<BatchPart> PostgresSession::FindPartRefusedAtCommit(const Batch& batch) {
  const Status met = connection_->Run("check wal_checkpoints", [&]() -> Status {
    connection_->Begin();
    MoveWatermarks(batch);
    connection_->Script("SET CONSTRAINTS ALL IMMEDIATE");
    connection_->Rollback();
    return Status::Ok();
  });
  if (met.code() == StatusCode::kRejected) return BatchPart::kPosition;
  TASKWAL_TRY(met);
  return BatchPart::kRows;
}

Result<std::string> PostgresSession::FindSchemaFault() {
  return connection_->RunRepeatedly("check the schema", [&]() -> Result<std::string> {
    PostgresRows encoding = connection_->Query(kEncoding);
    encoding.Step();
    std::string fault = EncodingFault(encoding.Text());
    if (!fault.empty()) return fault;
    std::vector<FoundColumn> found;
    PostgresRows rows = connection_->Query(kOurColumns);
    while (rows.Step()) {
      std::string table = rows.Text(), name = rows.Text(), type = rows.Text();
      found.push_back({std::move(table), std::move(name), std::move(type), rows.Int() == 1});
    }
    fault = SchemaFault(DatabaseKind::kPostgres, found);
    if (!fault.empty() || !features_.has_key_catalog) return fault;
    std::vector<FoundKey> found_keys;
    PostgresRows keys = connection_->Query(kOurKeys);
    while (keys.Step()) {
      std::string table = keys.Text(), columns = keys.Text();
      found_keys.push_back({std::move(table), std::move(columns)});
    }
    return KeyFault(found_keys);
  });
}

Result<ApplyResult> PostgresSession::Write(const Batch& batch, BatchPart* part) {
  const auto time = TimeOf(batch, connection_->timeout());
  return connection_->RunWithin(time, "write a batch", [&]() -> Result<ApplyResult> {
    ApplyResult result;
    connection_->Begin();
    if (!MoveWatermarks(batch)) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kWatermarkMoved;
      return result;
    }
    *part = BatchPart::kRows;
    DeleteDags(batch);
    ChangeTasks(batch);
    const std::optional<std::uint64_t> duplicates = InsertActivities(batch);
    if (!duplicates) {
      connection_->Rollback();
      result.outcome = ApplyResult::Outcome::kRepeatIdempotent;
      return result;
    }
    result.duplicates = *duplicates;
    *part = BatchPart::kCommit;
    connection_->Commit();
    return result;
  });
}

bool PostgresSession::MoveWatermarks(const Batch& batch) {
  const std::uint64_t stamp = HighestStampOf(batch);
  PostgresParams params;
  if (batch.moves.empty()) {
    if (stamp > 0) connection_->Execute(kRaiseStamp, params.Add(batch.wal_id).Add(stamp));
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
  TaskRows puts, replacing, patches, deletes;
  for (const TaskChange& change : changes) {
    if (change.open_only != open_only) continue;
    switch (change.kind) {
      case TaskChange::Kind::kPut: puts.push_back(&change); break;
      case TaskChange::Kind::kReplace: replacing.push_back(&change); break;
      case TaskChange::Kind::kPatch: patches.push_back(&change); break;
      case TaskChange::Kind::kDelete: deletes.push_back(&change); break;
    }
  }
  if (!puts.empty()) PutTasks(*connection_, wal_id, puts, false);
  if (!replacing.empty()) PutTasks(*connection_, wal_id, replacing, true);
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
      throw std::runtime_error(LacksPartition(wal_id.ToString()));
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
  auto row = connection_->RunRepeatedly("read the watermarks", [&]() -> Result<LogRow> {
    return SelectLog(wal_id, "");
  });
  // Where keys cannot be asked for, what is said of columns is no reason to wait either.
  if (!row.ok() || !features_.has_key_catalog) return row;
  TASKWAL_ASSIGN(const std::string fault, FindSchemaFault());
  return fault.empty() ? std::move(row) : WrongSchema(connection_->name(), fault);
}

Result<LogRow> PostgresSession::RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                            std::span<const Lsn> start) {
  auto registered = connection_->RunRepeatedly("register the log", [&]() -> Result<LogRow> {
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
  // No row of a log's is concerned: the table is not as it should be.
  if (registered.status().code() == StatusCode::kRejected) {
    return RefusedByCheckpoints(registered.status());
  }
  return registered;
}

bool PostgresSession::HasGivenWay() const { return connection_->has_given_way(); }

Status PostgresSession::Ping() {
  return connection_->RunRepeatedly("ping", [&]() -> Status {
    PostgresRows rows = connection_->Query(kSelectDbId);
    return CheckMet(connection_->name(), db_id_, rows.Step() ? rows.Id() : Uuid());
  });
}

}  // namespace taskwal::storage
