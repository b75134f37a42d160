// The reading side of SqliteSession, and clean-up. Each query is bound to one index whose order is
// the page's; a unary + keeps SQLite from choosing another one.
#include "base/never_destroyed.h"
#include "base/status_macros.h"
#include "storage/paging.h"
#include "storage/sql_text.h"
#include "storage/sqlite/sqlite_session.h"

namespace taskwal::storage {
namespace {

constexpr Dialect kDialect = {Dialect::Placeholder::kQuestionNumber, &FormatTime, true, false, "+"};

template <typename Entity>
std::string SelectPage(SqliteConnection& connection, const SqlText& query, std::uint32_t limit,
                       Entity (*read)(SqliteStatement&), std::vector<Entity>* page) {
  SqliteStatement select = connection.Prepare(query.sql);
  select.Start();
  for (const std::string& value : query.values) select.Bind(value);
  return ReadPage(select, limit, read, page);
}

Result<TaskPage> SelectTasks(SqliteConnection& connection, const SqlText& query,
                             std::uint32_t limit) {
  return connection.Run("query tasks", [&]() -> Result<TaskPage> {
    TaskPage page;
    page.next_page =
        SelectPage(connection, query, limit, &ReadTask<SqliteStatement>, &page.tasks);
    return page;
  });
}

}  // namespace

Result<Session::StoredTask> SqliteSession::GetTask(std::string_view id) {
  static const std::string& kSql = NeverDestroyed(
      "SELECT " + std::string(kTaskColumns) +
      ", wal_id, wal_lsn, wal_stamp, created_rank FROM dag_tasks WHERE id = ?");
  const std::string key(id);
  return connection_->Run("read a task", [&]() -> Result<StoredTask> {
    SqliteStatement& select = connection_->Cached(kSql).Start().Bind(key);
    if (!select.Step()) return Status::NotFound("no such task");
    StoredTask stored;
    stored.task = ReadTask(select);
    stored.wal_id = select.Id();
    stored.origin.lsn = static_cast<Lsn>(select.Int());
    stored.origin.stamp = static_cast<std::uint64_t>(select.Int());
    stored.created_rank = select.Text();
    return stored;
  });
}

Result<TaskPage> SqliteSession::QueryTasks(const TaskQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  return SelectTasks(*connection_, TaskPageSql(kDialect, query, start), query.paging.limit);
}

Result<TaskPage> SqliteSession::ResumableTasks(const Paging& paging) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(paging));
  return SelectTasks(*connection_, ResumablePageSql(kDialect, paging, start), paging.limit);
}

Result<ActivityPage> SqliteSession::QueryActivities(const ActivityQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  const SqlText text = ActivityPageSql(kDialect, query, start);
  return connection_->Run("query activity", [&]() -> Result<ActivityPage> {
    ActivityPage page;
    page.next_page = SelectPage(*connection_, text, query.paging.limit,
                                &ReadActivity<SqliteStatement>, &page.activities);
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
  const SqlText query = OldTasksSql(kDialect, before, statuses, after, limit);
  return connection_->Run("find old tasks", [&]() -> Result<std::vector<std::string>> {
    std::vector<std::string> ids;
    SqliteStatement select = connection_->Prepare(query.sql);
    select.Start();
    for (const std::string& value : query.values) select.Bind(value);
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
