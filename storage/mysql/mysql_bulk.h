// Many rows at once, by what the server can do: array binding of a prepared statement (MariaDB), or
// statements of many rows (everywhere else). A row beyond max_allowed_packet goes alone, its long
// values in pieces.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/mysql/mysql_connection.h"
#include "storage/mysql/mysql_rows.h"

namespace taskwal::storage {

// One statement in its two forms.
struct BulkSql {
  // For one row, with '?'; `parameters` names the column of each.
  std::string prepared;
  std::vector<std::size_t> parameters;
  // For many: head, rows, tail. Without `names` a row is "(1, 'a'" and `row_end`, joined by ", ";
  // with them it is "SELECT 1 AS x, 'a' AS y", joined by " UNION ALL ".
  std::string head;
  std::string row_end = ")";
  std::string tail;
  std::vector<std::string> names;
};

// A statement with its rows, laid out as the driver wants them, without a word to the server.
// Borrows the connection, and what the rows point to.
class BulkWrite {
 public:
  BulkWrite(MysqlConnection& connection, BulkSql sql, MysqlRows rows);
  ~BulkWrite();
  BulkWrite(BulkWrite&& other) noexcept;
  BulkWrite& operator=(BulkWrite&& other) noexcept;

  // Inside MysqlConnection::Run; throws MysqlError. Rows are taken in their order.
  void Execute();

 private:
  class Bulk;
  std::unique_ptr<Bulk> bulk_;
};

}  // namespace taskwal::storage
