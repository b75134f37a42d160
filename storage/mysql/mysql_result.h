// The rows of one SELECT, all of them in memory; columns are read in order. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/uuid.h"
#include "taskwal/task.h"

struct st_mysql_res;

namespace taskwal::storage {

// "2026-11-21 06:00:00.123456": DATETIME(6) as these servers read and write it.
std::string MysqlTimeText(Time time);

class MysqlResult {
 public:
  // Takes it over.
  explicit MysqlResult(st_mysql_res* result);

  // The next row, its first column next to be read; false at the end.
  bool Step();

  // These throw std::runtime_error for text that is not of their kind (someone else wrote it).
  std::string Text();
  std::optional<std::string> OptionalText();
  std::int64_t Int();
  Time Moment();
  std::optional<Time> OptionalMoment();
  TaskStatus StatusName();
  Level LevelName();
  Uuid Id();  // zero for ''

 private:
  struct Free {
    void operator()(st_mysql_res* result) const;
  };

  std::optional<std::string_view> Column();

  std::unique_ptr<st_mysql_res, Free> result_;
  char** row_ = nullptr;
  unsigned long* lengths_ = nullptr;
  unsigned next_ = 0;
};

}  // namespace taskwal::storage
