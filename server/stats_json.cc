#include "server/stats_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace taskwal::server {
namespace {

using Json = nlohmann::ordered_json;

// A driver's message need not be UTF-8.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

double UptimeSeconds(const Service& service) {
  return std::chrono::duration<double>(service.clock.Now() - service.started).count();
}

std::size_t ActiveTargets(const Stats& stats) {
  return static_cast<std::size_t>(
      std::count_if(stats.targets.begin(), stats.targets.end(),
                    [](const TargetStats& target) { return target.healthy && !target.drained; }));
}

Json TimeOrNull(const std::optional<Time>& time) {
  return time ? Json(FormatTime(*time)) : Json(nullptr);
}

Json ToJson(const LatencySummary& latency) {
  return {{"count", latency.count}, {"mean", latency.mean}, {"p50", latency.p50},
          {"p95", latency.p95},     {"p99", latency.p99},   {"max", latency.max}};
}

Json ToJson(const TargetStats& target) {
  return {{"name", target.name},
          {"is_healthy", target.healthy},
          {"in_service", !target.drained},
          {"weight", target.weight},
          {"task_weight", target.task_weight},
          {"processed_count", target.applied},
          {"error_count", target.flush_errors},
          {"dead_lettered", target.dead_lettered},
          {"pending", target.pending},
          {"flushed_lsn", target.flushed_lsn},
          {"transactions", target.flush_operations},
          {"rows_written", target.rows_written},
          {"bytes_written", target.bytes_flushed},
          {"flush_time_us", ToJson(target.flush_time)},
          {"breaker_state", target.breaker_state},
          {"last_error", target.last_error},
          {"last_error_at", TimeOrNull(target.last_error_time)},
          {"alarm", target.alarm}};
}

Json TargetList(const Stats& stats) {
  Json list = Json::array();
  for (const TargetStats& target : stats.targets) list.push_back(ToJson(target));
  return list;
}

// By reason, each by priority; priority 0 are task operations.
Json ToJson(const DropCounts& drops) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kDropReasons; ++i) {
    const auto reason = static_cast<DropReason>(i);
    Json by_priority = Json::array();
    for (const std::uint64_t count : drops.counts[i]) by_priority.push_back(count);
    json[std::string(DropReasonName(reason))] = {{"total", drops.of(reason)},
                                                 {"by_priority", std::move(by_priority)}};
  }
  return json;
}

Json ToJson(const LoadFigures& load) {
  return {{"records", load.records},
          {"bytes", load.bytes},
          {"latency_ms", load.latency_ms},
          {"error_rate", load.error_rate},
          {"arrivals_per_second", load.arrivals_per_second},
          {"applied_per_second", load.applied_per_second},
          {"score", load.score}};
}

Json ToJson(const BatchSizeSnapshot& batch) {
  Json history = Json::array();
  for (const BatchSizeSnapshot::Step& step : batch.history) {
    history.push_back({{"size", step.size},
                       {"latency_ms", step.latency_ms},
                       {"records_per_second", step.records_per_second},
                       {"score", step.score}});
  }
  return {{"size", batch.size},
          {"pinned", batch.pinned ? Json(*batch.pinned) : Json(nullptr)},
          {"min", batch.min},
          {"max", batch.max},
          {"target_latency_ms", batch.target_latency.count()},
          {"score", batch.score},
          {"history", std::move(history)}};
}

Json ToJson(const BreakerSnapshot& breaker) {
  return {
      {"state", breaker.state},           {"requests", breaker.requests},
      {"refused", breaker.refused},       {"successes", breaker.successes},
      {"failures", breaker.failures},     {"consecutive_failures", breaker.consecutive_failures},
      {"error_rate", breaker.error_rate}, {"opened", breaker.opened}};
}

Json ToJson(const WorkerSnapshot& worker) {
  return {{"index", worker.index},           {"active", worker.active},
          {"batches", worker.batches},       {"records", worker.records},
          {"failures", worker.failures},     {"timeouts", worker.timeouts},
          {"exceptions", worker.exceptions}, {"busy_seconds", worker.busy_seconds},
          {"in_hand", worker.in_hand}};
}

Json ToJson(const TargetFlow& target, const Stats& stats) {
  const auto found = std::find_if(stats.targets.begin(), stats.targets.end(),
                                  [&](const TargetStats& one) { return one.name == target.name; });
  const bool is_known = found != stats.targets.end();
  Json workers = Json::array();
  for (const WorkerSnapshot& worker : target.workers) workers.push_back(ToJson(worker));
  return {{"name", target.name},
          {"queued_records", target.queued_records},
          {"queued_bytes", target.queued_bytes},
          {"queue_utilization", target.queue_utilization},
          {"batch_size", ToJson(target.batch_size)},
          {"breaker", ToJson(target.breaker)},
          {"last_error", is_known ? found->last_error : std::string()},
          {"last_error_at", TimeOrNull(is_known ? found->last_error_time : std::nullopt)},
          {"workers", std::move(workers)}};
}

Json RecordCounts(const Stats& stats) {
  return {{"accepted", stats.accepted},
          {"applied", stats.applied},
          {"dead_lettered", stats.dead_lettered},
          {"lost", stats.lost},
          {"pending", stats.pending},
          {"dropped", stats.dropped},
          {"filtered", stats.filtered},
          {"duplicates", stats.duplicates}};
}

Json LogFigures(const Stats& stats) {
  return {{"end_lsn", stats.end_lsn},         {"durable_lsn", stats.durable_lsn},
          {"flushed_lsn", stats.flushed_lsn}, {"segments", stats.segments},
          {"bytes", stats.log_bytes},         {"bytes_written", stats.bytes_written},
          {"writes", stats.writes},           {"syncs", stats.syncs}};
}

Json FlushFigures(const Stats& stats) {
  return {{"operations", stats.flush_operations},
          {"errors", stats.flush_errors},
          {"time_us", ToJson(stats.flush_time)},
          {"last_at", TimeOrNull(stats.last_flush_time)}};
}

Json ToJson(const DeadLetterStats& letters) {
  return {{"open", letters.open},
          {"bytes", letters.bytes},
          {"oldest", TimeOrNull(letters.oldest)},
          {"added", letters.added},
          {"retried", letters.retried},
          {"superseded", letters.superseded},
          {"purged", letters.purged},
          {"expired", letters.expired}};
}

double QueueUtilization(const BufferSnapshot* flow) {
  double fullest = 0;
  if (flow == nullptr) return fullest;
  for (const TargetFlow& target : flow->targets) {
    fullest = std::max(fullest, target.queue_utilization);
  }
  return fullest;
}

}  // namespace

bool IsHealthy(const Stats& stats) {
  return stats.alarm.empty() && stats.database_available &&
         ActiveTargets(stats) == stats.targets.size();
}

std::string HealthToJson(const Service& service, const Stats& stats) {
  return Dump({{"status", IsHealthy(stats) ? "healthy" : "degraded"},
               {"uptime_seconds", UptimeSeconds(service)},
               {"active_targets", ActiveTargets(stats)},
               {"total_targets", stats.targets.size()},
               {"alarm", stats.alarm},
               {"timestamp", FormatTime(service.clock.WallNow())}});
}

std::string StatsToJson(const Service& service, const Stats& stats, const BufferSnapshot* flow) {
  return Dump({{"total_packets_received", service.packets.load()},
               {"total_messages_received", service.messages.load()},
               {"total_operations_received", service.operations.load()},
               {"records", RecordCounts(stats)},
               {"dead_letters", ToJson(stats.dead_letters)},
               {"drops", ToJson(stats.drops)},
               {"log", LogFigures(stats)},
               {"flush", FlushFigures(stats)},
               {"ring_util_percent", stats.ring_utilization * 100},
               {"queue_util_percent", QueueUtilization(flow) * 100},
               {"pressure", flow == nullptr ? "normal" : std::string(PressureName(flow->state))},
               {"database_available", stats.database_available},
               {"breaker_state", stats.breaker_state},
               {"alarm", stats.alarm},
               {"active_targets", ActiveTargets(stats)},
               {"targets", TargetList(stats)},
               {"uptime_seconds", UptimeSeconds(service)},
               {"timestamp", FormatTime(service.clock.WallNow())}});
}

std::string TargetsToJson(const Stats& stats) { return Dump({{"targets", TargetList(stats)}}); }

std::string BufferToJson(const BufferSnapshot& buffer) {
  Json targets = Json::array();
  for (const TargetFlow& target : buffer.targets) {
    targets.push_back(ToJson(target, buffer.stats));
  }
  return Dump({{"state", PressureName(buffer.state)},
               {"unflushed_records", buffer.stats.pending},
               {"log_bytes", buffer.stats.log_bytes},
               {"ring_utilization", buffer.stats.ring_utilization},
               {"records", RecordCounts(buffer.stats)},
               {"flush", FlushFigures(buffer.stats)},
               {"targets", std::move(targets)}});
}

std::string BackpressureToJson(const BackpressureSnapshot& pressure) {
  Json history = Json::array();
  for (const LoadFigures& load : pressure.history) history.push_back(ToJson(load));
  return Dump({{"state", PressureName(pressure.state)},
               {"changes", pressure.changes},
               {"now", ToJson(pressure.now)},
               {"thresholds",
                {{"records", pressure.records_threshold},
                 {"latency_ms", pressure.latency_threshold_ms},
                 {"error_rate", pressure.error_rate_threshold},
                 {"inflow", pressure.inflow_threshold}}},
               {"shed_up_to", pressure.shed_up_to},
               {"history", std::move(history)}});
}

std::string FlowControlToJson(const FlowControlSnapshot& flow) {
  return Dump({{"policy", OverflowName(flow.policy)},
               {"sample_one_in", flow.sample_one_in},
               {"rate_limit", flow.rate_limit},
               {"rate_burst", flow.rate_burst},
               {"tokens", flow.tokens},
               {"rate", flow.rate},
               {"unflushed_records", flow.unflushed_records},
               {"unflushed_bytes", flow.unflushed_bytes},
               {"max_unflushed_records", flow.max_unflushed_records},
               {"max_unflushed_bytes", flow.max_unflushed_bytes},
               {"waiting", flow.waiting},
               {"drops", ToJson(flow.drops)}});
}

}  // namespace taskwal::server
