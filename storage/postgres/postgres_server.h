// What a server can do and how its sessions are set up: the servers that speak PostgreSQL's
// protocol differ, and some ways of writing are not open on all of them.
#pragma once

#include <atomic>
#include <string>

#include "storage/postgres/postgres_connection.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// Of one backend, found by the probe of its first session. COPY alone may be refused (SQLSTATE
// 0A000) later on, too: by a table that somebody gave row-level security.
struct PostgresFeatures {
  std::atomic<bool> is_probed{false};
  std::atomic<bool> has_copy{true};            // else arrays by unnest
  std::atomic<bool> has_advisory_locks{true};  // else a migration is repeated where it met another
  std::atomic<bool> has_collations{true};      // else columns compare by bytes anyway
  std::atomic<bool> has_key_catalog{true};     // else a missing key shows in ON CONFLICT alone
};

// Sets the session's time zone, deadlines and durability, and asks what the server can do. Returns
// the settings with which this server would lose a commit at power loss ("fsync=off"), or "".
Result<std::string> PreparePostgresSession(PostgresConnection& connection,
                                           std::chrono::milliseconds timeout,
                                           PostgresFeatures* features);

}  // namespace taskwal::storage
