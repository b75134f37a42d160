// Running storage under pressure: what it does about it, as snapshots, and the few knobs that turn
// without a restart. TaskStorage::GetControl() gives it; any thread may call it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/options.h"
#include "taskwal/stats.h"
#include "taskwal/status.h"

namespace taskwal {

std::string_view OverflowName(Overflow policy);    // "block", "drop_oldest", …
std::string_view PressureName(Pressure state);     // "normal", "pressure", "emergency"

// How the load stood at one look of the monitor.
struct LoadFigures {
  double records = 0;            // unflushed
  double bytes = 0;              // of them, on disk
  double latency_ms = 0;         // of a database transaction, mean
  double error_rate = 0;         // failed share of attempts, 0 to 1
  double arrivals_per_second = 0;
  double applied_per_second = 0;
  double score = 0;              // the worst of them against its threshold; 1: pressure
};

struct BackpressureSnapshot {
  Pressure state = Pressure::kNormal;
  std::uint64_t changes = 0;     // of the state, since open
  LoadFigures now;
  // In force; the first two move with what is usual where adaptive_thresholds is on.
  double records_threshold = 0, latency_threshold_ms = 0;
  double error_rate_threshold = 0, inflow_threshold = 0;
  std::int32_t shed_up_to = 0;   // activities of this priority and below are thinned out; 0: none
  std::vector<LoadFigures> history;  // one for each look, the last one at the end
};

struct FlowControlSnapshot {
  Overflow policy = Overflow::kBlock;
  std::uint32_t sample_one_in = 0;
  std::uint64_t rate_limit = 0, rate_burst = 0;  // 0: no limit
  double tokens = 0;                             // left in the bucket
  double rate = 0;                               // records/s over rate_window, while limited
  std::uint64_t unflushed_records = 0, unflushed_bytes = 0;  // counted while there is a budget
  std::uint64_t max_unflushed_records = 0, max_unflushed_bytes = 0;
  std::uint64_t waiting = 0;                     // calls in the waiting room
  DropCounts drops;
};

struct BatchSizeSnapshot {
  std::uint32_t size = 0;        // records per transaction now, at most
  std::optional<std::uint32_t> pinned;
  std::uint32_t min = 0, max = 0;
  std::chrono::milliseconds target_latency{0};  // 0: the size stands still
  double score = 0;              // 0 to 1, half latency, half throughput
  struct Step {
    std::uint32_t size = 0;
    double latency_ms = 0, records_per_second = 0, score = 0;
  };
  std::vector<Step> history;     // of evaluations, the last one at the end
};

struct BreakerSnapshot {
  std::string state = "closed";
  std::uint64_t requests = 0;    // let through
  std::uint64_t refused = 0;
  std::uint64_t successes = 0, failures = 0;
  std::uint32_t consecutive_failures = 0;
  double error_rate = 0;         // over breaker_window
  std::uint64_t opened = 0;      // times
};

struct WorkerSnapshot {
  std::uint32_t index = 0;
  bool active = true;            // owns partitions
  std::uint64_t batches = 0, records = 0;   // committed
  std::uint64_t failures = 0, timeouts = 0, exceptions = 0;
  double busy_seconds = 0;       // in database calls
  std::uint64_t in_hand = 0;     // records of the batch it is at
  LatencySummary flush_time;     // of transactions it committed
};

struct TargetFlow {              // of one database
  std::string name;
  BatchSizeSnapshot batch_size;
  BreakerSnapshot breaker;
  std::vector<WorkerSnapshot> workers;
  std::uint64_t queued_records = 0, queued_bytes = 0;  // read from the log, not settled
  double queue_utilization = 0;  // of the fullest partition, 0 to 1
};

struct BufferSnapshot {
  Stats stats;
  Pressure state = Pressure::kNormal;
  std::vector<TargetFlow> targets;
};

class Control {
 public:
  virtual ~Control() = default;

  // Records/s; 0: no limit. Burst 0: a tenth of a second's worth.
  virtual Status SetRate(std::uint64_t records_per_second, std::uint64_t burst) = 0;
  virtual Status SetPolicy(Overflow policy, std::uint32_t sample_one_in) = 0;
  // Pins the records per transaction; nothing: lets the controller go on from there, or, where
  // there is none (target_latency 0), takes Options::batch_size again.
  virtual Status SetBatchSize(std::optional<std::uint32_t> records) = 0;
  // Closes the breaker of one target, or (empty) of all. kNotFound: no target has this name.
  virtual Status ResetBreaker(std::string_view target) = 0;
  // Connections that flush, of each target: bounded by what its database and the partitions allow.
  // Partitions are handed over when the batch they are in is done. kUnavailable when the system
  // gives no more threads: those that run go on.
  virtual Status SetWorkerCount(std::uint32_t workers) = 0;

  virtual BufferSnapshot Buffer() = 0;
  virtual BackpressureSnapshot Backpressure() = 0;
  virtual FlowControlSnapshot FlowControl() = 0;
};

}  // namespace taskwal
