// Names of databases: memory:, sqlite://relative.db, sqlite:///absolute.db, postgresql://…,
// mysql://….
#pragma once

#include <string>
#include <string_view>

#include "taskwal/status.h"

namespace taskwal::storage {

struct Dsn {
  enum class Kind { kMemory, kSqlite, kPostgres, kMysql } kind = Kind::kMemory;
  std::string text;  // as given
  std::string path;  // kSqlite: the file, plain (nothing in it is decoded)
};

// kInvalidArgument says which forms there are. The message never holds a password.
Result<Dsn> ParseDsn(std::string_view text);

// The DSN with passwords shown as "***": of user:password@ and of any password parameter.
std::string MaskDsn(std::string_view text);

}  // namespace taskwal::storage
