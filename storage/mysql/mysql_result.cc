#include "storage/mysql/mysql_result.h"

#include <mysql.h>

#include <charconv>
#include <stdexcept>

namespace taskwal::storage {
namespace {

template <typename T>
T Known(const std::optional<T>& value, const char* otherwise) {
  if (!value) throw std::runtime_error(otherwise);
  return *value;
}

Time ParseMoment(std::string_view text) {
  return Known(ParseTime(std::string(text) + "Z"), "a stored time is none");
}

}  // namespace

std::string MysqlTimeText(Time time) {
  std::string text = FormatTime(time);
  text[10] = ' ';
  text.pop_back();
  return text;
}

void MysqlResult::Free::operator()(st_mysql_res* result) const { mysql_free_result(result); }

MysqlResult::MysqlResult(st_mysql_res* result) : result_(result) {}

bool MysqlResult::Step() {
  row_ = mysql_fetch_row(result_.get());
  lengths_ = row_ != nullptr ? mysql_fetch_lengths(result_.get()) : nullptr;
  next_ = 0;
  return row_ != nullptr;
}

std::optional<std::string_view> MysqlResult::Column() {
  const unsigned column = next_++;
  if (row_[column] == nullptr) return std::nullopt;
  return std::string_view(row_[column], lengths_[column]);
}

std::string MysqlResult::Text() { return std::string(Column().value_or("")); }

std::optional<std::string> MysqlResult::OptionalText() {
  const auto text = Column();
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

std::int64_t MysqlResult::Int() {
  const std::string_view text = Column().value_or("");
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw std::runtime_error("a stored number is none");
  }
  return value;
}

Time MysqlResult::Moment() { return ParseMoment(Column().value_or("")); }

std::optional<Time> MysqlResult::OptionalMoment() {
  const auto text = Column();
  return text ? std::optional<Time>(ParseMoment(*text)) : std::nullopt;
}

TaskStatus MysqlResult::StatusName() {
  return Known(ParseTaskStatus(Column().value_or("")), "a stored status is none of the known ones");
}

Level MysqlResult::LevelName() {
  return Known(ParseLevel(Column().value_or("")), "a stored level is none of the known ones");
}

Uuid MysqlResult::Id() {
  const std::string_view text = Column().value_or("");
  return text.empty() ? Uuid() : Known(Uuid::Parse(text), "a stored identity is not a uuid");
}

}  // namespace taskwal::storage
