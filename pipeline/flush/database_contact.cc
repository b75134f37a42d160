#include "pipeline/flush/database_contact.h"

#include <algorithm>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

using storage::LogRow;
using wal::Lsn;
using Verdict = ContactPlan::Verdict;

Lsn At(const std::vector<Lsn>& lsns, std::size_t partition) {
  return partition < lsns.size() ? lsns[partition] : 0;
}

Verdict Judge(const wal::LogState& state, const LogRow& row, const Uuid& db_id, bool is_volatile) {
  const bool is_known = !row.watermarks.empty();
  if (state.copied) return is_known ? Verdict::kFencedCopy : Verdict::kTakeIdentity;
  // Raising the epoch at each open must not outrun another opener's: what counts is the last one
  // that this directory has registered.
  const std::uint64_t ours = is_volatile ? state.epoch : state.registered_epoch;
  if (is_known && row.epoch > ours) return Verdict::kFencedEpoch;
  const bool is_another = !state.db_id.IsZero() && state.db_id != db_id;
  if (!is_volatile && is_another) return Verdict::kFencedDatabase;
  return Verdict::kGoOn;
}

// Where partition `p` goes on. The confirmed positions count only in the database that confirmed
// them.
Lsn StartOf(const wal::LogState& state, const LogRow& row, bool is_confirmed, std::size_t p,
            ContactPlan* plan) {
  const Lsn oldest_kept = state.first_lsn - 1;
  const Lsn stored = At(row.watermarks, p);
  const bool is_behind = is_confirmed && stored < At(state.watermarks, p);
  if (is_behind) {
    plan->went_back = true;
    if (stored < oldest_kept) {
      plan->missing.to = oldest_kept;
      plan->missing.from = std::min(plan->missing.from, stored + 1);
    }
  }
  const Lsn settled = is_confirmed && !is_behind && !row.watermarks.empty() ? state.flushed_lsn : 0;
  return std::max({stored, settled, oldest_kept});
}

Status Fence(Verdict verdict, const ContactParties& parties, const LogRow& row) {
  const std::string settle = "settle it with `taskwal adopt --wal " + parties.directory + " --db " +
                             parties.backend.name();
  switch (verdict) {
    case Verdict::kFencedCopy:
      return Status::Fenced(parties.directory + " is a copy of a log that " +
                            parties.backend.name() + " already knows: " + settle +
                            " (--moved | --relabel | --new-db)`");
    case Verdict::kFencedEpoch:
      return Status::Fenced(parties.directory + ": a later opener has taken over in " +
                            parties.backend.name() + " (epoch " + std::to_string(row.epoch) +
                            "): " + settle + " --relabel`");
    default:
      return Status::Fenced(parties.backend.name() + " is another database than " +
                            parties.directory + " fed before: " + settle + " --new-db`");
  }
}

// Nothing is confirmed in a database met for the first time.
Status RecordDatabase(wal::Log& log, const Uuid& db_id) {
  return log.SetState([&](wal::LogState* state) {
    state->db_id = db_id;
    state->watermarks.clear();
    state->flushed_lsn = state->first_lsn - 1;
  });
}

void Report(const ContactPlan& plan, const std::string& database) {
  if (!plan.went_back) return;
  if (plan.missing.empty()) {
    Logger().warn("flusher event=database_went_back db={} action=replay", database);
  } else {
    Logger().error(
        "flusher event=database_went_back db={} action=replay missing_from={} missing_to={} "
        "reason=\"confirmed before, and not in the log any more\"",
        database, plan.missing.from, plan.missing.to);
  }
}

}  // namespace

ContactPlan Decide(const wal::LogState& state, const LogRow& row, const Uuid& db_id,
                   bool is_volatile) {
  ContactPlan plan;
  plan.verdict = Judge(state, row, db_id, is_volatile);
  if (plan.verdict != Verdict::kGoOn) return plan;
  plan.is_new_database = !is_volatile && state.db_id.IsZero();
  const bool is_confirmed = !is_volatile && !plan.is_new_database;
  plan.missing.from = UINT64_MAX;
  for (std::size_t p = 0; p < state.partitions; ++p) {
    plan.start.push_back(StartOf(state, row, is_confirmed, p, &plan));
  }
  if (plan.missing.empty()) plan.missing = {};
  return plan;
}

Standing Recheck(std::uint64_t epoch, const std::vector<Lsn>& known,
                 std::span<const storage::WatermarkMove> attempt, const LogRow& row) {
  if (row.watermarks.empty()) return Standing::kMeetAgain;
  if (row.epoch > epoch) return Standing::kFenced;
  if (row.epoch < epoch) return Standing::kMeetAgain;
  for (std::size_t p = 0; p < known.size(); ++p) {
    if (At(row.watermarks, p) < known[p]) return Standing::kMeetAgain;
  }
  const auto all = [&](auto wanted) {
    return std::all_of(attempt.begin(), attempt.end(), [&](const storage::WatermarkMove& move) {
      return At(row.watermarks, move.partition) == wanted(move);
    });
  };
  if (all([](const storage::WatermarkMove& move) { return move.expected; })) {
    return Standing::kUnchanged;
  }
  if (all([](const storage::WatermarkMove& move) { return move.to; })) return Standing::kCommitted;
  // Ahead of us, and not by what we sent.
  return Standing::kFenced;
}

Status TakeOwnIdentity(wal::Log& log, FileSystem& fs, const std::string& directory) {
  TASKWAL_ASSIGN(const FileStat lock, fs.Stat(wal::JoinPath(directory, "LOCK")));
  const Lsn last = log.end_lsn();
  const Uuid own = Uuid::Make();
  Logger().warn("flusher event=own_identity_taken directory={} wal_id={}", directory,
                own.ToString());
  return log.SetState([&](wal::LogState* state) {
    state->former.push_back({state->wal_id, last});
    state->wal_id = own;
    state->copied = false;
    state->copied_at = 0;
    state->lock_inode = lock.inode;
    state->lock_born = lock.born;
    state->db_id = {};
    state->watermarks.clear();
    state->flushed_lsn = state->first_lsn - 1;
  });
}

Result<Contact> ContactDatabase(const ContactParties& parties, const wal::LogState& confirmed) {
  auto& [log, backend, fs, directory] = parties;
  Contact contact;
  wal::LogState state = confirmed;
  TASKWAL_ASSIGN(contact.session, backend.Connect());
  storage::Session& session = *contact.session;
  TASKWAL_ASSIGN(const std::uint64_t stamp, session.HighestStamp());
  log.RaiseStamp(stamp);
  TASKWAL_ASSIGN(LogRow row, session.ReadLog(state.wal_id));
  ContactPlan plan = Decide(state, row, backend.db_id(), backend.is_volatile());
  if (plan.verdict == Verdict::kTakeIdentity) {
    TASKWAL_TRY(TakeOwnIdentity(log, fs, directory));
    state = log.state();
    row = {};
    plan = Decide(state, row, backend.db_id(), backend.is_volatile());
  }
  // The database has had records from a directory that went on from here: this one is older.
  const bool is_behind = std::any_of(row.watermarks.begin(), row.watermarks.end(),
                                     [&](Lsn stored) { return stored > log.end_lsn(); });
  if (plan.verdict == Verdict::kGoOn && is_behind) plan.verdict = Verdict::kFencedEpoch;
  if (plan.verdict != Verdict::kGoOn) return Fence(plan.verdict, parties, row);
  // Crash behind it: the directory knows its database, which does not know it yet: met again as
  // such.
  if (plan.is_new_database) TASKWAL_TRY(RecordDatabase(log, backend.db_id()));
  const bool was_known = !row.watermarks.empty();
  if (!backend.is_volatile() && state.registered_epoch != state.epoch) {
    // Crash behind it: counted as registered, which no other opener has done either.
    TASKWAL_TRY(log.SetState([](wal::LogState* next) { next->registered_epoch = next->epoch; }));
    state.registered_epoch = state.epoch;
  }
  TASKWAL_ASSIGN(row, session.RegisterLog(state.wal_id, state.epoch, plan.start));
  // A commit of an earlier connection may have landed since the first look.
  if (was_known) plan = Decide(state, row, backend.db_id(), backend.is_volatile());
  Report(plan, backend.name());
  contact.identity.wal_id = state.wal_id;
  contact.identity.epoch = state.epoch;
  contact.identity.db_id = backend.db_id();
  contact.identity.former = state.former;
  if (plan.went_back) {
    contact.identity.replayed_until = state.flushed_lsn;
    for (const Lsn lsn : state.watermarks) {
      contact.identity.replayed_until = std::max(contact.identity.replayed_until, lsn);
    }
  }
  contact.start = std::move(plan.start);
  contact.stored = std::move(row.watermarks);
  contact.missing = plan.missing;
  return contact;
}

}  // namespace taskwal::pipeline
