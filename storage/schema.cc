#include "storage/schema.h"

#include "base/status_macros.h"
#include "embedded_mysql_sql.h"
#include "embedded_postgres_sql.h"
#include "embedded_sqlite_sql.h"

namespace taskwal::storage {

Result<Migrations> MigrationsOf(std::string_view dialect) {
  if (dialect == "sqlite") return Migrations(kSqliteMigrations);
  if (dialect == "postgres") return Migrations(kPostgresMigrations);
  if (dialect == "mysql") return Migrations(kMysqlMigrations);
  return Status::InvalidArgument(
      "no schema for this kind of database; there is one for: mysql, postgres, sqlite");
}

Result<std::string> SchemaText(std::string_view dialect) {
  TASKWAL_ASSIGN(const auto migrations, MigrationsOf(dialect));
  std::string text;
  for (const std::string_view migration : migrations) text += migration;
  return text;
}

Status SchemaMismatch(std::string_view database, std::uint64_t found, std::uint64_t known) {
  std::string message(database);
  message += " has schema version " + std::to_string(found) + ", this program works with " +
             std::to_string(known);
  message += found > known ? ": use a newer taskwal" : ": run `taskwal schema migrate` first";
  return Status::InvalidArgument(std::move(message));
}

Status NoTables(std::string_view database) {
  return Status::NotFound(std::string(database) +
                          ": no taskwal tables there: run `taskwal schema migrate` to make them");
}

Status MayNotMigrate(const Status& refusal, std::uint64_t known) {
  return {refusal.code(), refusal.message() + ": the tables are to be brought to schema version " +
                              std::to_string(known) +
                              ": run `taskwal schema migrate` as somebody who may change them"};
}

Status CheckMet(std::string_view database, const Uuid& known, const Uuid& found) {
  if (known.IsZero() || found == known) return Status::Ok();
  const std::string name(database);
  if (found.IsZero()) {
    return Status::Unavailable(name + ": the tables that this process has met are gone: bring them "
                                      "back as they were; none are made in their place");
  }
  return Status::Unavailable(name + ": another database is there than this process has met: give "
                                    "that one back, or restart to be told how to go on with this");
}

}  // namespace taskwal::storage
