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

// What is known of one database that the log feeds.
struct FedDatabase {
  Uuid db_id;                            // zero: none met yet
  // Of the last registration there. A higher one found there is another opener's: a copy of this
  // directory, or this directory before it was restored from a backup.
  std::uint64_t registered_epoch = 0;
  std::vector<Lsn> watermarks;           // confirmed there, by partition; empty: none
  Lsn flushed_lsn = 0;                   // everything up to here is there (or in dead letters)
  friend bool operator==(const FedDatabase&, const FedDatabase&) = default;
};

// One of several databases. Its number stands in the records and belongs to the name for good.
struct TargetState : FedDatabase {
  std::uint16_t number = 0;
  std::string name;
  std::uint32_t weight = 0;              // share of the tasks at home here; 0: none
  std::uint32_t next_weight = 0;         // while LogState::rebalancing: the share it is to have
  Lsn joined_lsn = 0;                    // records up to here are no business of it
  bool removed = false;                  // fed no more; kept for its number
  friend bool operator==(const TargetState&, const TargetState&) = default;
};

// Of the database where there is one target, the FedDatabase is it. With `targets`, theirs count,
// and of their likes here only flushed_lsn: the lowest of all.
struct LogState : FedDatabase {
  Uuid wal_id;                           // who this log is to a database
  std::vector<FormerIdentity> former;    // segments may carry these too
  std::uint32_t partitions = 16;
  std::uint64_t epoch = 0;               // of the last open
  Lsn first_lsn = 1;                     // older segments were retired on purpose
  Lsn last_lsn = 0;                      // at least this was durable when STATE was written
  bool clean = false;                    // ended by sealing: last_lsn is the very last record
  std::vector<LsnRange> lost;            // losses declared by salvage: no damage any more
  std::vector<std::uint64_t> unsealed;   // segments closed without a footer: a sync of them failed
  std::uint64_t lock_inode = 0;          // of LOCK: a copied directory does not match
  std::uint64_t lock_born = 0;
  bool copied = false;  // found not to match: feeds no database that has its wal_id
  Lsn copied_at = 0;                     // last LSN it held when that was first seen
  std::vector<TargetState> targets;      // by number; empty: one database, target 0
  bool rebalancing = false;              // tasks are on their way from `weight` to `next_weight`
  // Activities shared out among targets up to turns_lsn, as a clean end counted them; both 0: not
  // counted. They stand in the file where there are targets.
  std::uint64_t turns = 0;
  Lsn turns_lsn = 0;
};

// The database behind a target's number: the entry in `targets`, else the state's own.
FedDatabase& FedOf(LogState* state, std::uint16_t target);
// The state as it would be if the target were the only one, for whom nothing up to its joined_lsn
// was ever kept.
LogState StateOfTarget(const LogState& state, std::uint16_t target);
// Notes how far a target is, and with it the lowest position of all.
void NoteFlushed(std::uint16_t target, Lsn flushed, const std::vector<Lsn>& watermarks,
                 LogState* state);

// Every wal_id that a segment or ring of this directory may carry, its own first.
inline std::vector<Uuid> IdentitiesOf(const LogState& state) {
  std::vector<Uuid> ids{state.wal_id};
  for (const FormerIdentity& former : state.former) ids.push_back(former.wal_id);
  return ids;
}

// kNotFound when there is none; kCorruption when it does not validate.
Result<LogState> ReadState(FileSystem& fs, const std::string& directory);
// Durable on return. Where the disk has no room, for bytes or for a name, RESERVE is written over
// instead and becomes STATE, the old STATE becomes RESERVE: what frees room must never lack it.
// `used_reserve` is then set (may be null).
Status WriteState(FileSystem& fs, const std::string& directory, const LogState& state,
                  bool* used_reserve = nullptr);
// How large RESERVE has to be for STATE and TARGETS to be written over it, again and again: with as
// many targets, partitions and entries of lists (and a few more of these) as the state has, and
// whatever the numbers in them come to.
std::uint64_t RoomToRewrite(const LogState& state);

// TARGETS: of a log with targets, the part of STATE that nothing else tells: which number is whose,
// and where tasks are at home. Were it lost with STATE, records would belong to nobody. Written
// behind STATE, so that of the two STATE is never the older one.
//
// Of `state` that part, as after a loss of all else: what is flushed is not known.
LogState TargetListOf(const LogState& state);
// Errors as ReadState.
Result<LogState> ReadTargetList(FileSystem& fs, const std::string& directory);
// Makes it the list of `state` where it is another one; nothing without targets. Durable on return.
// `written`: what is known to be there, empty at first; kept for the next call. `used_reserve`: as
// WriteState.
Status KeepTargetList(FileSystem& fs, const std::string& directory, const LogState& state,
                      std::string* written, bool* used_reserve = nullptr);

}  // namespace taskwal::wal
