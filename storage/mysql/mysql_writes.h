// The rows of a batch as bulk statements. Inside MysqlConnection::Run; everything throws
// MysqlError.
#pragma once

#include <cstdint>
#include <string>

#include "storage/backend.h"
#include "storage/mysql/mysql_connection.h"

namespace taskwal::storage {

// Whole rows first, then patches, then deletes; each group in the order of the batch, which is that
// of the ids. `each_newer`: no row that is there is expected to be newer than the batch's, which
// costs the server less; throws kMysqlNotNull where one is.
void WriteTasks(MysqlConnection& connection, const Batch& batch, const std::string& wal_id,
                bool each_newer);
void DeleteDags(MysqlConnection& connection, const Batch& batch, const std::string& wal_id);

// Throws kMysqlDuplicateKey where an id is there already and the batch is not idempotent. Returns
// how many were there.
std::uint64_t InsertActivities(MysqlConnection& connection, const Batch& batch);

}  // namespace taskwal::storage
