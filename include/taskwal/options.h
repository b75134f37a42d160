// Every knob of WAL-enabled storage, with default, unit and effect. Plain values, fixed once
// opened.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "taskwal/status.h"

namespace spdlog {
class logger;
}

namespace taskwal {

// When a call is acknowledged, and what an acknowledged record survives.
enum class Durability : std::uint8_t {
  kMemory = 0,   // copied into the log buffer; nothing promised
  kProcess = 1,  // in the crash-safe log buffer: survives a kill at any instruction
  kDisk = 2,     // fdatasync has returned (group commit): survives power loss
};

struct FlushEvent {      // one batch committed, or one attempt that failed
  Status status;         // OK when the batch is in the database
  std::uint64_t records = 0;
  std::uint64_t first_lsn = 0;
  std::uint64_t last_lsn = 0;
  std::chrono::microseconds duration{0};
};

struct RecoveryEvent {   // told once, when the log has been opened
  std::uint64_t rescued = 0;        // records taken out of the ring of a killed process
  std::uint64_t torn_bytes = 0;     // cut off the tail, never acknowledged as durable
  std::uint64_t corrupt = 0;        // damaged regions found at open
  std::uint64_t first_pending = 0;  // LSN range still to be brought into the database;
  std::uint64_t last_pending = 0;   // empty when first > last
};

// One of several databases that a log feeds.
struct TargetOptions {
  // Who it is, in the log's STATE too: 1 to 64 of letters, digits, '.', '_' and '-'.
  std::string name;
  std::string dsn;
  // Its share of new activities, 0 to 1,000. 0: takes nothing new; what is there stays until
  // `taskwal targets rebalance` has moved its tasks away. Tasks follow weights through that alone.
  std::uint32_t weight = 1;
};

struct Options {
  using Duration = std::chrono::milliseconds;

  // --- the log ------------------------------------------------------------------------------
  // Made when absent, parents included; one process writes it at a time.
  std::string wal_dir = "taskwal.wal";
  // False: every call goes straight to the database (development).
  bool wal_enabled = true;
  Durability durability = Durability::kDisk;        // of calls that do not say
  // Log buffer; rounded up to a power of two, at most 1/8 of the disk.
  std::uint64_t ring_bytes = 16u << 20;
  // A segment file rolls at this size (the first is 1 MiB, then doubling).
  std::uint64_t segment_bytes = 64u << 20;
  std::uint64_t max_segment_size = 0;       // and at this many records; 0: bytes alone decide
  // Records gathered per write, at most; more waits for the next frame.
  std::uint64_t frame_bytes = 256u << 10;
  bool compression = false;                 // zstd frames
  std::uint32_t sync_lanes = 2;             // commits in flight at once (level disk), 1 to 8
  // Write and sync in one io_uring request where the kernel allows it.
  bool io_uring = false;
  // Longest time a `process` record stays unsynced; 0: only on demand.
  Duration sync_interval{500};
  // Unflushed log on disk; beyond it calls wait, then kOverloaded. Looked at before each segment, so
  // the segment being filled and what the ring holds come on top.
  std::uint64_t quota_bytes = 16ull << 30;
  // Flushed segments kept, whichever limit comes first.
  std::uint64_t retention_bytes = 1ull << 30;
  Duration segment_retention = std::chrono::hours(24);
  std::uint32_t partitions = 16;            // fixed when the directory is made

  // --- calls --------------------------------------------------------------------------------
  // Wait for room in the log before kOverloaded; 0: do not wait.
  Duration block_timeout{5000};

  // --- the flusher --------------------------------------------------------------------------
  // Records that start a flush without waiting for flush_interval.
  std::uint32_t max_buffer_size = 1000;
  Duration flush_interval{200};             // longest wait of a batch flushed by time
  Duration flush_linger{20};                // nothing flushed for this long: flush at once
  std::uint32_t batch_size = 5000;          // records per transaction, at most
  std::uint64_t batch_bytes = 4u << 20;     // and bytes
  std::uint32_t worker_count = 2;           // database connections that flush (SQLite: always 1)
  // Bound of the flusher's memory, however long the backlog.
  std::uint64_t memory_bytes = 128u << 20;
  std::uint32_t max_flush_retries = 3;      // of a single refused row, before it is dead-lettered
  // After a transient error; doubles up to max_backoff, with jitter.
  Duration initial_backoff{100};
  Duration max_backoff{30000};
  double backoff_multiplier = 2.0;
  bool backoff_jitter = true;
  std::uint32_t breaker_failures = 5;       // consecutive failures that open the circuit breaker
  Duration breaker_open_time{60000};        // until one trial is let through
  Duration database_timeout{30000};         // deadline of every database call
  // Beyond it nothing more is lettered, the breaker opens.
  std::uint64_t dead_letter_count_max = 10000;

  // --- several databases --------------------------------------------------------------------
  // Given to OpenTaskStorage(Options); empty: the one DSN it is given.
  std::vector<TargetOptions> targets;
  // Between two looks at each target's health; a target that does not answer gets no new
  // activities.
  Duration health_check_interval{10000};

  // --- opening and recovery -----------------------------------------------------------------
  bool enable_recovery = true;              // false: refuse to open a log with unflushed records
  Duration recovery_timeout{30000};         // longest wait for the database at open; loses nothing
  Duration shutdown_timeout{30000};         // Close drains for this long

  // --- metrics and hooks --------------------------------------------------------------------
  bool enable_metrics = true;
  Duration metrics_interval{10000};         // period of the metrics log line
  // Called on a flusher thread, no lock held.
  std::function<void(const FlushEvent&)> on_flush;
  std::function<void(const RecoveryEvent&)> on_recovery;  // called inside Open
  // shared_ptr: spdlog's own ownership of loggers. Empty: warnings and errors go to stderr.
  std::shared_ptr<spdlog::logger> logger;
};

}  // namespace taskwal
