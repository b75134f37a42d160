#include "storage/sqlite/sqlite_schema.h"

#include "base/status_macros.h"

namespace taskwal::storage {
namespace {

struct StoredSchema {
  std::uint64_t version = 0;  // 0: our tables are not there
  Uuid db_id;
};

StoredSchema ReadSchema(SqliteConnection& connection) {
  if (!connection.HasTable("taskwal_schema")) return {};
  SqliteStatement select = connection.Prepare(
      "SELECT version, db_id FROM taskwal_schema ORDER BY version DESC LIMIT 1");
  if (!select.Start().Step()) return {};
  StoredSchema stored;
  stored.version = static_cast<std::uint64_t>(select.Int());
  stored.db_id = select.Id();
  return stored;
}

Result<Uuid> Migrate(SqliteConnection& connection, Migrations migrations) {
  connection.Begin();
  // Read again under the lock: another opener may have been here first.
  const StoredSchema stored = ReadSchema(connection);
  const Uuid db_id = stored.version == 0 ? Uuid::Make() : stored.db_id;
  const std::string id_text = db_id.ToString();
  for (std::uint64_t version = stored.version + 1; version <= migrations.size(); ++version) {
    connection.Execute(migrations[version - 1]);
    SqliteStatement insert = connection.Prepare("INSERT INTO taskwal_schema VALUES (?, ?, ?)");
    insert.Start().Bind(version).Bind(Clock::Real().WallNow()).Bind(id_text).Run();
  }
  TASKWAL_TRY(connection.Commit());
  return db_id;
}

}  // namespace

Result<Uuid> PrepareSqliteSchema(SqliteConnection& connection, Migrations migrations,
                                 bool migrate, const Uuid& known) {
  return connection.Run("check the schema", [&]() -> Result<Uuid> {
    const StoredSchema stored = ReadSchema(connection);
    const bool is_newer = stored.version > migrations.size();
    if (!is_newer) TASKWAL_TRY(CheckMet(connection.name(), known, stored.db_id));
    if (stored.version == migrations.size()) return stored.db_id;
    if (is_newer || (!migrate && stored.version > 0)) {
      return SchemaMismatch(connection.name(), stored.version, migrations.size());
    }
    if (migrate) return Migrate(connection, migrations);
    return NoTables(connection.name());
  });
}

}  // namespace taskwal::storage
