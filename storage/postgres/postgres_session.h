// One connection's calls. Writing is in postgres_session.cc, the queries are in
// postgres_queries.cc.
#pragma once

#include <memory>
#include <optional>

#include "storage/backend.h"
#include "storage/postgres/postgres_connection.h"
#include "storage/postgres/postgres_server.h"
#include "storage/schema_check.h"

namespace taskwal::storage {

class PostgresSession final : public Session {
 public:
  // `features` is the backend's, which outlives its sessions.
  PostgresSession(std::unique_ptr<PostgresConnection> connection, PostgresFeatures& features,
                  const Uuid& db_id)
      : connection_(std::move(connection)), features_(features), db_id_(db_id) {}

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
  Result<BatchPart> FindPartRefusedAtCommit(const Batch& batch);
  Result<std::string> FindSchemaFault();
  // Inside Run.
  bool MoveWatermarks(const Batch& batch);
  void DeleteDags(const Batch& batch);
  void ChangeTasks(const Batch& batch);
  void ChangeTasks(const Uuid& wal_id, std::span<const TaskChange> changes, bool open_only);
  // Returns the duplicates; nothing where an id is there already and the batch has to be repeated
  // in idempotent form.
  std::optional<std::uint64_t> InsertActivities(const Batch& batch);
  bool CopyActivities(const Batch& batch);
  LogRow SelectLog(const Uuid& wal_id, std::string_view lock);
  bool InsertLog(const Uuid& wal_id, std::uint64_t epoch, std::span<const Lsn> start);

  std::unique_ptr<PostgresConnection> connection_;
  PostgresFeatures& features_;
  const Uuid db_id_;
};

}  // namespace taskwal::storage
