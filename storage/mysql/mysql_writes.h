// The rows of a batch as bulk statements. Inside MysqlConnection::Run; everything that asks the
// server throws MysqlError.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/backend.h"
#include "storage/mysql/mysql_bulk.h"
#include "storage/mysql/mysql_connection.h"

namespace taskwal::storage {

class BatchWrites {
 public:
  // Borrows all it is given.
  BatchWrites(MysqlConnection& connection, const Batch& batch, const std::string& wal_id)
      : connection_(connection), batch_(batch), wal_id_(wal_id) {}

  // Once, before the others: brings the rows into the driver's form, without a word to the server.
  // `each_newer`: no task that is there is expected to be newer than the batch's, which costs the
  // server less.
  void LayOut(bool each_newer);

  void DeleteDags();
  // Whole rows first, then patches, then deletes; each group in the order of the batch, which is
  // that of the ids. Throws kMysqlNotNull where a row is newer against what is expected.
  void WriteTasks();
  // Throws kMysqlDuplicateKey where an id is there already and the batch is not idempotent. Returns
  // how many were there.
  std::uint64_t InsertActivities();

 private:
  MysqlConnection& connection_;
  const Batch& batch_;
  const std::string& wal_id_;
  std::vector<BulkWrite> tasks_;
  std::optional<BulkWrite> activities_;  // unless what is stored has a say in them
};

}  // namespace taskwal::storage
