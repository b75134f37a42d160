// Many rows in one statement: COPY for what is surely new, arrays taken apart by unnest for what
// may meet rows that are there. Called inside PostgresConnection::Run; all of these throw.
#pragma once

#include <span>
#include <vector>

#include "storage/backend.h"
#include "storage/postgres/postgres_connection.h"

namespace taskwal::storage {

using TaskRows = std::vector<const TaskChange*>;  // each task once, sorted by id
using ActivityRows = std::span<const Batch::ActivityRow>;

// --- each task only where the change comes after what the row holds; open_only is alike in all

// What comes too late hands its created_at in. `is_new`: nothing of a row that is there is kept.
void PutTasks(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows,
              bool is_new);
void PatchTasks(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows);
void DeleteTasks(PostgresConnection& connection, const Uuid& wal_id, const TaskRows& rows);

// pqxx::unique_violation where an id is there already.
void CopyActivities(PostgresConnection& connection, ActivityRows rows);
// Returns how many were not there yet.
std::uint64_t MergeActivities(PostgresConnection& connection, ActivityRows rows);

}  // namespace taskwal::storage
