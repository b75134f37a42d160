// Parameters of one statement in PostgreSQL's binary format: nothing is quoted on the way, and the
// server reads an array of thousands of rows without parsing text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/uuid.h"
#include "taskwal/task.h"

namespace taskwal::storage {

class PostgresParams {
 public:
  // --- single values: $n::bigint, ::text, ::uuid, ::timestamptz
  PostgresParams& Add(std::int64_t value);
  PostgresParams& Add(std::uint64_t value) { return Add(static_cast<std::int64_t>(value)); }
  PostgresParams& Add(std::string_view text);
  PostgresParams& Add(const Uuid& id);
  PostgresParams& Add(Time time);

  // One element per row, which `get` takes from it. The array's type follows from what it returns:
  // text[], bigint[] or timestamptz[]; what is std::optional may be NULL.
  template <typename Rows, typename Get>
  PostgresParams& AddArray(const Rows& rows, Get get) {
    using Value = std::invoke_result_t<Get, decltype(*rows.begin())>;
    std::string array = ArrayHeader(TypeOf(std::type_identity<Value>()), rows.size());
    for (const auto& row : rows) Append(&array, get(row));
    values_.push_back(std::move(array));
    return *this;
  }

  [[nodiscard]] const std::vector<std::string>& values() const { return values_; }

 private:
  // Object identifiers of built-in types, which never change.
  static constexpr std::int32_t TypeOf(std::type_identity<std::string_view>) { return 25; }
  static constexpr std::int32_t TypeOf(std::type_identity<std::int64_t>) { return 20; }
  static constexpr std::int32_t TypeOf(std::type_identity<Time>) { return 1184; }
  static constexpr std::int32_t TypeOf(std::type_identity<std::optional<Time>>) { return 1184; }
  static constexpr std::int32_t TypeOf(std::type_identity<std::optional<std::string_view>>) {
    return 25;
  }

  static std::string ArrayHeader(std::int32_t type, std::size_t count);
  static void Append(std::string* array, std::string_view text);
  static void Append(std::string* array, std::int64_t value);
  static void Append(std::string* array, Time time);
  template <typename T>
  static void Append(std::string* array, const std::optional<T>& value) {
    if (value) {
      Append(array, *value);
    } else {
      AppendNull(array);
    }
  }
  static void AppendNull(std::string* array);

  std::vector<std::string> values_;
};

}  // namespace taskwal::storage
