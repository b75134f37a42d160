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
#include "taskwal/task.h"

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

// What becomes of a call for which there is no room: the log is full, a budget is used up, the rate
// is reached. Task operations always wait for their timeout; the policy is for activities.
enum class Overflow : std::uint8_t {
  kBlock = 0,   // they wait as well
  kDropOldest,  // they wait in the waiting room, where the oldest of the lowest priority gives way
  kDropNewest,  // they are refused at once
  kSample,      // one in sample_one_in waits, the others are refused; under pressure, too
};

// How the storage stands the load.
enum class Pressure : std::uint8_t { kNormal = 0, kPressure, kEmergency };

enum class Backoff : std::uint8_t { kExponential = 0, kLinear, kConstant };

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

struct PressureEvent {
  Pressure from = Pressure::kNormal;
  Pressure to = Pressure::kNormal;
  double score = 0;        // the worst signal against its threshold
  std::string signal;      // which one: "records", "latency", "errors" or "inflow"
};

struct BreakerEvent {
  std::string database;    // masked
  std::string from, to;    // "closed", "open", "half-open"
};

struct ErrorEvent {        // a failure of the background work, which goes on
  std::string component;   // "worker", "reader", "callback", "shutdown"
  std::string database;    // empty where it is none's business
  std::uint32_t worker = 0;
  std::string message;
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
  // False: every call goes straight to the database, past admission, too (development). A call
  // that comes to its end (timeout, but 0; stop) is then kUnavailable and without effect, or
  // kInDoubt where its transaction had begun.
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
  // Unflushed log on disk; beyond it calls wait, then kOverloaded. Looked at before each segment,
  // so the segment being filled and what the ring holds come on top.
  std::uint64_t quota_bytes = 16ull << 30;
  // Flushed segments kept, whichever limit comes first.
  std::uint64_t retention_bytes = 1ull << 30;
  Duration segment_retention = std::chrono::hours(24);
  std::uint32_t partitions = 16;            // fixed when the directory is made

  // --- calls --------------------------------------------------------------------------------
  // Wait for room in the log before kOverloaded; 0: do not wait.
  Duration block_timeout{5000};
  // Of activities for which there is no room.
  Overflow backpressure_strategy = Overflow::kBlock;
  std::uint32_t sample_one_in = 10;         // kept by the policy `sample`
  std::uint32_t waiting_room = 1000;        // activities that wait under `drop_oldest`, at most
  // Records per second, over all callers; 0: no limit. And what may come at once; 0: a tenth of a
  // second's worth.
  std::uint64_t rate_limit = 0;
  std::uint64_t rate_burst = 0;
  // No stretch of this length has more than rate_limit on average; 0: the burst alone decides.
  Duration rate_window{60000};
  std::uint64_t max_unflushed_records = 0;  // beyond it calls wait; 0: no budget but quota_bytes
  std::uint64_t max_unflushed_bytes = 0;    // the same, of encoded records
  std::uint64_t max_record_bytes = 0;       // a larger call is refused; 0: the data model's limits
  Level min_activity_level = Level::kDebug; // activities below are not kept
  // A task that is completed, failed or cancelled is brought back to pending or running only by
  // calls with WriteOptions::reset; others that would do so change nothing of it. Deleting it, or
  // saving it with another terminal status, is not reopening it.
  bool protect_terminal_status = false;

  // --- pressure -----------------------------------------------------------------------------
  Duration monitoring_interval{5000};       // between two looks at the load
  // What counts as pressure: unflushed records, the mean of transactions, the failed share of them,
  // arrivals for each record applied. 0: not looked at.
  std::uint64_t pressure_records = 800000;
  Duration pressure_latency{1000};
  double pressure_error_rate = 0.1;
  double pressure_inflow = 2.0;
  // The first two move towards three times what is usual, within half and twice the value given:
  // by this share of the way at each look, and as fast back to the value under pressure.
  bool adaptive_thresholds = true;
  double recovery_factor = 0.1;
  // In an emergency, this share of the activities of low priority is refused: those of priority 1
  // and 2, and up to 4 as long as it lasts. Off: an emergency is only reported.
  bool emergency_enabled = false;
  double emergency_throttle = 0.8;
  // The failed share that makes an emergency, as twice the threshold of any other signal does.
  double emergency_error_rate = 0.2;

  // --- the flusher --------------------------------------------------------------------------
  // Records that start a flush without waiting for flush_interval.
  std::uint32_t max_buffer_size = 1000;
  Duration flush_interval{200};             // longest wait of a batch flushed by time
  Duration flush_linger{20};                // nothing flushed for this long: flush at once
  std::uint32_t batch_size = 5000;          // records per transaction, at most
  // Transactions are to take this long: the batch size follows, from batch_size on, within these
  // bounds. 0: it stands still.
  Duration target_latency{0};
  std::uint32_t batch_size_min = 100;
  std::uint32_t batch_size_max = 100000;
  double batch_adjustment = 0.1;            // growth of one step
  Duration batch_evaluation_interval{1000};
  std::uint64_t throughput_target = 0;      // records/s of score 1; 0: the best seen
  std::uint64_t batch_bytes = 4u << 20;     // and bytes
  std::uint32_t worker_count = 2;           // database connections that flush (SQLite: always 1)
  // Bound of the flusher's memory, however long the backlog.
  std::uint64_t memory_bytes = 128u << 20;
  // extra tries of a single refused row before it is dead-lettered
  std::uint32_t max_flush_retries = 3;
  // After a transient error; grows up to max_backoff, with jitter. 0: no pause.
  Backoff backoff_strategy = Backoff::kExponential;
  Duration initial_backoff{100};
  Duration max_backoff{30000};
  double backoff_multiplier = 2.0;
  bool backoff_jitter = true;
  std::uint32_t breaker_failures = 5;       // consecutive failures that open the circuit breaker
  // Or this failed share of the calls within the window, once there are so many; 0: not looked at.
  double breaker_error_rate = 0;
  std::uint32_t breaker_min_requests = 10;
  Duration breaker_window{60000};
  Duration breaker_open_time{60000};        // until trials are let through
  std::uint32_t breaker_trials = 1;         // that many good ones close it, one bad one opens it
  Duration breaker_trial_interval{0};       // between the starts of two trials, at least
  // A batch's time: a transaction that is still running then is cut, and the worker gives the batch
  // back, so that another may have it, and the next ones are smaller. 0: database_timeout alone.
  Duration batch_timeout{0};
  // A worker with nothing to do takes whole partitions of one that is busy with others.
  bool work_stealing = false;
  Duration database_timeout{30000};         // deadline of every database call
  // Connections to each database: open at once (workers and queries; at least 2, as one is left to
  // queries; with a limit worker_count cannot be raised while running; 0: no limit), kept between
  // queries, and their age from which on they are replaced before their next use (0: never).
  std::uint32_t max_open_conns = 0;
  std::uint32_t max_idle_conns = 4;
  Duration conn_max_lifetime{0};
  // False: nothing becomes a dead letter. The log waits for a row that is refused for good as it
  // does where they are full, with an alarm, until the row is taken or this is true again.
  bool dead_letter_enabled = true;
  // Open dead letters. Beyond either nothing more is lettered, the breaker opens; from four fifths
  // of it on there is an alarm.
  std::uint64_t dead_letter_count_max = 10000;
  std::uint64_t dead_letter_bytes_max = 256u << 20;
  // Letters of activities older than this expire, counted; those of tasks raise an alarm. 0: never.
  Duration dead_letter_age_max = std::chrono::hours(24 * 7);

  // --- several databases --------------------------------------------------------------------
  // Given to OpenTaskStorage(Options); empty: the one DSN it is given.
  std::vector<TargetOptions> targets;
  // Between two looks at each target's health; a target that does not answer gets no new
  // activities. And between two looks at a database that nothing was brought into meanwhile, and
  // by a connection kept for queries: whether it is still the one, and has what it confirmed.
  Duration health_check_interval{10000};

  // --- opening and recovery -----------------------------------------------------------------
  bool enable_recovery = true;              // false: refuse to open a log with unflushed records
  Duration recovery_timeout{30000};         // longest wait for the database at open; loses nothing
  Duration shutdown_timeout{30000};         // Close drains for this long

  // --- metrics and hooks --------------------------------------------------------------------
  bool enable_metrics = true;
  Duration metrics_interval{10000};         // period of the metrics log line
  // Called on a flusher thread, no lock held. Any that hangs is left behind at the shutdown.
  std::function<void(const FlushEvent&)> on_flush;
  // Called when the state has changed, no lock held, on a thread of its own; what is not told
  // yet at the shutdown is told then.
  std::function<void(const PressureEvent&)> on_pressure;
  std::function<void(const BreakerEvent&)> on_breaker;
  std::function<void(const ErrorEvent&)> on_error;
  std::function<void(const RecoveryEvent&)> on_recovery;  // called inside Open
  // The process has one: that of the storage opened last. Empty: stderr. (spdlog shares ownership.)
  std::shared_ptr<spdlog::logger> logger;
};

}  // namespace taskwal
