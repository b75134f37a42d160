// The factory of WAL-enabled storage.
#pragma once

#include <memory>
#include <string_view>

#include "taskwal/options.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal {

// Opens (or makes) the log in options.wal_dir and starts bringing its records into the database
// named by `dsn`: "memory:", "sqlite://relative.db", "sqlite:///absolute.db", "postgresql://…",
// "mysql://…". Ready for appends as soon as the log is, whatever the backlog; a database that
// cannot be reached delays only the flush.
//
// Errors: kInvalidArgument (DSN, options), kUnavailable (another process writes the directory; the
// message names its process id), kFenced (the directory is a copy, or the database is another one
// than it fed before: the message names the `taskwal adopt` command that settles it), kIoError.
// Damage in the log is no error: it is reported by RecoveryEvent and the log, and the rest goes on.
// Blocks for the repair of the log's end, and at most options.recovery_timeout for the database.
Result<std::unique_ptr<TaskStorage>> OpenTaskStorage(std::string_view dsn, Options options);

// The same over several databases: options.targets. Each has its own flusher, and none waits for
// another. The first list is recorded in the directory; a later one changes the shares of new
// activities at once, and those of tasks through `taskwal targets rebalance`. kInvalidArgument also
// where a database is missing from the list that has tasks or unflushed records of this log.
Result<std::unique_ptr<TaskStorage>> OpenTaskStorage(Options options);

// The same by kind, for those who configure in code.
class TaskStorageFactory {
 public:
  explicit TaskStorageFactory(Options options) : options_(std::move(options)) {}
  Result<std::unique_ptr<TaskStorage>> CreateMemoryStorage() const;
  Result<std::unique_ptr<TaskStorage>> CreateSqlStorage(std::string_view dsn) const;

 private:
  Options options_;
};

}  // namespace taskwal
