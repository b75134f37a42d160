#include "storage/mysql/mysql_schema.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/status_macros.h"

namespace taskwal::storage {
namespace {

// Of this database alone; names of locks are short.
constexpr std::string_view kLockName = "CONCAT('taskwal_', MD5(DATABASE()))";
constexpr std::chrono::seconds kLockWaitMax{10};

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
  // Throws where somebody else keeps the lock.
  explicit MigrationLock(MysqlConnection& connection) : connection_(connection) {
    if (!connection.capabilities().named_locks) return;
    const auto wait = std::min<std::chrono::milliseconds>(connection.timeout() / 2, kLockWaitMax);
    const std::string seconds = std::to_string(wait / std::chrono::seconds(1));
    MysqlResult got = connection.Query("SELECT GET_LOCK(" + std::string(kLockName) + ", " +
                                       seconds + ")");
    if (!got.Step() || got.OptionalText() != "1") {
      throw MysqlError(0, "another process is migrating this database; try again");
    }
  }
  ~MigrationLock() {
    if (!connection_.capabilities().named_locks) return;
    try {
      connection_.Query("SELECT RELEASE_LOCK(" + std::string(kLockName) + ")");
    } catch (const MysqlError&) {
      // It went with the connection, which shows at the next statement.
    }
  }
  MigrationLock(const MigrationLock&) = delete;
  MigrationLock& operator=(const MigrationLock&) = delete;

 private:
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

// DDL commits by itself, so some of a version may have been done before; tables are only made where
// they are missing, but a column cannot be added so on every server.
void ExecuteOnce(MysqlConnection& connection, const std::string& statement) {
  try {
    connection.Execute(statement);
  } catch (const MysqlError& e) {
    if (e.number() != kMysqlDuplicateColumn) throw;
  }
}

Uuid Migrate(MysqlConnection& connection, Migrations migrations) {
  const MigrationLock lock(connection);
  // Read again: another opener may have been here first.
  StoredSchema stored = ReadSchema(connection);
  while (stored.version < migrations.size()) {
    const std::uint64_t version = stored.version + 1;
    for (const std::string& statement : StatementsOf(migrations[version - 1])) {
      ExecuteOnce(connection, statement);
    }
    // Crash before it: some of it is done; the next opener repeats it all.
    RecordVersion(connection, version, version == 1 ? Uuid::Make() : stored.db_id);
    stored = ReadSchema(connection);
  }
  return stored.db_id;
}

}  // namespace

Result<Uuid> PrepareMysqlSchema(MysqlConnection& connection, Migrations migrations, bool migrate,
                                const Uuid& known) {
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
      return Migrate(connection, migrations);
    } catch (const MysqlError& e) {
      lacks_right = MysqlLacksRight(e.number());
      throw;
    }
  });
  if (lacks_right) return MayNotMigrate(db_id.status(), migrations.size());
  return db_id;
}

}  // namespace taskwal::storage
