#include "pipeline/identity.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "pipeline/read_overlay.h"
#include "recovery/prepare_log.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

struct Parties {
  wal::Log& log;
  storage::Session& session;
  Uuid db_id;
  const std::string& database;  // its name, for messages
  FileStat lock;
};

// The database may have seen later openers than this directory knows of.
void Settle(const Parties& parties, std::uint64_t epoch, wal::LogState* state) {
  state->epoch = std::max(state->epoch, epoch);
  state->registered_epoch = std::max(state->registered_epoch, epoch);
  state->lock_inode = parties.lock.inode;
  state->lock_born = parties.lock.born;
  state->copied = false;
  state->copied_at = 0;
}

void TakeNewIdentity(const Uuid& wal_id, wal::Lsn last_lsn, wal::LogState* state) {
  state->former.push_back({state->wal_id, last_lsn});
  state->wal_id = wal_id;
}

bool IsOtherDatabase(const Parties& parties, const wal::LogState& state) {
  return !state.db_id.IsZero() && state.db_id != parties.db_id;
}

Status OtherDatabase(const Parties& parties) {
  return Status::InvalidArgument(parties.database +
                                 " is another database than this directory fed before: "
                                 "--new-db is the word for that");
}

Result<AdoptReport> AdoptMoved(const Parties& parties) {
  const wal::LogState state = parties.log.state();
  if (IsOtherDatabase(parties, state)) return OtherDatabase(parties);
  AdoptReport report{state.wal_id, state.flushed_lsn + 1, state.copied};
  TASKWAL_ASSIGN(const storage::LogRow row, parties.session.ReadLog(state.wal_id));
  for (const wal::Lsn stored : row.watermarks) {
    if (stored > parties.log.end_lsn()) {
      return Status::InvalidArgument(parties.database +
                                     " has records that this directory never had: it is an older "
                                     "copy: --relabel");
    }
  }
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* next) { Settle(parties, row.epoch, next); }));
  return report;
}

Result<AdoptReport> AdoptRelabel(const Parties& parties) {
  const wal::LogState state = parties.log.state();
  TASKWAL_ASSIGN(const storage::LogRow row, parties.session.ReadLog(state.wal_id));
  const bool is_taken_over = !row.watermarks.empty() && row.epoch > state.registered_epoch;
  if (!state.copied && !is_taken_over) {
    return Status::InvalidArgument(
        "this directory is no copy: there is nothing to relabel (a new database: --new-db)");
  }
  if (IsOtherDatabase(parties, state)) return OtherDatabase(parties);
  const Uuid wal_id = Uuid::Make();
  // What stood here before the ways parted belongs to the other directory.
  const wal::Lsn shared = state.copied ? state.copied_at : state.flushed_lsn;
  const std::vector<wal::Lsn> start(state.partitions, shared);
  // The database first. Crash here: it knows a log that never comes, and the copy is still a copy.
  TASKWAL_TRY(parties.session.RegisterLog(wal_id, state.epoch, start).status());
  const wal::Lsn end = parties.log.end_lsn();
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* next) {
    TakeNewIdentity(wal_id, end, next);
    Settle(parties, 0, next);
    next->registered_epoch = state.epoch;
    next->db_id = parties.db_id;
    next->watermarks = start;
    next->flushed_lsn = shared;
  }));
  return AdoptReport{wal_id, shared + 1, true};
}

Result<AdoptReport> AdoptNewDatabase(const Parties& parties) {
  const wal::LogState state = parties.log.state();
  TASKWAL_ASSIGN(const storage::LogRow row, parties.session.ReadLog(state.wal_id));
  if (state.copied && !row.watermarks.empty()) {
    return Status::InvalidArgument(parties.database +
                                   " knows this log already and the directory is a copy: "
                                   "--relabel (a copy) or --moved (the original)");
  }
  AdoptReport report{state.copied ? Uuid::Make() : state.wal_id, state.first_lsn, true};
  const wal::Lsn end = parties.log.end_lsn();
  TASKWAL_TRY(parties.log.SetState([&](wal::LogState* next) {
    if (state.copied) TakeNewIdentity(report.wal_id, end, next);
    Settle(parties, row.epoch, next);
    next->db_id = Uuid();
    next->watermarks.clear();
    next->flushed_lsn = state.first_lsn - 1;
  }));
  return report;
}

Result<AdoptReport> AdoptAs(Adoption adoption, const Parties& parties) {
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

}  // namespace

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
                          storage::Backend& backend, Adoption adoption) {
  const bool was_copy = IsKnownCopy(fs, directory);
  recovery::PrepareReport prepared;
  const recovery::PrepareOptions prepare{directory, wal::LogState().partitions, false,
                                         IndexOperation};
  TASKWAL_ASSIGN(wal::LogStart start, recovery::PrepareLog(fs, prepare, &prepared));
  TASKWAL_ASSIGN(const FileStat lock, fs.Stat(wal::JoinPath(directory, "LOCK")));
  TASKWAL_ASSIGN(const std::unique_ptr<storage::Session> session, backend.Connect());
  wal::LogOptions options;
  options.directory = directory;
  options.index_keys = IndexOperation;
  options.start_threads = false;  // nothing is retired meanwhile
  TASKWAL_ASSIGN(const std::unique_ptr<wal::Log> log,
                 wal::Log::Open(fs, clock, options, std::move(start)));
  if (prepared.copied && !was_copy) TASKWAL_TRY(CountRescuedAsCopied(*log));
  auto adopted = AdoptAs(adoption, {*log, *session, backend.db_id(), backend.name(), lock});
  TASKWAL_TRY(log->Close());
  return adopted;
}

}  // namespace taskwal::pipeline
