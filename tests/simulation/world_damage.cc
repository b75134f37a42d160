// What a bad disk and a careless operator do to a log between two lives: bits flip, segments go.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "base/checksum.h"
#include "recovery/report.h"
#include "recovery/scanner.h"
#include "tests/simulation/live_frames.h"
#include "tests/simulation/world.h"
#include "wal/format.h"
#include "wal/log_directory.h"
#include "wal/state_file.h"

namespace taskwal {
namespace {

constexpr char kDirectory[] = "/wal";

// Damage of these records, in this file or one next to it: what a file held that was given up as a
// whole, or stood again in the next one, is missing between two. One that is gone is told together
// with those next to it, under the name of the first, or without one where no other tells the
// number.
bool IsPlaceTold(const recovery::ScanReport& report, const LiveFrame& frame, bool has_file) {
  const std::string file = frame.path.substr(frame.path.rfind('/') + 1);
  const std::uint64_t number = wal::ParseSegmentName(file).value_or(0);
  return std::any_of(
      report.findings.begin(), report.findings.end(), [&](const recovery::Finding& finding) {
        const bool is_of_records =
            finding.lsns.from <= frame.lsns.to && frame.lsns.from <= finding.lsns.to;
        const std::uint64_t told = wal::ParseSegmentName(finding.file).value_or(0);
        const bool is_near = told + 1 >= number && told <= number + 1;
        const bool is_of_absent = !has_file && told <= number;
        return recovery::IsDamage(finding.verdict) && is_of_records && (is_near || is_of_absent);
      });
}

// Each of its records that is nowhere else is lost, and not by what was declared before.
bool IsTold(const recovery::ScanReport& report, const LiveFrame& frame, bool has_file,
            const std::vector<LiveFrame>& left) {
  bool is_missing = false;
  for (wal::Lsn lsn = frame.lsns.from; lsn <= frame.lsns.to; ++lsn) {
    if (Covers(report.declared, lsn) || HoldsAll(left, {lsn, lsn})) continue;
    if (!Covers(report.lost, lsn)) return false;
    is_missing = true;
  }
  return !is_missing || IsPlaceTold(report, frame, has_file);
}

std::optional<wal::SegmentHeader> HeaderOf(const SimulatedFileSystem& disk, std::uint64_t number) {
  const std::string content = disk.Content(wal::JoinPath(kDirectory, wal::SegmentName(number)));
  wal::SegmentHeader header{};
  if (content.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, content.data(), sizeof header);
  const auto checked = std::as_bytes(std::span(&header, 1)).first(sizeof header - 8);
  if (header.checksum != Checksum(checked) || header.number != number) return std::nullopt;
  return header;
}

// An identity that was taken while the log was open is on no segment before the next open.
bool HasNameInStateAlone(SimulatedFileSystem& disk) {
  const auto state = wal::ReadState(disk, kDirectory);
  const auto segments = wal::ListSegments(disk, kDirectory);
  if (!state.ok() || !segments.ok() || segments->empty()) return false;
  const auto newest = HeaderOf(disk, segments->back());
  return newest && Uuid(newest->wal_id) != state->wal_id;
}

}  // namespace

// By the headers of the segment and the next that has one.
void World::NoteDestroyed(std::uint64_t segment) {
  const auto segments = wal::ListSegments(disk_, kDirectory);
  wal::LsnRange range{1, UINT64_MAX};
  for (const std::uint64_t number : *segments) {
    const auto header = number < segment ? std::nullopt : HeaderOf(disk_, number);
    if (!header) continue;
    if (number > segment) {
      range.to = header->first_lsn - 1;
      break;
    }
    range.from = header->first_lsn;
  }
  destroyed_.push_back(range);
  ledger_.MayBeLost(range);
}

// What a database had before it went back stands in STATE alone: there is no going on without it.
// Nor without a name that stands there alone: the log would take another one, and bring again what
// it has brought.
void World::FlipInState() {
  bool is_state = random_.OneIn(2) && !has_replica_ && !HasNameInStateAlone(disk_);
  std::string name = is_state ? "STATE" : "dead-letters/letters-00000001";
  const bool has_list = disk_.Exists(wal::JoinPath(kDirectory, "TARGETS"));
  if (is_state && has_list) {
    const bool is_list = Random(SeedOf(Concern::kMore, 4)).OneIn(4);
    coverage_.Note(is_list ? Seen::kDamagedTargetList : Seen::kDamagedStateOfTargets);
    if (is_list) name = "TARGETS";
    is_state = !is_list;
  }
  const std::string path = wal::JoinPath(kDirectory, name);
  const auto found = disk_.Stat(path);
  if (!found.ok() || found->size == 0) return;
  coverage_.Note(Seen::kDamagedState);
  // What followed a letter that is gone goes on without it.
  if (name.starts_with("dead-letters/")) ledger_.LettersMayGo(letters_);
  is_state_damaged_ = is_state_damaged_ || is_state;
  ledger_.DataMayRot(NamedSynced(LiveFrames(disk_, kDirectory)));
  // Which records were retired, and which are lost, is known to STATE alone.
  if (is_state) ledger_.MayBeLost({1, UINT64_MAX});
  const std::uint64_t offset = random_.Below(found->size);
  disk_.Corrupt(path, offset, static_cast<std::uint8_t>(1u << random_.Below(8)));
  Trace("a bit flips in " + path);
}

void World::FlipABit() {
  const auto segments = wal::ListSegments(disk_, kDirectory);
  if (!segments.ok() || segments->empty()) return;
  const std::string path = wal::JoinPath(
      kDirectory, wal::SegmentName((*segments)[random_.Below(segments->size())]));
  const auto found = disk_.Stat(path);
  if (!found.ok() || found->size == 0) return;
  coverage_.Note(Seen::kFlippedBit);
  const std::vector<LiveFrame> before = LiveFrames(disk_, kDirectory);
  ledger_.DataMayRot(NamedSynced(before));
  const std::uint64_t offset = random_.Below(random_.OneIn(2) ? found->size : 4096) % found->size;
  disk_.Corrupt(path, offset, static_cast<std::uint8_t>(1u << random_.Below(8)));
  Trace(fmt::format("a bit flips in {} at {}", path, offset));
  ExpectReported(before);
}

// What was in the log, named by what is still there as synced, and is nowhere as it was: `verify`
// says so, and of this place. Below STATE's first record the log has given it up.
void World::ExpectReported(const std::vector<LiveFrame>& before) {
  const std::vector<LiveFrame> changed = Changed(disk_, before);
  for (const LiveFrame& frame : changed) ledger_.MayBeLost(frame.lsns);
  const auto state = wal::ReadState(disk_, kDirectory);
  if (changed.empty() || !state.ok()) return;
  const std::vector<LiveFrame> left = LiveFrames(disk_, kDirectory);
  const wal::Lsn named = NamedSynced(left);
  const auto report = recovery::Scan(disk_, kDirectory);
  for (const LiveFrame& frame : changed) {
    if (frame.lsns.empty() || frame.lsns.to > named) continue;
    if (frame.lsns.from < state->first_lsn) continue;
    // A file that was condemned may have what was written again behind it.
    if (HoldsAll(left, frame.lsns)) continue;
    coverage_.Note(Seen::kSyncedDamage);
    if (!report.ok()) continue;
    if (IsTold(*report, frame, disk_.Exists(frame.path), left)) continue;
    ledger_.Fail(fmt::format("{} at {} (LSN {} to {}) is damaged, LSN {} is named as synced, and "
                             "verify does not report it",
                             frame.path, frame.offset, frame.lsns.from, frame.lsns.to, named));
  }
}

// What salvage gives up is named in STATE from then on, as long as the log has not retired it.
void World::ExpectDeclared(const recovery::SalvageReport& salvaged, const wal::LogState& state) {
  for (const wal::LsnRange& lost : salvaged.lost) {
    if (lost.to < state.first_lsn) continue;
    if (Covers(state.lost, lost.to)) continue;
    ledger_.Fail(
        fmt::format("salvage lost LSN {} to {}, and does not declare it", lost.from, lost.to));
  }
}

// Behind the last sync that is named, nobody can tell after a power cut whether there was more:
// what the process wrote that died then is told as of unknown standing.
void World::ExpectUnknownTail(const recovery::ScanReport& report) {
  const auto state = wal::ReadState(disk_, kDirectory);
  if (!after_power_cut_ || !state.ok() || state->clean || ledger_.may_rot()) return;
  const auto is_open = [&](const std::string& path) {
    const std::string file = path.substr(path.rfind('/') + 1);
    return std::any_of(report.segments.begin(), report.segments.end(), [&](const auto& segment) {
      return file == wal::SegmentName(segment.number) && !segment.sealed &&
             segment.epoch == state->epoch;
    });
  };
  for (const LiveFrame& frame : LiveFrames(disk_, kDirectory)) {
    if (frame.lsns.empty() || frame.lsns.from <= report.synced_lsn) continue;
    if (frame.lsns.to > report.lsns.to || !is_open(frame.path)) continue;
    if (Covers(report.unknown, frame.lsns.from) && Covers(report.unknown, frame.lsns.to)) continue;
    ledger_.Fail(
        fmt::format("{} at {} (LSN {} to {}) was named by nothing as synced before the "
                    "power cut, and verify takes it for known",
                    frame.path, frame.offset, frame.lsns.from, frame.lsns.to));
  }
}

// A segment is gone, cut, or stands where another belongs.
void World::HaveAccident(Random& random) {
  const auto segments = wal::ListSegments(disk_, kDirectory);
  // Without the newest the log may end before what the database has, and is rightly refused.
  if (!segments.ok() || segments->size() < 2) return;
  const auto path_of = [](std::uint64_t segment) {
    return wal::JoinPath(kDirectory, wal::SegmentName(segment));
  };
  const auto any = [&] { return (*segments)[random.Below(segments->size() - 1)]; };
  const std::uint64_t segment = any();
  const std::string path = path_of(segment);
  const auto found = disk_.Stat(path);
  if (!found.ok()) return;
  coverage_.Note(Seen::kAccident);
  const std::vector<LiveFrame> before = LiveFrames(disk_, kDirectory);
  ledger_.DataMayRot(NamedSynced(before));
  Trace("an accident happens to " + path);
  NoteDestroyed(segment);
  switch (random.Below(4)) {
    case 0: disk_.RemoveTree(path); break;
    case 1: disk_.TruncateFile(path, random.Below(found->size + 1)); break;
    case 2: disk_.TruncateFile(path, 0); break;
    default:
      if (const std::uint64_t other = any(); other != segment) {
        disk_.CopyTree(path_of(other), path);
      }
  }
  ExpectReported(before);
}

}  // namespace taskwal
