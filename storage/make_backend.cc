#include "base/status_macros.h"
#include "storage/backend.h"
#include "storage/dsn.h"
#include "storage/memory/memory_backend.h"
#include "storage/mysql/mysql_backend.h"
#include "storage/postgres/postgres_backend.h"
#include "storage/sqlite/sqlite_backend.h"

namespace taskwal::storage {

Result<std::unique_ptr<Backend>> MakeBackend(std::string_view dsn, const BackendOptions& options) {
  TASKWAL_ASSIGN(const Dsn parsed, ParseDsn(dsn));
  switch (parsed.kind) {
    case Dsn::Kind::kMemory:
      return std::unique_ptr<Backend>(std::make_unique<MemoryBackend>());
    case Dsn::Kind::kSqlite:
      return std::unique_ptr<Backend>(
          std::make_unique<SqliteBackend>(MaskDsn(parsed.text), parsed.path, options));
    case Dsn::Kind::kPostgres: {
      TASKWAL_ASSIGN(PostgresTarget target, ParsePostgresTarget(parsed.text, options.timeout));
      return std::unique_ptr<Backend>(
          std::make_unique<PostgresBackend>(std::move(target), options.create));
    }
    case Dsn::Kind::kMysql: {
      TASKWAL_ASSIGN(MysqlTarget target, ParseMysqlDsn(parsed.text));
      return std::unique_ptr<Backend>(
          std::make_unique<MysqlBackend>(MaskDsn(parsed.text), std::move(target), options));
    }
  }
  return Status::InvalidArgument("this kind of database is not built in");
}

}  // namespace taskwal::storage
