// Bare prepared statements on SQLite, no log in front, into the product's own tables.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::bench {

inline constexpr std::uint64_t kRowsBefore =
    20'000;  // present in a table that rows are brought into

// "sqlite:///absolute/path".
std::string SqliteDsn(const std::string& path);

// What a commit waits for: kNormal syncs only when the journal is brought into the database, and a
// power cut takes commits away.
enum class SqliteSync : std::uint8_t { kFull, kNormal };

class BareSqlite {
 public:
  // Makes the database with its schema.
  static Result<std::unique_ptr<BareSqlite>> Create(const std::string& path,
                                                    SqliteSync sync = SqliteSync::kFull);
  ~BareSqlite();
  BareSqlite(const BareSqlite&) = delete;
  BareSqlite& operator=(const BareSqlite&) = delete;

  // Each in transactions of `rows_per_commit`.
  Status InsertActivities(std::span<const Activity> activities, std::size_t rows_per_commit);
  Status UpsertTasks(std::span<const Task> tasks, std::size_t rows_per_commit);
  // One autocommitted statement.
  Status UpdateStatus(const std::string& id, TaskStatus status);

 private:
  struct Impl;
  explicit BareSqlite(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::bench
