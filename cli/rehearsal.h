// What `recover` would find and do, for reports that leave everything alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/flush/missing_records.h"
#include "recovery/report.h"
#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::cli {

struct Rehearsal {
  Status refused;                   // not OK: the log or the database would refuse
  Status unreachable;               // not OK: the database would take nothing now
  std::uint64_t missing = 0;        // records that the database lacks
  std::uint64_t dead_lettered = 0;  // before
  std::vector<wal::LsnRange> lost;  // not declared by an earlier salvage
  std::vector<std::string> quarantined;  // what this one would move there, by its name there
  std::vector<pipeline::MissingRecords> gone;  // from the database, and not in the log any more
};

struct RehearsalPlan {
  std::string directory;
  std::vector<TargetOptions> targets;
  std::chrono::milliseconds database_timeout{30000};
  bool salvage = false;
};

// Changes nothing. An SQLite file is asked by way of a copy in the temporary directory, since
// opening the file itself would change it; one that is larger than 1 GiB is not asked, and STATE's
// word is taken for it.
Result<Rehearsal> Rehearse(const RehearsalPlan& plan, const recovery::ScanReport& scan);

}  // namespace taskwal::cli
