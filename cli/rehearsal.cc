#include "cli/rehearsal.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <system_error>

#include "base/file_system.h"
#include "base/status_macros.h"
#include "pipeline/flush/database_contact.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/log_feeder.h"
#include "pipeline/targets/target_plan.h"
#include "recovery/prepare_log.h"
#include "recovery/record_owners.h"
#include "recovery/salvage_plan.h"
#include "recovery/survey.h"
#include "storage/backend.h"
#include "storage/dsn.h"
#include "wal/log_directory.h"
#include "wal/tail_reader.h"

namespace taskwal::cli {
namespace {

namespace fs = std::filesystem;
using wal::Lsn;
using wal::LsnRange;

constexpr std::uintmax_t kDatabaseBytesMax = 1u << 30;

// A directory that goes with its object.
class Scratch {
 public:
  Scratch() : path_((fs::temp_directory_path() / "taskwal-XXXXXX").string()) {
    is_made_ = ::mkdtemp(path_.data()) != nullptr;
  }
  ~Scratch() {
    std::error_code ignored;
    if (is_made_) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  [[nodiscard]] bool is_made() const { return is_made_; }
  [[nodiscard]] std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  bool is_made_ = false;
};

// What the database says of itself and of a log.
struct Answer {
  Uuid db_id;
  bool is_volatile = false;
  storage::LogRow row;
};

Result<Answer> Ask(storage::Backend& backend, const Uuid& wal_id) {
  const auto session = backend.Connect();
  Answer answer;
  answer.is_volatile = backend.is_volatile();
  // There, and without tables: they would be made.
  if (session.status().code() == StatusCode::kNotFound) return answer;
  if (!session.ok()) return session.status();
  TASKWAL_ASSIGN(answer.row, (*session)->ReadLog(wal_id));
  answer.db_id = backend.db_id();
  return answer;
}

Answer StatesWord(const wal::LogState& state) {
  return {state.db_id, false, {state.registered_epoch, state.watermarks}};
}

Result<Answer> AskCopy(const RehearsalPlan& plan, const storage::Dsn& dsn,
                       const wal::LogState& state) {
  const std::string& path = dsn.path;
  std::error_code failed;
  const bool is_there = fs::is_regular_file(path, failed);
  if (is_there && fs::file_size(path, failed) > kDatabaseBytesMax) return StatesWord(state);
  const auto cannot = [&](const std::string& what) {
    return Status::Unavailable(storage::MaskDsn(dsn.text) + ": " + what);
  };
  if (fs::is_directory(path, failed)) return cannot("this is a directory: name a file");
  const std::string parent = fs::absolute(path, failed).parent_path().string();
  if (!fs::is_directory(parent, failed)) {
    return cannot("there is no directory " + parent + ": make it");
  }
  const Scratch scratch;
  if (!scratch.is_made()) return cannot("no temporary directory for a copy of it");
  const std::string copy = scratch.File("copy.db");
  if (is_there) fs::copy_file(path, copy, failed);
  // What was committed and not checkpointed stands in the -wal file.
  if (!failed && fs::exists(path + "-wal")) fs::copy_file(path + "-wal", copy + "-wal", failed);
  if (failed) return cannot("cannot be copied: " + failed.message());
  TASKWAL_ASSIGN(const auto backend,
                 storage::MakeBackend("sqlite://" + copy, {plan.database_timeout}));
  return Ask(*backend, state.wal_id);
}

Result<Answer> AskDatabase(const RehearsalPlan& plan, const std::string& database,
                           const wal::LogState& state) {
  TASKWAL_ASSIGN(const storage::Dsn dsn, storage::ParseDsn(database));
  if (dsn.kind == storage::Dsn::Kind::kSqlite) return AskCopy(plan, dsn, state);
  TASKWAL_ASSIGN(const auto backend,
                 storage::MakeBackend(database, {plan.database_timeout, /*create=*/false}));
  return Ask(*backend, state.wal_id);
}

// The directory's STATE as an open would leave it before it meets the database.
Result<wal::LogState> StateAtOpen(const RehearsalPlan& plan, const recovery::Survey& survey,
                                  Lsn end_lsn) {
  wal::LogState state = survey.identity.state;
  ++state.epoch;
  if (survey.identity.state_damaged) {
    state.copied = true;
    state.copied_at = end_lsn;
    return state;
  }
  const auto lock = FileSystem::Real().Stat(wal::JoinPath(plan.directory, "LOCK"));
  if (!lock.ok() && lock.status().code() != StatusCode::kNotFound) return lock.status();
  // Without a LOCK a new one would be made, which is as good as a copy's.
  const bool is_copy = lock.ok() ? recovery::IsCopy(state, *lock) : state.lock_inode != 0;
  if (is_copy && !state.copied) {
    state.copied = true;
    state.copied_at = end_lsn;
  }
  return state;
}

// How far each partition is settled in this database; kFenced as ContactDatabase.
Result<pipeline::ContactPlan> Meet(const RehearsalPlan& plan, const std::string& database,
                                   Answer answer, Lsn end_lsn, wal::LogState* state) {
  const std::string name = storage::MaskDsn(database);
  std::vector<std::string> databases;
  for (const TargetOptions& target : plan.targets) {
    const std::string dsn = storage::MaskDsn(target.dsn);
    const bool is_single = plan.targets.size() == 1 && target.name == pipeline::kDefaultTarget;
    const std::string named = target.name + "*" + std::to_string(target.weight) + "=";
    databases.push_back((is_single ? "" : named) + dsn);
  }
  const pipeline::Meeting meeting{*state,  answer.row,     answer.db_id, answer.is_volatile,
                                  end_lsn, plan.directory, name,         databases};
  TASKWAL_ASSIGN(pipeline::ContactPlan contact, pipeline::PlanContact(meeting));
  if (contact.verdict != pipeline::ContactPlan::Verdict::kTakeIdentity) return contact;
  pipeline::TakeOwnIdentity(Uuid::Make(), end_lsn, {}, state);
  answer.row = {};
  return pipeline::PlanContact(meeting);
}

// How far each partition is settled, by target.
using Starts = std::map<std::uint16_t, std::vector<Lsn>>;

// Goes through the records that the files hold.
class Count {
 public:
  Count(const wal::LogState& state, const Starts& starts, const pipeline::DeadLetters& letters)
      : starts_(starts), letters_(letters), partitions_(state.partitions) {
    identity_.wal_id = state.wal_id;
    identity_.former = state.former;
  }

  Status Run(const RehearsalPlan& plan, const wal::LogState& state, const LsnRange& lsns) {
    wal::TailReader reader(FileSystem::Real(),
                           {plan.directory, wal::IdentitiesOf(state), state.first_lsn, state.lost},
                           lsns.from);
    wal::Frame frame;
    for (;;) {
      TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(lsns.to, &frame));
      if (event.kind == wal::TailEvent::Kind::kEnd) return Status::Ok();
      if (event.kind == wal::TailEvent::Kind::kLoss) continue;  // the scan has told it
      const auto gone = pipeline::LostIn(frame, event);
      lost.insert(lost.end(), gone.begin(), gone.end());
      wal::FrameRecords records(frame.header, frame.raw);
      for (wal::RecordView record; records.Next(&record);) {
        if (record.lsn >= event.from && record.lsn <= event.to && IsMissing(record)) ++missing;
      }
    }
  }

  std::uint64_t missing = 0;
  std::vector<LsnRange> lost;

 private:
  [[nodiscard]] bool IsMissing(const wal::RecordView& record) const {
    if (record.header.type < wal::kFirstUserType) return false;
    const auto lacks = [&](const auto& start) {
      const bool is_meant =
          record.header.target == start.first || record.header.target == wal::kEveryTarget;
      return is_meant && record.lsn > SettledIn(start.second, record);
    };
    return std::any_of(starts_.begin(), starts_.end(), lacks) &&
           !letters_.Contains(identity_.OwnerOf(record.lsn), record.lsn);
  }

  [[nodiscard]] Lsn SettledIn(const std::vector<Lsn>& start, const wal::RecordView& record) const {
    const auto type = static_cast<storage::OperationType>(record.header.type);
    if (storage::IsBarrier(type)) return *std::min_element(start.begin(), start.end());
    return start[wal::PartitionOf(record.header.key, partitions_)];
  }

  const Starts& starts_;
  const pipeline::DeadLetters& letters_;
  const std::uint32_t partitions_;
  pipeline::LogIdentity identity_;
};

// What an earlier run declared lost without living to drain past it: nobody was told of it yet.
void AddUntoldLosses(const std::vector<LsnRange>& declared, const Starts& starts,
                     std::vector<LsnRange>* lost) {
  Lsn settled = std::numeric_limits<Lsn>::max();
  for (const auto& [target, start] : starts) {
    settled = std::min(settled, *std::min_element(start.begin(), start.end()));
  }
  for (const LsnRange& range : declared) {
    if (range.to > settled) lost->push_back({std::max(range.from, settled + 1), range.to});
  }
}

// Losses that were told before stay losses as long as salvage has not declared them.
Status AddKnownLosses(const pipeline::DeadLetters& letters, Lsn first_lsn,
                      std::vector<LsnRange>* lost) {
  return letters.ForEach([&](const pipeline::DeadLetter& letter) {
    const bool is_loss = letter.kind == pipeline::DeadLetter::Kind::kLoss;
    if (is_loss && letter.lsns.to >= first_lsn) lost->push_back(letter.lsns);
    return true;
  });
}

struct Met {
  Starts starts;
  std::vector<pipeline::MissingRecords> gone;
  Status unreachable;
};

// Meets every database; kFenced as an open would be.
Result<Met> MeetAll(const RehearsalPlan& plan, Lsn end_lsn, const wal::LogState& state) {
  Met all;
  for (const TargetOptions& target : plan.targets) {
    const std::uint16_t number = pipeline::NumberOf(state, target.name);
    wal::LogState view = wal::StateOfTarget(state, number);
    Result<Answer> answer = AskDatabase(plan, target.dsn, view);
    if (!answer.ok()) {
      if (all.unreachable.ok()) all.unreachable = answer.status();
      view.copied = false;  // nobody is there to mind
      answer = StatesWord(view);
    }
    TASKWAL_ASSIGN(pipeline::ContactPlan met,
                   Meet(plan, target.dsn, std::move(answer).value(), end_lsn, &view));
    all.starts[number] = std::move(met.start);
    all.gone.insert(all.gone.end(), met.missing.begin(), met.missing.end());
  }
  return all;
}

// The state with the list of targets recorded in it.
Result<wal::LogState> StateWithTargets(const RehearsalPlan& plan, const recovery::Survey& survey,
                                       Lsn end_lsn) {
  TASKWAL_ASSIGN(wal::LogState state, StateAtOpen(plan, survey, end_lsn));
  std::vector<pipeline::NamedWeight> list;
  for (const TargetOptions& target : plan.targets) list.push_back({target.name, target.weight});
  TASKWAL_ASSIGN(auto planned, pipeline::PlanTargets(state, end_lsn, list, plan.directory));
  if (planned != state.targets) pipeline::RecordTargets(std::move(planned), &state);
  return state;
}

}  // namespace

Result<Rehearsal> Rehearse(const RehearsalPlan& plan, const recovery::ScanReport& scan) {
  Rehearsal rehearsal;
  FileSystem& files = FileSystem::Real();
  Result<recovery::Survey> survey = recovery::SurveyTail(files, plan.directory);
  rehearsal.refused = survey.ok() ? recovery::CheckVersions(*survey) : survey.status();
  if (rehearsal.refused.ok()) rehearsal.refused = recovery::CheckRecordOwners(files, *survey);
  if (!rehearsal.refused.ok()) return rehearsal;
  const Lsn end_lsn = survey->judgement.end_lsn + scan.ring_records;
  const Result<wal::LogState> planned = StateWithTargets(plan, *survey, end_lsn);
  if (!planned.ok()) {
    rehearsal.refused = planned.status();
    return rehearsal;
  }
  wal::LogState state = *planned;
  const Result<Met> met = MeetAll(plan, end_lsn, state);
  if (!met.ok()) {
    rehearsal.refused = met.status();
    return rehearsal;
  }
  rehearsal.unreachable = met->unreachable;
  TASKWAL_ASSIGN(const auto letters, pipeline::DeadLetters::Open(files, plan.directory, true));
  recovery::SalvagePreview salvaged;
  if (plan.salvage) {
    TASKWAL_ASSIGN(salvaged, recovery::PreviewSalvage(files, plan.directory, scan));
    state.lost.insert(state.lost.end(), salvaged.lost.begin(), salvaged.lost.end());
  }
  Count count(state, met->starts, *letters);
  if (!scan.lsns.empty()) TASKWAL_TRY(count.Run(plan, state, scan.lsns));
  rehearsal.missing = count.missing + scan.ring_records;
  rehearsal.dead_lettered = letters->count();
  rehearsal.lost = std::move(count.lost);
  rehearsal.lost.insert(rehearsal.lost.end(), scan.lost.begin(), scan.lost.end());
  rehearsal.gone = met->gone;
  TASKWAL_TRY(AddKnownLosses(*letters, state.first_lsn, &rehearsal.lost));
  rehearsal.lost = recovery::Without(rehearsal.lost, state.lost);
  AddUntoldLosses(state.lost, met->starts, &rehearsal.lost);
  // Told by who declares them, whatever the database has.
  rehearsal.lost.insert(rehearsal.lost.end(), salvaged.lost.begin(), salvaged.lost.end());
  rehearsal.quarantined = std::move(salvaged.quarantined);
  return rehearsal;
}

}  // namespace taskwal::cli
