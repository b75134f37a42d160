// The rows of a batch as tables that SQL reads, and the statements that bring them in from there.
#pragma once

#include <span>
#include <string>

#include "storage/backend.h"
#include "storage/sqlite/sqlite_row_table.h"

namespace taskwal::storage {

inline constexpr char kNewActivities[] = "taskwal_new_activities";
inline constexpr char kNewTasks[] = "taskwal_new_tasks";

// A change that puts a row.
struct TaskRow {
  const TaskChange* change;
  const std::string* wal_id;
};

std::span<const SqliteColumn<Batch::ActivityRow>> ActivityColumns();
std::span<const SqliteColumn<TaskRow>> TaskColumns();

// All rows of kNewActivities. Idempotent whether or not the batch asks for it: SQLite looks for the
// id in either case.
const std::string& InsertActivitiesSql();
// All rows of kNewTasks, each where it comes after what the row holds. `is_new`: nothing of a row
// that is there is kept. `open_only`: as in TaskChange.
const std::string& InsertTasksSql(bool is_new, bool open_only);
// To follow where not all of them were put: created_at of those that came too late.
const std::string& HandInCreatedAtSql(bool open_only);

}  // namespace taskwal::storage
