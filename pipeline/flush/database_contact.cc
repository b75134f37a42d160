#include "pipeline/flush/database_contact.h"

#include <algorithm>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/adoption.h"
#include "storage/schema_check.h"
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
            bool* went_back) {
  const Lsn stored = At(row.watermarks, p);
  const bool is_behind = is_confirmed && stored < At(state.watermarks, p);
  *went_back = *went_back || is_behind;
  const Lsn settled = is_confirmed && !is_behind && !row.watermarks.empty() ? state.flushed_lsn : 0;
  return std::max({stored, settled, state.first_lsn - 1});
}

std::string WhyRefused(Verdict verdict, const Meeting& meeting) {
  switch (verdict) {
    case Verdict::kFencedCopy:
      return meeting.directory + " is a copy of a log that " + meeting.database + " already knows";
    case Verdict::kFencedEpoch:
      return meeting.directory + ": a later opener has taken over in " + meeting.database +
             " (epoch " + std::to_string(meeting.row.epoch) + ")";
    default:
      return meeting.database + " is another database than " + meeting.directory + " fed before";
  }
}

// Watermarks go by log and partition: two targets in one database would move each other's.
std::string OtherTargetIn(const wal::LogState& state, const ContactParties& parties) {
  for (const wal::TargetState& other : state.targets) {
    const bool is_other = other.number != parties.target && !other.removed;
    if (is_other && other.db_id == parties.backend.db_id()) return other.name;
  }
  return {};
}

Status CheckOwnDatabase(const std::string& other, const std::string& database) {
  if (other.empty()) return Status::Ok();
  return Status::Fenced(database + " is the database of target " + other + " already");
}

// Of a log that the database knows.
Status CheckPartitions(const Meeting& meeting) {
  const wal::LogState& state = meeting.state;
  const std::size_t stored = meeting.row.watermarks.size();
  if (stored == state.partitions) return Status::Ok();
  if (stored < state.watermarks.size()) {
    return Status::Unavailable(meeting.database + ": " +
                               storage::LacksPartition(state.wal_id.ToString()));
  }
  // STATE and all headers of segments were damaged: nothing in the directory tells it.
  return Status::Unavailable(meeting.database + ": has this log with " + std::to_string(stored) +
                             " partitions, " + meeting.directory + " with " +
                             std::to_string(state.partitions) +
                             ": `taskwal adopt --moved` settles it");
}

// Nothing is confirmed in a database met for the first time.
Status RecordDatabase(const ContactParties& parties) {
  std::string other;
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* state) {
    // Looked at again: both may be met for the first time, at once.
    other = OtherTargetIn(*state, parties);
    if (!other.empty()) return;
    const wal::Lsn before = wal::StateOfTarget(*state, parties.target).first_lsn - 1;
    wal::FedDatabase& fed = wal::FedOf(state, parties.target);
    fed.db_id = parties.backend.db_id();
    fed.watermarks.clear();
    wal::NoteFlushed(parties.target, before, {}, state);
  }));
  return CheckOwnDatabase(other, parties.backend.name());
}

// What was logged before the target joined was never its own to bring.
void ForgetEarlier(const ContactParties& parties, ContactPlan* plan) {
  if (plan->missing.empty()) return;
  for (const wal::TargetState& one : parties.log.state().targets) {
    if (one.number != parties.target) continue;
    for (MissingRecords& missing : plan->missing) {
      missing.lsns.from = std::max(missing.lsns.from, one.joined_lsn + 1);
    }
  }
  std::erase_if(plan->missing, [](const MissingRecords& one) { return one.lsns.empty(); });
}

// Durable on return.
Status RecordOwnIdentity(const ContactParties& parties) {
  TASKWAL_ASSIGN(const FileStat lock,
                 parties.fs.Stat(wal::JoinPath(parties.directory, "LOCK")));
  const Lsn last = parties.log.end_lsn();
  const Uuid own = Uuid::Make();
  Logger().warn("flusher event=own_identity_taken directory={} wal_id={}", parties.directory,
                own.ToString());
  return parties.log.SetState(
      [&](wal::LogState* state) {
        // Another target's contact may have come first.
        if (state->copied) TakeOwnIdentity(own, last, lock, state);
      });
}

// Where the database went back, segments that were settled are needed again: from here on none of
// them goes, and what has gone until now is what is missing.
ContactPlan PlanStart(const ContactParties& parties, const LogRow& row, wal::LogState* state) {
  const auto decide = [&] {
    return Decide(*state, row, parties.backend.db_id(), parties.backend.is_volatile());
  };
  const ContactPlan plan = decide();
  if (plan.verdict != Verdict::kGoOn || !plan.went_back) return plan;
  const Lsn start = *std::min_element(plan.start.begin(), plan.start.end());
  parties.log.KeepFrom(start + 1, parties.target);
  state->first_lsn = parties.log.first_lsn();
  return decide();
}

}  // namespace

ContactPlan Decide(const wal::LogState& state, const LogRow& row, const Uuid& db_id,
                   bool is_volatile) {
  ContactPlan plan;
  plan.verdict = Judge(state, row, db_id, is_volatile);
  if (plan.verdict != Verdict::kGoOn) return plan;
  plan.is_new_database = !is_volatile && state.db_id.IsZero();
  const bool is_confirmed = !is_volatile && !plan.is_new_database;
  for (std::size_t p = 0; p < state.partitions; ++p) {
    plan.start.push_back(StartOf(state, row, is_confirmed, p, &plan.went_back));
  }
  if (!plan.went_back) return plan;
  std::vector<Lsn> stored = row.watermarks;
  stored.resize(state.partitions);
  plan.missing = FindMissing(stored, state.watermarks, state.first_lsn - 1);
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

Result<ContactPlan> PlanContact(const Meeting& meeting) {
  ContactPlan plan = Decide(meeting.state, meeting.row, meeting.db_id, meeting.is_volatile);
  if (plan.verdict == Verdict::kTakeIdentity) return plan;
  const Relation relation =
      RelationOf(meeting.state, meeting.row, meeting.db_id, meeting.end_lsn);
  // The database has had records from a directory that went on from here: this one is older.
  if (plan.verdict == Verdict::kGoOn && relation.is_behind) plan.verdict = Verdict::kFencedEpoch;
  if (plan.verdict == Verdict::kGoOn) return plan;
  const auto databases = meeting.databases.empty() ? std::span(&meeting.database, 1)
                                                   : meeting.databases;
  return Status::Fenced(WhyRefused(plan.verdict, meeting) + ": settle it with " +
                        AdoptCommands(relation, meeting.directory, databases));
}

void TakeOwnIdentity(const Uuid& wal_id, Lsn end_lsn, const FileStat& lock, wal::LogState* state) {
  state->former.push_back({state->wal_id, end_lsn});
  state->wal_id = wal_id;
  state->copied = false;
  state->copied_at = 0;
  state->lock_inode = lock.inode;
  state->lock_born = lock.born;
  const auto forget = [](Lsn flushed, wal::FedDatabase* fed) {
    fed->db_id = {};
    fed->watermarks.clear();
    fed->flushed_lsn = flushed;
  };
  const Lsn before = state->first_lsn - 1;
  forget(before, state);
  for (wal::TargetState& target : state->targets) {
    forget(std::max(before, target.joined_lsn), &target);
  }
}

Result<Contact> ContactDatabase(const ContactParties& parties, const wal::LogState& confirmed) {
  auto& [log, backend, fs, directory, target, may_take_identity, databases, is_setback_certain] =
      parties;
  Contact contact;
  wal::LogState state = confirmed;
  TASKWAL_ASSIGN(contact.session, backend.Connect());
  storage::Session& session = *contact.session;
  TASKWAL_ASSIGN(const std::uint64_t stamp, session.HighestStamp());
  log.RaiseStamp(stamp);
  if (!backend.is_volatile() && state.db_id.IsZero()) {
    TASKWAL_TRY(CheckOwnDatabase(OtherTargetIn(log.state(), parties), backend.name()));
  }
  TASKWAL_ASSIGN(LogRow row, session.ReadLog(state.wal_id));
  const Meeting meeting{state,       row,       backend.db_id(), backend.is_volatile(),
                        log.end_lsn(), directory, backend.name(), databases};
  TASKWAL_ASSIGN(ContactPlan plan, PlanContact(meeting));
  const bool is_ours = plan.verdict != Verdict::kTakeIdentity && !row.watermarks.empty();
  if (is_ours) TASKWAL_TRY(CheckPartitions(meeting));
  if (plan.verdict == Verdict::kTakeIdentity) {
    if (may_take_identity) TASKWAL_TRY(may_take_identity());
    TASKWAL_TRY(RecordOwnIdentity(parties));
    state = wal::StateOfTarget(log.state(), target);
    row = {};
    TASKWAL_ASSIGN(plan, PlanContact(meeting));
  }
  if (plan.went_back) plan = PlanStart(parties, row, &state);
  std::vector<Lsn> stored = row.watermarks;
  stored.resize(state.partitions);
  if (plan.went_back && is_setback_certain && !is_setback_certain(stored)) {
    return Status::Unavailable(backend.name() +
                               ": behind what it had confirmed; it is looked at once more");
  }
  // Crash behind it: the directory knows its database, which does not know it yet: met again as
  // such.
  if (plan.is_new_database) TASKWAL_TRY(RecordDatabase(parties));
  const bool was_known = !row.watermarks.empty();
  if (!backend.is_volatile() && state.registered_epoch != state.epoch) {
    // Crash behind it: counted as registered, which no other opener has done either.
    TASKWAL_TRY(log.SetState([number = target](wal::LogState* next) {
      wal::FedOf(next, number).registered_epoch = next->epoch;
    }));
    state.registered_epoch = state.epoch;
  }
  TASKWAL_ASSIGN(row, session.RegisterLog(state.wal_id, state.epoch, plan.start));
  // A commit of an earlier connection may have landed since the first look.
  if (was_known) plan = PlanStart(parties, row, &state);
  ForgetEarlier(parties, &plan);
  contact.identity.wal_id = state.wal_id;
  contact.identity.epoch = state.epoch;
  contact.identity.db_id = backend.db_id();
  contact.identity.former = state.former;
  contact.went_back = plan.went_back;
  if (plan.went_back) {
    contact.identity.replayed_until = state.flushed_lsn;
    for (const Lsn lsn : state.watermarks) {
      contact.identity.replayed_until = std::max(contact.identity.replayed_until, lsn);
    }
  }
  contact.start = std::move(plan.start);
  contact.found = was_known ? row.watermarks : std::move(stored);
  contact.stored = std::move(row.watermarks);
  contact.missing = std::move(plan.missing);
  return contact;
}

}  // namespace taskwal::pipeline
