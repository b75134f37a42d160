// The rows of an answer, columns read in order; the text form of PostgreSQL's times. Throws
// std::runtime_error for text that is not of the kind asked for (someone else wrote it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/uuid.h"
#include "taskwal/task.h"

namespace pqxx {
class result;
}

namespace taskwal::storage {

// "2026-11-21T06:00:00.123456Z"; the year 0 as "0001-… BC".
std::string PostgresTimeText(Time time);
// "2026-11-21 06:00:00.123456+00", as sessions in UTC with DateStyle ISO are told it.
std::optional<Time> ParsePostgresTime(std::string_view text);

class PostgresRows {
 public:
  explicit PostgresRows(const pqxx::result& result);
  ~PostgresRows();
  PostgresRows(PostgresRows&&) noexcept;

  // The next row, its first column next to be read; false at the end.
  bool Step();
  std::string Text();
  std::optional<std::string> OptionalText();
  std::int64_t Int();
  Time Moment();
  std::optional<Time> OptionalMoment();
  TaskStatus StatusName();
  Level LevelName();
  Uuid Id();

 private:
  // The column's text, or nothing for NULL; valid as long as the rows.
  std::optional<std::string_view> Next();
  std::string_view Must();

  std::unique_ptr<const pqxx::result> result_;
  std::size_t next_row_ = 0;
  int column_ = 0;
};

}  // namespace taskwal::storage
