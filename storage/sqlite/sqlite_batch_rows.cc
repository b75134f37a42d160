#include "storage/sqlite/sqlite_batch_rows.h"

#include <array>
#include <string_view>

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
     [](const TaskRow& row, SqliteCell& cell) { cell.Put(row.change->origin.stamp); }}};

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

std::string UpsertTasks(bool keep_created_at, bool open_only) {
  std::string assignments;
  for (const auto& [name, put] : kPutTask) {
    const std::string_view column = name;
    if (column == "id" || (column == "created_at" && keep_created_at)) continue;
    if (!assignments.empty()) assignments += ", ";
    assignments += std::string(column) + " = excluded." + std::string(column);
  }
  return InsertFrom(kNewTasks, "dag_tasks", SqliteRows<TaskRow>(kPutTask).columns()) +
         "UPDATE SET " + assignments + " WHERE " + std::string(kComesAfter) +
         (open_only ? AndIsOpen("") : "");
}

}  // namespace

std::span<const SqliteColumn<ActivityRow>> ActivityColumns() { return kPutActivity; }

std::span<const SqliteColumn<TaskRow>> TaskColumns() { return kPutTask; }

const std::string& InsertActivitiesSql() {
  static const std::string kSql =
      InsertFrom(kNewActivities, "dag_task_activity_logs",
                 SqliteRows<ActivityRow>(kPutActivity).columns()) +
      "NOTHING";
  return kSql;
}

const std::string& InsertTasksSql(bool keep_created_at, bool open_only) {
  static const std::array<std::string, 4> kSql = {
      UpsertTasks(false, false), UpsertTasks(false, true), UpsertTasks(true, false),
      UpsertTasks(true, true)};
  return kSql.at((keep_created_at ? 2 : 0) + (open_only ? 1 : 0));
}

}  // namespace taskwal::storage
