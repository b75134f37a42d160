#include "recovery/judgement.h"

#include <algorithm>
#include <string_view>
#include <tuple>

#include "wal/log_directory.h"

namespace taskwal::recovery {

namespace {

using wal::HeaderState;
using wal::Lsn;
using wal::LsnRange;

constexpr Lsn kNever = UINT64_MAX;

struct CountingRun {
  LsnRange lsns;
  std::size_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
};

class Judge {
 public:
  explicit Judge(const JudgementInput& input)
      : state_(input.identity->state),
        identity_(*input.identity),
        facts_(input.segments),
        from_(input.from),
        ceiling_(input.ceiling),
        used_(input.segments.size()) {
    out_.segments.resize(facts_.size());
    for (std::size_t i = 0; i < facts_.size(); ++i) used_[i].resize(facts_[i].bad.size());
  }

  Judgement Run() {
    FindSynced();
    PlaceSegments();
    DecideSealed();
    CountRuns();
    FindEnd();
    JudgeState();
    JudgeMissing();
    for (std::size_t i = 0; i < facts_.size(); ++i) {
      JudgeFile(i);
      JudgeFrames(i);
      JudgeRegions(i);
      JudgeFooter(i);
    }
    const auto place = [](const Finding& f) {
      return std::tuple(std::string_view(f.file), f.offset, f.lsns.from, f.verdict);
    };
    std::sort(out_.findings.begin(), out_.findings.end(),
              [&](const Finding& a, const Finding& b) { return place(a) < place(b); });
    return std::move(out_);
  }

 private:
  // --- what counts ---------------------------------------------------------------------------
  void FindSynced();
  void PlaceSegments();
  void DecideSealed();
  void CountRuns();
  void FindEnd();
  // --- verdicts --------------------------------------------------------------------------------
  void JudgeState();
  void JudgeMissing();
  void JudgeFile(std::size_t i);
  void JudgeFrames(std::size_t i);
  void JudgeRegions(std::size_t i);
  void JudgeFooter(std::size_t i);
  void BlameOwner(std::size_t i, LsnRange missing);
  void BlameHole(std::optional<std::size_t> before, std::size_t after, LsnRange missing);
  void BlameUseless(std::size_t i, LsnRange missing);
  void BlameAbsent(std::uint64_t first, std::uint64_t end, LsnRange missing);
  void BlameBytes(std::size_t i, LsnRange missing);

  // --- helpers ---------------------------------------------------------------------------------
  [[nodiscard]] bool IsReadable(std::size_t i) const {
    return facts_[i].header_state != HeaderState::kForeign &&
           facts_[i].header_state != HeaderState::kOtherVersion;
  }
  [[nodiscard]] bool IsOursByAnotherNumber(std::size_t i) const;
  // Under its new name still with the header of an older use: half made, no stranger.
  [[nodiscard]] bool IsOlderUse(std::size_t i) const;
  // A spare that was written for a later segment before its old name was gone from the disk, where
  // a power cut has brought that back: nothing counts on it any more.
  [[nodiscard]] bool IsNewerUse(std::size_t i, Lsn behind) const;
  [[nodiscard]] std::size_t NextOwner(std::size_t i) const;
  [[nodiscard]] Situation SituationOf(std::size_t i, Found found, Stake stake) const;
  [[nodiscard]] Situation SituationOf(std::size_t i, const BadRegion& region) const;
  [[nodiscard]] LsnRange RangeOf(std::size_t i) const;
  [[nodiscard]] LsnRange RangeOf(std::size_t i, const BadRegion& region) const;
  [[nodiscard]] Stake StakeOf(Lsn lsn) const {
    return lsn <= out_.synced_lsn ? Stake::kSynced : Stake::kAboveSynced;
  }
  Verdict Add(std::size_t i, const Situation& situation, std::uint64_t offset, LsnRange lsns,
              std::string detail);

  const wal::LogState& state_;
  const LogIdentity& identity_;
  const std::span<const SegmentFacts> facts_;
  const Lsn from_;
  const Ceiling ceiling_;
  std::vector<std::vector<bool>> used_;  // bad regions that a finding names already
  std::vector<CountingRun> runs_;        // ascending
  Judgement out_;
};

// Nothing is brought into a database that is not on disk. Were such a record given up as a torn
// tail, the next one with its LSN would be taken for flushed.
Lsn HighestFlushed(const wal::LogState& state) {
  Lsn highest = 0;
  const auto raise = [&](const wal::FedDatabase& fed) {
    highest = std::max(highest, fed.flushed_lsn);
    for (const Lsn lsn : fed.watermarks) highest = std::max(highest, lsn);
  };
  raise(state);
  for (const wal::TargetState& target : state.targets) raise(target);
  return highest;
}

void Judge::FindSynced() {
  // What was retired is settled, and was on disk before: a later segment's header may name less.
  const Lsn retired = std::max(state_.first_lsn, Lsn{1}) - 1;
  Lsn synced = std::max({state_.last_lsn, retired, HighestFlushed(state_)});
  for (std::size_t i = 0; i < facts_.size(); ++i) {
    if (IsReadable(i)) synced = std::max(synced, facts_[i].synced_lsn);
  }
  out_.on_disk_lsn = std::min(synced, ceiling_.synced_lsn);
  out_.synced_lsn = std::min(std::max(synced, identity_.written_lsn), ceiling_.synced_lsn);
}

bool Judge::IsOursByAnotherNumber(std::size_t i) const {
  const SegmentFacts& facts = facts_[i];
  const auto ids = identity_.wal_ids();
  return facts.header_state == HeaderState::kForeign && facts.header.number != facts.number &&
         std::find(ids.begin(), ids.end(), facts.header.wal_id) != ids.end();
}

bool Judge::IsOlderUse(std::size_t i) const {
  const SegmentFacts& facts = facts_[i];
  return IsOursByAnotherNumber(i) && facts.header.number < facts.number &&
         facts.header.first_lsn < state_.first_lsn;
}

// `behind`: where the next segment that is there begins. All before it is retired.
bool Judge::IsNewerUse(std::size_t i, Lsn behind) const {
  const SegmentFacts& facts = facts_[i];
  return IsOursByAnotherNumber(i) && facts.header.number > facts.number &&
         behind <= state_.first_lsn;
}

// Where each segment begins, and from the last one back, where those before it end.
void Judge::PlaceSegments() {
  Lsn taken_from = kNever;
  for (std::size_t i = facts_.size(); i-- > 0;) {
    const SegmentFacts& facts = facts_[i];
    SegmentJudgement& segment = out_.segments[i];
    if (!IsReadable(i)) {
      segment.half_made = IsOlderUse(i) || IsNewerUse(i, taken_from);
      continue;
    }
    const bool has_header = facts.header_state == HeaderState::kValid;
    // The header is synced before any frame is: frames without one count only where the header was
    // lost later, which their being synced proves, and so does what is left of it.
    const bool has_frames = !facts.runs.empty();
    const bool had_header =
        facts.was_sealed || facts.header_state == HeaderState::kDamaged ||
        (has_frames && facts.runs.front().lsns.from <= out_.synced_lsn);
    segment.owns = has_header || (has_frames && had_header);
    segment.half_made = !segment.owns && !facts.was_sealed;
    if (!segment.owns) continue;
    segment.first_lsn = has_header ? facts.header.first_lsn : facts.runs.front().lsns.from;
    segment.owned_to = taken_from - 1;
    taken_from = std::min(taken_from, segment.first_lsn);
  }
}

std::size_t Judge::NextOwner(std::size_t i) const {
  for (++i; i < facts_.size(); ++i) {
    if (out_.segments[i].owns) return i;
  }
  return facts_.size();
}

// A clean end seals every segment, and so does opening: those of an earlier epoch. Each footer is
// on disk before the next is written. But a file whose sync failed is not written again: STATE says
// so first, and what it holds beyond that is void.
void Judge::DecideSealed() {
  bool precedes_sealed = false;
  for (std::size_t i = facts_.size(); i-- > 0;) {
    const SegmentFacts& facts = facts_[i];
    const bool has_void = !facts.runs.empty() &&
                          facts.runs.back().lsns.to > out_.segments[i].owned_to;
    const bool must_be = state_.clean || facts.epoch < state_.epoch ||
                         (precedes_sealed && !has_void && !identity_.state_damaged);
    precedes_sealed = precedes_sealed || (facts.was_sealed && facts.number <= ceiling_.sealed);
    if (std::find(state_.unsealed.begin(), state_.unsealed.end(), facts.number) !=
        state_.unsealed.end()) {
      out_.segments[i].sealed = facts.has_footer;
      continue;
    }
    out_.segments[i].sealed = facts.was_sealed || (facts.broken_footer && !identity_.other_boot) ||
                              (facts.header_state == HeaderState::kValid && must_be);
  }
}

void Judge::CountRuns() {
  for (std::size_t i = 0; i < facts_.size(); ++i) {
    SegmentJudgement& segment = out_.segments[i];
    if (!segment.owns) continue;
    for (const FrameRun& run : facts_[i].runs) {
      const LsnRange lsns = {std::max(run.lsns.from, segment.first_lsn),
                             std::min(run.lsns.to, segment.owned_to)};
      if (lsns.empty()) continue;
      runs_.push_back({lsns, i, run.offset, run.end_offset});
    }
  }
}

// The gap-free prefix goes from the highest synced LSN on as far as frames follow each other.
void Judge::FindEnd() {
  Lsn end = out_.synced_lsn;
  for (const CountingRun& run : runs_) {
    if (run.lsns.from <= end + 1) end = std::max(end, run.lsns.to);
  }
  out_.end_lsn = end;
  for (const CountingRun& run : runs_) {
    if (run.lsns.from > end) continue;
    SegmentJudgement& segment = out_.segments[run.segment];
    if (segment.lsns.empty()) segment.lsns = run.lsns;
    segment.lsns.to = run.lsns.to;
    segment.records += run.lsns.count();
    out_.records += run.lsns.count();
    if (out_.lsns.empty()) out_.lsns = run.lsns;
    out_.lsns.to = run.lsns.to;
  }
}

Situation Judge::SituationOf(std::size_t i, Found found, Stake stake) const {
  Situation situation;
  situation.found = found;
  situation.stake = stake;
  situation.sealed = out_.segments[i].sealed;
  situation.other_boot = identity_.other_boot && !state_.clean;
  return situation;
}

// The LSNs that a finding about a file concerns where nothing narrower is known: those it holds, by
// its frames or its own word, else the place where it stands.
LsnRange Judge::RangeOf(std::size_t i) const {
  const SegmentFacts& facts = facts_[i];
  const SegmentJudgement& segment = out_.segments[i];
  const bool has_header =
      facts.header_state == HeaderState::kValid || facts.header_state == HeaderState::kForeign;
  LsnRange range;
  if (has_header) {
    range.from = facts.header.first_lsn;
  } else if (!facts.runs.empty()) {
    range.from = facts.runs.front().lsns.from;
  } else {
    for (std::size_t before = 0; before < i; ++before) {
      range.from = std::max(range.from, out_.segments[before].lsns.to + 1);
    }
  }
  range.to = std::max(range.from, segment.lsns.to);
  if (facts.has_footer) range.to = std::max(range.to, facts.footer.last_lsn);
  if (!facts.runs.empty()) range.to = std::max(range.to, facts.runs.back().lsns.to);
  return range;
}

// What an intact frame header names, else what lies between the frames around it.
LsnRange Judge::RangeOf(std::size_t i, const BadRegion& region) const {
  if (!region.named.empty()) return region.named;
  LsnRange between = {std::max(out_.segments[i].first_lsn, Lsn{1}), 0};
  for (const FrameRun& run : facts_[i].runs) {
    if (run.offset < region.offset) {
      between.from = run.lsns.to + 1;
    } else {
      between.to = run.lsns.from - 1;
      break;
    }
  }
  return between;
}

Verdict Judge::Add(std::size_t i, const Situation& situation, std::uint64_t offset, LsnRange lsns,
                   std::string detail) {
  const Verdict verdict = JudgeSituation(situation);
  if (verdict == Verdict::kIntact) return verdict;
  if (IsDamage(verdict)) {
    out_.segments[i].damaged = true;
    if (lsns.empty()) lsns = RangeOf(i);
  }
  out_.findings.push_back(
      {verdict, wal::SegmentName(facts_[i].number), offset, lsns, std::move(detail)});
  return verdict;
}

void Judge::JudgeState() {
  const LsnRange all = {std::max(from_, Lsn{1}), out_.end_lsn};
  const auto add = [&](Found found, const char* file, const std::string& detail) {
    Situation situation;
    situation.found = found;
    out_.findings.push_back({JudgeSituation(situation), file, 0, all, detail});
  };
  if (identity_.state_damaged) add(Found::kBadState, "STATE", identity_.state_detail);
  if (identity_.targets_damaged) add(Found::kBadTargets, "TARGETS", identity_.targets_detail);
}

// --- LSNs that were synced and that no frame counts for ------------------------------------------

void Judge::JudgeMissing() {
  std::vector<LsnRange> counted;
  for (const CountingRun& run : runs_) counted.push_back(run.lsns);
  if (from_ > out_.synced_lsn) return;
  out_.lost = Without(Without({{from_, out_.synced_lsn}}, counted), state_.lost);
  for (const LsnRange& lost : out_.lost) {
    Lsn at = lost.from;
    for (std::size_t i = 0; i < facts_.size() && at <= lost.to; ++i) {
      const SegmentJudgement& segment = out_.segments[i];
      if (!segment.owns || segment.owned_to < segment.first_lsn || segment.owned_to < at) continue;
      if (at < segment.first_lsn) {
        // Only before the first owner: each owner reaches to the next one.
        const Lsn to = std::min(lost.to, segment.first_lsn - 1);
        BlameHole(std::nullopt, i, {at, to});
        at = to + 1;
        if (at > lost.to) break;
      }
      const Lsn to = std::min(lost.to, segment.owned_to);
      BlameOwner(i, {at, to});
      at = to + 1;
    }
    if (at <= lost.to) BlameHole(std::nullopt, facts_.size(), {at, lost.to});
  }
}

// LSNs that segment `i` owns: lost in it, or behind its end, in a segment that is not there.
void Judge::BlameOwner(std::size_t i, LsnRange missing) {
  const SegmentFacts& facts = facts_[i];
  if (facts.has_footer) {
    const Lsn end = std::max(facts.footer.last_lsn, missing.from - 1);
    if (const LsnRange inside = {missing.from, std::min(missing.to, end)}; !inside.empty()) {
      BlameBytes(i, inside);
    }
    if (end < missing.to) BlameHole(i, NextOwner(i), {end + 1, missing.to});
    return;
  }
  const bool behind_all = facts.runs.empty() || facts.runs.back().lsns.to < missing.from;
  const bool ends_clean =
      facts.bad.empty() || facts.bad.back().is_padding ||
      (!facts.runs.empty() && facts.bad.back().offset < facts.runs.back().offset);
  const std::size_t next = NextOwner(i);
  const bool hole_behind = next < facts_.size() && facts_[next].number > facts.number + 1;
  if (behind_all && ends_clean && hole_behind) {
    BlameHole(i, next, missing);
  } else {
    BlameBytes(i, missing);
  }
}

// LSNs between two segments. Nobody can tell which of the files that are good for nothing, or not
// there, held which of them: all are named.
void Judge::BlameHole(std::optional<std::size_t> before, std::size_t after, LsnRange missing) {
  const bool has_after = after < facts_.size();
  bool is_named = false;
  std::optional<std::uint64_t> next;  // number; below the first file nobody can tell
  if (before) next = facts_[*before].number + 1;
  for (std::size_t i = before ? *before + 1 : 0; i < after; ++i) {
    if (!out_.segments[i].owns) {
      if (next) BlameAbsent(*next, facts_[i].number, missing);
      BlameUseless(i, missing);
      is_named = true;
    }
    next = facts_[i].number + 1;
  }
  if (next && has_after && *next < facts_[after].number) {
    BlameAbsent(*next, facts_[after].number, missing);
    is_named = true;
  }
  if (is_named) return;
  if (before && has_after) return BlameBytes(*before, missing);
  if (next && !has_after) return BlameAbsent(*next, *next + 1, missing);
  const std::uint64_t end = has_after ? facts_[after].number : 0;
  BlameAbsent(end > 1 ? end - 1 : 0, end, missing);
}

// A file that is there and has no valid segment in it.
void Judge::BlameUseless(std::size_t i, LsnRange missing) {
  Situation situation = SituationOf(i, Found::kBadBytes, Stake::kSynced);
  if (!IsReadable(i) && !IsOlderUse(i)) situation.found = Found::kForeignFile;
  if (facts_[i].header_state == HeaderState::kOtherVersion) {
    situation.found = Found::kOtherVersion;
  }
  Add(i, situation, 0, missing, "no valid segment under this name");
  out_.segments[i].half_made = false;
}

// Numbers from `first` on, up to but not `end`; 0: nobody knows which.
void Judge::BlameAbsent(std::uint64_t first, std::uint64_t end, LsnRange missing) {
  if (first >= end && first > 0) return;
  Situation situation;
  situation.found = Found::kNoFile;
  situation.stake = Stake::kSynced;
  std::string detail = "no such file";
  if (first > 0 && first + 1 < end) detail += ", nor any up to " + wal::SegmentName(end - 1);
  out_.findings.push_back({JudgeSituation(situation),
                           first > 0 ? wal::SegmentName(first) : "wal-*.log", 0, missing,
                           std::move(detail)});
}

void Judge::BlameBytes(std::size_t i, LsnRange missing) {
  const SegmentFacts& facts = facts_[i];
  std::uint64_t begin = wal::kSegmentHeaderBytes;
  std::uint64_t end = UINT64_MAX;
  for (const FrameRun& run : facts.runs) {
    if (run.lsns.to < missing.from) begin = run.end_offset;
    if (run.lsns.from > missing.to) end = std::min(end, run.offset);
  }
  std::uint64_t offset = begin;
  std::string detail = "the segment ends before them";
  for (std::size_t r = facts.bad.size(); r-- > 0;) {
    const BadRegion& region = facts.bad[r];
    if (region.is_padding || region.offset < begin || region.offset >= end) continue;
    used_[i][r] = true;
    offset = region.offset;
    detail = region.detail;
  }
  Add(i, SituationOf(i, Found::kBadBytes, Stake::kSynced), offset, missing, std::move(detail));
}

// --- files, frames and bytes that cost no synced record
// --------------------------------------------

void Judge::JudgeFile(std::size_t i) {
  const SegmentFacts& facts = facts_[i];
  const SegmentJudgement& segment = out_.segments[i];
  const bool told = segment.damaged && !segment.owns;
  if (!IsReadable(i) && !segment.half_made) {
    const bool foreign = facts.header_state == HeaderState::kForeign && !IsOlderUse(i);
    if (told) return;
    const Found found = foreign ? Found::kForeignFile : Found::kOtherVersion;
    const std::string detail = foreign ? "of log " + facts.header.wal_id.ToString() + ", number " +
                                             std::to_string(facts.header.number)
                                       : "version " + std::to_string(facts.header.version);
    Add(i, SituationOf(i, found, Stake::kNone), 0, {}, detail);
    return;
  }
  if (facts.header_state != HeaderState::kValid && !told) {
    // Nothing of a segment is left in it, and no LSN is missed that it could have held.
    const bool is_garbage = facts.header_state == HeaderState::kDamaged && segment.half_made &&
                            !segment.sealed;
    const Stake stake = segment.owns ? Stake::kSynced : Stake::kNone;
    Add(i, SituationOf(i, is_garbage ? Found::kGarbage : Found::kBadHeader, stake), 0, {},
        is_garbage ? "neither a header nor a frame of one" : "segment header");
  }
  if (facts.header_state == HeaderState::kValid && !facts.header_padding_clean) {
    const bool synced = !segment.lsns.empty() && segment.lsns.from <= out_.synced_lsn;
    Add(i, SituationOf(i, Found::kBadPadding, synced ? Stake::kSynced : Stake::kNone),
        sizeof(wal::SegmentHeader), {}, "header block not zero");
  }
}

// Frames that do not count, and those of which nobody can tell whether more followed.
void Judge::JudgeFrames(std::size_t i) {
  const SegmentJudgement& segment = out_.segments[i];
  if (!segment.owns) return;
  for (const FrameRun& run : facts_[i].runs) {
    const LsnRange owned = {run.lsns.from, std::min(run.lsns.to, segment.owned_to)};
    if (owned.to < run.lsns.to) {
      const LsnRange beyond = {std::max(run.lsns.from, owned.to + 1), run.lsns.to};
      Situation taken = SituationOf(i, Found::kFrames, StakeOf(beyond.to));
      taken.superseded = true;
      Add(i, taken, run.offset, beyond, "a later segment starts over here");
    }
    const LsnRange lsns = {std::max(owned.from, out_.synced_lsn + 1), owned.to};
    if (lsns.empty()) continue;
    Situation situation = SituationOf(i, Found::kFrames, Stake::kAboveSynced);
    situation.reachable = lsns.from <= out_.end_lsn;
    const Verdict verdict =
        Add(i, situation, run.offset, lsns,
            situation.reachable ? "named by nothing as synced" : "behind a gap");
    if (verdict == Verdict::kUnknownTail) out_.unknown.push_back(lsns);
    if (verdict == Verdict::kTornTail) out_.torn_bytes += run.end_offset - run.offset;
  }
}

Situation Judge::SituationOf(std::size_t i, const BadRegion& region) const {
  const SegmentFacts& facts = facts_[i];
  Lsn before = 0;    // last LSN in front of it
  Lsn of_frame = 0;  // last LSN of the frame whose padding it is
  for (const FrameRun& run : facts.runs) {
    if (run.offset >= region.end_offset) break;
    before = run.lsns.to;
    if (run.end_offset == region.end_offset) of_frame = run.lsns.to;
  }
  Situation situation = SituationOf(i, region.is_padding ? Found::kBadPadding : Found::kBadBytes,
                                    Stake::kAboveSynced);
  if (region.is_padding) {
    situation.stake = of_frame == 0 ? Stake::kNone : StakeOf(of_frame);
  } else if (before < out_.synced_lsn) {
    situation.stake = Stake::kNone;  // what is missing there was told by LSN, or declared
  }
  const Lsn concerned = region.is_padding ? of_frame : before + 1;
  situation.superseded = out_.segments[i].owns && concerned > out_.segments[i].owned_to;
  return situation;
}

void Judge::JudgeRegions(std::size_t i) {
  if (out_.segments[i].half_made) return;
  for (std::size_t r = 0; r < facts_[i].bad.size(); ++r) {
    const BadRegion& region = facts_[i].bad[r];
    if (used_[i][r]) continue;
    const Verdict verdict =
        Add(i, SituationOf(i, region), region.offset, RangeOf(i, region), region.detail);
    if (verdict == Verdict::kTornTail && !region.is_padding) {
      out_.torn_bytes += region.end_offset - region.offset;
    }
  }
}

// A sealed segment without a valid footer at its end: cut, or damaged there.
void Judge::JudgeFooter(std::size_t i) {
  const SegmentFacts& facts = facts_[i];
  const SegmentJudgement& segment = out_.segments[i];
  if (!segment.sealed || facts.has_footer || !IsReadable(i)) return;
  const std::string file = wal::SegmentName(facts.number);
  for (const Finding& finding : out_.findings) {
    const bool at_the_end =
        finding.file == file && IsDamage(finding.verdict) && finding.offset >= facts.frames_end;
    if (at_the_end) return;
  }
  Add(i, SituationOf(i, Found::kBadFooter, Stake::kNone), facts.frames_end, {}, "no valid footer");
}

}  // namespace

Judgement JudgeLog(const JudgementInput& input) { return Judge(input).Run(); }

std::vector<LsnRange> Without(const std::vector<LsnRange>& ranges,
                              std::span<const LsnRange> holes) {
  std::vector<LsnRange> left = ranges;
  for (const LsnRange& hole : holes) {
    std::vector<LsnRange> parts;
    for (const LsnRange& range : left) {
      if (hole.empty() || hole.to < range.from || hole.from > range.to) {
        parts.push_back(range);
        continue;
      }
      if (range.from < hole.from) parts.push_back({range.from, hole.from - 1});
      if (hole.to < range.to) parts.push_back({hole.to + 1, range.to});
    }
    left = std::move(parts);
  }
  return left;
}

}  // namespace taskwal::recovery
