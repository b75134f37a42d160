// A read-only snapshot of the health of WAL-enabled storage.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/task.h"

namespace taskwal {

// Why a call was refused before it was given an LSN; nothing of it is kept.
enum class DropReason : std::uint8_t {
  kNewest = 0,  // no room, and the policy is drop_newest
  kOldest,      // gave way in the waiting room
  kSampled,     // not the one that `sample` keeps
  kShed,        // of low priority in an emergency
  kTimeout,     // no room until its deadline, or it was told to stop
  kTooLarge,    // above max_record_bytes
};
inline constexpr std::size_t kDropReasons = 6;
std::string_view DropReasonName(DropReason reason);  // "newest", "oldest", …

// By reason and priority; priority 0 are task operations, which only the last two reasons meet.
struct DropCounts {
  std::array<std::array<std::uint64_t, 6>, kDropReasons> counts{};

  [[nodiscard]] std::uint64_t of(DropReason reason, std::int32_t priority) const {
    return counts[static_cast<std::size_t>(reason)][static_cast<std::size_t>(priority)];
  }
  [[nodiscard]] std::uint64_t of(DropReason reason) const {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : counts[static_cast<std::size_t>(reason)]) sum += count;
    return sum;
  }
  [[nodiscard]] std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const auto& by_priority : counts) {
      for (const std::uint64_t count : by_priority) sum += count;
    }
    return sum;
  }
};

struct LatencySummary {  // microseconds
  std::uint64_t count = 0;
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
};

// Records that a database refused for good, kept aside (taskwal/dead_letters.h).
struct DeadLetterStats {
  std::uint64_t open = 0;
  std::uint64_t bytes = 0;           // of them, on disk
  std::optional<Time> oldest;        // first failure of one of them
  // Since open: added = those of them still open + the other four.
  std::uint64_t added = 0, retried = 0, superseded = 0, purged = 0, expired = 0;
};

struct TargetStats {
  std::string name;
  std::uint32_t weight = 0;          // of new activities, as given at open
  std::uint32_t task_weight = 0;     // of tasks, as recorded by the last rebalance
  bool healthy = true;               // answers, and its breaker is not open: gets new activities
  bool drained = false;              // taken out by SetTargetHealth
  std::uint64_t flushed_lsn = 0;     // its records up to here are in it, or in dead letters
  std::uint64_t applied = 0;
  std::uint64_t dead_lettered = 0;
  // Not yet in it. Of a damaged file nobody can say whose records it held: of several targets each
  // counts them until it has read to the end of the log. What could not be counted at open counts
  // once it is read.
  std::uint64_t pending = 0;
  std::uint64_t flush_operations = 0;
  std::uint64_t flush_errors = 0;
  std::uint64_t bytes_flushed = 0;   // of records brought, as encoded in the log
  std::uint64_t rows_written = 0;    // after composition
  LatencySummary flush_time;         // of a committed batch
  std::string last_error;            // of a flush that failed or was refused
  std::optional<Time> last_error_time;
  std::string breaker_state;
  std::string alarm;
};

// Holds at every snapshot: accepted = applied + dead_lettered + lost + pending. With several
// targets, an operation over many tasks counts once for each of them.
struct Stats {
  // records, since open (accepted counts what was pending at open too)
  std::uint64_t accepted = 0;       // given an LSN
  std::uint64_t applied = 0;        // in the database, or found there already
  std::uint64_t dead_lettered = 0;
  std::uint64_t lost = 0;           // declared lost because of damage
  std::uint64_t pending = 0;        // in the log, not yet in the database
  std::uint64_t dropped = 0;        // refused before an LSN was given; the sum of `drops`
  DropCounts drops;
  std::uint64_t filtered = 0;       // activities below Options::min_activity_level
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
  std::uint64_t segments_active = 0;     // not sealed
  std::uint64_t segments_flushing = 0;   // sealed, with records that are in no database yet
  std::uint64_t segments_flushed = 0;    // kept as retention has it

  // where time goes: the latencies of calls by stage
  LatencySummary append_time;            // until the LSN; of one call in 64
  LatencySummary commit_time;            // of waiting for the disk, level `disk`
  LatencySummary sync_time;              // of one write and fdatasync
  LatencySummary read_time;              // of a read or query

  // the database
  bool database_available = false;
  std::string breaker_state;             // "closed", "open", "half-open"
  std::string alarm;                     // why nothing is flushed, or what else needs a person

  DeadLetterStats dead_letters;
  std::vector<TargetStats> targets;      // one for each; a single database is named "default"
};

}  // namespace taskwal
