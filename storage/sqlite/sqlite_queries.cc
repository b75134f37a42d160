// The reading side of SqliteSession, and clean-up. Pages go by key, never by OFFSET. Each query is
// bound to one index whose order is the page's; a unary + keeps SQLite from choosing another one.
#include <algorithm>

#include "base/status_macros.h"
#include "storage/paging.h"
#include "storage/sqlite/sqlite_session.h"

namespace taskwal::storage {
namespace {

constexpr std::string_view kTaskColumns =
    "id, dag_id, node_id, current_node_id, sub_dag_path, processing_state, payload, status, error, "
    "retry_count, max_retries, priority, created_at, updated_at, started_at, completed_at";
constexpr std::string_view kActivityColumns =
    "id, task_id, dag_id, node_id, action, message, data, level, created_at, priority";

// No stored time is at or behind this, so an upper bound there says nothing; as text it could not
// be told.
constexpr Time kTimeEnd = std::chrono::sys_days(std::chrono::year(10000) / 1 / 1);

// The part of a query behind FROM. Values are parameters, so `conditions` may be used several
// times.
struct Filter {
  std::string conditions = "1";
  std::vector<std::string> values;

  void Add(std::string_view condition) {
    conditions += " AND ";
    conditions += condition;
  }
  // `comparison` ends where the value goes: "dag_id = ".
  void Add(std::string_view comparison, const std::optional<std::string>& value) {
    if (!value) return;
    values.push_back(*value);
    Add(std::string(comparison) + "?" + std::to_string(values.size()));
  }
  void AddRange(std::string_view column, const std::optional<Time>& from,
                const std::optional<Time>& until) {
    const std::string name(column);
    if (from) Add(name + " >= ", FormatTime(*from));
    if (until && *until < kTimeEnd) Add(name + " < ", FormatTime(*until));
  }

  // The page's start bounds one side of created_at for the index; the range's own bound there is
  // kept as a mere filter, or SQLite might begin at it and read all earlier pages again.
  void AddPage(const Paging& paging, const PageStart& start, const std::optional<Time>& from,
               const std::optional<Time>& until) {
    AddRange(start && !paging.newest_first ? "+created_at" : "created_at", from, std::nullopt);
    AddRange(start && paging.newest_first ? "+created_at" : "created_at", std::nullopt, until);
    if (!start) return;
    values.push_back(FormatTime(start->first));
    values.push_back(start->second);
    const std::string time = "?" + std::to_string(values.size() - 1);
    const std::string id = "?" + std::to_string(values.size());
    Add(std::string("(created_at, id) ") + (paging.newest_first ? "<" : ">") + " (" + time + ", " +
        id + ")");
  }
};

// 'a', 'b': names that need no quoting.
template <typename Enum>
std::string NameList(std::span<const Enum> values, std::string_view (*name_of)(Enum)) {
  std::string list;
  for (const Enum value : values) {
    if (!list.empty()) list += ", ";
    list += '\'';
    list += name_of(value);
    list += '\'';
  }
  return list;
}

std::string StatusIn(std::span<const TaskStatus> statuses) {
  return "status IN (" + NameList(statuses, &TaskStatusName) + ")";
}

std::string LevelsFrom(Level min) {
  std::vector<Level> levels;
  for (auto level = static_cast<int>(min); level <= static_cast<int>(Level::kFatal); ++level) {
    levels.push_back(static_cast<Level>(level));
  }
  return "level IN (" + NameList(std::span<const Level>(levels), &LevelName) + ")";
}

// One row more than the page holds tells whether another page follows. Several `arms` (each an AND
// on top of the filter) are merged in order, each read through its own index range.
std::string PageSql(std::string_view columns, std::string_view table, const Filter& filter,
                    const std::vector<std::string>& arms, const Paging& paging) {
  std::string sql;
  for (const std::string& arm : arms) {
    if (!sql.empty()) sql += " UNION ALL ";
    sql += "SELECT " + std::string(columns) + " FROM " + std::string(table) + " WHERE " +
           filter.conditions + arm;
  }
  sql += paging.newest_first ? " ORDER BY created_at DESC, id DESC" : " ORDER BY created_at, id";
  return sql + " LIMIT " + std::to_string(paging.limit + 1);
}

Task ReadTask(SqliteStatement& row) {
  Task task;
  task.id = row.Text();
  task.dag_id = row.Text();
  task.node_id = row.Text();
  task.current_node_id = row.Text();
  task.sub_dag_path = row.Text();
  task.processing_state = row.Text();
  task.payload = row.OptionalText();
  task.status = row.StatusName();
  task.error = row.Text();
  task.retry_count = static_cast<std::int32_t>(row.Int());
  task.max_retries = static_cast<std::int32_t>(row.Int());
  task.priority = static_cast<std::int32_t>(row.Int());
  task.created_at = row.Moment();
  task.updated_at = row.Moment();
  task.started_at = row.OptionalMoment();
  task.completed_at = row.OptionalMoment();
  return task;
}

Activity ReadActivity(SqliteStatement& row) {
  Activity activity;
  activity.id = row.Text();
  activity.task_id = row.Text();
  activity.dag_id = row.Text();
  activity.node_id = row.Text();
  activity.action = row.Text();
  activity.message = row.Text();
  activity.data = row.OptionalText();
  activity.level = row.LevelName();
  activity.created_at = row.Moment();
  activity.priority = static_cast<std::int32_t>(row.Int());
  return activity;
}

template <typename Row>
std::string ReadPage(SqliteConnection& connection, const std::string& sql, const Filter& filter,
                     const Paging& paging, Row (*read)(SqliteStatement&), std::vector<Row>* rows) {
  SqliteStatement select = connection.Prepare(sql);
  select.Start();
  for (const std::string& value : filter.values) select.Bind(value);
  while (select.Step()) {
    if (rows->size() == paging.limit) {
      return MakePageToken(*rows->back().created_at, rows->back().id);
    }
    rows->push_back(read(select));
  }
  return "";
}

Result<TaskPage> ReadTaskPage(SqliteConnection& connection, const Paging& paging,
                              const Filter& filter, const std::vector<std::string>& arms) {
  return connection.Run("query tasks", [&]() -> Result<TaskPage> {
    TaskPage page;
    const std::string sql = PageSql(kTaskColumns, "dag_tasks", filter, arms, paging);
    page.next_page = ReadPage(connection, sql, filter, paging, &ReadTask, &page.tasks);
    return page;
  });
}

}  // namespace

Result<Session::StoredTask> SqliteSession::GetTask(std::string_view id) {
  static const std::string kSql = "SELECT " + std::string(kTaskColumns) +
                                  ", wal_id, wal_lsn, wal_stamp FROM dag_tasks WHERE id = ?";
  const std::string key(id);
  return connection_->Run("read a task", [&]() -> Result<StoredTask> {
    SqliteStatement& select = connection_->Cached(kSql).Start().Bind(key);
    if (!select.Step()) return Status::NotFound("no such task");
    StoredTask stored;
    stored.task = ReadTask(select);
    stored.wal_id = select.Id();
    stored.origin.lsn = static_cast<Lsn>(select.Int());
    stored.origin.stamp = static_cast<std::uint64_t>(select.Int());
    return stored;
  });
}

Result<TaskPage> SqliteSession::QueryTasks(const TaskQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  Filter filter;
  filter.Add("dag_id = ", query.dag_id);
  filter.Add("node_id = ", query.node_id);
  filter.AddRange("updated_at", query.updated_from, query.updated_until);
  filter.AddPage(query.paging, start, query.created_from, query.created_until);
  std::vector<std::string> arms;
  if (query.statuses.empty()) {
    arms = {""};
  } else if (query.dag_id) {
    arms = {" AND +" + StatusIn(query.statuses)};
  } else {
    std::vector<TaskStatus> statuses = query.statuses;
    std::sort(statuses.begin(), statuses.end());
    statuses.erase(std::unique(statuses.begin(), statuses.end()), statuses.end());
    for (const TaskStatus status : statuses) {
      arms.push_back(" AND status = '" + std::string(TaskStatusName(status)) + "'");
    }
  }
  return ReadTaskPage(*connection_, query.paging, filter, arms);
}

Result<TaskPage> SqliteSession::ResumableTasks(const Paging& paging) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(paging));
  Filter filter;
  filter.AddPage(paging, start, std::nullopt, std::nullopt);
  return ReadTaskPage(*connection_, paging, filter,
                      {" AND status = 'running'",
                       " AND status = 'failed' AND retry_count < max_retries"});
}

Result<ActivityPage> SqliteSession::QueryActivities(const ActivityQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  Filter filter;
  filter.Add("task_id = ", query.task_id);
  filter.Add(query.task_id ? "+dag_id = " : "dag_id = ", query.dag_id);
  filter.Add("node_id = ", query.node_id);
  filter.Add("action = ", query.action);
  if (query.level_min) filter.Add(LevelsFrom(*query.level_min));
  filter.AddPage(query.paging, start, query.created_from, query.created_until);
  return connection_->Run("query activity", [&]() -> Result<ActivityPage> {
    ActivityPage page;
    const std::string sql =
        PageSql(kActivityColumns, "dag_task_activity_logs", filter, {""}, query.paging);
    page.next_page =
        ReadPage(*connection_, sql, filter, query.paging, &ReadActivity, &page.activities);
    return page;
  });
}

Result<StoredCounts> SqliteSession::Count() {
  return connection_->Run("count", [&]() -> Result<StoredCounts> {
    StoredCounts counts;
    for (int status = 0; status <= static_cast<int>(TaskStatus::kCancelled); ++status) {
      counts.tasks_by_status.emplace_back(static_cast<TaskStatus>(status), 0);
    }
    SqliteStatement by_status =
        connection_->Prepare("SELECT status, count(*) FROM dag_tasks GROUP BY status");
    for (by_status.Start(); by_status.Step();) {
      const auto status = static_cast<std::size_t>(by_status.StatusName());
      const auto count = static_cast<std::uint64_t>(by_status.Int());
      counts.tasks_by_status[status].second = count;
      counts.tasks += count;
    }
    SqliteStatement activities =
        connection_->Prepare("SELECT count(*) FROM dag_task_activity_logs");
    activities.Start().Step();
    counts.activities = static_cast<std::uint64_t>(activities.Int());
    return counts;
  });
}

Result<std::uint64_t> SqliteSession::HighestStamp() {
  return connection_->Run("read the highest stamp", [&]() -> Result<std::uint64_t> {
    SqliteStatement select =
        connection_->Prepare("SELECT coalesce(max(stamp), 0) FROM wal_checkpoints");
    select.Start().Step();
    return static_cast<std::uint64_t>(select.Int());
  });
}

Result<std::vector<std::string>> SqliteSession::OldTasks(Time before,
                                                         std::span<const TaskStatus> statuses,
                                                         std::string_view after,
                                                         std::uint32_t limit) {
  const std::string sql = "SELECT id FROM dag_tasks WHERE id > ? AND updated_at < ? AND +" +
                          StatusIn(TerminalOf(statuses)) + " ORDER BY id LIMIT ?";
  const std::string start(after);
  return connection_->Run("find old tasks", [&]() -> Result<std::vector<std::string>> {
    std::vector<std::string> ids;
    SqliteStatement select = connection_->Prepare(sql);
    select.Start().Bind(start).Bind(before).Bind(std::uint64_t{limit});
    while (select.Step()) ids.push_back(select.Text());
    return ids;
  });
}

Result<std::uint64_t> SqliteSession::DeleteTasks(std::span<const std::string> ids, Time before,
                                                 std::span<const TaskStatus> statuses) {
  const std::string sql = "DELETE FROM dag_tasks WHERE id = ? AND updated_at < ? AND +" +
                          StatusIn(TerminalOf(statuses));
  return connection_->Run("delete old tasks", [&]() -> Result<std::uint64_t> {
    connection_->Begin();
    std::uint64_t gone = 0;
    SqliteStatement erase = connection_->Prepare(sql);
    for (const std::string& id : ids) gone += erase.Start().Bind(id).Bind(before).Run();
    TASKWAL_TRY(connection_->Commit());
    return gone;
  });
}

Result<std::uint64_t> SqliteSession::DeleteOldActivities(Time before, std::uint32_t limit) {
  return connection_->Run("delete old activity", [&]() -> Result<std::uint64_t> {
    connection_->Begin();
    SqliteStatement erase = connection_->Prepare(
        "DELETE FROM dag_task_activity_logs WHERE rowid IN (SELECT rowid FROM "
        "dag_task_activity_logs WHERE created_at < ? ORDER BY created_at LIMIT ?)");
    const std::uint64_t gone = erase.Start().Bind(before).Bind(std::uint64_t{limit}).Run();
    TASKWAL_TRY(connection_->Commit());
    return gone;
  });
}

}  // namespace taskwal::storage
