#include "recovery/salvage_plan.h"

#include <utility>

#include "base/status_macros.h"
#include "recovery/quarantine.h"
#include "wal/log_directory.h"

namespace taskwal::recovery {

Result<SalvagePlan> PlanSalvage(const Survey& survey) {
  SalvagePlan plan;
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    const SegmentFacts& facts = survey.segments[i];
    const SegmentJudgement& judged = survey.judgement.segments[i];
    if (facts.header_state == wal::HeaderState::kOtherVersion) {
      return Status::Corruption(wal::SegmentName(facts.number) +
                                " is of a format version that this program does not read");
    }
    if (!judged.damaged && !judged.half_made) continue;
    if (judged.owns) {
      plan.to_replace.push_back(i);
    } else {
      plan.to_move.push_back(facts.number);
    }
  }
  return plan;
}

Result<SalvagePreview> PreviewSalvage(FileSystem& fs, const std::string& directory,
                                      const ScanReport& before) {
  SurveyOptions options;
  options.ceiling = {before.synced_lsn, 0};
  for (const SegmentSummary& segment : before.segments) {
    if (segment.sealed) options.ceiling.sealed = segment.number;
  }
  TASKWAL_ASSIGN(const Survey survey, SurveyLog(fs, directory, options));
  TASKWAL_ASSIGN(const SalvagePlan plan, PlanSalvage(survey));
  std::vector<std::uint64_t> numbers;
  for (const std::size_t i : plan.to_replace) numbers.push_back(survey.segments[i].number);
  numbers.insert(numbers.end(), plan.to_move.begin(), plan.to_move.end());
  SalvagePreview preview;
  preview.lost = survey.judgement.lost;
  for (const std::uint64_t number : numbers) {
    TASKWAL_ASSIGN(std::string name, FreeQuarantineName(fs, directory, wal::SegmentName(number)));
    preview.quarantined.push_back(std::move(name));
  }
  return preview;
}

}  // namespace taskwal::recovery
