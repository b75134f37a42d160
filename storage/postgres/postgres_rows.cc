#include "storage/postgres/postgres_rows.h"

#include <charconv>
#include <pqxx/result>
#include <stdexcept>

namespace taskwal::storage {
namespace {

constexpr std::string_view kBeforeChrist = " BC";

template <typename T>
T Known(std::optional<T> value, const char* otherwise) {
  if (!value) throw std::runtime_error(otherwise);
  return *value;
}

}  // namespace

std::string PostgresTimeText(Time time) {
  std::string text = FormatTime(time);
  if (!text.starts_with("0000")) return text;
  return text.replace(0, 4, "0001").append(kBeforeChrist);
}

std::optional<Time> ParsePostgresTime(std::string_view text) {
  std::string utc(text);
  if (utc.ends_with(kBeforeChrist)) {
    if (!utc.starts_with("0001")) return std::nullopt;
    utc.replace(0, 4, "0000");
    utc.resize(utc.size() - kBeforeChrist.size());
  }
  if (utc.ends_with("+00")) utc += ":00";
  return ParseTime(utc);
}

PostgresRows::PostgresRows(const pqxx::result& result)
    : result_(std::make_unique<const pqxx::result>(result)) {}
PostgresRows::~PostgresRows() = default;
PostgresRows::PostgresRows(PostgresRows&&) noexcept = default;

bool PostgresRows::Step() {
  column_ = 0;
  return next_row_++ < static_cast<std::size_t>(result_->size());
}

std::optional<std::string_view> PostgresRows::Next() {
  const pqxx::field field =
      (*result_)[static_cast<pqxx::result::size_type>(next_row_ - 1)]
                [static_cast<pqxx::row::size_type>(column_++)];
  if (field.is_null()) return std::nullopt;
  return std::string_view(field.c_str(), field.size());
}

std::string_view PostgresRows::Must() {
  return Known(Next(), "a value that must be there is NULL");
}

std::string PostgresRows::Text() { return std::string(Must()); }

std::optional<std::string> PostgresRows::OptionalText() {
  const auto text = Next();
  if (!text) return std::nullopt;
  return std::string(*text);
}

std::int64_t PostgresRows::Int() {
  const std::string_view text = Must();
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw std::runtime_error("a stored number is none");
  }
  return value;
}

Time PostgresRows::Moment() {
  return Known(OptionalMoment(), "a time that must be there is NULL");
}

std::optional<Time> PostgresRows::OptionalMoment() {
  const auto text = Next();
  if (!text) return std::nullopt;
  return Known(ParsePostgresTime(*text), "a stored time is outside the years 0 to 9999");
}

TaskStatus PostgresRows::StatusName() {
  return Known(ParseTaskStatus(Must()), "a stored status is none of the known ones");
}

Level PostgresRows::LevelName() {
  return Known(ParseLevel(Must()), "a stored level is none of the known ones");
}

Uuid PostgresRows::Id() { return Known(Uuid::Parse(Must()), "a stored identity is not a uuid"); }

}  // namespace taskwal::storage
