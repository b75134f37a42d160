// What is drawn for a life: options, and how often disk and database fail.
#include "tests/simulation/world.h"

namespace taskwal {

using std::chrono::milliseconds;

Options World::DrawOptions() {
  Options options;
  options.wal_dir = "/wal";
  options.partitions = partitions_;
  options.ring_bytes = OneOf<std::uint64_t>({8u << 10, 16u << 10, 32u << 10, 64u << 10});
  options.segment_bytes = OneOf<std::uint64_t>({16u << 10, 24u << 10, 32u << 10, 64u << 10});
  options.max_segment_size = OneOf<std::uint64_t>({0, 0, 0, 5, 40});
  options.frame_bytes = OneOf<std::uint64_t>({512, 4u << 10, 16u << 10, 64u << 10});
  options.compression = random_.OneIn(4);
  options.sync_lanes = OneOf<std::uint32_t>({1, 2, 2, 3});
  options.sync_interval = OneOf<milliseconds>({milliseconds(0), milliseconds(5), milliseconds(50),
                                               milliseconds(500)});
  if (random_.OneIn(6)) options.quota_bytes = (64u << 10) + random_.Below(128u << 10);
  options.retention_bytes = OneOf<std::uint64_t>({0, 0, 64u << 10, 1u << 30});
  options.segment_retention = OneOf<milliseconds>({milliseconds(0), milliseconds(200),
                                                   std::chrono::hours(24)});
  options.block_timeout = OneOf<milliseconds>({milliseconds(0), milliseconds(20),
                                               milliseconds(1000), milliseconds(5000)});
  DrawPressure(&options);
  DrawFlusher(&options);
  options.recovery_timeout = milliseconds(random_.Below(500));
  options.shutdown_timeout = milliseconds(1000);
  options.enable_metrics = random_.OneIn(4);
  options.metrics_interval = milliseconds(500);
  return options;
}

void World::DrawPressure(Options* options) {
  options->monitoring_interval = milliseconds(20 + random_.Below(500));
  options->backpressure_strategy = OneOf<Overflow>(
      {Overflow::kBlock, Overflow::kBlock, Overflow::kDropOldest, Overflow::kDropNewest,
       Overflow::kSample});
  if (random_.OneIn(8)) options->rate_limit = 50 + random_.Below(2000);
  if (random_.OneIn(8)) options->max_unflushed_records = 10 + random_.Below(200);
  if (random_.OneIn(8)) options->max_unflushed_bytes = 4096 + random_.Below(64u << 10);
  if (random_.OneIn(4)) options->pressure_records = 10 + random_.Below(100);
  options->emergency_enabled = random_.OneIn(4);
}

void World::DrawFlusher(Options* options) {
  options->flush_interval = milliseconds(1 + random_.Below(100));
  options->flush_linger = milliseconds(random_.Below(20));
  options->max_buffer_size = OneOf<std::uint32_t>({1, 20, 1000});
  options->batch_size = OneOf<std::uint32_t>({1, 7, 50, 500});
  options->batch_bytes = OneOf<std::uint64_t>({4096, 4u << 20});
  options->worker_count = OneOf<std::uint32_t>({1, 2, 2, 4});
  options->memory_bytes = 1u << 20;
  options->max_flush_retries = OneOf<std::uint32_t>({0, 1, 2});
  options->backoff_strategy =
      OneOf<Backoff>({Backoff::kExponential, Backoff::kLinear, Backoff::kConstant});
  options->initial_backoff = milliseconds(random_.Below(20));
  options->max_backoff = milliseconds(20 + random_.Below(500));
  options->breaker_failures = OneOf<std::uint32_t>({1, 3, 5});
  options->breaker_open_time = milliseconds(1 + random_.Below(500));
  options->breaker_trials = OneOf<std::uint32_t>({1, 1, 3});
  if (random_.OneIn(4)) options->batch_timeout = milliseconds(1 + random_.Below(500));
  options->work_stealing = random_.OneIn(2);
  if (random_.OneIn(4)) options->target_latency = milliseconds(1 + random_.Below(100));
  options->batch_size_min = 1;
  options->batch_size_max = 1000;
  options->database_timeout = milliseconds(1000);
}

SimulatedDatabase::Odds World::DrawDatabaseOdds() {
  SimulatedDatabase::Odds odds;
  if (!has_rough_database_ || random_.OneIn(3)) return odds;
  odds.connect_fails = OneOf<std::uint64_t>({0, 50, 400});
  odds.question_fails = OneOf<std::uint64_t>({0, 50, 200});
  odds.apply_fails = OneOf<std::uint64_t>({10, 100, 400});
  odds.slow = OneOf<std::uint64_t>({0, 50, 300});
  odds.hangs = OneOf<std::uint64_t>({0, 0, 10, 50});
  odds.restarts = OneOf<std::uint64_t>({0, 0, 20});
  odds.goes_down = OneOf<std::uint64_t>({0, 0, 10});
  return odds;
}

void World::ArmDiskFaults(Plan* plan) {
  if (!has_rough_disk_ || random_.OneIn(3)) return;
  plan->has_disk_faults = true;
  disk_was_rough_ = true;
  const std::uint64_t faults = 1 + random_.Below(3);
  for (std::uint64_t i = 0; i < faults; ++i) {
    SimulatedFault fault;
    switch (random_.Below(10)) {
      case 0: fault.call = SimulatedCall::kSync; break;
      case 1: fault.call = SimulatedCall::kWrite; break;
      case 2: fault.call = SimulatedCall::kSyncDirectory; break;
      case 3: fault.call = SimulatedCall::kRename; break;
      case 4: fault.call = SimulatedCall::kRemove; break;
      case 5: fault.call = SimulatedCall::kOpenWritable; break;
      case 6: fault.call = SimulatedCall::kRead; break;
      case 7: fault.call = SimulatedCall::kCreateRing; break;
      default: break;  // of any kind
    }
    fault.sticky = random_.OneIn(12);
    const std::uint64_t n = 1 + random_.Below(fault.call ? 60 : 600);
    // A failed sync loses what is not synced, and so does any sync behind a sticky failure. A
    // failed write or sync condemns the file, and what cannot be read back from it is lost.
    const auto call = fault.call.value_or(SimulatedCall::kSync);
    if (call == SimulatedCall::kSync || call == SimulatedCall::kRead) ledger_.SyncsMayFail();
    disk_.FailNth(n, std::move(fault));
  }
}

}  // namespace taskwal
