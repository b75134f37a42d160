#include "pipeline/targets/record_owners.h"

#include <algorithm>
#include <set>

#include "base/status_macros.h"
#include "wal/frame.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal::pipeline {
namespace {

// As a rebuilt one is until it has met a database, or the operator has spoken.
bool MayBeRebuilt(const wal::LogState& state) {
  const auto was_met = [](const wal::FedDatabase& database) {
    return database.registered_epoch > 0;
  };
  return state.copied && !was_met(state) &&
         std::none_of(state.targets.begin(), state.targets.end(), was_met);
}

void CollectTargets(const wal::Frame& frame, const wal::TailEvent& event,
                    std::set<std::uint16_t>* targets) {
  wal::FrameRecords records(frame.header, frame.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < event.from || record.lsn > event.to) continue;
    if (record.header.type >= wal::kFirstUserType) targets->insert(record.header.target);
  }
}

// Whether any record is for a target that the list has not; without one, for another database than
// the only one.
Result<bool> HoldsRecordsOfNobody(wal::Log& log, const wal::LogState& state) {
  std::set<std::uint16_t> targets;
  wal::TailReader reader = log.Tail(state.first_lsn);
  for (wal::Frame frame;;) {
    TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(log.durable_lsn(), &frame));
    if (event.kind == wal::TailEvent::Kind::kEnd) break;
    if (event.kind == wal::TailEvent::Kind::kFrame) CollectTargets(frame, event, &targets);
  }
  if (state.targets.empty()) {
    targets.erase(0);
  } else {
    targets.erase(wal::kEveryTarget);
    for (const wal::TargetState& target : state.targets) targets.erase(target.number);
  }
  return !targets.empty();
}

}  // namespace

Status CheckRecordOwners(FileSystem& fs, wal::Log& log, const std::string& directory) {
  const wal::LogState state = log.state();
  if (!MayBeRebuilt(state)) return Status::Ok();
  // One that could be read was taken. It is there and cannot be: the log has had targets.
  const Status list = wal::ReadTargetList(fs, directory).status();
  TASKWAL_ASSIGN(const bool has_records, HoldsRecordsOfNobody(log, state));
  if (list.code() != StatusCode::kCorruption && !has_records) return Status::Ok();
  return Status::Corruption(
      directory + ": STATE was damaged, and so is TARGETS, which says whose its records are: put "
      "either back from a backup made since the list of targets was changed last");
}

}  // namespace taskwal::pipeline
