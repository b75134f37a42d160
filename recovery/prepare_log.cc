#include "recovery/prepare_log.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "recovery/quarantine.h"
#include "recovery/record_owners.h"
#include "recovery/survey.h"
#include "recovery/tail_repair.h"
#include "recovery/tail_rewrite.h"
#include "wal/log_directory.h"

namespace taskwal::recovery {

namespace {

struct Locked {
  std::unique_ptr<FileLock> lock;
  FileStat stat;
};

// Whether STATE, a segment or a ring is there.
Result<bool> HoldsLog(FileSystem& fs, const std::string& directory) {
  const auto entries = fs.List(directory);
  if (!entries.ok()) {
    if (entries.status().code() == StatusCode::kNotFound) return false;
    return entries.status();
  }
  return std::any_of(entries->begin(), entries->end(), [](const DirectoryEntry& entry) {
    return entry.name == "STATE" || entry.name == "RING" ||
           wal::ParseSegmentName(entry.name).has_value();
  });
}

Result<Locked> LockDirectory(FileSystem& fs, const PrepareOptions& options) {
  if (options.create) {
    TASKWAL_TRY(
        wal::WithAdviceOnRoom(fs, options.directory, fs.MakeDirectories(options.directory)));
  } else {
    TASKWAL_ASSIGN(const bool holds_log, HoldsLog(fs, options.directory));
    if (!holds_log) {
      return Status::NotFound(options.directory +
                              " holds no log: name the directory that was --wal when it was "
                              "written");
    }
  }
  const std::string path = wal::JoinPath(options.directory, "LOCK");
  Locked locked;
  auto lock = fs.Lock(path);
  // Where there is none, none is held: it could not be made.
  const bool is_there = fs.Stat(path).ok();
  if (!lock.ok() && !is_there) {
    return wal::WithAdviceOnRoom(fs, options.directory, lock.status());
  }
  if (lock.status().code() == StatusCode::kUnavailable) {
    return Status::Unavailable(lock.status().message() +
                               ": one process writes a log at a time, end that one first");
  }
  TASKWAL_ASSIGN(locked.lock, std::move(lock));
  TASKWAL_ASSIGN(locked.stat, fs.Stat(path));
  return locked;
}

Result<wal::LogStart> CreateLog(FileSystem& fs, const PrepareOptions& options, Locked locked) {
  wal::LogStart start;
  start.state.wal_id = Uuid::Make();
  start.state.partitions = options.partitions;
  start.state.lock_inode = locked.stat.inode;
  start.state.lock_born = locked.stat.born;
  // Crash before this: an empty directory with a LOCK, made anew next time.
  TASKWAL_TRY(wal::WriteState(fs, options.directory, start.state));
  start.lock = std::move(locked.lock);
  return start;
}

// Writes STATE where it was damaged, or where the directory is seen to be a copy for the first
// time.
Status SettleState(FileSystem& fs, const Survey& survey, const FileStat& lock,
                   wal::LogState* state) {
  bool changed = false;
  if (survey.identity.state_damaged) {
    const auto old = fs.Stat(wal::JoinPath(survey.directory, "STATE"));
    if (old.ok()) {
      TASKWAL_ASSIGN(const std::string name, FreeQuarantineName(fs, survey.directory, "STATE"));
      TASKWAL_TRY(CopyToQuarantine(fs, survey.directory, {"STATE"}, name));
    }
    // Who this directory is, original or copy, was written there alone: until somebody says so, a
    // database that knows the log is not to be fed from here.
    state->copied = true;
    state->copied_at = survey.judgement.end_lsn;
    changed = true;
  } else if (!state->copied && IsCopy(*state, lock)) {
    // What LOCK was stays in STATE, so that this stays a copy until somebody decides.
    state->copied = true;
    state->copied_at = survey.judgement.end_lsn;
    changed = true;
  }
  return changed ? wal::WriteState(fs, survey.directory, *state) : Status::Ok();
}

// A damaged list that no record needs, of a log without targets: nobody writes it anew, and every
// look at the log would find damage. Kept aside, as it may tell a person something.
void SettleTargetList(FileSystem& fs, const Survey& survey) {
  if (!LacksList(survey.identity)) return;
  IgnoreStatus(MoveToQuarantine(fs, survey.directory, "TARGETS").status(),
               "the next open tries again, and none needs it");
}

Result<std::uint64_t> NextSegment(FileSystem& fs, const Survey& survey) {
  TASKWAL_ASSIGN(const std::uint64_t quarantined, HighestQuarantined(fs, survey.directory));
  const std::uint64_t present = survey.numbers.empty() ? 0 : survey.numbers.back();
  return std::max(quarantined, present) + 1;
}

// What nothing names as synced, in segments of its own behind all others. On a full disk it stays
// where it is, and a sync is believed, as the kernel promises it where none has failed.
Result<std::vector<std::unique_ptr<wal::SegmentFile>>> MoveTail(FileSystem& fs,
                                                                const PrepareOptions& options,
                                                                const FooterBuilders& builders,
                                                                Survey* survey) {
  TASKWAL_ASSIGN(const std::uint64_t next_number, NextSegment(fs, *survey));
  auto made = RewriteTail(fs, *survey, builders, next_number, options.index_keys);
  if (made.status().code() == StatusCode::kUnavailable) {
    Logger().warn("event=tail_not_rewritten directory={} error=\"{}\"", options.directory,
                  made.status().message());
    return std::vector<std::unique_ptr<wal::SegmentFile>>();
  }
  TASKWAL_TRY(made.status());
  for (const auto& segment : *made) survey->numbers.push_back(segment->number());
  return made;
}

// A footer that is merely there may be in the page cache alone: its sync has failed, or a killed
// process did not live to hear that it has. It is named as not to be expected before a later one is
// written.
//
// Whether STATE on disk names them. A damaged one is kept aside first, and written anew then; on a
// full disk it is the log, once it is open, that makes room for it.
Result<bool> NameUnproven(FileSystem& fs, const Survey& survey, wal::LogState* state) {
  bool changed = false;
  for (const SegmentFacts& facts : survey.segments) {
    const auto named = std::find(state->unsealed.begin(), state->unsealed.end(), facts.number);
    if (!facts.has_footer || state->clean || named != state->unsealed.end()) continue;
    state->unsealed.push_back(facts.number);
    changed = true;
  }
  if (survey.identity.state_damaged) return false;
  if (!changed) return true;
  const Status written = wal::WriteState(fs, survey.directory, *state);
  if (written.code() == StatusCode::kUnavailable) return false;
  TASKWAL_TRY(written);
  return true;
}

// Written once more as it is, and synced, it is proved, and counts from then on. Crash in here: a
// segment that is named as without one.
Status ProveFooters(FileSystem& fs, const Survey& survey, wal::LogState* state) {
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    const SegmentFacts& facts = survey.segments[i];
    const auto named = std::find(state->unsealed.begin(), state->unsealed.end(), facts.number);
    if (!facts.has_footer || named == state->unsealed.end()) continue;
    if (survey.judgement.segments[i].damaged) continue;
    const std::string path = wal::JoinPath(survey.directory, wal::SegmentName(facts.number));
    std::vector<std::byte> footer(wal::FooterBytesOnDisk(facts.footer));
    const std::uint64_t begin = facts.file_bytes - footer.size();
    TASKWAL_ASSIGN(const auto reader, fs.OpenReadable(path));
    TASKWAL_ASSIGN(const std::size_t count, reader->Read(begin, footer));
    if (count < footer.size()) continue;
    TASKWAL_ASSIGN(const auto file, fs.OpenWritable(path, false));
    TASKWAL_TRY(file->WriteAndSync(begin, footer));
    state->unsealed.erase(named);
  }
  return Status::Ok();
}

// Those sealed now, and those gone: a footer is to be expected of the one, nothing of the other.
Status ForgetUnsealed(FileSystem& fs, const Survey& survey, wal::LogState* state) {
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    const SegmentFacts& facts = survey.segments[i];
    const bool is_sealed_now = IsToBeSealed(facts, survey.judgement.segments[i]);
    if (is_sealed_now) std::erase(state->unsealed, facts.number);
  }
  const std::size_t gone = std::erase_if(state->unsealed, [&](std::uint64_t number) {
    return !std::binary_search(survey.numbers.begin(), survey.numbers.end(), number);
  });
  // So that none of them comes back.
  return gone > 0 ? fs.SyncDirectory(survey.directory) : Status::Ok();
}

std::vector<std::uint64_t> SegmentsThatCount(const Survey& survey) {
  std::vector<std::uint64_t> numbers = survey.numbers;
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    if (survey.judgement.segments[i].half_made) std::erase(numbers, survey.segments[i].number);
  }
  return numbers;
}

Result<wal::LogStart> OpenExisting(FileSystem& fs, const PrepareOptions& options, Locked locked,
                                   PrepareReport* report) {
  FooterBuilders builders;
  SurveyOptions how;
  how.on_frame = [&](std::uint64_t segment, const wal::Frame& frame) {
    builders.try_emplace(segment, options.index_keys).first->second.Add(frame);
  };
  TASKWAL_ASSIGN(Survey survey, SurveyTail(fs, options.directory, how));
  TASKWAL_TRY(CheckVersions(survey));
  // Refused, nothing is changed: what is damaged is still seen to be, and put back it counts.
  TASKWAL_TRY(CheckRecordOwners(fs, survey));
  wal::LogStart start;
  start.state = survey.identity.state;
  TASKWAL_ASSIGN(const bool is_named, NameUnproven(fs, survey, &start.state));
  if (is_named) TASKWAL_TRY(ProveFooters(fs, survey, &start.state));
  TASKWAL_ASSIGN(const auto moved, MoveTail(fs, options, builders, &survey));
  const wal::Lsn moved_from =
      moved.empty() ? survey.judgement.end_lsn + 1 : moved.front()->first_lsn();
  TASKWAL_TRY(SealTail(fs, survey, builders, moved_from));
  // In their order: each footer is on disk before the next is written.
  for (const auto& segment : moved) TASKWAL_TRY(segment->Seal(options.directory).status());
  TASKWAL_TRY(ForgetUnsealed(fs, survey, &start.state));
  TASKWAL_TRY(SettleState(fs, survey, locked.stat, &start.state));
  SettleTargetList(fs, survey);
  report->torn_bytes = survey.judgement.torn_bytes;
  report->findings = survey.judgement.findings;
  report->unknown = survey.judgement.unknown;
  report->copied = start.state.copied;
  start.lock = std::move(locked.lock);
  start.segments = SegmentsThatCount(survey);
  TASKWAL_ASSIGN(start.next_segment, NextSegment(fs, survey));
  start.next_lsn = survey.judgement.end_lsn + 1;
  start.stamp = survey.stamp;
  for (const auto& [number, builder] : builders) {
    start.stamp = std::max(start.stamp, builder.stamp());
  }
  return start;
}

Result<wal::LogStart> Advised(FileSystem& fs, const PrepareOptions& options,
                              Result<wal::LogStart> start) {
  if (start.ok()) return start;
  return wal::WithAdviceOnRoom(fs, options.directory, start.status());
}

}  // namespace

Status CheckVersions(const Survey& survey) {
  for (const Finding& finding : survey.judgement.findings) {
    if (finding.verdict != Verdict::kOtherVersion) continue;
    return Status::Corruption(wal::JoinPath(survey.directory, finding.file) +
                              ": a format this program does not read (" + finding.detail +
                              "): use the taskwal that wrote it, or a newer one");
  }
  return Status::Ok();
}

// Compares only what both have: some file systems keep no birth time.
bool IsCopy(const wal::LogState& state, const FileStat& lock) {
  const bool other_inode =
      state.lock_inode != 0 && lock.inode != 0 && state.lock_inode != lock.inode;
  const bool other_birth = state.lock_born != 0 && lock.born != 0 && state.lock_born != lock.born;
  return other_inode || other_birth;
}

Result<wal::LogStart> PrepareLog(FileSystem& fs, const PrepareOptions& options,
                                 PrepareReport* report) {
  *report = {};
  TASKWAL_ASSIGN(Locked locked, LockDirectory(fs, options));
  TASKWAL_ASSIGN(const bool holds_log, HoldsLog(fs, options.directory));
  if (!holds_log) {
    report->created = true;
    return Advised(fs, options, CreateLog(fs, options, std::move(locked)));
  }
  return Advised(fs, options, OpenExisting(fs, options, std::move(locked), report));
}

}  // namespace taskwal::recovery
