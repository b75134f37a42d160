#include "storage/mysql/mysql_writes.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "storage/mysql/mysql_bulk.h"
#include "storage/mysql/mysql_result.h"
#include "storage/mysql/mysql_rows.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

using Changes = std::span<const TaskChange>;
using Kind = TaskChange::Kind;
using Type = MysqlRows::Type;

constexpr std::size_t kIdsPerQuery = 1000;

// Where the statements of a batch are gathered.
struct Gathered {
  MysqlConnection& connection;
  const std::string& wal_id;
  std::vector<BulkWrite>* writes;

  void Add(BulkSql sql, MysqlRows rows) const {
    writes->emplace_back(connection, std::move(sql), std::move(rows));
  }
};

std::vector<std::size_t> FirstColumns(std::size_t count) {
  std::vector<std::size_t> columns(count);
  for (std::size_t i = 0; i < count; ++i) columns[i] = i;
  return columns;
}

std::string Placeholders(std::size_t count) {
  std::string text = "(?";
  for (std::size_t i = 1; i < count; ++i) text += ", ?";
  return text;
}

// --- whole rows

// But wal_id, which is the same in every row.
constexpr std::array<std::string_view, 19> kTaskFields = {
    "id",         "dag_id",      "node_id",    "current_node_id", "sub_dag_path",
    "processing_state", "payload", "status",   "error",           "retry_count",
    "max_retries", "priority",   "created_at", "updated_at",      "started_at",
    "completed_at", "wal_lsn",   "wal_stamp",  "created_rank"};

std::vector<Type> TaskTypes() {
  return {Type::kBytes, Type::kBytes, Type::kBytes, Type::kBytes, Type::kText,
          Type::kText,  Type::kText,  Type::kText,  Type::kText,  Type::kInt,
          Type::kInt,   Type::kInt,   Type::kTime,  Type::kTime,  Type::kTime,
          Type::kTime,  Type::kInt,   Type::kInt,   Type::kBytes};
}

struct PutForm {
  bool is_new;      // the row of a task that begins anew: created_at is taken with it
  bool open_only;
  bool each_newer;  // than what is stored; an error where one is not
};

std::string SetTo(const std::string& field, const std::string& condition) {
  const std::string value = "VALUES(" + field + ")";
  if (condition.empty()) return ", " + field + " = " + value;
  return ", " + field + " = IF(" + condition + ", " + value + ", " + field + ")";
}

// Where a row takes created_at; empty: always.
std::string TakesCreatedAtSql(const PutForm& form) {
  const std::string higher = "VALUES(created_rank) > IF(wal_id = VALUES(wal_id), '" +
                             std::string(kGivenCreatedRank) + "', created_rank)";
  if (form.each_newer) return form.is_new ? "" : higher;
  return "IF(wal_lsn < 0, " + (form.is_new ? "TRUE" : higher) +
         ", wal_id <> VALUES(wal_id) AND VALUES(created_rank) > created_rank" +
         (form.open_only ? AndIsOpen("") : "") + ")";
}

// Assignments take effect from left to right, so whatever a comparison reads must be assigned
// behind it. Three columns say whether the new row comes after the stored one, and all three
// change. So the first assignment decides: where each row must come after the stored one, what does
// not is an error, and the others need not ask. Else it marks a row that does by an LSN below zero;
// the others look at the mark; the last one takes it off. A row that collides by some other unique
// key than ours would be written into another task's: the NULL there makes it an error, so that it
// is poison. created_at goes by its own rank, in rows that are not taken, too; what it reads is
// assigned behind it, its rank last.
BulkSql PutSql(const std::string& wal_id, const PutForm& form) {
  BulkSql sql;
  sql.head = "INSERT INTO dag_tasks (";
  for (const std::string_view field : kTaskFields) sql.head += std::string(field) + ", ";
  sql.head += "wal_id) VALUES ";
  sql.row_end = ", '" + wal_id + "')";
  const std::string is_newer =
      "IF(wal_id = VALUES(wal_id), wal_lsn < VALUES(wal_lsn), "
      "(wal_stamp, wal_id) < (VALUES(wal_stamp), VALUES(wal_id)))" +
      (form.open_only ? AndIsOpen("") : "");
  sql.tail = " ON DUPLICATE KEY UPDATE wal_lsn = ";
  sql.tail += form.each_newer
                  ? "IF(id = VALUES(id) AND " + is_newer + ", VALUES(wal_lsn), NULL)"
                  : "IF(id = VALUES(id), IF(" + is_newer + ", -VALUES(wal_lsn), wal_lsn), NULL)";
  const std::string takes_created_at = TakesCreatedAtSql(form);
  sql.tail += SetTo("created_at", takes_created_at) + SetTo("created_rank", takes_created_at);
  const std::string is_taken = form.each_newer ? "" : "wal_lsn < 0";
  for (const std::string_view field : kTaskFields) {
    if (field == "id" || field == "wal_lsn" || field.starts_with("created_")) continue;
    sql.tail += SetTo(std::string(field), is_taken);
  }
  sql.tail += SetTo("wal_id", is_taken);
  if (!form.each_newer) sql.tail += ", wal_lsn = ABS(wal_lsn)";
  sql.parameters = FirstColumns(kTaskFields.size());
  sql.prepared = sql.head + Placeholders(kTaskFields.size()) + sql.row_end + sql.tail;
  return sql;
}

void AddTask(MysqlRows& rows, const TaskChange& change) {
  const Task& task = change.task;
  rows.Add(change.id).Add(task.dag_id).Add(task.node_id).Add(task.current_node_id);
  rows.Add(task.sub_dag_path).Add(task.processing_state).Add(task.payload);
  rows.Add(TaskStatusName(task.status)).Add(task.error).Add(std::int64_t{task.retry_count});
  rows.Add(std::int64_t{task.max_retries}).Add(std::int64_t{task.priority});
  rows.Add(task.created_at).Add(task.updated_at).Add(task.started_at).Add(task.completed_at);
  rows.Add(change.origin.lsn).Add(change.origin.stamp).Add(change.created_rank);
}

void PutTasks(const Gathered& gathered, Changes changes, const PutForm& form) {
  MysqlRows rows(TaskTypes());
  rows.Reserve(changes.size());
  for (const TaskChange& change : changes) {
    const bool is_meant = change.kind == (form.is_new ? Kind::kReplace : Kind::kPut);
    if (is_meant && change.open_only == form.open_only) AddTask(rows, change);
  }
  if (rows.size() > 0) gathered.Add(PutSql(gathered.wal_id, form), std::move(rows));
}

// --- patches and deletes: only where the row is, and only where it is older

// `place` stands before a column of the table, `lsn` and `stamp` for those of the operation. A
// wal_id is a uuid: nothing to escape.
std::string IsOlder(const std::string& place, const std::string& wal_id, const std::string& lsn,
                    const std::string& stamp) {
  const std::string id = '\'' + wal_id + '\'';
  return "IF(" + place + "wal_id = " + id + ", " + place + "wal_lsn < " + lsn + ", (" + place +
         "wal_stamp, " + place + "wal_id) < (" + stamp + ", " + id + "))";
}

enum PatchColumn : std::size_t {
  kId, kStatus, kError, kUpdatedAt, kStartedKind, kStartedAt, kCompletedKind, kCompletedAt, kLsn,
  kStamp
};
static_assert(static_cast<int>(TimeChange::Kind::kKeep) == 0 &&
              static_cast<int>(TimeChange::Kind::kSet) == 1);

BulkSql PatchSql(const std::string& wal_id, bool open_only) {
  BulkSql sql;
  sql.names = {"id", "status", "error", "updated_at", "started_kind", "started_at",
               "completed_kind", "completed_at", "lsn", "stamp"};
  sql.prepared =
      "UPDATE dag_tasks SET status = ?, error = ?, updated_at = ?, "
      "started_at = CASE ? WHEN 0 THEN started_at WHEN 1 THEN ? END, "
      "completed_at = CASE ? WHEN 0 THEN completed_at WHEN 1 THEN ? END, "
      "wal_id = '" + wal_id + "', wal_lsn = ?, wal_stamp = ? WHERE id = ? AND " +
      IsOlder("", wal_id, "?", "?") + (open_only ? AndIsOpen("") : "");
  sql.parameters = {kStatus, kError, kUpdatedAt, kStartedKind, kStartedAt, kCompletedKind,
                    kCompletedAt, kLsn, kStamp, kId, kLsn, kStamp};
  sql.head = "UPDATE dag_tasks JOIN (";
  sql.tail =
      ") AS patch ON dag_tasks.id = patch.id SET dag_tasks.status = patch.status, "
      "dag_tasks.error = patch.error, dag_tasks.updated_at = patch.updated_at, "
      "dag_tasks.started_at = CASE patch.started_kind WHEN 0 THEN dag_tasks.started_at "
      "WHEN 1 THEN patch.started_at END, "
      "dag_tasks.completed_at = CASE patch.completed_kind WHEN 0 THEN dag_tasks.completed_at "
      "WHEN 1 THEN patch.completed_at END, "
      "dag_tasks.wal_id = '" + wal_id + "', dag_tasks.wal_lsn = patch.lsn, "
      "dag_tasks.wal_stamp = patch.stamp WHERE " +
      IsOlder("dag_tasks.", wal_id, "patch.lsn", "patch.stamp") +
      (open_only ? AndIsOpen("dag_tasks.") : "");
  return sql;
}

void PatchTasks(const Gathered& gathered, Changes changes, bool open_only) {
  MysqlRows rows({Type::kBytes, Type::kText, Type::kText, Type::kTime, Type::kInt, Type::kTime,
                  Type::kInt, Type::kTime, Type::kInt, Type::kInt});
  for (const TaskChange& change : changes) {
    if (change.kind != Kind::kPatch || change.open_only != open_only) continue;
    const StatusPatch& patch = change.patch;
    rows.Add(change.id).Add(TaskStatusName(patch.status)).Add(patch.error).Add(patch.updated_at);
    for (const TimeChange& time : {patch.started_at, patch.completed_at}) {
      rows.Add(static_cast<std::int64_t>(time.kind)).Add(time.value);
    }
    rows.Add(change.origin.lsn).Add(change.origin.stamp);
  }
  if (rows.size() > 0) gathered.Add(PatchSql(gathered.wal_id, open_only), std::move(rows));
}

BulkSql DeleteSql(const std::string& wal_id) {
  BulkSql sql;
  sql.names = {"id", "lsn", "stamp"};
  sql.prepared = "DELETE FROM dag_tasks WHERE id = ? AND " + IsOlder("", wal_id, "?", "?");
  sql.parameters = {0, 1, 2};
  sql.head = "DELETE dag_tasks FROM dag_tasks JOIN (";
  sql.tail = ") AS gone ON dag_tasks.id = gone.id WHERE " +
             IsOlder("dag_tasks.", wal_id, "gone.lsn", "gone.stamp");
  return sql;
}

void DeleteTasks(const Gathered& gathered, Changes changes) {
  MysqlRows rows({Type::kBytes, Type::kInt, Type::kInt});
  for (const TaskChange& change : changes) {
    if (change.kind != Kind::kDelete) continue;
    rows.Add(change.id).Add(change.origin.lsn).Add(change.origin.stamp);
  }
  if (rows.size() > 0) gathered.Add(DeleteSql(gathered.wal_id), std::move(rows));
}

void WriteChanges(const Gathered& gathered, Changes changes, bool open_only, bool each_newer) {
  PutTasks(gathered, changes, {false, open_only, each_newer});
  PutTasks(gathered, changes, {true, open_only, each_newer});
  PatchTasks(gathered, changes, open_only);
}

// --- activities

BulkSql ActivitySql() {
  BulkSql sql;
  sql.head =
      "INSERT INTO dag_task_activity_logs (id, task_id, dag_id, node_id, action, message, data, "
      "level, created_at, priority) VALUES ";
  sql.parameters = FirstColumns(10);
  sql.prepared = sql.head + Placeholders(10) + sql.row_end;
  return sql;
}

// The ids of the batch that are there already.
std::unordered_set<std::string> StoredIds(MysqlConnection& connection, const Batch& batch) {
  std::unordered_set<std::string> stored;
  for (std::size_t begin = 0; begin < batch.activities.size(); begin += kIdsPerQuery) {
    const std::size_t end = std::min(begin + kIdsPerQuery, batch.activities.size());
    std::string sql = "SELECT id FROM dag_task_activity_logs WHERE id IN (";
    for (std::size_t i = begin; i < end; ++i) {
      if (i > begin) sql += ", ";
      connection.AppendQuoted(&sql, batch.activities[i].activity.id);
    }
    MysqlResult ids = connection.Query(sql + ")");
    while (ids.Step()) stored.insert(ids.Text());
  }
  return stored;
}

// Those of `known` are left out, and `known` learns the others.
MysqlRows ActivityRows(const Batch& batch, std::unordered_set<std::string>* known,
                       std::uint64_t* duplicates) {
  MysqlRows rows({Type::kBytes, Type::kBytes, Type::kBytes, Type::kBytes, Type::kBytes,
                  Type::kText, Type::kText, Type::kText, Type::kTime, Type::kInt});
  rows.Reserve(batch.activities.size());
  for (const auto& [activity, lsn] : batch.activities) {
    if (known != nullptr && !known->insert(activity.id).second) {
      ++*duplicates;
      continue;
    }
    rows.Add(activity.id).Add(activity.task_id).Add(activity.dag_id).Add(activity.node_id);
    rows.Add(activity.action).Add(activity.message).Add(activity.data);
    rows.Add(LevelName(activity.level)).Add(activity.created_at);
    rows.Add(std::int64_t{activity.priority});
  }
  return rows;
}

}  // namespace

void BatchWrites::LayOut(bool each_newer) {
  const Gathered gathered{connection_, wal_id_, &tasks_};
  for (const Changes turn : TurnsOf(batch_)) {
    WriteChanges(gathered, turn, false, each_newer);
    const bool is_guarded = std::any_of(turn.begin(), turn.end(), [](const TaskChange& change) {
      return change.open_only;
    });
    // That a task is closed is no exception.
    if (is_guarded) WriteChanges(gathered, turn, true, false);
    DeleteTasks(gathered, turn);
  }
  if (batch_.activities.empty() || batch_.idempotent) return;
  activities_.emplace(connection_, ActivitySql(), ActivityRows(batch_, nullptr, nullptr));
}

void BatchWrites::DeleteDags() {
  for (const auto& [dag_id, origin] : batch_.dag_deletes) {
    std::string sql = "DELETE FROM dag_tasks WHERE dag_id = ";
    connection_.AppendQuoted(&sql, dag_id);
    connection_.Execute(sql + " AND " + IsOlder("", wal_id_, std::to_string(origin.lsn),
                                                std::to_string(origin.stamp)));
  }
}

void BatchWrites::WriteTasks() {
  for (BulkWrite& write : tasks_) write.Execute();
}

std::uint64_t BatchWrites::InsertActivities() {
  if (activities_) activities_->Execute();
  if (batch_.activities.empty() || !batch_.idempotent) return 0;
  std::unordered_set<std::string> known = StoredIds(connection_, batch_);
  std::uint64_t duplicates = 0;
  BulkWrite(connection_, ActivitySql(), ActivityRows(batch_, &known, &duplicates)).Execute();
  return duplicates;
}

}  // namespace taskwal::storage
