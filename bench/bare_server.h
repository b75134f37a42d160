// A database server without a log in front of it, used as well as its own clients allow. It works
// in a schema (PostgreSQL) or database (MySQL, MariaDB) of the benchmark's own, with the product's
// tables, dropped at the end. Rows are written whole, wal_id and its kin included, but compared
// with nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::bench {

// One way to bring many rows in.
template <typename Row>
struct BulkWay {
  std::string name;                                  // "COPY"
  std::function<Status(std::span<const Row>)> load;  // one transaction
};

// One connection. One thread at a time; outlived by what its ways are called on.
class BareConnection {
 public:
  virtual ~BareConnection() = default;
  // All that this server can do; the rows of activities are new, tasks may be there.
  virtual std::vector<BulkWay<Activity>> ActivityWays() = 0;
  virtual std::vector<BulkWay<Task>> TaskWays() = 0;
  // --- one prepared statement each, committed by itself
  virtual Status Insert(const Activity& activity) = 0;
  virtual Status Upsert(const Task& task) = 0;
  virtual Status UpdateStatus(const std::string& id, TaskStatus status) = 0;
};

class BareServer {
 public:
  // kInvalidArgument: no server's DSN; kUnavailable: no connection, or no right to make a schema.
  static Result<std::unique_ptr<BareServer>> Open(const std::string& dsn);
  virtual ~BareServer() = default;

  // For the product: the same place.
  [[nodiscard]] virtual const std::string& dsn() const = 0;
  // The product's tables, empty and new. Nobody may be connected to them.
  virtual Status Reset() = 0;
  virtual Result<std::unique_ptr<BareConnection>> Connect() = 0;
  // Transactions that the server has committed since it began, by anybody; a few are this call's.
  virtual Result<std::uint64_t> Commits() = 0;
};

Result<std::unique_ptr<BareServer>> OpenPostgres(const std::string& dsn);
Result<std::unique_ptr<BareServer>> OpenMysql(const std::string& dsn);

}  // namespace taskwal::bench
