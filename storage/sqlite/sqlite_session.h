// One connection's calls. Writing is in sqlite_session.cc, the queries are in sqlite_queries.cc.
#pragma once

#include <memory>
#include <string>

#include "storage/backend.h"
#include "storage/schema_check.h"
#include "storage/sqlite/sqlite_batch_rows.h"
#include "storage/sqlite/sqlite_connection.h"

namespace taskwal::storage {

class SqliteSession final : public Session {
 public:
  static Result<std::unique_ptr<Session>> Make(std::unique_ptr<SqliteConnection> connection,
                                               const Uuid& db_id);

  Result<ApplyResult> Apply(const Batch& batch) override;
  Result<LogRow> ReadLog(const Uuid& wal_id) override;
  Result<LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                             std::span<const Lsn> start) override;
  Status Ping() override;

  Result<StoredTask> GetTask(std::string_view id) override;
  Result<TaskPage> QueryTasks(const TaskQuery& query) override;
  Result<TaskPage> ResumableTasks(const Paging& paging) override;
  Result<ActivityPage> QueryActivities(const ActivityQuery& query) override;
  Result<StoredCounts> Count() override;
  Result<std::uint64_t> HighestStamp() override;
  Result<std::vector<std::string>> OldTasks(Time before, std::span<const TaskStatus> statuses,
                                            std::string_view after, std::uint32_t limit) override;
  Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                    std::span<const TaskStatus> statuses) override;
  Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) override;

 private:
  SqliteSession(std::unique_ptr<SqliteConnection> connection, const Uuid& db_id);

  // `part`: the one that was under way at its end.
  Result<ApplyResult> Write(const Batch& batch, BatchPart* part);
  Result<std::string> FindSchemaFault();
  // Inside Run.
  bool MoveWatermarks(const Batch& batch, const std::string& wal_id);
  void DeleteDags(const Batch& batch, const std::string& wal_id);
  void ChangeTasks(const Batch& batch, const std::string& wal_id);
  void PutTasks(std::span<const TaskChange> changes, const std::string& wal_id);
  void ChangeRows(std::span<const TaskChange> changes, const std::string& wal_id);
  std::uint64_t InsertActivities(const Batch& batch);
  LogRow SelectLog(const std::string& wal_id);
  void InsertLog(const std::string& wal_id, std::uint64_t epoch, std::span<const Lsn> start);

  // Read by the connection as tables: they are there as long as it is.
  SqliteRows<Batch::ActivityRow> new_activities_;
  SqliteRows<TaskRow> new_tasks_;
  std::unique_ptr<SqliteConnection> connection_;
  const Uuid db_id_;
};

}  // namespace taskwal::storage
