// `taskwal recover --salvage`: rewrites each damaged segment with its intact frames alone, puts the
// original into quarantine/, and declares the missing LSNs in STATE (LogState::lost) so that they
// are no damage any more. Nothing is deleted. Needs the directory's lock, held by the caller
// through `start`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "recovery/report.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::recovery {

struct SalvageReport {
  std::vector<std::string> quarantined;  // file names, now under quarantine/
  std::vector<wal::LsnRange> lost;       // newly declared
  std::uint64_t kept = 0;                // records carried over
};

// After it Scan() finds no damage. Safe to repeat after a crash at any point: a segment is replaced
// by rename, after the sync of the new one, of the copy in quarantine/ and of STATE. `index_keys`
// as in PrepareOptions. kCorruption: a segment of another format version, which may hold anything.
Result<SalvageReport> Salvage(FileSystem& fs, const std::string& directory, wal::LogStart* start,
                              void (*index_keys)(const wal::RecordView& record,
                                                 std::vector<std::uint64_t>* keys) = nullptr);

}  // namespace taskwal::recovery
