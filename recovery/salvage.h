// `taskwal recover --salvage`: rewrites each damaged segment with its intact frames alone, moves the
// original to quarantine/, and declares the missing LSNs in STATE (LogState::lost) so that they are no
// damage any more. Nothing is deleted. Needs the directory's lock, held by the caller through `start`.
#pragma once

#include <vector>

#include "base/file_system.h"
#include "recovery/report.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::recovery {

struct SalvageReport {
  std::vector<std::string> quarantined;   // file names, now under quarantine/
  std::vector<wal::LsnRange> lost;        // newly declared
  std::uint64_t kept = 0;                 // records carried over
};

// Safe to repeat after a crash at any point: a segment is replaced by rename, after its sync.
Result<SalvageReport> Salvage(FileSystem& fs, const std::string& directory, wal::LogStart* start);

}  // namespace taskwal::recovery
