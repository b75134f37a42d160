#include "storage/postgres/postgres_params.h"

namespace taskwal::storage {
namespace {

constexpr Time kPostgresEpoch = std::chrono::sys_days(std::chrono::year(2000) / 1 / 1);
constexpr std::int32_t kNull = -1;

// Most significant byte first.
template <typename Int>
void AppendInt(std::string* bytes, Int value) {
  const auto bits = static_cast<std::make_unsigned_t<Int>>(value);
  for (int shift = 8 * static_cast<int>(sizeof(Int)) - 8; shift >= 0; shift -= 8) {
    *bytes += static_cast<char>(bits >> shift & 0xff);
  }
}

std::string BytesOf(std::int64_t value) {
  std::string bytes;
  AppendInt(&bytes, value);
  return bytes;
}

std::int64_t Micros(Time time) { return (time - kPostgresEpoch).count(); }

}  // namespace

PostgresParams& PostgresParams::Add(std::int64_t value) {
  values_.push_back(BytesOf(value));
  return *this;
}

PostgresParams& PostgresParams::Add(std::string_view text) {
  values_.emplace_back(text);
  return *this;
}

PostgresParams& PostgresParams::Add(const Uuid& id) {
  values_.emplace_back(id.bytes.begin(), id.bytes.end());
  return *this;
}

PostgresParams& PostgresParams::Add(Time time) {
  values_.push_back(BytesOf(Micros(time)));
  return *this;
}

// One dimension, from 1; NULLs may occur.
std::string PostgresParams::ArrayHeader(std::int32_t type, std::size_t count) {
  std::string header;
  header.reserve(20 + 12 * count);
  for (const std::int32_t field : {1, 1, type, static_cast<std::int32_t>(count), 1}) {
    AppendInt(&header, field);
  }
  return header;
}

void PostgresParams::Append(std::string* array, std::string_view text) {
  AppendInt(array, static_cast<std::int32_t>(text.size()));
  *array += text;
}

void PostgresParams::Append(std::string* array, std::int64_t value) {
  AppendInt(array, std::int32_t{8});
  AppendInt(array, value);
}

void PostgresParams::Append(std::string* array, Time time) { Append(array, Micros(time)); }

void PostgresParams::AppendNull(std::string* array) { AppendInt(array, kNull); }

}  // namespace taskwal::storage
