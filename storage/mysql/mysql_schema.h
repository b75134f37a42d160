// The schema of one MySQL or MariaDB database: what version it has, and bringing it to this
// program's.
#pragma once

#include "base/uuid.h"
#include "storage/mysql/mysql_connection.h"
#include "storage/schema.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// Returns the db_id: `known`, where that is not zero (see CheckMet). Where `migrate`, missing steps
// are made, by one of several that open at once; a migration that was cut short anywhere is gone on
// with. Else kNotFound without our tables. kInvalidArgument: the schema is newer than this program,
// or older and not to be migrated.
Result<Uuid> PrepareMysqlSchema(MysqlConnection& connection, Migrations migrations, bool migrate,
                                const Uuid& known);

}  // namespace taskwal::storage
