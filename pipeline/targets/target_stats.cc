// What a set of targets tells of itself.
#include <algorithm>

#include "pipeline/targets/target_set.h"

namespace taskwal::pipeline {
namespace {

// Percentiles of several targets cannot be joined: the worst of them stands.
void Add(const LatencySummary& one, LatencySummary* all) {
  const std::uint64_t count = one.count + all->count;
  if (count == 0) return;
  all->mean = (one.mean * static_cast<double>(one.count) +
               all->mean * static_cast<double>(all->count)) / static_cast<double>(count);
  all->count = count;
  all->p50 = std::max(all->p50, one.p50);
  all->p95 = std::max(all->p95, one.p95);
  all->p99 = std::max(all->p99, one.p99);
  all->max = std::max(all->max, one.max);
}

std::string_view WorseBreaker(std::string_view a, std::string_view b) {
  for (const std::string_view state : {"open", "half-open"}) {
    if (a == state || b == state) return state;
  }
  return "closed";
}

void Add(const std::string& name, const FlusherStats& one, FlusherStats* all) {
  all->applied += one.applied;
  all->already_there += one.already_there;
  all->dead_lettered += one.dead_lettered;
  all->lost = std::max(all->lost, one.lost);  // each reader meets every loss
  all->voids = std::max(all->voids, one.voids);
  all->duplicates += one.duplicates;
  all->flush_operations += one.flush_operations;
  all->flush_errors += one.flush_errors;
  all->rows_written += one.rows_written;
  all->bytes_flushed += one.bytes_flushed;
  Add(one.flush_time, &all->flush_time);
  all->last_flush_time = std::max(all->last_flush_time, one.last_flush_time);
  all->database_available = all->database_available && one.database_available;
  all->breaker_state = WorseBreaker(all->breaker_state, one.breaker_state);
  if (all->alarm.empty() && !one.alarm.empty()) all->alarm = "target " + name + ": " + one.alarm;
  all->losses.insert(all->losses.end(), one.losses.begin(), one.losses.end());
  const wal::Lsn start = std::min(all->start_lsn, one.start_lsn);
  all->start_lsn = start > 0 ? start : std::max(all->start_lsn, one.start_lsn);
}

}  // namespace

std::vector<FlusherStats> TargetSet::Each() const {
  std::vector<FlusherStats> each;
  for (const auto& target : targets_) each.push_back(target->flusher->GetStats());
  return each;
}

FlusherStats TargetSet::Totals() const { return SumOf(Each()); }

FlusherStats TargetSet::SumOf(const std::vector<FlusherStats>& each) const {
  if (is_single_) return each.front();
  FlusherStats all;
  all.database_available = true;
  for (std::size_t i = 0; i < each.size(); ++i) Add(targets_[i]->name, each[i], &all);
  MutexLock lock(mutex_);
  if (!rest_alarm_.empty()) all.alarm = rest_alarm_;
  return all;
}

TargetStats TargetSet::StatsOf(const Target& target, const FlusherStats& flush) const {
  const wal::Lsn base = flush.start_lsn > 0 ? flush.start_lsn - 1 : target.flushed_at_open;
  const std::uint64_t settled = flush.applied + flush.dead_lettered + flush.lost;
  std::uint64_t accepted = 0;
  if (is_single_) {
    const wal::Lsn end = parties_.log.end_lsn();
    accepted = end - std::min(base + flush.voids, end);
  } else {
    accepted = end_at_open_ - std::min(base + flush.others, end_at_open_) + target.appended.load();
  }
  TargetStats stats;
  stats.name = target.name;
  stats.weight = target.weight;
  stats.flushed_lsn = target.flusher->flushed_lsn();
  stats.applied = flush.applied;
  stats.dead_lettered = flush.dead_lettered;
  stats.pending = accepted - std::min(settled, accepted);
  stats.flush_operations = flush.flush_operations;
  stats.flush_errors = flush.flush_errors;
  stats.bytes_flushed = flush.bytes_flushed;
  stats.rows_written = flush.rows_written;
  stats.flush_time = flush.flush_time;
  stats.last_error = flush.last_error;
  stats.last_error_time = flush.last_error_time;
  stats.breaker_state = flush.breaker_state;
  stats.alarm = flush.alarm;
  return stats;
}

void TargetSet::FillStats(taskwal::Stats* stats) const {
  // The flushers' counters first: what they count was given an LSN before, so nothing goes
  // negative.
  const std::vector<FlusherStats> each = Each();
  const FlusherStats all = SumOf(each);
  stats->targets.clear();
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    stats->targets.push_back(StatsOf(*targets_[i], each[i]));
    stats->pending += stats->targets.back().pending;
  }
  FillHealth(&stats->targets);
  stats->applied = stats->entries_flushed = all.applied;
  stats->dead_lettered = all.dead_lettered;
  stats->lost = all.lost;
  stats->accepted = all.applied + all.dead_lettered + all.lost + stats->pending;
  stats->entries_buffered = stats->accepted;
  stats->duplicates = all.duplicates;
  stats->flushed_lsn = flushed_lsn();
  stats->flush_operations = all.flush_operations;
  stats->flush_time = all.flush_time;
  stats->flush_errors = all.flush_errors;
  stats->last_flush_time = all.last_flush_time;
  stats->database_available = all.database_available;
  stats->breaker_state = all.breaker_state;
  stats->alarm = all.alarm;
}

void TargetSet::FillHealth(std::vector<TargetStats>* targets) const {
  const wal::LogState state = parties_.log.state();
  const auto shares = TaskShares(state, state.rebalancing);
  MutexLock lock(mutex_);
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    TargetStats& stats = (*targets)[i];
    stats.healthy = health_[i].answers && health_[i].in_service;
    stats.drained = !health_[i].in_service;
    for (const HomeTable::Share& share : shares) {
      if (share.target == targets_[i]->number) stats.task_weight = share.weight;
    }
  }
}

std::vector<std::string> TargetSet::Names() const {
  std::vector<std::string> names;
  for (const auto& target : targets_) {
    const std::string& database = target->backend->name();
    if (is_single_) return {database};
    names.push_back(target->name + "*" + std::to_string(target->weight) + "=" + database);
  }
  return names;
}

}  // namespace taskwal::pipeline
