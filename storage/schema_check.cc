#include "storage/schema_check.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace taskwal::storage {
namespace {

enum class Kind : std::uint8_t { kText, kJson, kNumber, kTime, kId };

struct OwnColumn {
  std::string_view table, name;
  Kind kind;
};

constexpr std::string_view kTasks = "dag_tasks";
constexpr std::string_view kActivities = "dag_task_activity_logs";

constexpr OwnColumn kOwnColumns[] = {
    {kTasks, "id", Kind::kText},
    {kTasks, "dag_id", Kind::kText},
    {kTasks, "node_id", Kind::kText},
    {kTasks, "current_node_id", Kind::kText},
    {kTasks, "sub_dag_path", Kind::kText},
    {kTasks, "processing_state", Kind::kText},
    {kTasks, "payload", Kind::kJson},
    {kTasks, "status", Kind::kText},
    {kTasks, "error", Kind::kText},
    {kTasks, "retry_count", Kind::kNumber},
    {kTasks, "max_retries", Kind::kNumber},
    {kTasks, "priority", Kind::kNumber},
    {kTasks, "created_at", Kind::kTime},
    {kTasks, "updated_at", Kind::kTime},
    {kTasks, "started_at", Kind::kTime},
    {kTasks, "completed_at", Kind::kTime},
    {kTasks, "wal_id", Kind::kId},
    {kTasks, "wal_lsn", Kind::kNumber},
    {kTasks, "wal_stamp", Kind::kNumber},
    {kActivities, "id", Kind::kText},
    {kActivities, "task_id", Kind::kText},
    {kActivities, "dag_id", Kind::kText},
    {kActivities, "node_id", Kind::kText},
    {kActivities, "action", Kind::kText},
    {kActivities, "message", Kind::kText},
    {kActivities, "data", Kind::kJson},
    {kActivities, "level", Kind::kText},
    {kActivities, "created_at", Kind::kTime},
    {kActivities, "priority", Kind::kNumber},
};

constexpr std::string_view kOwnKeys[][2] = {
    {kTasks, "id"}, {kActivities, "id"}, {"wal_checkpoints", "partition,wal_id"}};

struct TypeName {
  std::string_view begins;
  Kind kind;
};

// Of all databases. Many columns that are no text are so in some of them, which KindOf allows for.
constexpr TypeName kTypeNames[] = {
    {"json", Kind::kJson},       {"timestamp", Kind::kTime},  {"datetime", Kind::kTime},
    {"date", Kind::kTime},       {"time", Kind::kTime},       {"uuid", Kind::kId},
    {"int", Kind::kNumber},      {"bigint", Kind::kNumber},   {"smallint", Kind::kNumber},
    {"mediumint", Kind::kNumber}, {"tinyint", Kind::kNumber}, {"numeric", Kind::kNumber},
    {"decimal", Kind::kNumber},  {"real", Kind::kNumber},     {"double", Kind::kNumber},
    {"float", Kind::kNumber},    {"bool", Kind::kNumber},     {"bit", Kind::kNumber},
    {"text", Kind::kText},       {"tinytext", Kind::kText},   {"mediumtext", Kind::kText},
    {"longtext", Kind::kText},   {"char", Kind::kText},       {"varchar", Kind::kText},
    {"varbinary", Kind::kText},  {"binary", Kind::kText},     {"bytea", Kind::kText},
    {"blob", Kind::kText},
};

// Nothing for types that somebody made, and others that are not known: they may well do.
std::optional<Kind> KindOf(std::string type) {
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (type.starts_with("interval")) return std::nullopt;
  for (const TypeName& name : kTypeNames) {
    if (type.starts_with(name.begins)) return name.kind;
  }
  return std::nullopt;
}

// Text takes everything, and is what JSON, times and ids are made of in some databases.
bool Takes(const std::string& type, Kind kind) {
  const std::optional<Kind> found = KindOf(type);
  return !found || *found == kind || *found == Kind::kText;
}

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

constexpr std::string_view kNotAsMade = "the tables are not as taskwal made them: ";

}  // namespace

std::string SchemaFault(std::span<const FoundColumn> found) {
  for (const OwnColumn& own : kOwnColumns) {
    const auto column = std::find_if(found.begin(), found.end(), [&](const FoundColumn& one) {
      return one.table == own.table && one.name == own.name;
    });
    if (column == found.end()) return Missing(own, found);
    if (!Takes(column->type, own.kind)) {
      return ColumnName(own.table, own.name) + " is of type " + column->type;
    }
  }
  for (const FoundColumn& column : found) {
    const bool is_own = std::any_of(
        std::begin(kOwnColumns), std::end(kOwnColumns), [&](const OwnColumn& own) {
          return own.table == column.table && own.name == column.name;
        });
    if (is_own || !column.must_be_given) continue;
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

}  // namespace taskwal::storage
