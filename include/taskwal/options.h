// Every knob of WAL-enabled storage, with default, unit and effect. Plain values, fixed once opened.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

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

struct Options {
  using Duration = std::chrono::milliseconds;

  // --- the log ------------------------------------------------------------------------------
  std::string wal_dir = "taskwal.wal";      // made when absent, parents included; one process writes it at a time
  bool wal_enabled = true;                  // false: every call goes straight to the database (development)
  Durability durability = Durability::kDisk;        // of calls that do not say
  std::uint64_t ring_bytes = 16u << 20;     // log buffer; rounded up to a power of two, at most 1/8 of the disk
  std::uint64_t segment_bytes = 64u << 20;  // a segment file rolls at this size (the first is 1 MiB, then doubling)
  std::uint64_t max_segment_size = 0;       // and at this many records; 0: bytes alone decide
  std::uint64_t frame_bytes = 256u << 10;   // records gathered per write, at most; more waits for the next frame
  bool compression = false;                 // zstd frames
  std::uint32_t sync_lanes = 2;             // commits in flight at once (level disk), 1 to 8
  bool io_uring = false;                    // write and sync in one io_uring request where the kernel allows it
  Duration sync_interval{500};              // longest time a `process` record stays unsynced; 0: only on demand
  std::uint64_t quota_bytes = 16ull << 30;  // unflushed log on disk; beyond it calls wait, then kOverloaded
  std::uint64_t retention_bytes = 1ull << 30;       // flushed segments kept, whichever limit comes first
  Duration segment_retention = std::chrono::hours(24);
  std::uint32_t partitions = 16;            // fixed when the directory is made

  // --- calls --------------------------------------------------------------------------------
  Duration block_timeout{5000};             // wait for room in the log before kOverloaded; 0: do not wait

  // --- the flusher --------------------------------------------------------------------------
  std::uint32_t max_buffer_size = 1000;     // records that start a flush without waiting for flush_interval
  Duration flush_interval{200};             // longest wait of a batch flushed by time
  Duration flush_linger{20};                // nothing flushed for this long: flush at once
  std::uint32_t batch_size = 5000;          // records per transaction, at most
  std::uint64_t batch_bytes = 4u << 20;     // and bytes
  std::uint32_t worker_count = 2;           // database connections that flush (SQLite: always 1)
  std::uint64_t memory_bytes = 128u << 20;  // bound of the flusher's memory, however long the backlog
  std::uint32_t max_flush_retries = 3;      // of a single refused row, before it is dead-lettered
  Duration initial_backoff{100};            // after a transient error; doubles up to max_backoff, with jitter
  Duration max_backoff{30000};
  double backoff_multiplier = 2.0;
  bool backoff_jitter = true;
  std::uint32_t breaker_failures = 5;       // consecutive failures that open the circuit breaker
  Duration breaker_open_time{60000};        // until one trial is let through
  Duration database_timeout{30000};         // deadline of every database call
  std::uint64_t dead_letter_count_max = 10000;      // beyond it nothing more is lettered, the breaker opens

  // --- opening and recovery -----------------------------------------------------------------
  bool enable_recovery = true;              // false: refuse to open a log with unflushed records
  Duration recovery_timeout{30000};         // longest wait for the database at open; loses nothing
  Duration shutdown_timeout{30000};         // Close drains for this long

  // --- metrics and hooks --------------------------------------------------------------------
  bool enable_metrics = true;
  Duration metrics_interval{10000};         // period of the metrics log line
  std::function<void(const FlushEvent&)> on_flush;        // called on a flusher thread, no lock held
  std::function<void(const RecoveryEvent&)> on_recovery;  // called inside Open
  // shared_ptr: spdlog's own ownership of loggers. Empty: warnings and errors go to stderr.
  std::shared_ptr<spdlog::logger> logger;
};

}  // namespace taskwal
