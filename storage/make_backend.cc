#include "base/status_macros.h"
#include "storage/backend.h"
#include "storage/dsn.h"
#include "storage/memory/memory_backend.h"
#include "storage/sqlite/sqlite_backend.h"

namespace taskwal::storage {
namespace {

Status NotBuiltIn(std::string_view kind) {
  return Status::InvalidArgument(std::string(kind) +
                                 " is not built into this program; it has memory: and sqlite://");
}

}  // namespace

Result<std::unique_ptr<Backend>> MakeBackend(std::string_view dsn, const BackendOptions& options) {
  TASKWAL_ASSIGN(const Dsn parsed, ParseDsn(dsn));
  switch (parsed.kind) {
    case Dsn::Kind::kMemory:
      return std::unique_ptr<Backend>(std::make_unique<MemoryBackend>());
    case Dsn::Kind::kSqlite:
      return std::unique_ptr<Backend>(
          std::make_unique<SqliteBackend>(MaskDsn(parsed.text), parsed.path, options));
    case Dsn::Kind::kPostgres:
      return NotBuiltIn("PostgreSQL");
    case Dsn::Kind::kMysql:
      return NotBuiltIn("MySQL");
  }
  return NotBuiltIn("this kind of database");
}

}  // namespace taskwal::storage
