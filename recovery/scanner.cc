#include "recovery/scanner.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "recovery/survey.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"

namespace taskwal::recovery {

namespace {

constexpr int kReadingsMax = 4;

// What changes when a process opens, seals, retires or closes the log under us.
using Fingerprint = std::vector<std::pair<std::string, std::uint64_t>>;

Result<Fingerprint> TakeFingerprint(FileSystem& fs, const std::string& directory) {
  Fingerprint print;
  TASKWAL_ASSIGN(const std::vector<std::uint64_t> numbers, wal::ListSegments(fs, directory));
  for (const std::uint64_t number : numbers) {
    const std::string name = wal::SegmentName(number);
    const auto stat = fs.Stat(wal::JoinPath(directory, name));
    print.emplace_back(name, stat.ok() ? stat->size : 0);
  }
  const auto state = ReadFile(fs, wal::JoinPath(directory, "STATE"));
  if (state.ok()) print.emplace_back(*state, 0);
  return print;
}

bool HasDamage(const Judgement& judgement) {
  return std::any_of(judgement.findings.begin(), judgement.findings.end(),
                     [](const Finding& f) { return IsDamage(f.verdict); });
}

// Beside a live writer a first reading may see damage where there is none: a frame that was not
// there yet when we passed, and that a later one names as synced. So damage is believed only when a
// second reading finds it below what was named at the end of the first, in files that did not
// change.
Result<Survey> ReadUntilCertain(FileSystem& fs, const std::string& directory,
                                SurveyOptions options) {
  TASKWAL_ASSIGN(Survey survey, SurveyLog(fs, directory, options));
  options.on_progress = nullptr;
  for (int reading = 1; reading < kReadingsMax && HasDamage(survey.judgement); ++reading) {
    options.ceiling = CeilingOf(survey);
    TASKWAL_ASSIGN(const Fingerprint before, TakeFingerprint(fs, directory));
    TASKWAL_ASSIGN(survey, SurveyLog(fs, directory, options));
    TASKWAL_ASSIGN(const Fingerprint after, TakeFingerprint(fs, directory));
    if (before == after) break;
  }
  return survey;
}

std::string StateOf(const SegmentFacts& facts, const SegmentJudgement& segment,
                    const wal::LogState& state) {
  if (segment.damaged) return "failed";
  if (!facts.has_footer) return "active";
  return segment.lsns.to <= state.flushed_lsn ? "flushed" : "flushing";
}

SegmentSummary Summarize(const SegmentFacts& facts, const SegmentJudgement& segment,
                         const wal::LogState& state) {
  SegmentSummary summary;
  summary.number = facts.number;
  summary.state = StateOf(facts, segment, state);
  summary.epoch = facts.epoch;
  summary.lsns = segment.lsns;
  summary.records = segment.records;
  summary.frames = facts.frames;
  summary.file_bytes = facts.file_bytes;
  summary.sealed = facts.has_footer;
  return summary;
}

// STATE is damaged and there is nothing else.
ScanReport ReportOfNothing(const Status& status) {
  Situation situation;
  situation.found = Found::kBadState;
  ScanReport report;
  report.findings.push_back({JudgeSituation(situation), "STATE", 0, {}, status.message()});
  return report;
}

}  // namespace

Result<ScanReport> Scan(FileSystem& fs, const std::string& directory, const ScanOptions& options) {
  SurveyOptions how;
  how.on_progress = options.on_progress;
  Result<Survey> read = ReadUntilCertain(fs, directory, std::move(how));
  if (read.status().code() == StatusCode::kCorruption) return ReportOfNothing(read.status());
  if (!read.ok()) return read.status();
  Survey& survey = *read;
  const wal::LogState& state = survey.identity.state;
  Judgement& judgement = survey.judgement;
  ScanReport report;
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    if (judgement.segments[i].half_made) continue;
    report.segments.push_back(Summarize(survey.segments[i], judgement.segments[i], state));
  }
  report.findings = std::move(judgement.findings);
  report.scanned = judgement.records;
  report.lsns = judgement.lsns;
  report.synced_lsn = judgement.synced_lsn;
  report.lost = std::move(judgement.lost);
  report.declared = state.lost;
  report.unknown = std::move(judgement.unknown);
  report.torn_bytes = judgement.torn_bytes;
  const auto waiting =
      wal::CountRingRecords(fs, directory, survey.identity.wal_ids(), judgement.end_lsn + 1);
  if (waiting.ok()) report.ring_records = *waiting;
  return report;
}

}  // namespace taskwal::recovery
