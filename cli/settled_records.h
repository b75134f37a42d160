// For reports that must leave everything alone: how many records of a log a database has already.
#pragma once

#include <cstdint>
#include <string>

#include "recovery/report.h"
#include "storage/dsn.h"
#include "taskwal/status.h"

namespace taskwal::cli {

// Counts the records that STATE confirms, or that the watermarks of the database cover. An SQLite
// file is asked by way of a copy in the temporary directory, since opening the file itself would
// change it; a database that is away, or larger than 1 GiB, leaves STATE's word.
Result<std::uint64_t> CountSettledRecords(const std::string& directory,
                                          const recovery::ScanReport& scan,
                                          const storage::Dsn& database);

}  // namespace taskwal::cli
