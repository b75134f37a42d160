#include "storage/postgres/postgres_schema.h"

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/postgres/postgres_errors.h"

namespace taskwal::storage {
namespace {

struct StoredSchema {
  std::uint64_t version = 0;  // 0: our tables are not there
  Uuid db_id;
};

StoredSchema ReadSchema(PostgresConnection& connection) {
  // Reading pg_class, and not only a name's cached absence, shows a table that another opener made
  // while this one waited for its lock.
  PostgresRows found = connection.Query("SELECT count(*) FROM pg_class WHERE relname = "
                                        "'taskwal_schema' AND pg_table_is_visible(oid)");
  found.Step();
  if (found.Int() == 0) return {};
  PostgresRows rows =
      connection.Query("SELECT version, db_id FROM taskwal_schema ORDER BY version DESC LIMIT 1");
  if (!rows.Step()) return {};
  StoredSchema stored;
  stored.version = static_cast<std::uint64_t>(rows.Int());
  stored.db_id = rows.Id();
  return stored;
}

// Held to the end of the transaction. On a server without such locks two migrations may meet: then
// one of them fails, is tried again and finds the work done.
void LockMigrations(PostgresConnection& connection, const PostgresFeatures& features) {
  if (!features.has_advisory_locks) return;
  connection.Script("SELECT pg_advisory_xact_lock(x'7461736b77616c'::bigint)");
}

std::string ForServer(std::string_view migration, const PostgresFeatures& features) {
  constexpr std::string_view kCollation = " COLLATE \"C\"";
  std::string text(migration);
  if (features.has_collations) return text;
  std::size_t at = 0;
  while ((at = text.find(kCollation, at)) != std::string::npos) text.erase(at, kCollation.size());
  return text;
}

Uuid Migrate(PostgresConnection& connection, Migrations migrations,
             const PostgresFeatures& features) {
  connection.Begin();
  LockMigrations(connection, features);
  // Read again under the lock: another opener may have been here first.
  const StoredSchema stored = ReadSchema(connection);
  const Uuid db_id = stored.version == 0 ? Uuid::Make() : stored.db_id;
  for (std::uint64_t version = stored.version + 1; version <= migrations.size(); ++version) {
    connection.Script(ForServer(migrations[version - 1], features));
    PostgresParams row;
    row.Add(version).Add(Clock::Real().WallNow()).Add(db_id);
    connection.Execute("INSERT INTO taskwal_schema (version, applied_at, db_id) "
                       "VALUES ($1::bigint, $2::timestamptz, $3::uuid)", row);
  }
  connection.Commit();
  return db_id;
}

}  // namespace

Result<Uuid> PreparePostgresSchema(PostgresConnection& connection, Migrations migrations,
                                   bool migrate, const Uuid& known,
                                   const PostgresFeatures& features) {
  bool lacks_right = false;
  auto db_id = connection.RunRepeatedly("check the schema", [&]() -> Result<Uuid> {
    const StoredSchema stored = ReadSchema(connection);
    const bool is_newer = stored.version > migrations.size();
    if (!is_newer) TASKWAL_TRY(CheckMet(connection.name(), known, stored.db_id));
    if (stored.version == migrations.size()) return stored.db_id;
    if (is_newer || (!migrate && stored.version > 0)) {
      return SchemaMismatch(connection.name(), stored.version, migrations.size());
    }
    if (!migrate) return NoTables(connection.name());
    try {
      return Migrate(connection, migrations, features);
    } catch (...) {
      lacks_right = PostgresLacksRight();
      throw;
    }
  });
  if (lacks_right) return MayNotMigrate(db_id.status(), migrations.size());
  return db_id;
}

}  // namespace taskwal::storage
