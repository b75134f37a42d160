#include "recovery/record_owners.h"

#include <algorithm>
#include <set>

#include "base/status_macros.h"
#include "wal/frame.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal::recovery {
namespace {

// As a rebuilt one is until it has met a database, or the operator has spoken.
bool MayBeRebuilt(const LogIdentity& identity) {
  const wal::LogState& state = identity.state;
  const auto was_met = [](const wal::FedDatabase& database) {
    return database.registered_epoch > 0;
  };
  return identity.state_damaged ||
         (state.copied && !was_met(state) &&
          std::none_of(state.targets.begin(), state.targets.end(), was_met));
}

void CollectTarget(const wal::RecordView& record, std::set<std::uint16_t>* targets) {
  if (record.header.type >= wal::kFirstUserType) targets->insert(record.header.target);
}

void CollectTargets(const wal::Frame& frame, const wal::TailEvent& event,
                    std::set<std::uint16_t>* targets) {
  wal::FrameRecords records(frame.header, frame.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn >= event.from && record.lsn <= event.to) CollectTarget(record, targets);
  }
}

// Whether any record is for a target that the list has not; without one, for another database than
// the only one.
Result<bool> HoldsRecordsOfNobody(FileSystem& fs, const Survey& survey) {
  const wal::LogState& state = survey.identity.state;
  const wal::Lsn end = survey.judgement.end_lsn;
  std::set<std::uint16_t> targets;
  wal::TailReader reader(
      fs, {survey.directory, survey.identity.wal_ids(), state.first_lsn, state.lost},
      state.first_lsn);
  for (wal::Frame frame;;) {
    TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(end, &frame));
    if (event.kind == wal::TailEvent::Kind::kEnd) break;
    if (event.kind == wal::TailEvent::Kind::kFrame) CollectTargets(frame, event, &targets);
  }
  const std::string ring = wal::JoinPath(survey.directory, wal::kRingFileName);
  TASKWAL_ASSIGN(const wal::Rescue rescue,
                 wal::RescueRing(fs, ring, survey.identity.wal_ids(), end + 1));
  for (const wal::RecordView& record : rescue.records) CollectTarget(record, &targets);
  if (state.targets.empty()) {
    targets.erase(0);
  } else {
    targets.erase(wal::kEveryTarget);
    for (const wal::TargetState& target : state.targets) targets.erase(target.number);
  }
  return !targets.empty();
}

}  // namespace

Status CheckRecordOwners(FileSystem& fs, const Survey& survey) {
  const bool may_be_rebuilt = MayBeRebuilt(survey.identity);
  // A list that could be read was taken. It is there and cannot be: the log has had targets, which
  // no STATE tells either. Where STATE is whole it may have been put back from before that.
  const bool lacks_list = LacksList(survey.identity);
  if (!may_be_rebuilt && !lacks_list) return Status::Ok();
  TASKWAL_ASSIGN(const bool has_records, HoldsRecordsOfNobody(fs, survey));
  if (!has_records && !(may_be_rebuilt && lacks_list)) return Status::Ok();
  const std::string state = may_be_rebuilt ? "STATE was damaged" : "STATE is from an older date";
  return Status::Corruption(
      survey.directory + ": " + state + ", and TARGETS, which says whose its records are, is "
      "damaged: put either back from a backup made since the list of targets was changed last");
}

bool LacksList(const LogIdentity& identity) {
  return identity.targets_damaged && identity.state.targets.empty();
}

}  // namespace taskwal::recovery
