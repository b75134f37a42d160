// STATE: what the directory knows about itself. Text, one key=value a line, a checksum line at the
// end (docs/FORMAT.md); written by temp file, rename, directory sync: before a segment is retired,
// at each open (the epoch) and at a clean end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/uuid.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::wal {

struct FormerIdentity {   // wal_id of segments made before the directory took another one
  Uuid wal_id;
  Lsn last_lsn = 0;
};

struct LogState {
  Uuid wal_id;                           // who this log is to a database
  std::vector<FormerIdentity> former;    // segments may carry these too
  std::uint32_t partitions = 16;
  std::uint64_t epoch = 0;               // of the last open
  // Of the last registration in the database. A higher one found there is another opener's: a copy
  // of this directory, or this directory before it was restored from a backup.
  std::uint64_t registered_epoch = 0;
  Lsn first_lsn = 1;                     // older segments were retired on purpose
  Lsn last_lsn = 0;                      // at least this was durable when STATE was written
  bool clean = false;                    // ended by sealing: last_lsn is the very last record
  Uuid db_id;                            // the database fed so far; zero: none yet
  std::vector<Lsn> watermarks;           // confirmed in that database, by partition; empty: none
  Lsn flushed_lsn = 0;                   // everything up to here is there (or in dead letters)
  std::vector<LsnRange> lost;            // losses declared by salvage: no damage any more
  std::uint64_t lock_inode = 0;          // of LOCK: a copied directory does not match
  std::uint64_t lock_born = 0;
  bool copied = false;  // found not to match: feeds no database that has its wal_id
  Lsn copied_at = 0;                     // last LSN it held when that was first seen
};

// Every wal_id that a segment or ring of this directory may carry, its own first.
inline std::vector<Uuid> IdentitiesOf(const LogState& state) {
  std::vector<Uuid> ids{state.wal_id};
  for (const FormerIdentity& former : state.former) ids.push_back(former.wal_id);
  return ids;
}

// kNotFound when there is none; kCorruption when it does not validate.
Result<LogState> ReadState(FileSystem& fs, const std::string& directory);
// Durable on return.
Status WriteState(FileSystem& fs, const std::string& directory, const LogState& state);

}  // namespace taskwal::wal
