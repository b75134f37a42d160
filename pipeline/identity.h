// Who a log directory is to a database, and the operator's word where it cannot know: a directory
// remembers its LOCK file (inode and birth time), so a moved, copied or restored one notices. See
// `taskwal adopt`.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "pipeline/adoption.h"
#include "pipeline/flush/missing_records.h"
#include "storage/backend.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

struct AdoptReport {
  Uuid wal_id;           // from now on
  wal::Lsn from = 0;     // the first record that will be brought
  bool changed = false;  // false: the directory knew itself already, and nothing was done
  // STATE was damaged, and alone told of these, older than all the log keeps, whether they went
  // because the database has them. Said once, and in the log.
  std::vector<MissingRecords> unknown;
};

struct AdoptDatabase {
  std::string name;  // of the target; kDefaultTarget where there is one
  storage::Backend* backend = nullptr;
};

// kInvalidArgument where these are not all that the log feeds, or more.
Status CheckAdoptList(const wal::LogState& state, std::span<const AdoptDatabase> databases);

// `databases`: all that the log feeds. Durable on return, in the directory and in the databases,
// and safe to repeat after a crash at any point. kNotFound: no log there. kInvalidArgument: the
// word does not fit what is found, the message says which do. kUnavailable: another process has the
// log, or a database is away.
Result<AdoptReport> Adopt(FileSystem& fs, Clock& clock, const std::string& directory,
                          std::span<const AdoptDatabase> databases, Adoption adoption);

// Whether STATE says already that the directory is a copy. Ask before PrepareLog.
bool IsKnownCopy(FileSystem& fs, const std::string& directory);
// For a copy seen for the first time, once the log is open: what its ring held, too, is the
// original's.
Status CountRescuedAsCopied(wal::Log& log);

}  // namespace taskwal::pipeline
