// What salvage does with which file of a log, and what a rehearsal tells of that. Reads only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "recovery/survey.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::recovery {

struct SalvagePlan {
  std::vector<std::size_t> to_replace;  // places in the survey: segments of this log
  std::vector<std::uint64_t> to_move;   // numbers: files that hold nothing of it
};

// `survey`: of all of the log. kCorruption: a segment of another format version, which may hold
// anything.
Result<SalvagePlan> PlanSalvage(const Survey& survey);

struct SalvagePreview {
  std::vector<std::string> quarantined;  // the names that the files would have in quarantine/
  std::vector<wal::LsnRange> lost;       // what would be declared lost
};

// Beside a live writer nothing above what a scan before has found is damage yet. Errors as
// SurveyLog and PlanSalvage.
Result<SalvagePreview> PreviewSalvage(FileSystem& fs, const std::string& directory,
                                      const ScanReport& before);

}  // namespace taskwal::recovery
