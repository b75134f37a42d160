#include "storage/mysql/mysql_rows.h"

#include "base/check.h"

namespace taskwal::storage {
namespace {

constexpr std::size_t kCellOverhead = 10;  // its length, at most, and whether it is NULL
constexpr std::size_t kFixedBytes = 12;    // a number, a time

}  // namespace

MysqlRows::MysqlRows(const std::vector<Type>& types) {
  for (const Type type : types) columns_.push_back({type, {}, {}, {}, {}});
}

void MysqlRows::Reserve(std::size_t rows) {
  bytes_.reserve(rows);
  for (Column& column : columns_) {
    column.is_null.reserve(rows);
    if (column.type == Type::kBytes || column.type == Type::kText) {
      column.texts.reserve(rows);
      column.lengths.reserve(rows);
    } else {
      column.numbers.reserve(rows);
    }
  }
}

MysqlRows::Column& MysqlRows::NextCell(std::size_t bytes, bool is_null) {
  if (next_ == 0) bytes_.push_back(0);
  bytes_.back() += bytes + kCellOverhead;
  Column& column = columns_[next_];
  column.is_null.push_back(is_null ? 1 : 0);
  next_ = next_ + 1 == columns_.size() ? 0 : next_ + 1;
  return column;
}

MysqlRows& MysqlRows::Add(std::string_view text) {
  Column& column = NextCell(text.size(), false);
  TASKWAL_CHECK(column.type == Type::kBytes || column.type == Type::kText);
  // Not null even for an empty view: a null pointer has a meaning of its own in the driver.
  column.texts.push_back(text.empty() ? "" : text.data());
  column.lengths.push_back(text.size());
  return *this;
}

MysqlRows& MysqlRows::Add(const std::optional<std::string>& text) {
  if (text) return Add(*text);
  Column& column = NextCell(0, true);
  TASKWAL_CHECK(column.type == Type::kBytes || column.type == Type::kText);
  column.texts.push_back("");
  column.lengths.push_back(0);
  return *this;
}

MysqlRows& MysqlRows::Add(std::int64_t number) {
  Column& column = NextCell(kFixedBytes, false);
  TASKWAL_CHECK(column.type == Type::kInt);
  column.numbers.push_back(number);
  return *this;
}

MysqlRows& MysqlRows::Add(Time time) { return Add(std::optional<Time>(time)); }

MysqlRows& MysqlRows::Add(const std::optional<Time>& time) {
  Column& column = NextCell(kFixedBytes, !time);
  TASKWAL_CHECK(column.type == Type::kTime);
  column.numbers.push_back(time ? time->time_since_epoch().count() : 0);
  return *this;
}

}  // namespace taskwal::storage
