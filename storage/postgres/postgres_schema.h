// The schema of one PostgreSQL database: what version it has, and bringing it to this program's.
#pragma once

#include "base/uuid.h"
#include "storage/postgres/postgres_connection.h"
#include "storage/postgres/postgres_server.h"
#include "storage/schema.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// Returns the db_id: `known`, where that is not zero (see CheckMet). Where `migrate`, missing steps
// are made by one of several that open at once; else kNotFound without our tables.
// kInvalidArgument: the schema is newer than this program, or older and not to be migrated.
Result<Uuid> PreparePostgresSchema(PostgresConnection& connection, Migrations migrations,
                                   bool migrate, const Uuid& known,
                                   const PostgresFeatures& features);

}  // namespace taskwal::storage
