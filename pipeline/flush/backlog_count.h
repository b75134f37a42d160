// Counts what the log holds for its targets by reading it. Records of several targets share the
// LSNs, so that a range of them tells of none how many are its own.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "taskwal/status.h"
#include "wal/log.h"
#include "wal/record.h"

namespace taskwal::pipeline {

struct BacklogCount {
  std::uint64_t records = 0;  // an operation that every target has to do counts once
  std::uint64_t bytes = 0;    // of their bodies
  std::map<std::uint16_t, std::uint64_t> by_target;  // it counts for each
  std::vector<wal::Lsn> shared;                      // these
  std::uint64_t lost = 0;     // LSNs whose records cannot be read: whose they were is not known
};

// Of each target in `settled` what lies behind its LSN, up to `to`, which must be durable. kIoError
// where a file cannot be read.
Result<BacklogCount> CountBacklog(wal::Log& log, const std::map<std::uint16_t, wal::Lsn>& settled,
                                  wal::Lsn to);

}  // namespace taskwal::pipeline
