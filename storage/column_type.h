// Whether a column of some type takes all that taskwal writes to it, and keeps it as it is: told by
// the name that the database gives the type. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace taskwal::storage {

enum class DatabaseKind : std::uint8_t { kPostgres, kMysql, kSqlite };

enum class ColumnKind : std::uint8_t {
  kText,
  kJson,
  kNumber,
  kCount,  // a number that is never negative
  kTime,
  kId,
};

struct ColumnNeed {
  ColumnKind kind;
  // Of text and JSON: bytes; of numbers: bits, the sign's among them; of times: digits behind the
  // second.
  std::uint64_t width;
};

enum class ColumnFit : std::uint8_t {
  kFits,
  kOtherKind,
  kNarrower,  // it refuses some values, or keeps a part of them only
};

// `type` with its widths: "timestamp(0) with time zone", "int(10) unsigned", "varchar(10)". A type
// that is not known fits: somebody made it, and it may well do. In SQLite any column takes any
// length, and times are text.
ColumnFit FitOf(DatabaseKind database, std::string_view type, const ColumnNeed& need);

}  // namespace taskwal::storage
