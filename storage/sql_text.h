// What the SQL backends share: the text of their queries, the order of their columns, and a few
// answers that are alike everywhere. Pages go by key, never by OFFSET. How a database spells a
// parameter or a time is said by its Dialect; values are always parameters.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/backend.h"
#include "storage/paging.h"

namespace taskwal::storage {

struct Dialect {
  // ?1, $1 (a number may be used again) or ? (values in the order of their use).
  enum class Placeholder : std::uint8_t { kQuestionNumber, kDollarNumber, kQuestion } placeholder;
  std::string (*time_text)(Time);  // a time as a parameter's text
  bool compares_rows;              // (a, b) > (c, d) can use an index on a
  // Each arm of a union is in parentheses, ordered and cut by itself.
  bool limits_arms;
  // Before a column: no index on it is to be used for this condition. Empty where there is no such
  // thing.
  std::string_view no_index;
};

// A statement and the values of its parameters, all of them text (times as Dialect::time_text).
struct SqlText {
  std::string sql;
  std::vector<std::string> values;
};

// In the order of ReadTask and ReadActivity.
inline constexpr std::string_view kTaskColumns =
    "id, dag_id, node_id, current_node_id, sub_dag_path, processing_state, payload, status, error, "
    "retry_count, max_retries, priority, created_at, updated_at, started_at, completed_at";
inline constexpr std::string_view kActivityColumns =
    "id, task_id, dag_id, node_id, action, message, data, level, created_at, priority";

// Pages of kTaskColumns or kActivityColumns: up to one row more than the page holds (ReadPage).
SqlText TaskPageSql(const Dialect& dialect, const TaskQuery& query, const PageStart& start);
SqlText ResumablePageSql(const Dialect& dialect, const Paging& paging, const PageStart& start);
SqlText ActivityPageSql(const Dialect& dialect, const ActivityQuery& query, const PageStart& start);

// Session::OldTasks: one column, the id.
SqlText OldTasksSql(const Dialect& dialect, Time before, std::span<const TaskStatus> statuses,
                    std::string_view after, std::uint32_t limit);
// Parameter `n` (from 1): "?1", "$1" or "?".
std::string PlaceholderText(const Dialect& dialect, std::size_t n);
// "status IN ('completed', 'failed')".
std::string StatusIn(std::span<const TaskStatus> statuses);

// The batch's changes of tasks, each turn's by itself.
std::vector<std::span<const TaskChange>> TurnsOf(const Batch& batch);
// Behind the condition of a write for TaskChange::open_only; `place` stands before the column of
// the stored row.
std::string AndIsOpen(std::string_view place);
// The highest stamp of any operation on tasks in the batch; 0 when there is none.
std::uint64_t HighestStampOf(const Batch& batch);
// How long it may take where a call may take `timeout`.
std::chrono::milliseconds TimeOf(const Batch& batch, std::chrono::milliseconds timeout);
// RegisterLog under a lower epoch than the stored one.
Status LaterOpener(std::string_view database, std::string_view wal_id, std::uint64_t stored,
                   std::uint64_t ours);

// --- rows. Row reads its columns in order: Text, OptionalText, Int, Moment, OptionalMoment,
// StatusName, LevelName.

template <typename Row>
Task ReadTask(Row& row) {
  Task task;
  task.id = row.Text();
  task.dag_id = row.Text();
  task.node_id = row.Text();
  task.current_node_id = row.Text();
  task.sub_dag_path = row.Text();
  task.processing_state = row.Text();
  task.payload = row.OptionalText();
  task.status = row.StatusName();
  task.error = row.Text();
  task.retry_count = static_cast<std::int32_t>(row.Int());
  task.max_retries = static_cast<std::int32_t>(row.Int());
  task.priority = static_cast<std::int32_t>(row.Int());
  task.created_at = row.Moment();
  task.updated_at = row.Moment();
  task.started_at = row.OptionalMoment();
  task.completed_at = row.OptionalMoment();
  return task;
}

template <typename Row>
Activity ReadActivity(Row& row) {
  Activity activity;
  activity.id = row.Text();
  activity.task_id = row.Text();
  activity.dag_id = row.Text();
  activity.node_id = row.Text();
  activity.action = row.Text();
  activity.message = row.Text();
  activity.data = row.OptionalText();
  activity.level = row.LevelName();
  activity.created_at = row.Moment();
  activity.priority = static_cast<std::int32_t>(row.Int());
  return activity;
}

// `rows.Step()` goes to the next row, false at the end. Returns the token of the next page.
template <typename Rows, typename Entity>
std::string ReadPage(Rows& rows, std::uint32_t limit, Entity (*read)(Rows&),
                     std::vector<Entity>* page) {
  while (rows.Step()) {
    if (page->size() == limit) return MakePageToken(*page->back().created_at, page->back().id);
    page->push_back(read(rows));
  }
  return "";
}

}  // namespace taskwal::storage
