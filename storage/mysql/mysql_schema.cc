#include "storage/mysql/mysql_schema.h"

#include <span>

#include "base/clock.h"
#include "base/status_macros.h"
#include "storage/schema.h"

namespace taskwal::storage {
namespace {

// Of this database alone; names of locks are short.
constexpr std::string_view kLockName = "CONCAT('taskwal_', MD5(DATABASE()))";

struct StoredSchema {
  std::uint64_t version = 0;  // 0: our tables are not there, or not all of them
  Uuid db_id;
};

StoredSchema ReadSchema(MysqlConnection& connection) {
  StoredSchema stored;
  try {
    MysqlResult row = connection.Query(
        "SELECT version, db_id FROM taskwal_schema ORDER BY version DESC LIMIT 1");
    if (!row.Step()) return {};
    stored.version = static_cast<std::uint64_t>(row.Int());
    stored.db_id = row.Id();
  } catch (const MysqlError& e) {
    if (e.number() != kMysqlNoSuchTable) throw;
  }
  return stored;
}

// One migrator at a time, so that nobody waits for a table that somebody else is making. Some
// engines have no such locks: each step may be repeated and run beside itself, and a version's row
// can be inserted once.
class MigrationLock {
 public:
  explicit MigrationLock(MysqlConnection& connection) : connection_(connection) {
    Ask("GET_LOCK", ", 10");
  }
  ~MigrationLock() { Ask("RELEASE_LOCK", ""); }
  MigrationLock(const MigrationLock&) = delete;
  MigrationLock& operator=(const MigrationLock&) = delete;

 private:
  void Ask(const std::string& function, const std::string& rest) {
    try {
      connection_.Query("SELECT " + function + "(" + std::string(kLockName) + rest + ")");
    } catch (const MysqlError&) {
      // Without the lock; a lost connection shows at the next statement.
    }
  }

  MysqlConnection& connection_;
};

// The statements of a script: each ends with a ';' at the end of its line.
std::vector<std::string> StatementsOf(std::string_view script) {
  std::vector<std::string> statements;
  std::string statement;
  while (!script.empty()) {
    const std::size_t end = std::min(script.find('\n'), script.size());
    const std::string_view line = script.substr(0, end);
    script.remove_prefix(std::min(end + 1, script.size()));
    if (line.empty() || line.starts_with("--")) continue;
    statement += line;
    statement += '\n';
    if (!line.ends_with(';')) continue;
    statements.push_back(statement.substr(0, statement.rfind(';')));
    statement.clear();
  }
  return statements;
}

void RecordVersion(MysqlConnection& connection, std::uint64_t version, const Uuid& db_id) {
  try {
    connection.Execute("INSERT INTO taskwal_schema (version, applied_at, db_id) VALUES (" +
                       std::to_string(version) + ", '" +
                       MysqlTimeText(Clock::Real().WallNow()) + "', '" + db_id.ToString() + "')");
  } catch (const MysqlError& e) {
    // Another migrator came to its end first: its row stands.
    if (e.number() != kMysqlDuplicateKey) throw;
  }
}

Uuid Migrate(MysqlConnection& connection, std::span<const std::string_view> migrations) {
  const MigrationLock lock(connection);
  // Read again: another opener may have been here first.
  StoredSchema stored = ReadSchema(connection);
  while (stored.version < migrations.size()) {
    const std::uint64_t version = stored.version + 1;
    for (const std::string& statement : StatementsOf(migrations[version - 1])) {
      connection.Execute(statement);
    }
    // Crash before it: DDL commits by itself, so some of it is done; the next opener repeats it
    // all.
    RecordVersion(connection, version, version == 1 ? Uuid::Make() : stored.db_id);
    stored = ReadSchema(connection);
  }
  return stored.db_id;
}

}  // namespace

Result<Uuid> PrepareMysqlSchema(MysqlConnection& connection, bool migrate) {
  TASKWAL_ASSIGN(const auto migrations, MigrationsOf("mysql"));
  return connection.Run("check the schema", [&]() -> Result<Uuid> {
    const StoredSchema stored = ReadSchema(connection);
    if (stored.version == migrations.size()) return stored.db_id;
    if (stored.version > migrations.size() || (!migrate && stored.version > 0)) {
      return SchemaMismatch(connection.name(), stored.version, migrations.size());
    }
    if (migrate) return Migrate(connection, migrations);
    return Status::NotFound(connection.name() +
                            ": no taskwal tables there: run `taskwal schema migrate` to make them");
  });
}

}  // namespace taskwal::storage
