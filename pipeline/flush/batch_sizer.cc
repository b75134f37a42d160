#include "pipeline/flush/batch_sizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace taskwal::pipeline {
namespace {

constexpr std::size_t kHistory = 60;
constexpr double kSlack = 0.1;      // so close to the target nothing is changed
constexpr double kShrinkMost = 0.1;  // of the size, in one step
constexpr double kWorse = 0.1;      // a score that fell by so much after a growth takes it back
constexpr std::uint32_t kHold = 5;  // evaluations until growth is tried again
// Of the best rate, at each evaluation: what was once is no measure for ever.
constexpr double kBestFades = 0.02;

double Mean(std::uint64_t sum, std::uint64_t count) {
  return static_cast<double>(sum) / static_cast<double>(count);
}

}  // namespace

BatchSizer::BatchSizer(const Options& options)
    : is_adaptive_(options.target_latency.count() > 0),
      target_ms_(static_cast<double>(options.target_latency.count())),
      min_(std::max(options.batch_size_min, 1u)),
      max_(std::max<double>(options.batch_size_max, min_)),
      adjustment_(options.batch_adjustment),
      interval_(options.batch_evaluation_interval),
      throughput_target_(static_cast<double>(options.throughput_target)),
      cut_after_(options.batch_timeout),
      configured_(std::max(options.batch_size, 1u)),
      size_(configured_) {
  if (is_adaptive_) size_ = std::clamp(size_, min_, max_);
}

std::uint32_t BatchSizer::size() const {
  MutexLock lock(mutex_);
  return Size();
}

std::uint32_t BatchSizer::Wanted() const {
  return pinned_.value_or(static_cast<std::uint32_t>(size_));
}

std::uint32_t BatchSizer::Size() const { return std::min(Wanted(), cut_to_.value_or(Wanted())); }

void BatchSizer::OnCut(std::uint64_t records) {
  MutexLock lock(mutex_);
  const auto half = static_cast<std::uint32_t>(std::max<std::uint64_t>(records / 2, 1));
  cut_to_ = std::min(half, Size());
  if (is_adaptive_ && !pinned_) size_ = std::clamp<double>(*cut_to_, min_, max_);
}

void BatchSizer::MayTakeMore(std::uint64_t records, std::chrono::nanoseconds duration) {
  if (!cut_to_ || 2 * records < *cut_to_ || duration > cut_after_ / 4) return;
  if (*cut_to_ >= Wanted() / 2) {
    cut_to_.reset();
  } else {
    *cut_to_ *= 2;
  }
}

void BatchSizer::OnCommitted(std::uint64_t records, bool is_full, std::chrono::nanoseconds duration,
                             Monotonic now) {
  MutexLock lock(mutex_);
  MayTakeMore(records, duration);
  if (!is_adaptive_) return;
  if (!evaluated_at_) evaluated_at_ = now;
  if (is_full || 2 * records >= Size()) {
    ++seen_.batches;
    seen_.records += records;
    seen_.spent += duration;
    seen_.full_batches += is_full ? 1 : 0;
    seen_.full_records += is_full ? records : 0;
  }
  if (now - *evaluated_at_ >= interval_) Evaluate(now);
}

void BatchSizer::OnFailed(Monotonic now) {
  if (!is_adaptive_) return;
  MutexLock lock(mutex_);
  if (!evaluated_at_) evaluated_at_ = now;
  seen_.has_failed = true;
  if (now - *evaluated_at_ >= interval_) Evaluate(now);
}

void BatchSizer::Evaluate(Monotonic now) {
  const Seen seen = std::exchange(seen_, {});
  evaluated_at_ = now;
  if (seen.has_failed && !pinned_) size_ = std::max(size_ * (1 - adjustment_), min_);
  if (seen.batches == 0) return;
  const std::chrono::duration<double, std::milli> spent = seen.spent;
  const double latency_ms = spent.count() / static_cast<double>(seen.batches);
  const double rate = static_cast<double>(seen.records) / std::max(spent.count() / 1000, 1e-9);
  const double score = ScoreOf(latency_ms, rate);
  if (!pinned_ && !seen.has_failed) {
    size_ = std::clamp(NextSize(seen, latency_ms, score), min_, max_);
  }
  score_ = score;
  history_.push_back({Size(), latency_ms, rate, score});
  if (history_.size() > kHistory) history_.pop_front();
}

// Half latency, half throughput; 1 is as good as wanted.
double BatchSizer::ScoreOf(double latency_ms, double rate) {
  best_rate_ = std::max(rate, best_rate_ * (1 - kBestFades));
  const double wanted = throughput_target_ > 0 ? throughput_target_ : best_rate_;
  const double in_time = std::min(target_ms_ / std::max(latency_ms, 1e-6), 1.0);
  return 0.5 * in_time + 0.5 * std::min(rate / wanted, 1.0);
}

double BatchSizer::NextSize(const Seen& seen, double latency_ms, double score) {
  const bool has_grown = std::exchange(has_grown_, false);
  if (latency_ms > target_ms_ * (1 + kSlack)) {
    const double fits =
        Mean(seen.records, seen.batches) * std::max(target_ms_ / latency_ms, kShrinkMost);
    return std::min(fits, size_);
  }
  if (has_grown && score < score_ * (1 - kWorse)) {
    hold_ = kHold;
    return size_ / (1 + adjustment_);
  }
  if (hold_ > 0) {
    --hold_;
    return size_;
  }
  if (latency_ms > target_ms_ * (1 - kSlack)) return size_;
  // Growth without effect would never be measured.
  if (seen.full_batches == 0) return size_;
  const double brought = Mean(seen.full_records, seen.full_batches);
  // The size is whole records and a part, of which no batch shows anything.
  const double from = brought < std::floor(size_) ? brought : size_;
  // Never beyond what the target leaves room for, should a transaction's time go with its size; and
  // no more than a step ahead of what bytes allow.
  const double grown = from * std::min(1 + adjustment_, target_ms_ / std::max(latency_ms, 1e-6));
  if (grown <= size_) return size_;
  has_grown_ = true;
  return grown;
}

void BatchSizer::Pin(std::optional<std::uint32_t> size) {
  MutexLock lock(mutex_);
  // The controller goes on from there; without one the size is again what was configured.
  if (pinned_ && !size) {
    size_ = is_adaptive_ ? std::clamp<double>(*pinned_, min_, max_) : configured_;
  }
  pinned_ = size;
  has_grown_ = false;
  seen_ = {};
}

BatchSizeSnapshot BatchSizer::Snapshot() const {
  MutexLock lock(mutex_);
  BatchSizeSnapshot snapshot;
  snapshot.size = Size();
  snapshot.pinned = pinned_;
  snapshot.min = static_cast<std::uint32_t>(min_);
  snapshot.max = static_cast<std::uint32_t>(max_);
  snapshot.target_latency = std::chrono::milliseconds(static_cast<std::int64_t>(target_ms_));
  snapshot.score = score_;
  snapshot.history.assign(history_.begin(), history_.end());
  return snapshot;
}

}  // namespace taskwal::pipeline
