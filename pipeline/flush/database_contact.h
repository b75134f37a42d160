// The log meets a database: whether they belong together, and from where its records are to be
// brought. Deciding is pure (Decide, Recheck); ContactDatabase carries it out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "pipeline/flush/log_identity.h"
#include "pipeline/flush/missing_records.h"
#include "storage/backend.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

struct ContactPlan {
  enum class Verdict : std::uint8_t {
    kGoOn,
    kTakeIdentity,     // a copied directory, a database that does not know it: decide again then
    kFencedCopy,       // a copied directory, and the database has its wal_id
    kFencedEpoch,      // somebody opened this log later
    kFencedDatabase,   // another database than the one this log fed before
  };
  Verdict verdict = Verdict::kGoOn;
  // Of kGoOn:
  bool is_new_database = false;      // db_id is to be recorded: nothing is confirmed there yet
  bool went_back = false;            // the database is behind what was confirmed there
  std::vector<wal::Lsn> start;       // by partition: settled up to here
  std::vector<MissingRecords> missing;  // went back so far that these are not in the log any more
};

// `row` is what the database knows of state.wal_id. state.epoch is ours; state.watermarks and
// state.flushed_lsn are what is confirmed.
ContactPlan Decide(const wal::LogState& state, const storage::LogRow& row, const Uuid& db_id,
                   bool is_volatile);

// After a reconnection, or when a watermark was not the expected one.
enum class Standing : std::uint8_t {
  kUnchanged,   // the attempt did nothing: repeat it
  kCommitted,   // the attempt in doubt was committed
  kMeetAgain,   // the database went back or does not know us: back to first contact
  kFenced,      // a later opener, or somebody else who writes under our name
};
// `known`: watermarks before the question, by partition. `attempt`: of the batch in hand; may be
// empty.
Standing Recheck(std::uint64_t epoch, const std::vector<wal::Lsn>& known,
                 std::span<const storage::WatermarkMove> attempt, const storage::LogRow& row);

// A directory before a database, as it stands at an open.
struct Meeting {
  const wal::LogState& state;
  const storage::LogRow& row;
  Uuid db_id;
  bool is_volatile = false;
  wal::Lsn end_lsn = 0;
  const std::string& directory;  // for messages
  const std::string& database;
  // All that the log feeds, where there are several: for the commands in messages.
  std::span<const std::string> databases{};
};
// Decide, with its refusals as kFenced: the message names the commands that settle them. The
// verdict is kGoOn or kTakeIdentity.
Result<ContactPlan> PlanContact(const Meeting& meeting);

// Gives the directory a wal_id of its own; everything it still holds counts as not brought anywhere
// yet. `lock`: of its LOCK, by which it knows itself from then on.
void TakeOwnIdentity(const Uuid& wal_id, wal::Lsn end_lsn, const FileStat& lock,
                     wal::LogState* state);

struct Contact {
  std::unique_ptr<storage::Session> session;
  LogIdentity identity;
  std::vector<wal::Lsn> start;    // by partition
  std::vector<wal::Lsn> stored;   // watermarks in the database now
  std::vector<wal::Lsn> found;    // the same, before a database that did not know us was told
  bool went_back = false;         // see ContactPlan
  std::vector<MissingRecords> missing;
};

struct ContactParties {
  wal::Log& log;
  storage::Backend& backend;
  FileSystem& fs;
  std::string directory;
  std::uint16_t target = 0;
  // Asked before the directory takes an identity of its own. Empty: it may.
  std::function<Status()> may_take_identity{};
  std::vector<std::string> databases{};  // see Meeting
  // Asked before a database that is behind is taken to have gone back, and anything is done about
  // it: false is kUnavailable. `stored`: what it has, by partition. Empty: it has.
  std::function<bool(const std::vector<wal::Lsn>& stored)> is_setback_certain{};
};
// `confirmed`: what this process has seen committed, by partition, and how far all is settled;
// where this is the first contact, what STATE says of the target (StateOfTarget). kUnavailable:
// later. kFenced: for good; the message names the command that settles it.
Result<Contact> ContactDatabase(const ContactParties& parties, const wal::LogState& confirmed);

}  // namespace taskwal::pipeline
