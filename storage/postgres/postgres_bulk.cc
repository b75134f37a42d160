#include "storage/postgres/postgres_bulk.h"

#include "base/never_destroyed.h"
#include "storage/postgres/postgres_copy.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

// JSON travels as text: not every server of this protocol has arrays of JSON.

const std::string& kTakesCreatedAt = NeverDestroyed(
    "$21::bigint = 1 OR excluded.created_rank > CASE WHEN t.wal_id = excluded.wal_id THEN '" +
    std::string(kGivenCreatedRank) + "' ELSE t.created_rank END");

// Within one log the LSN decides, between logs the higher (stamp, wal_id).
// created_at: TakesCreatedAt, where $21 does not say that nothing of the row is kept.
const std::string& kPutTasks = NeverDestroyed(
    "INSERT INTO dag_tasks AS t (id, dag_id, node_id, current_node_id, sub_dag_path, "
    "processing_state, payload, status, error, retry_count, max_retries, priority, created_at, "
    "updated_at, started_at, completed_at, wal_lsn, wal_stamp, created_rank, wal_id) "
    "SELECT n.id, n.dag_id, n.node_id, n.current_node_id, n.sub_dag_path, n.processing_state, "
    "n.payload::json, n.status, n.error, n.retry_count, n.max_retries, n.priority, n.created_at, "
    "n.updated_at, n.started_at, n.completed_at, n.wal_lsn, n.wal_stamp, n.created_rank, "
    "$20::uuid "
    "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], "
    "$6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], "
    "$13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], "
    "$17::bigint[], $18::bigint[], $19::text[]) AS n (id, dag_id, node_id, current_node_id, "
    "sub_dag_path, processing_state, payload, status, error, retry_count, max_retries, priority, "
    "created_at, updated_at, started_at, completed_at, wal_lsn, wal_stamp, created_rank) "
    "ON CONFLICT (id) DO UPDATE SET dag_id = excluded.dag_id, node_id = excluded.node_id, "
    "current_node_id = excluded.current_node_id, sub_dag_path = excluded.sub_dag_path, "
    "processing_state = excluded.processing_state, payload = excluded.payload, "
    "status = excluded.status, error = excluded.error, retry_count = excluded.retry_count, "
    "max_retries = excluded.max_retries, priority = excluded.priority, "
    "created_at = CASE WHEN " + kTakesCreatedAt + " THEN excluded.created_at "
    "ELSE t.created_at END, "
    "created_rank = CASE WHEN " + kTakesCreatedAt + " THEN excluded.created_rank "
    "ELSE t.created_rank END, "
    "updated_at = excluded.updated_at, started_at = excluded.started_at, "
    "completed_at = excluded.completed_at, wal_id = excluded.wal_id, wal_lsn = excluded.wal_lsn, "
    "wal_stamp = excluded.wal_stamp "
    "WHERE CASE WHEN t.wal_id = excluded.wal_id THEN t.wal_lsn < excluded.wal_lsn "
    "ELSE (t.wal_stamp, t.wal_id) < (excluded.wal_stamp, excluded.wal_id) END");

// A row that was taken is of our log now, so what is left of another's has won.
const std::string& kHandInCreatedAt = NeverDestroyed(
    "UPDATE dag_tasks AS t SET created_at = n.created_at, created_rank = n.created_rank "
    "FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS n (id, created_at, created_rank) "
    "WHERE t.id = n.id AND t.wal_id <> $4::uuid AND t.created_rank < n.created_rank");

const std::string& kPatchTasks = NeverDestroyed(
    "UPDATE dag_tasks AS t SET status = n.status, error = n.error, updated_at = n.updated_at, "
    "started_at = CASE n.start WHEN 0 THEN t.started_at WHEN 1 THEN n.started_at END, "
    "completed_at = CASE n.completion WHEN 0 THEN t.completed_at WHEN 1 THEN n.completed_at END, "
    "wal_id = $11::uuid, wal_lsn = n.lsn, wal_stamp = n.stamp "
    "FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], "
    "$6::timestamptz[], $7::bigint[], $8::timestamptz[], $9::bigint[], $10::bigint[]) "
    "AS n (id, status, error, updated_at, start, started_at, completion, completed_at, lsn, stamp) "
    "WHERE t.id = n.id AND CASE WHEN t.wal_id = $11::uuid THEN t.wal_lsn < n.lsn "
    "ELSE (t.wal_stamp, t.wal_id) < (n.stamp, $11::uuid) END");
static_assert(static_cast<int>(TimeChange::Kind::kKeep) == 0 &&
              static_cast<int>(TimeChange::Kind::kSet) == 1);

constexpr const char* kDeleteTasks =
    "DELETE FROM dag_tasks AS t USING unnest($1::text[], $2::bigint[], $3::bigint[]) "
    "AS n (id, lsn, stamp) WHERE t.id = n.id AND CASE WHEN t.wal_id = $4::uuid "
    "THEN t.wal_lsn < n.lsn ELSE (t.wal_stamp, t.wal_id) < (n.stamp, $4::uuid) END";

constexpr const char* kMergeActivities =
    "INSERT INTO dag_task_activity_logs (id, task_id, dag_id, node_id, action, message, data, "
    "level, created_at, priority) SELECT n.id, n.task_id, n.dag_id, n.node_id, n.action, "
    "n.message, n.data::json, n.level, n.created_at, n.priority FROM unnest($1::text[], "
    "$2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], "
    "$9::timestamptz[], $10::bigint[]) AS n (id, task_id, dag_id, node_id, action, message, data, "
    "level, created_at, priority) ON CONFLICT (id) DO NOTHING";

using Text = std::string_view;
using OptionalText = std::optional<std::string_view>;
using Change = const TaskChange*;
using Row = Batch::ActivityRow;

std::int64_t Number(std::uint64_t value) { return static_cast<std::int64_t>(value); }
std::int64_t Lsns(Change c) { return Number(c->origin.lsn); }
std::int64_t Stamps(Change c) { return Number(c->origin.stamp); }
Text Ids(Change c) { return c->id; }
Text CreatedRanks(Change c) { return c->created_rank; }
std::optional<Time> CreationTimes(Change c) { return c->task.created_at; }

void HandInCreatedAt(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows) {
  PostgresParams params;
  params.AddArray(rows, Ids).AddArray(rows, CreationTimes).AddArray(rows, CreatedRanks);
  params.Add(wal_id);
  static const std::string& kHandInWhereOpen = NeverDestroyed(
      kHandInCreatedAt + AndIsOpen("t."));
  connection.Execute(rows.front()->open_only ? kHandInWhereOpen : kHandInCreatedAt, params);
}

}  // namespace

void PutTasks(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows,
              bool is_new) {
  PostgresParams params;
  params.AddArray(rows, Ids);
  params.AddArray(rows, [](Change c) -> Text { return c->task.dag_id; });
  params.AddArray(rows, [](Change c) -> Text { return c->task.node_id; });
  params.AddArray(rows, [](Change c) -> Text { return c->task.current_node_id; });
  params.AddArray(rows, [](Change c) -> Text { return c->task.sub_dag_path; });
  params.AddArray(rows, [](Change c) -> Text { return c->task.processing_state; });
  params.AddArray(rows, [](Change c) -> OptionalText { return c->task.payload; });
  params.AddArray(rows, [](Change c) -> Text { return TaskStatusName(c->task.status); });
  params.AddArray(rows, [](Change c) -> Text { return c->task.error; });
  params.AddArray(rows, [](Change c) -> std::int64_t { return c->task.retry_count; });
  params.AddArray(rows, [](Change c) -> std::int64_t { return c->task.max_retries; });
  params.AddArray(rows, [](Change c) -> std::int64_t { return c->task.priority; });
  params.AddArray(rows, CreationTimes);
  params.AddArray(rows, [](Change c) { return c->task.updated_at; });
  params.AddArray(rows, [](Change c) { return c->task.started_at; });
  params.AddArray(rows, [](Change c) { return c->task.completed_at; });
  params.AddArray(rows, Lsns).AddArray(rows, Stamps).AddArray(rows, CreatedRanks).Add(wal_id);
  params.Add(std::int64_t{is_new});
  static const std::string& kPutOpenTasks = NeverDestroyed(
      kPutTasks + AndIsOpen("t."));
  const std::uint64_t put =
      connection.Execute(rows.front()->open_only ? kPutOpenTasks : kPutTasks, params);
  if (put < rows.size()) HandInCreatedAt(connection, wal_id, rows);
}

void PatchTasks(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows) {
  const auto kind = [](const TimeChange& change) { return static_cast<std::int64_t>(change.kind); };
  PostgresParams params;
  params.AddArray(rows, Ids);
  params.AddArray(rows, [](Change c) -> Text { return TaskStatusName(c->patch.status); });
  params.AddArray(rows, [](Change c) -> Text { return c->patch.error; });
  params.AddArray(rows, [](Change c) { return c->patch.updated_at; });
  params.AddArray(rows, [&](Change c) { return kind(c->patch.started_at); });
  params.AddArray(rows, [](Change c) { return c->patch.started_at.value; });
  params.AddArray(rows, [&](Change c) { return kind(c->patch.completed_at); });
  params.AddArray(rows, [](Change c) { return c->patch.completed_at.value; });
  params.AddArray(rows, Lsns).AddArray(rows, Stamps).Add(wal_id);
  static const std::string& kPatchOpenTasks = NeverDestroyed(
      kPatchTasks + AndIsOpen("t."));
  connection.Execute(rows.front()->open_only ? kPatchOpenTasks : kPatchTasks, params);
}

void DeleteTasks(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows) {
  PostgresParams params;
  params.AddArray(rows, Ids).AddArray(rows, Lsns).AddArray(rows, Stamps).Add(wal_id);
  connection.Execute(kDeleteTasks, params);
}

void CopyActivities(PostgresConnection& connection, ActivityRows rows) {
  PostgresCopy copy(connection.work(), "dag_task_activity_logs", kActivityColumns);
  for (const auto& [activity, lsn] : rows) {
    copy.Add(activity.id).Add(activity.task_id).Add(activity.dag_id).Add(activity.node_id);
    copy.Add(activity.action).Add(activity.message).AddOptional(activity.data);
    copy.Add(LevelName(activity.level)).Add(*activity.created_at).Add(activity.priority);
    copy.EndRow();
  }
  copy.Complete();
}

std::uint64_t MergeActivities(PostgresConnection& connection, ActivityRows rows) {
  PostgresParams params;
  params.AddArray(rows, [](const Row& r) -> Text { return r.activity.id; });
  params.AddArray(rows, [](const Row& r) -> Text { return r.activity.task_id; });
  params.AddArray(rows, [](const Row& r) -> Text { return r.activity.dag_id; });
  params.AddArray(rows, [](const Row& r) -> Text { return r.activity.node_id; });
  params.AddArray(rows, [](const Row& r) -> Text { return r.activity.action; });
  params.AddArray(rows, [](const Row& r) -> Text { return r.activity.message; });
  params.AddArray(rows, [](const Row& r) -> OptionalText { return r.activity.data; });
  params.AddArray(rows, [](const Row& r) -> Text { return LevelName(r.activity.level); });
  params.AddArray(rows, [](const Row& r) { return r.activity.created_at; });
  params.AddArray(rows, [](const Row& r) -> std::int64_t { return r.activity.priority; });
  return connection.Execute(kMergeActivities, params);
}

}  // namespace taskwal::storage
