#include "pipeline/identity.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/missing_records.h"
#include "pipeline/read_overlay.h"
#include "pipeline/targets/target_plan.h"
#include "recovery/prepare_log.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

// Nothing is appended.
constexpr std::uint64_t kRingBytes = 64u << 10;

// One of the log's databases.
struct Party {
  std::uint16_t target = 0;
  std::string database;  // as `--db` takes it
  Uuid db_id;
  std::unique_ptr<storage::Session> session;
  // As found before anything is changed:
  storage::LogRow row;
  Relation relation;
};

struct Parties {
  FileSystem& fs;
  Clock& clock;
  wal::Log& log;
  const std::string& directory;
  FileStat lock;
  const wal::LogState& state;  // before anything is changed
  std::vector<Party> databases;
  Relation relation;  // of all of them: what holds for one
};

Relation Both(const Relation& a, const Relation& b) {
  Relation both;
  both.is_known = a.is_known || b.is_known;
  both.is_another = a.is_another || b.is_another;
  both.is_behind = a.is_behind || b.is_behind;
  both.is_taken_over = a.is_taken_over || b.is_taken_over;
  both.is_copied = a.is_copied || b.is_copied;
  both.lived_on = a.lived_on || b.lived_on;
  return both;
}

void KnowItself(const Parties& parties, wal::LogState* state) {
  state->lock_inode = parties.lock.inode;
  state->lock_born = parties.lock.born;
  state->copied = false;
  state->copied_at = 0;
}

// A database may have seen later openers than this directory knows of.
void Settle(const Party& party, wal::LogState* state) {
  state->epoch = std::max(state->epoch, party.row.epoch);
  wal::FedDatabase& fed = wal::FedOf(state, party.target);
  fed.registered_epoch = std::max(fed.registered_epoch, party.row.epoch);
}

void TakeNewIdentity(const Uuid& wal_id, wal::Lsn last_lsn, wal::LogState* state) {
  state->former.push_back({state->wal_id, last_lsn});
  state->wal_id = wal_id;
}

// The first of which it holds, else the first.
const std::string& DatabaseOf(const Parties& parties, bool Relation::*trait) {
  for (const Party& party : parties.databases) {
    if (party.relation.*trait) return party.database;
  }
  return parties.databases.front().database;
}

std::string WhyItDoesNotFit(Adoption word, const Parties& parties) {
  const Relation& relation = parties.relation;
  if (word == Adoption::kNewDatabase) {
    return DatabaseOf(parties, &Relation::is_known) +
           " knows this log, and this directory is a copy or an older one of it";
  }
  if (relation.is_another) {
    return DatabaseOf(parties, &Relation::is_another) + " is another database than " +
           parties.directory + " fed before";
  }
  if (word == Adoption::kRelabel) {
    return parties.directory + " is no copy: there is nothing to relabel";
  }
  return DatabaseOf(parties, relation.is_copied ? &Relation::lived_on : &Relation::is_taken_over) +
         " has records of this log that " + parties.directory +
         " never had: the original lives on, or this is an older copy";
}

Status DoesNotFit(Adoption word, const Parties& parties) {
  std::string text = WhyItDoesNotFit(word, parties);
  if (parties.relation.is_shared() || parties.relation.is_another) {
    std::vector<std::string> names;
    for (const Party& party : parties.databases) names.push_back(party.database);
    text += "; settle it with " + AdoptCommands(parties.relation, parties.directory, names);
  }
  return Status::InvalidArgument(text);
}

wal::Lsn LastGone(const Party& party, const wal::LogState& state) {
  return wal::StateOfTarget(state, party.target).first_lsn - 1;
}

// STATE was rebuilt: what is flushed is behind the oldest record kept, as in no other.
bool IsRebuilt(const Party& party, const wal::LogState& state) {
  return wal::StateOfTarget(state, party.target).flushed_lsn < LastGone(party, state);
}

// Then nothing says what this database, which knows the log, had confirmed. Where it has nothing as
// late as the last record that has left the log, that one at least was never brought. Of a
// partition that alone is behind nothing is said: it may have been idle for long.
bool LacksWhatIsGone(const Party& party, const wal::LogState& state) {
  if (!party.relation.is_known || !IsRebuilt(party, state)) return false;
  const auto& stored = party.row.watermarks;
  return stored.empty() || *std::ranges::max_element(stored) < LastGone(party, state);
}

// What the log does not hold any more ought to be there. Were a watermark behind that, what lies
// between is in neither.
std::vector<MissingRecords> MissingIn(const Party& party, const wal::LogState& state) {
  const wal::Lsn gone = LastGone(party, state);
  std::vector<wal::Lsn> stored = party.row.watermarks;
  if (stored.empty()) stored.resize(state.partitions);
  const std::vector<wal::Lsn> due(stored.size(), gone);
  return FindMissing(stored, due, gone);
}

// Said before anything counts it as flushed.
Status DeclareWhatIsGone(const Parties& parties, const Party& party) {
  const wal::LogState& state = parties.state;
  const std::vector<MissingRecords> missing = MissingIn(party, state);
  if (missing.empty()) return Status::Ok();
  Logger().error("adopt event=records_missing directory={} db={} missing=\"{}\"",
                 parties.directory, party.database, MissingText(missing));
  TASKWAL_ASSIGN(const auto letters, DeadLetters::Open(parties.fs, parties.directory, false));
  DeadLetter loss;
  loss.kind = DeadLetter::Kind::kLoss;
  loss.wal_id = state.wal_id;
  loss.target = party.target;
  loss.backend = party.database;
  loss.first_failed = loss.last_failed = parties.clock.WallNow();
  for (const MissingRecords& part : missing) {
    loss.lsns = part.lsns;
    loss.metadata.clear();
    if (!part.partitions.empty()) loss.metadata[kLossPartitions] = PartitionsText(part);
    loss.error = party.database + ": STATE was damaged, and LSN " + MissingText({&part, 1}) +
                 " are neither there nor in the log any more";
    // Crash between two: all are declared again, which changes nothing of those that are there.
    TASKWAL_TRY(letters->Add(loss));
  }
  return Status::Ok();
}

// Where the database has something as late, a partition that is behind may have been idle, or its
// records are lost with their segment: no loss is declared, and it is not passed over in silence.
std::vector<MissingRecords> TellWhatIsUnknown(const Parties& parties) {
  std::vector<MissingRecords> all;
  for (const Party& party : parties.databases) {
    const bool is_rebuilt = party.relation.is_known && IsRebuilt(party, parties.state);
    if (!is_rebuilt || LacksWhatIsGone(party, parties.state)) continue;
    const std::vector<MissingRecords> unknown = MissingIn(party, parties.state);
    if (unknown.empty()) continue;
    Logger().warn("adopt event=records_unknown directory={} db={} unknown=\"{}\" "
                  "reason=\"STATE was damaged: they are in the database, or lost\"",
                  parties.directory, party.database, MissingText(unknown));
    all.insert(all.end(), unknown.begin(), unknown.end());
  }
  return all;
}

// So that the next contact finds the database behind, and treats it as one that went back.
void ExpectWhatIsGone(const Party& party, wal::LogState* state) {
  const wal::Lsn gone = LastGone(party, *state);
  wal::FedOf(state, party.target).db_id = party.db_id;
  wal::NoteFlushed(party.target, gone, std::vector<wal::Lsn>(state->partitions, gone), state);
}

Result<AdoptReport> AdoptMoved(const Parties& parties) {
  const wal::LogState& state = parties.state;
  for (const Party& party : parties.databases) {
    if (LacksWhatIsGone(party, state)) TASKWAL_TRY(DeclareWhatIsGone(parties, party));
  }
  std::vector<MissingRecords> unknown = TellWhatIsUnknown(parties);
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* next) {
    for (const Party& party : parties.databases) {
      Settle(party, next);
      // What neither STATE nor any segment could tell any more.
      const auto partitions = static_cast<std::uint32_t>(party.row.watermarks.size());
      if (partitions > 0) next->partitions = partitions;
      if (LacksWhatIsGone(party, state)) {
        ExpectWhatIsGone(party, next);
      } else if (party.relation.is_known && IsRebuilt(party, state)) {
        wal::NoteFlushed(party.target, LastGone(party, state), {}, next);
      }
    }
    KnowItself(parties, next);
  }));
  return AdoptReport{state.wal_id, state.flushed_lsn + 1, state.copied, std::move(unknown)};
}

Result<AdoptReport> AdoptRelabel(const Parties& parties) {
  const wal::LogState& state = parties.state;
  const Uuid wal_id = Uuid::Make();
  const wal::Lsn end = parties.log.end_lsn();
  // What stood here before the ways parted belongs to the other directory.
  const auto shared_in = [&](std::uint16_t target) {
    const wal::Lsn flushed = wal::StateOfTarget(state, target).flushed_lsn;
    return std::min(state.copied ? state.copied_at : flushed, end);
  };
  // The databases first. Crash here: one knows a log that never comes; the copy is still a copy.
  for (const Party& party : parties.databases) {
    const std::vector<wal::Lsn> start(state.partitions, shared_in(party.target));
    TASKWAL_TRY(party.session->RegisterLog(wal_id, state.epoch, start).status());
  }
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* next) {
    TakeNewIdentity(wal_id, end, next);
    KnowItself(parties, next);
    for (const Party& party : parties.databases) {
      const wal::Lsn shared = shared_in(party.target);
      wal::FedDatabase& fed = wal::FedOf(next, party.target);
      fed.registered_epoch = state.epoch;
      fed.db_id = party.db_id;
      wal::NoteFlushed(party.target, shared, std::vector<wal::Lsn>(state.partitions, shared), next);
    }
  }));
  return AdoptReport{wal_id, parties.log.state().flushed_lsn + 1, true, {}};
}

// With several databases: those that are others than before; all, where it is not about that.
Result<AdoptReport> AdoptNewDatabase(const Parties& parties) {
  const wal::LogState& state = parties.state;
  const bool is_shared = parties.relation.is_shared();
  const bool all = is_shared || !parties.relation.is_another;
  const Uuid wal_id = is_shared ? Uuid::Make() : state.wal_id;
  const wal::Lsn end = parties.log.end_lsn();
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* next) {
    if (is_shared) TakeNewIdentity(wal_id, end, next);
    KnowItself(parties, next);
    for (const Party& party : parties.databases) {
      if (!is_shared) Settle(party, next);
      if (!all && !party.relation.is_another) continue;
      wal::FedDatabase& fed = wal::FedOf(next, party.target);
      fed.db_id = Uuid();
      fed.watermarks.clear();
      const wal::Lsn before = wal::StateOfTarget(*next, party.target).first_lsn - 1;
      wal::NoteFlushed(party.target, before, {}, next);
    }
  }));
  return AdoptReport{wal_id, parties.log.state().flushed_lsn + 1, true, {}};
}

Result<AdoptReport> AdoptAs(Adoption adoption, const Parties& parties) {
  if (!Fits(adoption, parties.relation)) return DoesNotFit(adoption, parties);
  switch (adoption) {
    case Adoption::kMoved:
      return AdoptMoved(parties);
    case Adoption::kRelabel:
      return AdoptRelabel(parties);
    case Adoption::kNewDatabase:
      return AdoptNewDatabase(parties);
  }
  return Status::InvalidArgument("unknown adoption");
}

Result<Party> Meet(const AdoptDatabase& database, const wal::LogState& state, wal::Lsn end_lsn) {
  Party party;
  party.target = NumberOf(state, database.name);
  party.database = database.backend->name();
  if (!state.targets.empty()) party.database = database.name + "=" + party.database;
  TASKWAL_ASSIGN(party.session, database.backend->Connect());
  party.db_id = database.backend->db_id();
  TASKWAL_ASSIGN(party.row, party.session->ReadLog(state.wal_id));
  party.relation =
      RelationOf(wal::StateOfTarget(state, party.target), party.row, party.db_id, end_lsn);
  return party;
}

}  // namespace

Status CheckAdoptList(const wal::LogState& state, std::span<const AdoptDatabase> databases) {
  std::set<std::string> given;
  std::set<std::string> recorded;
  for (const AdoptDatabase& database : databases) given.insert(database.name);
  for (const wal::TargetState& target : state.targets) {
    if (!target.removed) recorded.insert(target.name);
  }
  if (recorded.empty()) recorded.insert(std::string(kDefaultTarget));
  if (given == recorded) return Status::Ok();
  std::string names;
  for (const std::string& name : recorded) names += (names.empty() ? "" : ", ") + name;
  return Status::InvalidArgument("the log feeds these targets, which all must be named: " + names);
}

bool IsKnownCopy(FileSystem& fs, const std::string& directory) {
  const auto state = wal::ReadState(fs, directory);
  return state.ok() && state->copied;
}

Status CountRescuedAsCopied(wal::Log& log) {
  if (log.GetStats().rescued == 0) return Status::Ok();
  const wal::Lsn end = log.end_lsn();
  return log.SetState([end](wal::LogState* state) { state->copied_at = end; });
}

Result<AdoptReport> Adopt(FileSystem& fs, Clock& clock, const std::string& directory,
                          std::span<const AdoptDatabase> databases, Adoption adoption) {
  const bool was_copy = IsKnownCopy(fs, directory);
  recovery::PrepareReport prepared;
  const recovery::PrepareOptions prepare{directory, wal::LogState().partitions, false,
                                         IndexOperation};
  TASKWAL_ASSIGN(wal::LogStart start, recovery::PrepareLog(fs, prepare, &prepared));
  TASKWAL_ASSIGN(const FileStat lock, fs.Stat(wal::JoinPath(directory, "LOCK")));
  for (const AdoptDatabase& database : databases) {
    TASKWAL_TRY(database.backend->Connect().status());  // away: before anything is touched
  }
  wal::LogOptions options;
  options.directory = directory;
  options.ring_bytes = kRingBytes;
  options.index_keys = IndexOperation;
  options.start_threads = false;  // nothing is retired meanwhile
  TASKWAL_ASSIGN(const std::unique_ptr<wal::Log> log,
                 wal::Log::Open(fs, clock, options, std::move(start)));
  if (prepared.copied && !was_copy) TASKWAL_TRY(CountRescuedAsCopied(*log));
  const wal::LogState state = log->state();
  TASKWAL_TRY(CheckAdoptList(state, databases));
  Parties parties{fs, clock, *log, directory, lock, state, {}, {}};
  for (const AdoptDatabase& database : databases) {
    TASKWAL_ASSIGN(Party party, Meet(database, state, log->end_lsn()));
    parties.relation = Both(parties.relation, party.relation);
    parties.databases.push_back(std::move(party));
  }
  auto adopted = AdoptAs(adoption, parties);
  TASKWAL_TRY(log->Close());
  return adopted;
}

}  // namespace taskwal::pipeline
