// A prepared statement with its parameters bound and its columns read in order, borrowing the
// values it is given: no copies on the way into SQLite. Throws what SQLiteCpp throws; one thread at
// a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/time_text.h"
#include "base/uuid.h"
#include "taskwal/task.h"

namespace SQLite {
class Database;
class Statement;
}  // namespace SQLite

namespace taskwal::storage {

class SqliteStatement {
 public:
  SqliteStatement(const SQLite::Database& db, const std::string& sql);
  ~SqliteStatement();

  // A new execution: the next Bind is for the first parameter.
  SqliteStatement& Start();
  // Text is borrowed until the execution ends.
  SqliteStatement& Bind(const std::string& text);
  SqliteStatement& Bind(std::string&& text) = delete;
  SqliteStatement& Bind(const std::optional<std::string>& text);
  SqliteStatement& Bind(std::int64_t value);
  SqliteStatement& Bind(std::uint64_t value);
  SqliteStatement& Bind(Time time);
  SqliteStatement& Bind(const std::optional<Time>& time);
  SqliteStatement& Bind(TaskStatus status);
  SqliteStatement& Bind(Level level);
  // Runs a statement without rows; the number of rows it changed.
  std::uint64_t Run();
  // The next row, its first column next to be read; false at the end.
  bool Step();
  // Ends the execution, and with it the read transaction it may hold.
  void Reset();

  std::string Text();
  std::int64_t Int();
  std::optional<std::string> OptionalText();
  // Throw std::runtime_error for text that is not of their kind (someone else wrote it).
  Time Moment();
  std::optional<Time> OptionalMoment();
  TaskStatus StatusName();
  Level LevelName();
  Uuid Id();  // zero for ''

 private:
  SqliteStatement& BindNull();

  std::unique_ptr<SQLite::Statement> statement_;
  int bound_ = 0;
  int read_ = 0;
  std::size_t times_ = 0;
  std::array<TimeText, 8> time_texts_{};
};

}  // namespace taskwal::storage
