// The reading side of PostgresSession, and clean-up.
#include "base/never_destroyed.h"
#include "base/status_macros.h"
#include "storage/paging.h"
#include "storage/postgres/postgres_session.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

constexpr Dialect kDialect = {Dialect::Placeholder::kDollarNumber, &PostgresTimeText, true, true,
                              ""};

Result<TaskPage> SelectTasks(PostgresConnection& connection, const SqlText& query,
                             std::uint32_t limit) {
  return connection.RunRepeatedly("query tasks", [&]() -> Result<TaskPage> {
    TaskPage page;
    PostgresRows rows = connection.Query(query.sql, query.values);
    page.next_page = ReadPage(rows, limit, &ReadTask<PostgresRows>, &page.tasks);
    return page;
  });
}

}  // namespace

Result<Session::StoredTask> PostgresSession::GetTask(std::string_view id) {
  static const std::string& kSql = NeverDestroyed(
      "SELECT " + std::string(kTaskColumns) +
      ", wal_id, wal_lsn, wal_stamp, created_rank FROM dag_tasks WHERE id = $1");
  return connection_->RunRepeatedly("read a task", [&]() -> Result<StoredTask> {
    PostgresRows rows = connection_->QueryPrepared(kSql, {std::string(id)});
    if (!rows.Step()) return Status::NotFound("no such task");
    StoredTask stored;
    stored.task = ReadTask(rows);
    stored.wal_id = rows.Id();
    stored.origin.lsn = static_cast<Lsn>(rows.Int());
    stored.origin.stamp = static_cast<std::uint64_t>(rows.Int());
    stored.created_rank = rows.Text();
    return stored;
  });
}

Result<TaskPage> PostgresSession::QueryTasks(const TaskQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  return SelectTasks(*connection_, TaskPageSql(kDialect, query, start), query.paging.limit);
}

Result<TaskPage> PostgresSession::ResumableTasks(const Paging& paging) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(paging));
  return SelectTasks(*connection_, ResumablePageSql(kDialect, paging, start), paging.limit);
}

Result<ActivityPage> PostgresSession::QueryActivities(const ActivityQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  const SqlText text = ActivityPageSql(kDialect, query, start);
  return connection_->RunRepeatedly("query activity", [&]() -> Result<ActivityPage> {
    ActivityPage page;
    PostgresRows rows = connection_->Query(text.sql, text.values);
    page.next_page =
        ReadPage(rows, query.paging.limit, &ReadActivity<PostgresRows>, &page.activities);
    return page;
  });
}

Result<StoredCounts> PostgresSession::Count() {
  return connection_->RunRepeatedly("count", [&]() -> Result<StoredCounts> {
    StoredCounts counts;
    for (int status = 0; status <= static_cast<int>(TaskStatus::kCancelled); ++status) {
      counts.tasks_by_status.emplace_back(static_cast<TaskStatus>(status), 0);
    }
    PostgresRows by_status =
        connection_->Query("SELECT status, count(*) FROM dag_tasks GROUP BY status");
    while (by_status.Step()) {
      const auto status = static_cast<std::size_t>(by_status.StatusName());
      const auto count = static_cast<std::uint64_t>(by_status.Int());
      counts.tasks_by_status[status].second = count;
      counts.tasks += count;
    }
    PostgresRows activities = connection_->Query("SELECT count(*) FROM dag_task_activity_logs");
    activities.Step();
    counts.activities = static_cast<std::uint64_t>(activities.Int());
    return counts;
  });
}

Result<std::uint64_t> PostgresSession::HighestStamp() {
  return connection_->RunRepeatedly("read the highest stamp", [&]() -> Result<std::uint64_t> {
    PostgresRows rows =
        connection_->Query("SELECT coalesce(max(stamp), 0) FROM wal_checkpoints");
    rows.Step();
    return static_cast<std::uint64_t>(rows.Int());
  });
}

Result<std::vector<std::string>> PostgresSession::OldTasks(Time before,
                                                           std::span<const TaskStatus> statuses,
                                                           std::string_view after,
                                                           std::uint32_t limit) {
  const SqlText query = OldTasksSql(kDialect, before, statuses, after, limit);
  return connection_->RunRepeatedly("find old tasks", [&]() -> Result<std::vector<std::string>> {
    std::vector<std::string> ids;
    PostgresRows rows = connection_->Query(query.sql, query.values);
    while (rows.Step()) ids.push_back(rows.Text());
    return ids;
  });
}

Result<std::uint64_t> PostgresSession::DeleteTasks(std::span<const std::string> ids, Time before,
                                                   std::span<const TaskStatus> statuses) {
  const std::string sql =
      "DELETE FROM dag_tasks WHERE id = ANY ($1::text[]) AND updated_at < $2::timestamptz AND " +
      StatusIn(TerminalOf(statuses));
  return connection_->RunRepeatedly("delete old tasks", [&]() -> Result<std::uint64_t> {
    PostgresParams params;
    params.AddArray(ids, [](const std::string& id) -> std::string_view { return id; });
    return connection_->Execute(sql, params.Add(before));
  });
}

Result<std::uint64_t> PostgresSession::DeleteOldActivities(Time before, std::uint32_t limit) {
  return connection_->RunRepeatedly("delete old activity", [&]() -> Result<std::uint64_t> {
    PostgresParams params;
    params.Add(before).Add(std::uint64_t{limit});
    return connection_->Execute(
        "DELETE FROM dag_task_activity_logs WHERE id IN (SELECT id FROM dag_task_activity_logs "
        "WHERE created_at < $1::timestamptz ORDER BY created_at LIMIT $2::bigint)",
        params);
  });
}

}  // namespace taskwal::storage
