// A read-only snapshot of the health of WAL-enabled storage.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "taskwal/task.h"

namespace taskwal {

struct LatencySummary {  // microseconds
  std::uint64_t count = 0;
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
};

// Holds at every snapshot: accepted = applied + dead_lettered + lost + pending.
struct Stats {
  // records, since open (accepted counts what was pending at open too)
  std::uint64_t accepted = 0;       // given an LSN
  std::uint64_t applied = 0;        // in the database, or found there already
  std::uint64_t dead_lettered = 0;
  std::uint64_t lost = 0;           // declared lost because of damage
  std::uint64_t pending = 0;        // in the log, not yet in the database
  std::uint64_t dropped = 0;        // refused before an LSN was given
  std::uint64_t duplicates = 0;     // activities whose id was stored before; part of applied

  // positions
  std::uint64_t end_lsn = 0;        // last LSN given out
  std::uint64_t durable_lsn = 0;
  std::uint64_t flushed_lsn = 0;    // everything up to here is in the database or in dead letters

  // by the names engines know
  std::uint64_t entries_buffered = 0;    // = accepted since open
  std::uint64_t entries_flushed = 0;     // = applied
  std::uint64_t flush_operations = 0;    // database transactions committed
  LatencySummary flush_time;             // of a committed batch; AverageFlushTime is .mean
  std::uint64_t flush_errors = 0;
  std::uint64_t recovery_operations = 0; // records rescued or replayed at open
  std::uint64_t recovery_errors = 0;     // damaged regions found at open
  std::optional<Time> last_flush_time;

  // the log
  std::uint64_t segments = 0;            // files on disk, spares not counted
  std::uint64_t log_bytes = 0;           // of those files
  std::uint64_t bytes_written = 0;
  std::uint64_t writes = 0;              // write calls
  std::uint64_t syncs = 0;               // fdatasync calls
  double ring_utilization = 0;           // 0 to 1

  // the database
  bool database_available = false;
  std::string breaker_state;             // "closed", "open", "half-open"
  std::string alarm;                     // why nothing is flushed; empty when all is well
};

}  // namespace taskwal
