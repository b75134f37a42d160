// One connection's calls. Writing is in mysql_session.cc, the queries are in mysql_queries.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "storage/backend.h"
#include "storage/mysql/mysql_connection.h"
#include "storage/schema_check.h"

namespace taskwal::storage {

class BatchWrites;

class MysqlSession final : public Session {
 public:
  MysqlSession(std::unique_ptr<MysqlConnection> connection, const Uuid& db_id)
      : connection_(std::move(connection)), db_id_(db_id) {}

  Result<ApplyResult> Apply(const Batch& batch) override;
  Result<LogRow> ReadLog(const Uuid& wal_id) override;
  Result<LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                             std::span<const Lsn> start) override;
  Status Ping() override;
  [[nodiscard]] bool HasGivenWay() const override;

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
  // `part`: the one that was under way at its end.
  Result<ApplyResult> Write(const Batch& batch, BatchPart* part);
  Result<std::string> FindSchemaFault();
  // Inside Run.
  Result<ApplyResult> WriteOnce(const Batch& batch, const std::string& wal_id, bool each_newer,
                                BatchPart* part);
  Result<ApplyResult> WriteRows(const Batch& batch, BatchWrites* writes);
  bool MoveWatermarks(const Batch& batch, const std::string& wal_id,
                      const std::function<void()>& meanwhile);
  LogRow SelectLog(const std::string& wal_id, std::string_view locking);
  bool InsertLog(const std::string& wal_id, std::uint64_t epoch, std::span<const Lsn> start);

  std::unique_ptr<MysqlConnection> connection_;
  const Uuid db_id_;
  std::uint32_t compared_batches_left_ = 0;  // until rows are taken for newer ones again
  bool has_views_ = false;  // under the names of our tables: a view takes no key hint
};

}  // namespace taskwal::storage
