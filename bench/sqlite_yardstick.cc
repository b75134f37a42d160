#include "bench/sqlite_yardstick.h"

#include <sqlite3.h>

#include <string_view>

#include "base/status_macros.h"
#include "storage/backend.h"

namespace taskwal::bench {
namespace {

constexpr char kInsertActivity[] =
    "INSERT INTO dag_task_activity_logs (id, task_id, dag_id, node_id, action, message, data, "
    "level,"
    " created_at, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char kUpsertTask[] =
    "INSERT INTO dag_tasks (id, dag_id, node_id, current_node_id, sub_dag_path, processing_state,"
    " status, payload, error, retry_count, max_retries, priority, created_at, updated_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET dag_id = excluded.dag_id, node_id = excluded.node_id,"
    " current_node_id = excluded.current_node_id, sub_dag_path = excluded.sub_dag_path,"
    " processing_state = excluded.processing_state, status = excluded.status,"
    " payload = excluded.payload, error = excluded.error, retry_count = excluded.retry_count,"
    " max_retries = excluded.max_retries, priority = excluded.priority,"
    " updated_at = excluded.updated_at";
constexpr char kUpdateStatus[] =
    "UPDATE dag_tasks SET status = ?, updated_at = '2026-11-21T06:00:00.123456Z' WHERE id = ?";

}  // namespace

struct BareSqlite::Impl {
  sqlite3* db = nullptr;
  sqlite3_stmt* activity = nullptr;
  sqlite3_stmt* task = nullptr;
  sqlite3_stmt* status = nullptr;
  int next = 1;  // parameter

  ~Impl() {
    for (sqlite3_stmt* statement : {activity, task, status}) sqlite3_finalize(statement);
    sqlite3_close(db);
  }

  Status Check(int code) const {
    if (code == SQLITE_OK || code == SQLITE_DONE) return Status::Ok();
    return Status::IoError(std::string("bare SQLite: ") + sqlite3_errmsg(db));
  }
  Status Execute(const char* sql) {
    return Check(sqlite3_exec(db, sql, nullptr, nullptr, nullptr));
  }
  Status Prepare(const char* sql, sqlite3_stmt** statement) {
    return Check(sqlite3_prepare_v2(db, sql, -1, statement, nullptr));
  }
  void Bind(sqlite3_stmt* statement, std::string_view text) {
    sqlite3_bind_text(statement, next++, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
  }
  void Bind(sqlite3_stmt* statement, const std::optional<std::string>& text) {
    if (text) {
      Bind(statement, std::string_view(*text));
    } else {
      sqlite3_bind_null(statement, next++);
    }
  }
  void Bind(sqlite3_stmt* statement, std::int32_t number) {
    sqlite3_bind_int(statement, next++, number);
  }
  Status Run(sqlite3_stmt* statement) {
    const int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    next = 1;
    return Check(code);
  }

  Status Insert(const Activity& a) {
    const std::string created_at = FormatTime(a.created_at.value_or(Time{}));
    for (const std::string* text :
         {&a.id, &a.task_id, &a.dag_id, &a.node_id, &a.action, &a.message}) {
      Bind(activity, std::string_view(*text));
    }
    Bind(activity, a.data);
    Bind(activity, LevelName(a.level));
    Bind(activity, std::string_view(created_at));
    Bind(activity, a.priority);
    return Run(activity);
  }

  Status Upsert(const Task& t) {
    const std::string now = FormatTime(t.created_at.value_or(Time{}));
    for (const std::string* text :
         {&t.id, &t.dag_id, &t.node_id, &t.current_node_id, &t.sub_dag_path, &t.processing_state}) {
      Bind(task, std::string_view(*text));
    }
    Bind(task, TaskStatusName(t.status));
    Bind(task, t.payload);
    Bind(task, std::string_view(t.error));
    for (const std::int32_t number : {t.retry_count, t.max_retries, t.priority}) Bind(task, number);
    Bind(task, std::string_view(now));
    Bind(task, std::string_view(now));
    return Run(task);
  }

  // One row: the statement's own transaction.
  template <typename Rows, typename RunOne>
  Status InTransactions(const Rows& rows, std::size_t per_commit, RunOne&& run_one) {
    for (std::size_t from = 0; from < rows.size(); from += per_commit) {
      const auto part = rows.subspan(from, std::min(per_commit, rows.size() - from));
      if (per_commit > 1) TASKWAL_TRY(Execute("BEGIN IMMEDIATE"));
      for (const auto& row : part) TASKWAL_TRY(run_one(row));
      if (per_commit > 1) TASKWAL_TRY(Execute("COMMIT"));
    }
    return Status::Ok();
  }
};

std::string SqliteDsn(const std::string& path) { return "sqlite://" + path; }

BareSqlite::BareSqlite(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BareSqlite::~BareSqlite() = default;

Result<std::unique_ptr<BareSqlite>> BareSqlite::Create(const std::string& path, SqliteSync sync) {
  {
    TASKWAL_ASSIGN(const auto backend, storage::MakeBackend(SqliteDsn(path), {}));
    TASKWAL_ASSIGN(const auto session, backend->Connect());
  }
  auto impl = std::make_unique<Impl>();
  TASKWAL_TRY(impl->Check(sqlite3_open(path.c_str(), &impl->db)));
  TASKWAL_TRY(impl->Execute(sync == SqliteSync::kFull ? "PRAGMA synchronous = FULL"
                                                      : "PRAGMA synchronous = NORMAL"));
  TASKWAL_TRY(impl->Execute("PRAGMA cache_size = -8000"));
  TASKWAL_TRY(impl->Prepare(kInsertActivity, &impl->activity));
  TASKWAL_TRY(impl->Prepare(kUpsertTask, &impl->task));
  TASKWAL_TRY(impl->Prepare(kUpdateStatus, &impl->status));
  return std::unique_ptr<BareSqlite>(new BareSqlite(std::move(impl)));
}

Status BareSqlite::InsertActivities(std::span<const Activity> activities,
                                    std::size_t rows_per_commit) {
  return impl_->InTransactions(activities, rows_per_commit,
                               [&](const Activity& activity) { return impl_->Insert(activity); });
}

Status BareSqlite::UpsertTasks(std::span<const Task> tasks, std::size_t rows_per_commit) {
  return impl_->InTransactions(tasks, rows_per_commit,
                               [&](const Task& task) { return impl_->Upsert(task); });
}

Status BareSqlite::UpdateStatus(const std::string& id, TaskStatus status) {
  impl_->Bind(impl_->status, TaskStatusName(status));
  impl_->Bind(impl_->status, std::string_view(id));
  return impl_->Run(impl_->status);
}

}  // namespace taskwal::bench
