#include "storage/sqlite/sqlite_batch_rows.h"

#include <array>
#include <string_view>

#include "base/never_destroyed.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

using ActivityRow = Batch::ActivityRow;

template <auto Member>
void PutActivity(const ActivityRow& row, SqliteCell& cell) {
  cell.Put(row.activity.*Member);
}

template <auto Member>
void PutTask(const TaskRow& row, SqliteCell& cell) {
  cell.Put(row.change->task.*Member);
}

// 32 bits are SQL integers, too.
template <auto Member>
void PutTaskNumber(const TaskRow& row, SqliteCell& cell) {
  cell.Put(std::int64_t{row.change->task.*Member});
}

constexpr SqliteColumn<ActivityRow> kPutActivity[] = {
    {"id", &PutActivity<&Activity::id>},
    {"task_id", &PutActivity<&Activity::task_id>},
    {"dag_id", &PutActivity<&Activity::dag_id>},
    {"node_id", &PutActivity<&Activity::node_id>},
    {"action", &PutActivity<&Activity::action>},
    {"message", &PutActivity<&Activity::message>},
    {"data", &PutActivity<&Activity::data>},
    {"level", &PutActivity<&Activity::level>},
    {"created_at", &PutActivity<&Activity::created_at>},
    {"priority", [](const ActivityRow& row, SqliteCell& cell) {
       cell.Put(std::int64_t{row.activity.priority});
     }}};

constexpr SqliteColumn<TaskRow> kPutTask[] = {
    {"id", [](const TaskRow& row, SqliteCell& cell) { cell.Put(row.change->id); }},
    {"dag_id", &PutTask<&Task::dag_id>},
    {"node_id", &PutTask<&Task::node_id>},
    {"current_node_id", &PutTask<&Task::current_node_id>},
    {"sub_dag_path", &PutTask<&Task::sub_dag_path>},
    {"processing_state", &PutTask<&Task::processing_state>},
    {"payload", &PutTask<&Task::payload>},
    {"status", &PutTask<&Task::status>},
    {"error", &PutTask<&Task::error>},
    {"retry_count", &PutTaskNumber<&Task::retry_count>},
    {"max_retries", &PutTaskNumber<&Task::max_retries>},
    {"priority", &PutTaskNumber<&Task::priority>},
    {"created_at", &PutTask<&Task::created_at>},
    {"updated_at", &PutTask<&Task::updated_at>},
    {"started_at", &PutTask<&Task::started_at>},
    {"completed_at", &PutTask<&Task::completed_at>},
    {"wal_id", [](const TaskRow& row, SqliteCell& cell) { cell.Put(*row.wal_id); }},
    {"wal_lsn",
     [](const TaskRow& row, SqliteCell& cell) { cell.Put(row.change->origin.lsn); }},
    {"wal_stamp",
     [](const TaskRow& row, SqliteCell& cell) { cell.Put(row.change->origin.stamp); }},
    {"created_rank",
     [](const TaskRow& row, SqliteCell& cell) { cell.Put(row.change->created_rank); }}};

// Whether the operation comes after what the row holds: within one log the LSN decides, between
// logs the higher (stamp, wal_id).
constexpr std::string_view kComesAfter =
    "CASE WHEN wal_id = excluded.wal_id THEN wal_lsn < excluded.wal_lsn "
    "ELSE (wal_stamp, wal_id) < (excluded.wal_stamp, excluded.wal_id) END";

// No OR clause: it would override those of the user's triggers. WHERE true: ON would be read as
// that of a join.
std::string InsertFrom(std::string_view rows, std::string_view table, const std::string& columns) {
  return "INSERT INTO " + std::string(table) + " (" + columns + ") SELECT " + columns +
         " FROM " + std::string(rows) + " WHERE true ON CONFLICT (id) DO ";
}

// TakesCreatedAt.
const std::string& kTakesCreatedAt = NeverDestroyed(
    "excluded.created_rank > CASE WHEN wal_id = excluded.wal_id "
                                    "THEN '" + std::string(kGivenCreatedRank) +
                                    "' ELSE created_rank END");

std::string UpsertTasks(bool is_new, bool open_only) {
  std::string assignments;
  for (const auto& [name, put] : kPutTask) {
    const std::string column = name;
    if (column == "id") continue;
    if (!assignments.empty()) assignments += ", ";
    assignments += column + " = ";
    const bool is_ranked = column == "created_at" || column == "created_rank";
    if (is_ranked && !is_new) {
      assignments += "CASE WHEN " + kTakesCreatedAt + " THEN excluded." + column + " ELSE " +
                     column + " END";
    } else {
      assignments += "excluded." + column;
    }
  }
  return InsertFrom(kNewTasks, "dag_tasks", SqliteRows<TaskRow>(kPutTask).columns()) +
         "UPDATE SET " + assignments + " WHERE " + std::string(kComesAfter) +
         (open_only ? AndIsOpen("") : "");
}

}  // namespace

std::span<const SqliteColumn<ActivityRow>> ActivityColumns() { return kPutActivity; }

std::span<const SqliteColumn<TaskRow>> TaskColumns() { return kPutTask; }

const std::string& InsertActivitiesSql() {
  static const std::string& kSql = NeverDestroyed(
      InsertFrom(kNewActivities, "dag_task_activity_logs",
                 SqliteRows<ActivityRow>(kPutActivity).columns()) +
      "NOTHING");
  return kSql;
}

const std::string& InsertTasksSql(bool is_new, bool open_only) {
  static const auto& kSql = NeverDestroyed(std::array<std::string, 4>{
      UpsertTasks(false, false), UpsertTasks(false, true), UpsertTasks(true, false),
      UpsertTasks(true, true)});
  return kSql.at((is_new ? 2 : 0) + (open_only ? 1 : 0));
}

// A row that was taken is of our log now, so what is left of another's has won.
const std::string& HandInCreatedAtSql(bool open_only) {
  static const std::string& kSql = NeverDestroyed(
      "UPDATE dag_tasks SET created_at = n.created_at, created_rank = n.created_rank FROM " +
      std::string(kNewTasks) + " AS n WHERE dag_tasks.id = n.id "
      "AND dag_tasks.wal_id <> n.wal_id AND dag_tasks.created_rank < n.created_rank");
  static const std::string& kOpenSql = NeverDestroyed(
      kSql + AndIsOpen("dag_tasks."));
  return open_only ? kOpenSql : kSql;
}

}  // namespace taskwal::storage
