// The reading side of MysqlSession, and clean-up.
#include <stdexcept>

#include "base/check.h"
#include "base/status_macros.h"
#include "storage/mysql/mysql_session.h"
#include "storage/sql_text.h"

namespace taskwal::storage {
namespace {

const Dialect kMysqlDialect = {Dialect::Placeholder::kQuestion, &MysqlTimeText, false, true, ""};

// The text with its values in the place of the parameters. No text of ours holds a '?' elsewhere.
std::string Filled(MysqlConnection& connection, const SqlText& text) {
  std::string sql;
  std::size_t used = 0;
  for (const char c : text.sql) {
    if (c == '?') {
      TASKWAL_CHECK(used < text.values.size());
      connection.AppendQuoted(&sql, text.values[used++]);
    } else {
      sql += c;
    }
  }
  return sql;
}

Result<TaskPage> ReadTaskPage(MysqlConnection& connection, const Paging& paging,
                              const SqlText& text) {
  return connection.RunRepeatedly("query tasks", [&]() -> Result<TaskPage> {
    TaskPage page;
    MysqlResult rows = connection.Query(Filled(connection, text));
    page.next_page = ReadPage(rows, paging.limit, &ReadTask<MysqlResult>, &page.tasks);
    return page;
  });
}

}  // namespace

Result<Session::StoredTask> MysqlSession::GetTask(std::string_view id) {
  return connection_->RunRepeatedly("read a task", [&]() -> Result<StoredTask> {
    std::string sql = "SELECT " + std::string(kTaskColumns) +
                      ", wal_id, wal_lsn, wal_stamp, created_rank FROM dag_tasks WHERE id = ";
    connection_->AppendQuoted(&sql, id);
    MysqlResult row = connection_->Query(sql);
    if (!row.Step()) return Status::NotFound("no such task");
    StoredTask stored;
    stored.task = ReadTask(row);
    stored.wal_id = row.Id();
    stored.origin.lsn = static_cast<Lsn>(row.Int());
    stored.origin.stamp = static_cast<std::uint64_t>(row.Int());
    stored.created_rank = row.Text();
    return stored;
  });
}

Result<TaskPage> MysqlSession::QueryTasks(const TaskQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  return ReadTaskPage(*connection_, query.paging, TaskPageSql(kMysqlDialect, query, start));
}

Result<TaskPage> MysqlSession::ResumableTasks(const Paging& paging) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(paging));
  return ReadTaskPage(*connection_, paging, ResumablePageSql(kMysqlDialect, paging, start));
}

Result<ActivityPage> MysqlSession::QueryActivities(const ActivityQuery& query) {
  TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
  const SqlText text = ActivityPageSql(kMysqlDialect, query, start);
  return connection_->RunRepeatedly("query activity", [&]() -> Result<ActivityPage> {
    ActivityPage page;
    MysqlResult rows = connection_->Query(Filled(*connection_, text));
    page.next_page =
        ReadPage(rows, query.paging.limit, &ReadActivity<MysqlResult>, &page.activities);
    return page;
  });
}

Result<StoredCounts> MysqlSession::Count() {
  return connection_->RunRepeatedly("count", [&]() -> Result<StoredCounts> {
    StoredCounts counts;
    for (int status = 0; status <= static_cast<int>(TaskStatus::kCancelled); ++status) {
      counts.tasks_by_status.emplace_back(static_cast<TaskStatus>(status), 0);
    }
    MysqlResult tasks =
        connection_->Query("SELECT status, count(*) FROM dag_tasks GROUP BY status");
    while (tasks.Step()) {
      const auto status = static_cast<std::size_t>(tasks.StatusName());
      const auto count = static_cast<std::uint64_t>(tasks.Int());
      counts.tasks_by_status[status].second = count;
      counts.tasks += count;
    }
    MysqlResult activities = connection_->Query("SELECT count(*) FROM dag_task_activity_logs");
    activities.Step();
    counts.activities = static_cast<std::uint64_t>(activities.Int());
    return counts;
  });
}

Result<std::uint64_t> MysqlSession::HighestStamp() {
  return connection_->RunRepeatedly("read the highest stamp", [&]() -> Result<std::uint64_t> {
    MysqlResult stamp = connection_->Query("SELECT coalesce(max(stamp), 0) FROM wal_checkpoints");
    stamp.Step();
    return static_cast<std::uint64_t>(stamp.Int());
  });
}

Result<std::vector<std::string>> MysqlSession::OldTasks(Time before,
                                                        std::span<const TaskStatus> statuses,
                                                        std::string_view after,
                                                        std::uint32_t limit) {
  const SqlText text = OldTasksSql(kMysqlDialect, before, statuses, after, limit);
  return connection_->RunRepeatedly("find old tasks", [&]() -> Result<std::vector<std::string>> {
    std::vector<std::string> ids;
    MysqlResult rows = connection_->Query(Filled(*connection_, text));
    while (rows.Step()) ids.push_back(rows.Text());
    return ids;
  });
}

Result<std::uint64_t> MysqlSession::DeleteTasks(std::span<const std::string> ids, Time before,
                                                std::span<const TaskStatus> statuses) {
  const std::vector<TaskStatus> terminal = TerminalOf(statuses);
  if (ids.empty() || terminal.empty()) return std::uint64_t{0};
  return connection_->RunRepeatedly("delete old tasks", [&]() -> Result<std::uint64_t> {
    std::string sql = "DELETE FROM dag_tasks WHERE id IN (";
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) sql += ", ";
      connection_->AppendQuoted(&sql, ids[i]);
    }
    return connection_->Execute(sql + ") AND updated_at < '" + MysqlTimeText(before) + "' AND " +
                                StatusIn(terminal));
  });
}

Result<std::uint64_t> MysqlSession::DeleteOldActivities(Time before, std::uint32_t limit) {
  return connection_->RunRepeatedly("delete old activity", [&]() -> Result<std::uint64_t> {
    return connection_->Execute("DELETE FROM dag_task_activity_logs WHERE created_at < '" +
                                MysqlTimeText(before) + "' ORDER BY created_at, id LIMIT " +
                                std::to_string(limit));
  });
}

}  // namespace taskwal::storage
