// Rows in memory as a table that SQL reads, so that one execution of INSERT ... SELECT brings them
// all in: its cursors are opened once, and no value takes a call of its own into SQLite.
// An eponymous-only virtual table: https://www.sqlite.org/vtab.html
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/time_text.h"
#include "taskwal/task.h"

struct sqlite3;
struct sqlite3_context;

namespace taskwal::storage {

// The value of one column of the row that is read. Text is borrowed until the next row.
class SqliteCell {
 public:
  SqliteCell(sqlite3_context* context, TimeText* time) : context_(context), time_(time) {}

  void Put(const std::string& text);
  void Put(std::string&& text) = delete;
  void Put(const std::optional<std::string>& text);
  void Put(std::int64_t value);
  void Put(std::uint64_t value) { Put(static_cast<std::int64_t>(value)); }
  void Put(Time time);
  void Put(const std::optional<Time>& time);
  void Put(TaskStatus status);
  void Put(Level level);

 private:
  sqlite3_context* context_;
  TimeText* time_;
};

class SqliteRowSource {
 public:
  virtual ~SqliteRowSource() = default;
  // As they stand in SQL: "id, task_id".
  [[nodiscard]] virtual std::string columns() const = 0;
  [[nodiscard]] virtual std::size_t width() const = 0;
  [[nodiscard]] virtual std::size_t rows() const = 0;
  virtual void Put(std::size_t row, std::size_t column, SqliteCell& cell) const = 0;
};

template <typename Row>
struct SqliteColumn {
  const char* name;
  void (*put)(const Row& row, SqliteCell& cell);
};

template <typename Row>
class SqliteRows final : public SqliteRowSource {
 public:
  // `columns` live for ever.
  explicit SqliteRows(std::span<const SqliteColumn<Row>> columns) : columns_(columns) {}

  // The rows that the table has from now on: borrowed until the next call.
  void Show(std::span<const Row> rows) { rows_ = rows; }

  [[nodiscard]] std::string columns() const override {
    std::string names;
    for (const auto& column : columns_) {
      if (!names.empty()) names += ", ";
      names += column.name;
    }
    return names;
  }
  [[nodiscard]] std::size_t width() const override { return columns_.size(); }
  [[nodiscard]] std::size_t rows() const override { return rows_.size(); }
  void Put(std::size_t row, std::size_t column, SqliteCell& cell) const override {
    columns_[column].put(rows_[row], cell);
  }

 private:
  std::span<const SqliteColumn<Row>> columns_;
  std::span<const Row> rows_;
};

// `source` outlives the connection. Throws std::runtime_error where SQLite refuses.
void AddRowTable(sqlite3* db, const std::string& name, const SqliteRowSource& source);

}  // namespace taskwal::storage
