// Who a log directory is to a database, and the operator's word where it cannot know: a directory
// remembers its LOCK file (inode and birth time), so a moved, copied or restored one notices. See
// `taskwal adopt`.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/file_system.h"
#include "storage/backend.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

enum class Adoption : std::uint8_t {
  kMoved,    // this is the original, at another place: it goes on as before
  kRelabel,  // a copy: what it appended since goes into the database under a new wal_id; what it
             // held before is the original's to bring
  kNewDatabase,  // feed this database from the oldest retained record on
};

struct AdoptReport {
  Uuid wal_id;           // from now on
  wal::Lsn from = 0;     // the first record that will be brought
  bool changed = false;  // false: the directory knew itself already, and nothing was done
};

// Durable on return, in the directory and in the database, and safe to repeat after a crash at any
// point. kNotFound: no log there. kInvalidArgument: the word does not fit what is found, the
// message says which does. kUnavailable: another process has the log, or the database is away.
Result<AdoptReport> Adopt(FileSystem& fs, Clock& clock, const std::string& directory,
                          storage::Backend& backend, Adoption adoption);

// Whether STATE says already that the directory is a copy. Ask before PrepareLog.
bool IsKnownCopy(FileSystem& fs, const std::string& directory);
// For a copy seen for the first time, once the log is open: what its ring held, too, is the
// original's.
Status CountRescuedAsCopied(wal::Log& log);

}  // namespace taskwal::pipeline
