// What is drawn for a life: options, and how often disk and database fail.
#include <fmt/format.h>

#include <iterator>
#include <stdexcept>

#include "base/status_macros.h"
#include "pipeline/option_fields.h"
#include "tests/simulation/world.h"

namespace taskwal {

using std::chrono::milliseconds;

// As `--set` and configuration files give them: every plain field as text and back.
Options World::Retold(const Options& options) {
  Options told = options;
  for (const pipeline::OptionField& field : pipeline::OptionFields()) {
    const std::string value = pipeline::GetOption(options, field.name);
    const Status set = pipeline::SetOption(&told, field.name, value);
    if (!set.ok()) ledger_.Fail(fmt::format("{}={}: {}", field.name, value, set.message()));
  }
  return told;
}

// What does not fit is refused with a reason, and the option is as it was; what is taken reads the
// same when it is told again.
void World::Mistell(const Options& options) {
  coverage_.Note(Seen::kMistold);
  Random random(SeedOf(Concern::kMore, 3));
  constexpr const char* kTexts[] = {
      "",      "-1",   "7 parsecs",    "99999999999999999999", "1.5e",        "maybe", "1m30s", "0",
      "64kb",  "5TiB", "99999999999h", "18446744073709551615", "20000000TiB", "yes",   "off"};
  Options other = options;
  if (pipeline::SetOption(&other, "worker_cuont", "1").code() !=
      StatusCode::kInvalidArgument) {
    ledger_.Fail("an option of no name was set");
  }
  for (const pipeline::OptionField& field : pipeline::OptionFields()) {
    const char* text = kTexts[random.Below(std::size(kTexts))];
    Options told = options;
    const Status set = pipeline::SetOption(&told, field.name, text);
    const std::string value = pipeline::GetOption(told, field.name);
    const std::string before = pipeline::GetOption(options, field.name);
    Options again = told;
    const bool is_same = pipeline::SetOption(&again, field.name, value).ok() &&
                         pipeline::GetOption(again, field.name) == value;
    if (set.ok() ? !is_same : value != before || set.message().empty()) {
      ledger_.Fail(fmt::format("{}={} reads {}", field.name, text, value));
    }
    if (!set.ok()) continue;
    IgnoreStatus(pipeline::CheckOptions(told), "it may be out of bounds, and may not");
  }
}

// From a stream of its own: what was drawn before there were these is drawn as it was.
void World::DrawMore(Plan* plan) {
  Random random(SeedOf(Concern::kMore));
  Options& options = plan->options;
  if (random.OneIn(8)) {
    options.breaker_error_rate = 0.3;
    options.breaker_min_requests = 3;
    options.breaker_window = milliseconds(2000);
    options.breaker_trial_interval = milliseconds(random.Below(20));
  }
  if (random.OneIn(8)) {
    options.waiting_room = 1 + static_cast<std::uint32_t>(random.Below(3));
    options.backpressure_strategy = Overflow::kDropOldest;
  }
  if (random.OneIn(8)) options.max_open_conns = 2 + static_cast<std::uint32_t>(random.Below(3));
  if (random.OneIn(8)) options.min_activity_level = static_cast<Level>(1 + random.Below(3));
  if (random.OneIn(10)) options.max_record_bytes = 1000 + random.Below(4000);
  if (random.OneIn(8)) options.dead_letter_count_max = 1 + random.Below(5);
  if (random.OneIn(10)) {
    options.dead_letter_age_max = milliseconds(100 + random.Below(3000));
  }
  if (random.OneIn(6)) {
    plan->body_bytes_max = 40u << 10;
    coverage_.Note(Seen::kLarge);
  }
  if (random.OneIn(30)) options.enable_recovery = false;
  if (random.OneIn(10)) plan->needs_database = true;
  plan->has_wrong_list = HasSeveralNow() && random.OneIn(8);
  const std::uint64_t throws = random.OneIn(8) ? 20 : 0;
  for (const auto& database : databases_) database->set_question_throws(throws);
  if (random.OneIn(16)) Mistell(options);
  disk_.SetShortReads(Random(SeedOf(Concern::kMore, 6)).OneIn(4) ? 64 : 0);
  if (Random(SeedOf(Concern::kMore, 5)).OneIn(8)) {
    options.dead_letter_enabled = false;
    coverage_.Note(Seen::kLettersOff);
  }
}

// A callback is called by the product's threads, takes its time, and may throw.
void World::AddCallbacks(Options* options) {
  const auto tell = [this, throws = random_.OneIn(4)](const auto&) {
    coverage_.Note(Seen::kCallback);
    if (SimulatedThreads::current() != nullptr) SimulatedThreads::current()->Preempt();
    if (throws) throw std::runtime_error("simulated: the callback threw");
  };
  options->on_flush = tell;
  options->on_pressure = tell;
  options->on_breaker = tell;
  options->on_error = tell;
  options->on_recovery = tell;
}

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
  options.metrics_interval = milliseconds(2000);  // a line; the file comes twice as often
  options.health_check_interval = milliseconds(500);
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
  if (has_replica_) odds.fails_over = OneOf<std::uint64_t>({0, 0, 5});
  return odds;
}

// New activities go by them at once, tasks after a rebalance.
std::vector<std::uint32_t> World::DrawWeights() {
  std::vector<std::uint32_t> weights;
  if (!has_several_targets_) return weights;
  for (std::size_t i = 0; i < databases_.size(); ++i) {
    weights.push_back(OneOf<std::uint32_t>({0, 1, 1, 2, 5}));
  }
  weights[random_.Below(weights.size())] += 1;
  coverage_.Note(Seen::kSeveralTargets);
  return weights;
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
    disk_.FailNth(n, std::move(fault));
  }
}

}  // namespace taskwal
