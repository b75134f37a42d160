// taskwal schema: the definitions of the tables, and making them in a database.
#include "storage/schema.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "storage/backend.h"

namespace taskwal::cli {
namespace {

struct SchemaArguments {
  std::string dsn;
  std::string dialect;
  std::chrono::milliseconds timeout = storage::BackendOptions{}.timeout;
  bool json = false;
};

Result<std::string> DialectOf(const SchemaArguments& arguments) {
  if (!arguments.dialect.empty()) return arguments.dialect;
  TASKWAL_ASSIGN(const std::string dsn, ResolveDsn(arguments.dsn, "sqlite://taskwal.db"));
  TASKWAL_ASSIGN(const auto backend, storage::MakeBackend(dsn, {}));
  return std::string(backend->kind());
}

int RunPrint(const SchemaArguments& arguments) {
  const auto dialect = DialectOf(arguments);
  if (!dialect.ok()) return Fail("schema print", dialect.status());
  const auto text = storage::SchemaText(*dialect);
  if (!text.ok()) return Fail("schema print", text.status());
  std::fwrite(text->data(), 1, text->size(), stdout);
  return kExitDone;
}

void PrintMigrated(const SchemaArguments& arguments, const storage::Backend& backend) {
  const auto migrations = storage::MigrationsOf(backend.kind());
  const std::size_t version = migrations.ok() ? migrations->size() : 1;
  const std::string db_id = backend.db_id().ToString();
  if (arguments.json) {
    std::printf("{\"database\":%s,\"schema_version\":%zu,\"db_id\":\"%s\"}\n",
                JsonQuote(backend.name()).c_str(), version, db_id.c_str());
    return;
  }
  std::printf("%s: schema version %zu, database %s\n", backend.name().c_str(), version,
              db_id.c_str());
}

int RunMigrate(const SchemaArguments& arguments) {
  const auto dsn = ResolveDsn(arguments.dsn);
  if (!dsn.ok()) return Fail("schema migrate", dsn.status());
  const auto backend = storage::MakeBackend(*dsn, {arguments.timeout});
  if (!backend.ok()) return Fail("schema migrate", backend.status());
  ProgressBar bar("waiting for " + (*backend)->name(), {.limit = arguments.timeout});
  const auto session = (*backend)->Connect();
  bar.End();
  if (!session.ok()) {
    PrintError("schema migrate", session.status().message());
    return kExitFailed;
  }
  PrintMigrated(arguments, **backend);
  return kExitDone;
}

}  // namespace

void AddSchemaCommand(CLI::App& app, int* exit_code) {
  CLI::App* schema = app.add_subcommand("schema", "The tables: their definitions, and making them");
  schema->require_subcommand(1);
  auto arguments = std::make_shared<SchemaArguments>();  // shared with the callbacks

  CLI::App* print = schema->add_subcommand("print", "Print the definitions of the tables as SQL");
  AddDatabaseOption(*print, &arguments->dsn);
  print
      ->add_option("--dialect", arguments->dialect,
                   "Instead of --db: of this kind of database, mysql, postgres or sqlite (default "
                   "where none is named)")
      ->type_name("NAME")
      ->check(NotEmpty)
      ->excludes("--db");
  print->footer("Example: taskwal schema print --dialect sqlite");
  print->callback([arguments, exit_code] { *exit_code = RunPrint(*arguments); });

  CLI::App* migrate =
      schema->add_subcommand("migrate", "Make the tables, or bring them to this program's version");
  AddDatabaseOption(*migrate, &arguments->dsn);
  AddDurationOption(*migrate, "--timeout", &arguments->timeout,
                    "The database takes at most this long");
  migrate->add_flag("--json", arguments->json, "Print one JSON object");
  migrate->footer("Example: taskwal schema migrate --db sqlite://tasks.db");
  migrate->callback([arguments, exit_code] { *exit_code = RunMigrate(*arguments); });
}

}  // namespace taskwal::cli
