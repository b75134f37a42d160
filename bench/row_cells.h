// The values of a row in the order of their columns: the same for every way of bringing it in.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "storage/created_rank.h"
#include "taskwal/task.h"

namespace taskwal::bench {

// The product's columns but wal_id, which is the same in every row (kRowsWalId).
inline constexpr std::array<std::string_view, 10> kActivityColumnNames = {
    "id", "task_id", "dag_id", "node_id", "action", "message", "data", "level", "created_at",
    "priority"};
inline constexpr std::array<std::string_view, 19> kTaskColumnNames = {
    "id",          "dag_id",     "node_id",    "current_node_id", "sub_dag_path",
    "processing_state", "payload", "status",   "error",           "retry_count",
    "max_retries", "priority",   "created_at", "updated_at",      "started_at",
    "completed_at", "wal_lsn",   "wal_stamp",  "created_rank"};
inline constexpr std::string_view kRowsWalId = "'00000000-0000-4000-8000-000000000001'";
inline constexpr std::string_view kRowsCreatedRank = "0zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
static_assert(kRowsCreatedRank.size() == storage::kCreatedRankBytes);

// Calls `take` with each: std::string_view, std::int64_t, Time, and std::optional of text or Time.
template <typename Take>
void TakeCells(const Activity& activity, Take& take) {
  for (const std::string* text : {&activity.id, &activity.task_id, &activity.dag_id,
                                  &activity.node_id, &activity.action, &activity.message}) {
    take(std::string_view(*text));
  }
  take(activity.data);
  take(LevelName(activity.level));
  take(activity.created_at.value_or(Time{}));
  take(std::int64_t{activity.priority});
}

template <typename Take>
void TakeCells(const Task& task, Take& take) {
  for (const std::string* text : {&task.id, &task.dag_id, &task.node_id, &task.current_node_id,
                                  &task.sub_dag_path, &task.processing_state}) {
    take(std::string_view(*text));
  }
  take(task.payload);
  take(TaskStatusName(task.status));
  take(std::string_view(task.error));
  take(std::int64_t{task.retry_count});
  take(std::int64_t{task.max_retries});
  take(std::int64_t{task.priority});
  take(task.created_at.value_or(Time{}));
  take(task.updated_at.value_or(Time{}));
  take(task.started_at);
  take(task.completed_at);
  take(std::int64_t{1'000'000});
  take(std::int64_t{0});  // below the stamp of any log: what a log brings comes after it
  take(kRowsCreatedRank);
}

// "id, task_id, …".
std::string Joined(std::span<const std::string_view> names);

// Of a Row: its table and columns.
template <typename Row>
struct TableOf;
template <>
struct TableOf<Activity> {
  static constexpr std::string_view kName = "dag_task_activity_logs";
  static constexpr std::span<const std::string_view> kColumns = kActivityColumnNames;
  static constexpr bool kHasWalId = false;
};
template <>
struct TableOf<Task> {
  static constexpr std::string_view kName = "dag_tasks";
  static constexpr std::span<const std::string_view> kColumns = kTaskColumnNames;
  static constexpr bool kHasWalId = true;
};

}  // namespace taskwal::bench
