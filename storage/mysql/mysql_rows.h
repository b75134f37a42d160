// Rows on their way into the database, kept column by column, as array binding wants them. Text is
// borrowed: what the cells point to outlives the rows. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/task.h"

namespace taskwal::storage {

class MysqlRows {
 public:
  // kBytes is compared as bytes (VARBINARY), kText in the column's character set.
  enum class Type : std::uint8_t { kBytes, kText, kInt, kTime };

  struct Column {
    Type type;
    std::vector<const char*> texts;       // kBytes, kText
    std::vector<unsigned long> lengths;
    std::vector<std::int64_t> numbers;    // kInt; kTime in microseconds
    std::vector<char> is_null;
  };

  explicit MysqlRows(const std::vector<Type>& types);

  void Reserve(std::size_t rows);
  // The cells of a row, from the first column to the last; each must be of its column's type.
  MysqlRows& Add(std::string_view text);
  MysqlRows& Add(const std::string& text) { return Add(std::string_view(text)); }
  MysqlRows& Add(std::string&& text) = delete;
  MysqlRows& Add(const std::optional<std::string>& text);
  MysqlRows& Add(std::int64_t number);
  MysqlRows& Add(std::uint64_t number) { return Add(static_cast<std::int64_t>(number)); }
  MysqlRows& Add(Time time);
  MysqlRows& Add(const std::optional<Time>& time);

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] const std::vector<Column>& columns() const { return columns_; }
  // Of the row's values as they are sent in binary form.
  [[nodiscard]] std::size_t BytesOf(std::size_t row) const { return bytes_[row]; }

 private:
  Column& NextCell(std::size_t bytes, bool is_null);

  std::vector<Column> columns_;
  std::vector<std::size_t> bytes_;
  std::size_t next_ = 0;
};

}  // namespace taskwal::storage
