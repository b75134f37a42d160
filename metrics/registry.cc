#include "metrics/registry.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>

namespace taskwal::metrics {
namespace {

constexpr std::string_view kAccepted = "taskwal_records_accepted_total";
constexpr std::string_view kPending = "taskwal_records_pending";

// Takes the samples of one family.
class Samples {
 public:
  explicit Samples(std::vector<Sample>* into) : into_(into) {}

  template <typename Number>
  void Add(Number value, Labels labels = {}) {
    into_->push_back({std::move(labels), static_cast<double>(value), {}});
  }
  void AddLatency(const LatencySummary& latency, Labels labels = {}) {
    into_->push_back({std::move(labels), 0, latency});
  }
  // Seconds since 1970; nothing where it never was.
  void AddTime(const std::optional<Time>& time, Labels labels = {}) {
    if (!time) return;
    const std::chrono::duration<double> seconds = time->time_since_epoch();
    Add(seconds.count(), std::move(labels));
  }
  // One sample for each name, 1 for the one that holds.
  template <typename Names>
  void AddState(std::string_view state, const Names& names, const Labels& labels = {}) {
    for (const std::string_view name : names) {
      Labels with = labels;
      with.emplace_back("state", name);
      Add(name == state ? 1 : 0, std::move(with));
    }
  }

 private:
  std::vector<Sample>* into_;
};

struct Entry {
  std::string_view name;
  Kind kind;
  std::string_view help;
  void (*collect)(const Source& source, Samples& out);
};

constexpr std::array<std::string_view, 3> kBreakerStates = {"closed", "open", "half-open"};

Labels OfTarget(const std::string& name) { return {{"target", name}}; }

Labels OfWorker(const TargetFlow& flow, const WorkerSnapshot& worker) {
  return {{"target", flow.name}, {"worker", std::to_string(worker.index)}};
}

#define TASKWAL_OF_STATS(expression) \
  [](const Source& source, Samples& out) { out.Add(source.stats.expression); }
#define TASKWAL_OF_TARGETS(expression)                             \
  [](const Source& source, Samples& out) {                         \
    for (const TargetStats& target : source.stats.targets) {       \
      out.Add(target.expression, OfTarget(target.name));           \
    }                                                              \
  }
#define TASKWAL_OF_FLOWS(expression)                     \
  [](const Source& source, Samples& out) {               \
    for (const TargetFlow& flow : source.flows) {        \
      out.Add(flow.expression, OfTarget(flow.name));     \
    }                                                    \
  }
#define TASKWAL_OF_WORKERS(expression)                        \
  [](const Source& source, Samples& out) {                    \
    for (const TargetFlow& flow : source.flows) {             \
      for (const WorkerSnapshot& worker : flow.workers) {     \
        out.Add(worker.expression, OfWorker(flow, worker));   \
      }                                                       \
    }                                                         \
  }
#define TASKWAL_LATENCY(expression) \
  [](const Source& source, Samples& out) { out.AddLatency(source.stats.expression); }

constexpr Entry kRecordMetrics[] = {
    {kAccepted, Kind::kCounter, "Records given an LSN, and those pending at open",
     TASKWAL_OF_STATS(accepted)},
    {"taskwal_records_applied_total", Kind::kCounter,
     "Records in the database, or found there already", TASKWAL_OF_STATS(applied)},
    {"taskwal_records_dead_lettered_total", Kind::kCounter,
     "Records that went to the dead letters", TASKWAL_OF_STATS(dead_lettered)},
    {"taskwal_records_lost_total", Kind::kCounter, "Records declared lost because of damage",
     TASKWAL_OF_STATS(lost)},
    {kPending, Kind::kGauge, "Records in the log and in no database yet",
     TASKWAL_OF_STATS(pending)},
    {"taskwal_records_dropped_total", Kind::kCounter,
     "Calls refused before they were given an LSN, by reason and priority (0: task operations)",
     [](const Source& source, Samples& out) {
       const DropCounts& drops = source.stats.drops;
       for (std::size_t r = 0; r < kDropReasons; ++r) {
         const auto reason = static_cast<DropReason>(r);
         for (std::int32_t priority = 0; priority < std::ssize(drops.counts[r]); ++priority) {
           out.Add(drops.of(reason, priority), {{"reason", std::string(DropReasonName(reason))},
                                                {"priority", std::to_string(priority)}});
         }
       }
     }},
    {"taskwal_records_filtered_total", Kind::kCounter, "Activities below min_activity_level",
     TASKWAL_OF_STATS(filtered)},
    {"taskwal_records_duplicate_total", Kind::kCounter,
     "Activities whose id was stored before; part of those applied", TASKWAL_OF_STATS(duplicates)},
    {"taskwal_append_duration_seconds", Kind::kSummary,
     "Call until its LSN, of one call in 64", TASKWAL_LATENCY(append_time)},
    {"taskwal_commit_duration_seconds", Kind::kSummary, "Waiting for the disk, level disk",
     TASKWAL_LATENCY(commit_time)},
    {"taskwal_read_duration_seconds", Kind::kSummary, "Reads and queries",
     TASKWAL_LATENCY(read_time)},
};

constexpr Entry kLogMetrics[] = {
    {"taskwal_log_end_lsn", Kind::kGauge, "Last LSN given out", TASKWAL_OF_STATS(end_lsn)},
    {"taskwal_log_durable_lsn", Kind::kGauge, "Everything up to here is on disk",
     TASKWAL_OF_STATS(durable_lsn)},
    {"taskwal_log_flushed_lsn", Kind::kGauge,
     "Everything up to here is in the database or in dead letters", TASKWAL_OF_STATS(flushed_lsn)},
    {"taskwal_log_segments", Kind::kGauge, "Segment files by state",
     [](const Source& source, Samples& out) {
       out.Add(source.stats.segments_active, {{"state", "active"}});
       out.Add(source.stats.segments_flushing, {{"state", "flushing"}});
       out.Add(source.stats.segments_flushed, {{"state", "flushed"}});
     }},
    {"taskwal_log_bytes", Kind::kGauge, "Size of the segment files", TASKWAL_OF_STATS(log_bytes)},
    {"taskwal_log_written_bytes_total", Kind::kCounter, "Bytes written to segments",
     TASKWAL_OF_STATS(bytes_written)},
    {"taskwal_log_writes_total", Kind::kCounter, "Write calls", TASKWAL_OF_STATS(writes)},
    {"taskwal_log_syncs_total", Kind::kCounter, "Calls of fdatasync", TASKWAL_OF_STATS(syncs)},
    {"taskwal_log_sync_duration_seconds", Kind::kSummary, "One write and fdatasync",
     TASKWAL_LATENCY(sync_time)},
    {"taskwal_ring_utilization_ratio", Kind::kGauge, "Used part of the log buffer",
     TASKWAL_OF_STATS(ring_utilization)},
    {"taskwal_recovery_records_total", Kind::kCounter, "Records rescued or pending at open",
     TASKWAL_OF_STATS(recovery_operations)},
    {"taskwal_recovery_errors_total", Kind::kCounter, "Damaged regions found at open",
     TASKWAL_OF_STATS(recovery_errors)},
};

constexpr Entry kTargetMetrics[] = {
    {"taskwal_target_applied_total", Kind::kCounter, "Records in this database",
     TASKWAL_OF_TARGETS(applied)},
    {"taskwal_target_dead_lettered_total", Kind::kCounter, "Records it refused for good",
     TASKWAL_OF_TARGETS(dead_lettered)},
    {"taskwal_target_pending", Kind::kGauge, "Records it has still to take",
     TASKWAL_OF_TARGETS(pending)},
    {"taskwal_target_healthy", Kind::kGauge, "1: gets new activities",
     TASKWAL_OF_TARGETS(healthy)},
    {"taskwal_target_weight", Kind::kGauge, "Share of new activities",
     TASKWAL_OF_TARGETS(weight)},
    {"taskwal_flush_transactions_total", Kind::kCounter, "Transactions committed",
     TASKWAL_OF_TARGETS(flush_operations)},
    {"taskwal_flush_errors_total", Kind::kCounter, "Attempts that failed or were refused",
     TASKWAL_OF_TARGETS(flush_errors)},
    {"taskwal_flush_bytes_total", Kind::kCounter, "Bytes of records brought, as in the log",
     TASKWAL_OF_TARGETS(bytes_flushed)},
    {"taskwal_flush_rows_total", Kind::kCounter, "Rows written, after composition",
     TASKWAL_OF_TARGETS(rows_written)},
    {"taskwal_flush_duration_seconds", Kind::kSummary, "Transactions committed",
     [](const Source& source, Samples& out) {
       for (const TargetStats& target : source.stats.targets) {
         out.AddLatency(target.flush_time, OfTarget(target.name));
       }
     }},
    {"taskwal_flush_last_error_timestamp_seconds", Kind::kGauge, "When an attempt failed last",
     [](const Source& source, Samples& out) {
       for (const TargetStats& target : source.stats.targets) {
         out.AddTime(target.last_error_time, OfTarget(target.name));
       }
     }},
    {"taskwal_flush_last_timestamp_seconds", Kind::kGauge, "When a transaction was committed last",
     [](const Source& source, Samples& out) { out.AddTime(source.stats.last_flush_time); }},
    {"taskwal_database_available", Kind::kGauge, "1: every database answers",
     TASKWAL_OF_STATS(database_available)},
    {"taskwal_alarm", Kind::kGauge, "1: something needs a person; the log says what",
     [](const Source& source, Samples& out) { out.Add(source.stats.alarm.empty() ? 0 : 1); }},
};

constexpr Entry kFlowMetrics[] = {
    {"taskwal_queue_records", Kind::kGauge, "Records read from the log and not settled",
     TASKWAL_OF_FLOWS(queued_records)},
    {"taskwal_queue_bytes", Kind::kGauge, "Bytes of them", TASKWAL_OF_FLOWS(queued_bytes)},
    {"taskwal_queue_utilization_ratio", Kind::kGauge, "Used part of the fullest partition's queue",
     TASKWAL_OF_FLOWS(queue_utilization)},
    {"taskwal_batch_size_records", Kind::kGauge, "Records per transaction, at most",
     TASKWAL_OF_FLOWS(batch_size.size)},
    {"taskwal_batch_score_ratio", Kind::kGauge, "How well the batch size does, 0 to 1",
     TASKWAL_OF_FLOWS(batch_size.score)},
    {"taskwal_breaker_state", Kind::kGauge, "1 for the state it is in",
     [](const Source& source, Samples& out) {
       for (const TargetFlow& flow : source.flows) {
         out.AddState(flow.breaker.state, kBreakerStates, OfTarget(flow.name));
       }
     }},
    {"taskwal_breaker_requests_total", Kind::kCounter, "Calls let through",
     TASKWAL_OF_FLOWS(breaker.requests)},
    {"taskwal_breaker_refused_total", Kind::kCounter, "Calls not let through",
     TASKWAL_OF_FLOWS(breaker.refused)},
    {"taskwal_breaker_successes_total", Kind::kCounter, "Calls that succeeded",
     TASKWAL_OF_FLOWS(breaker.successes)},
    {"taskwal_breaker_failures_total", Kind::kCounter, "Calls that failed",
     TASKWAL_OF_FLOWS(breaker.failures)},
    {"taskwal_breaker_consecutive_failures", Kind::kGauge, "Failures in a row",
     TASKWAL_OF_FLOWS(breaker.consecutive_failures)},
    {"taskwal_breaker_error_ratio", Kind::kGauge, "Failed share over breaker_window",
     TASKWAL_OF_FLOWS(breaker.error_rate)},
    {"taskwal_breaker_opened_total", Kind::kCounter, "Times it opened",
     TASKWAL_OF_FLOWS(breaker.opened)},
    {"taskwal_worker_active", Kind::kGauge, "1: owns partitions", TASKWAL_OF_WORKERS(active)},
    {"taskwal_worker_batches_total", Kind::kCounter, "Batches committed",
     TASKWAL_OF_WORKERS(batches)},
    {"taskwal_worker_records_total", Kind::kCounter, "Records brought",
     TASKWAL_OF_WORKERS(records)},
    {"taskwal_worker_failures_total", Kind::kCounter, "Attempts that failed",
     TASKWAL_OF_WORKERS(failures)},
    {"taskwal_worker_timeouts_total", Kind::kCounter, "Batches given back after batch_timeout",
     TASKWAL_OF_WORKERS(timeouts)},
    {"taskwal_worker_exceptions_total", Kind::kCounter, "Exceptions it went on after",
     TASKWAL_OF_WORKERS(exceptions)},
    {"taskwal_worker_busy_seconds_total", Kind::kCounter, "Time in database calls",
     TASKWAL_OF_WORKERS(busy_seconds)},
    {"taskwal_worker_in_hand_records", Kind::kGauge, "Records of the batch it is at",
     TASKWAL_OF_WORKERS(in_hand)},
    {"taskwal_worker_flush_duration_seconds", Kind::kSummary, "Transactions it committed",
     [](const Source& source, Samples& out) {
       for (const TargetFlow& flow : source.flows) {
         for (const WorkerSnapshot& worker : flow.workers) {
           out.AddLatency(worker.flush_time, OfWorker(flow, worker));
         }
       }
     }},
};

void AddSignals(const LoadFigures& now, Samples& out) {
  const double inflow = now.applied_per_second > 0
                            ? now.arrivals_per_second / now.applied_per_second
                            : now.arrivals_per_second;
  out.Add(now.records, {{"signal", "records"}});
  out.Add(now.latency_ms / 1000, {{"signal", "latency"}});
  out.Add(now.error_rate, {{"signal", "errors"}});
  out.Add(inflow, {{"signal", "inflow"}});
}

constexpr Entry kAdmissionMetrics[] = {
    {"taskwal_pressure_state", Kind::kGauge, "1 for the state it is in",
     [](const Source& source, Samples& out) {
       const std::array names = {PressureName(Pressure::kNormal), PressureName(Pressure::kPressure),
                                 PressureName(Pressure::kEmergency)};
       out.AddState(PressureName(source.backpressure.state), names);
     }},
    {"taskwal_pressure_changes_total", Kind::kCounter, "Changes of the state",
     [](const Source& source, Samples& out) { out.Add(source.backpressure.changes); }},
    {"taskwal_pressure_score", Kind::kGauge, "Worst signal against its threshold; 1: pressure",
     [](const Source& source, Samples& out) { out.Add(source.backpressure.now.score); }},
    {"taskwal_pressure_signal", Kind::kGauge,
     "Unflushed records, latency in seconds, failed share, arrivals for each record applied",
     [](const Source& source, Samples& out) { AddSignals(source.backpressure.now, out); }},
    {"taskwal_pressure_threshold", Kind::kGauge, "In force, of each signal",
     [](const Source& source, Samples& out) {
       const BackpressureSnapshot& load = source.backpressure;
       out.Add(load.records_threshold, {{"signal", "records"}});
       out.Add(load.latency_threshold_ms / 1000, {{"signal", "latency"}});
       out.Add(load.error_rate_threshold, {{"signal", "errors"}});
       out.Add(load.inflow_threshold, {{"signal", "inflow"}});
     }},
    {"taskwal_arrivals_records_per_second", Kind::kGauge, "Records coming in",
     [](const Source& source, Samples& out) {
       out.Add(source.backpressure.now.arrivals_per_second);
     }},
    {"taskwal_applied_records_per_second", Kind::kGauge, "Records going to the database",
     [](const Source& source, Samples& out) {
       out.Add(source.backpressure.now.applied_per_second);
     }},
    {"taskwal_shed_up_to_priority", Kind::kGauge,
     "Activities of this priority and below are thinned out; 0: none",
     [](const Source& source, Samples& out) { out.Add(source.backpressure.shed_up_to); }},
    {"taskwal_rate_limit_records_per_second", Kind::kGauge, "Limit of admission; 0: none",
     [](const Source& source, Samples& out) { out.Add(source.flow_control.rate_limit); }},
    {"taskwal_rate_burst_records", Kind::kGauge, "What may come at once",
     [](const Source& source, Samples& out) { out.Add(source.flow_control.rate_burst); }},
    {"taskwal_rate_tokens", Kind::kGauge, "Left in the bucket",
     [](const Source& source, Samples& out) { out.Add(source.flow_control.tokens); }},
    {"taskwal_rate_records_per_second", Kind::kGauge, "Over rate_window, while limited",
     [](const Source& source, Samples& out) { out.Add(source.flow_control.rate); }},
    {"taskwal_waiting_calls", Kind::kGauge, "Calls in the waiting room",
     [](const Source& source, Samples& out) { out.Add(source.flow_control.waiting); }},
};

constexpr Entry kLetterMetrics[] = {
    {"taskwal_dead_letters", Kind::kGauge, "Open dead letters",
     TASKWAL_OF_STATS(dead_letters.open)},
    {"taskwal_dead_letter_bytes", Kind::kGauge, "Their size on disk",
     TASKWAL_OF_STATS(dead_letters.bytes)},
    {"taskwal_dead_letter_oldest_timestamp_seconds", Kind::kGauge, "First failure of the oldest",
     [](const Source& source, Samples& out) { out.AddTime(source.stats.dead_letters.oldest); }},
    {"taskwal_dead_letters_added_total", Kind::kCounter, "Letters written",
     TASKWAL_OF_STATS(dead_letters.added)},
    {"taskwal_dead_letters_retried_total", Kind::kCounter, "Letters brought once more",
     TASKWAL_OF_STATS(dead_letters.retried)},
    {"taskwal_dead_letters_superseded_total", Kind::kCounter,
     "Retried, and the database had something newer", TASKWAL_OF_STATS(dead_letters.superseded)},
    {"taskwal_dead_letters_purged_total", Kind::kCounter, "Let go by an operator",
     TASKWAL_OF_STATS(dead_letters.purged)},
    {"taskwal_dead_letters_expired_total", Kind::kCounter, "Activities too old to be kept",
     TASKWAL_OF_STATS(dead_letters.expired)},
};

#undef TASKWAL_OF_STATS
#undef TASKWAL_OF_TARGETS
#undef TASKWAL_OF_FLOWS
#undef TASKWAL_OF_WORKERS
#undef TASKWAL_LATENCY

template <typename Entries>
void CollectFrom(const Entries& entries, const Source& source, std::vector<Family>* families) {
  for (const Entry& entry : entries) {
    Family family{entry.name, entry.help, entry.kind, {}};
    Samples samples(&family.samples);
    entry.collect(source, samples);
    families->push_back(std::move(family));
  }
}

double ValueOf(const std::vector<Family>& families, std::string_view name) {
  for (const Family& family : families) {
    if (family.name == name && !family.samples.empty()) return family.samples.front().value;
  }
  return 0;
}

}  // namespace

std::vector<Family> Collect(const Source& source) {
  std::vector<Family> families;
  CollectFrom(kRecordMetrics, source, &families);
  CollectFrom(kLogMetrics, source, &families);
  CollectFrom(kTargetMetrics, source, &families);
  CollectFrom(kFlowMetrics, source, &families);
  CollectFrom(kAdmissionMetrics, source, &families);
  CollectFrom(kLetterMetrics, source, &families);
  return families;
}

void Rebase(const std::vector<Family>& baseline, std::vector<Family>* families) {
  const double pending = ValueOf(baseline, kPending);
  for (Family& family : *families) {
    if (family.kind != Kind::kCounter) continue;
    const auto base = std::find_if(baseline.begin(), baseline.end(),
                                   [&](const Family& b) { return b.name == family.name; });
    if (base == baseline.end()) continue;
    for (Sample& sample : family.samples) {
      const auto before =
          std::find_if(base->samples.begin(), base->samples.end(),
                       [&](const Sample& s) { return s.labels == sample.labels; });
      if (before != base->samples.end()) sample.value -= before->value;
    }
    if (family.name == kAccepted && !family.samples.empty()) {
      family.samples.front().value += pending;
    }
  }
}

}  // namespace taskwal::metrics
