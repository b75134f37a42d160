#include "storage/schema_check.h"

#include <algorithm>

#include "storage/created_rank.h"
#include "taskwal/task.h"

namespace taskwal::storage {
namespace {

struct OwnColumn {
  std::string_view table, name;
  ColumnNeed need;
};

constexpr std::string_view kTasks = "dag_tasks";
constexpr std::string_view kActivities = "dag_task_activity_logs";
constexpr std::string_view kCheckpoints = "wal_checkpoints";

// What is written there at most (task.h).
constexpr ColumnNeed kName{ColumnKind::kText, kIdBytesMax};
constexpr ColumnNeed kPath{ColumnKind::kText, kSubDagPathBytesMax};
constexpr ColumnNeed kWord{ColumnKind::kText, 16};
constexpr ColumnNeed kMessage{ColumnKind::kText, kMessageBytesMax};
constexpr ColumnNeed kJson{ColumnKind::kJson, kJsonBytesMax};
constexpr ColumnNeed kNumber{ColumnKind::kNumber, 32};
constexpr ColumnNeed kOneToFive{ColumnKind::kCount, 4};
constexpr ColumnNeed kPartition{ColumnKind::kCount, 32};
constexpr ColumnNeed kPosition{ColumnKind::kCount, 64};
constexpr ColumnNeed kMoment{ColumnKind::kTime, 6};
constexpr ColumnNeed kWalId{ColumnKind::kId, 36};
constexpr ColumnNeed kRank{ColumnKind::kText, kCreatedRankBytes};

constexpr OwnColumn kOwnColumns[] = {
    {kTasks, "id", kName},
    {kTasks, "dag_id", kName},
    {kTasks, "node_id", kName},
    {kTasks, "current_node_id", kName},
    {kTasks, "sub_dag_path", kPath},
    {kTasks, "processing_state", kName},
    {kTasks, "payload", kJson},
    {kTasks, "status", kWord},
    {kTasks, "error", kMessage},
    {kTasks, "retry_count", kNumber},
    {kTasks, "max_retries", kNumber},
    {kTasks, "priority", kNumber},
    {kTasks, "created_at", kMoment},
    {kTasks, "updated_at", kMoment},
    {kTasks, "started_at", kMoment},
    {kTasks, "completed_at", kMoment},
    {kTasks, "wal_id", kWalId},
    {kTasks, "wal_lsn", kPosition},
    {kTasks, "wal_stamp", kPosition},
    {kTasks, "created_rank", kRank},
    {kActivities, "id", kName},
    {kActivities, "task_id", kName},
    {kActivities, "dag_id", kName},
    {kActivities, "node_id", kName},
    {kActivities, "action", kName},
    {kActivities, "message", kMessage},
    {kActivities, "data", kJson},
    {kActivities, "level", kWord},
    {kActivities, "created_at", kMoment},
    {kActivities, "priority", kOneToFive},
    {kCheckpoints, "wal_id", kWalId},
    {kCheckpoints, "partition", kPartition},
    {kCheckpoints, "lsn", kPosition},
    {kCheckpoints, "epoch", kPosition},
    {kCheckpoints, "stamp", kPosition},
    {kCheckpoints, "updated_at", kMoment},
};

constexpr std::string_view kOwnKeys[][2] = {
    {kTasks, "id"}, {kActivities, "id"}, {kCheckpoints, "partition,wal_id"}};

std::string ColumnName(std::string_view table, std::string_view name) {
  return "column " + std::string(table) + "." + std::string(name);
}

std::string Missing(const OwnColumn& own, std::span<const FoundColumn> found) {
  const bool has_table = std::any_of(found.begin(), found.end(), [&](const FoundColumn& column) {
    return column.table == own.table;
  });
  if (has_table) return ColumnName(own.table, own.name) + " is missing";
  return "table " + std::string(own.table) + " is missing, or there is no right to it";
}

std::string TypeFault(DatabaseKind database, const OwnColumn& own, const std::string& type) {
  const ColumnFit fit = FitOf(database, type, own.need);
  if (fit == ColumnFit::kFits) return {};
  std::string fault = ColumnName(own.table, own.name) + " is of type " + type;
  if (fit == ColumnFit::kNarrower) fault += ", which does not hold all that is written to it";
  return fault;
}

constexpr std::string_view kNotAsMade = "the tables are not as taskwal made them: ";

}  // namespace

std::string SchemaFault(DatabaseKind database, std::span<const FoundColumn> found) {
  for (const OwnColumn& own : kOwnColumns) {
    const auto column = std::find_if(found.begin(), found.end(), [&](const FoundColumn& one) {
      return one.table == own.table && one.name == own.name;
    });
    if (column == found.end()) return Missing(own, found);
    std::string fault = TypeFault(database, own, column->type);
    if (!fault.empty()) return fault;
  }
  for (const FoundColumn& column : found) {
    const bool is_own = std::any_of(
        std::begin(kOwnColumns), std::end(kOwnColumns), [&](const OwnColumn& own) {
          return own.table == column.table && own.name == column.name;
        });
    // wal_checkpoints gets no row with a batch; registering a log fails by itself there.
    if (is_own || !column.must_be_given || column.table == kCheckpoints) continue;
    return ColumnName(column.table, column.name) +
           " is not taskwal's, takes no NULL and has no default";
  }
  return {};
}

std::string KeyFault(std::span<const FoundKey> found) {
  for (const auto& [table, columns] : kOwnKeys) {
    const bool has_key = std::any_of(found.begin(), found.end(), [&](const FoundKey& key) {
      return key.table == table && key.columns == columns;
    });
    if (has_key) continue;
    return "table " + std::string(table) + " has no primary key on exactly (" +
           std::string(columns) + "), and would take the same row twice";
  }
  return {};
}

std::string EncodingFault(std::string_view encoding) {
  // SQL_ASCII keeps the bytes as they come. What knows no encodings says nothing of them.
  if (encoding.empty() || encoding == "UTF8" || encoding == "SQL_ASCII") return {};
  return "the database has the encoding " + std::string(encoding) +
         ", which lacks characters: dump it, create it again with ENCODING 'UTF8' and restore it";
}

Status WrongSchema(std::string_view database, std::string_view fault) {
  return Status::Unavailable(std::string(database) + ": " + std::string(kNotAsMade) +
                             std::string(fault) +
                             ": nothing is written or dead-lettered until that is mended");
}

Status RefusedBySchema(std::string_view fault, const Status& refusal) {
  return Status::Unavailable(std::string(kNotAsMade) + std::string(fault) +
                             ": nothing is dead-lettered and the log waits until that is mended: " +
                             refusal.message());
}

std::string LacksPartition(std::string_view wal_id) {
  return "wal_checkpoints lacks a partition of log " + std::string(wal_id) +
         ": restore its rows there, or delete them all: then what the log still holds is brought "
         "again, each record once";
}

Status RefusedByCheckpoints(const Status& refusal) {
  return Status::Unavailable("wal_checkpoints does not take how far the log has come: nothing is "
                             "written or dead-lettered until that is mended: " +
                             refusal.message());
}

}  // namespace taskwal::storage
