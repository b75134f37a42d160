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
  // Each reader meets every loss; what one had read before is its own.
  const std::uint64_t read = all->lost - all->lost_unread + one.lost - one.lost_unread;
  all->lost_unread = std::max(all->lost_unread, one.lost_unread);
  all->lost = all->lost_unread + read;
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
  all->missing.insert(all->missing.end(), one.missing.begin(), one.missing.end());
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

// Behind the flusher's snapshot: whatever that has read was counted before.
TargetSet::Account TargetSet::AccountOf(const Target& target, const FlusherStats& flush) const {
  const std::uint64_t appended =
      is_single_ ? parties_.log.end_lsn() - end_at_open_ : target.appended.load();
  // LSNs of the backlog that hold no record, as a kill left them: told from LSNs, they count, and
  // there is nothing to bring.
  const std::uint64_t voids = is_single_ && !is_backlog_read_ ? flush.voids : 0;
  Account account;
  account.accepted = target.backlog + flush.regained + appended;
  account.read = flush.read + voids;
  account.applied = flush.applied + voids;
  const std::uint64_t passed = account.read + (is_single_ ? flush.lost_unread : 0);
  const std::uint64_t accepted = account.accepted + (is_single_ ? lost_at_open_ : 0);
  std::uint64_t unread = accepted - std::min(passed, accepted);
  // Whose records were lost nobody knows; but there are no more of them than LSNs to be read.
  const wal::Lsn end = std::max(parties_.log.end_lsn(), flush.read_lsn);
  if (!is_single_) unread = std::min(unread, end - flush.read_lsn);
  account.pending = unread + flush.unsettled;
  return account;
}

TargetStats TargetSet::StatsOf(const Target& target, const FlusherStats& flush,
                               const Account& account) const {
  TargetStats stats;
  stats.name = target.name;
  stats.weight = target.weight;
  stats.flushed_lsn = target.flusher->flushed_lsn();
  stats.applied = account.applied;
  stats.dead_lettered = flush.dead_lettered;
  stats.pending = account.pending;
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
  const std::vector<FlusherStats> each = Each();
  const FlusherStats all = SumOf(each);
  stats->targets.clear();
  stats->accepted = lost_at_open_;
  // Nobody knows which target's records a loss held: it is taken from the sum.
  std::uint64_t passed = all.lost_unread;
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    const Account account = AccountOf(*targets_[i], each[i]);
    stats->targets.push_back(StatsOf(*targets_[i], each[i], account));
    stats->accepted += account.accepted;
    stats->applied += account.applied;
    stats->pending += each[i].unsettled;
    passed += account.read;
  }
  // Counted by itself, and not what the other terms leave of `accepted`: what no reader has met,
  // and what is in the queues.
  stats->pending += stats->accepted - std::min(passed, stats->accepted);
  FillHealth(&stats->targets);
  stats->entries_flushed = stats->applied;
  stats->dead_lettered = all.dead_lettered;
  stats->lost = all.lost;
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
