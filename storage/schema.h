// The tables' definitions, embedded from sql/<dialect>/NNN_name.sql: one file per schema version.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/uuid.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// The scripts that make a database's tables, one for each version.
using Migrations = std::span<const std::string_view>;

// In order from version 1. kInvalidArgument names the dialects this program has.
Result<Migrations> MigrationsOf(std::string_view dialect);

// All of them as one script, as `taskwal schema print` shows it.
Result<std::string> SchemaText(std::string_view dialect);

// The two ways a stored schema does not fit: found < known is for those who may not migrate.
Status SchemaMismatch(std::string_view database, std::uint64_t found, std::uint64_t known);

// For those who may not make them: kNotFound.
Status NoTables(std::string_view database);
// `refusal`, of a migration to version `known` by somebody who lacks a right, with what to do.
Status MayNotMigrate(const Status& refusal, std::uint64_t known);

// A process stays with the database it has met, until it ends: what has its address now may have
// none of its rows, and must neither be read for it nor be made into it. kUnavailable unless
// `found`, its db_id (zero: it has no tables), is the `known` one (zero: none was met yet).
Status CheckMet(std::string_view database, const Uuid& known, const Uuid& found);
// Selects it, in every dialect.
inline constexpr const char* kSelectDbId =
    "SELECT db_id FROM taskwal_schema ORDER BY version DESC LIMIT 1";

}  // namespace taskwal::storage
