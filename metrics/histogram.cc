#include "metrics/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

// Every order is relaxed: the counters carry no other data, so that no thread needs to see them in
// step with anything; a snapshot taken beside writers may miss the newest of them.

namespace taskwal {
namespace {

constexpr int kLinearBits = 4;
constexpr std::uint64_t kLinear = 1u << kLinearBits;
constexpr auto kRelaxed = std::memory_order_relaxed;

// Below 2 x kLinear every value has a bucket of its own; above, each power of two has kLinear.
std::size_t BucketOf(std::uint64_t ns, std::size_t buckets) {
  if (ns < kLinear) return ns;
  const int shift = std::bit_width(ns) - 1 - kLinearBits;
  const std::size_t bucket = static_cast<std::size_t>(shift) * kLinear + (ns >> shift);
  return std::min(bucket, buckets - 1);
}

double MiddleOf(std::size_t bucket) {
  if (bucket < 2 * kLinear) return static_cast<double>(bucket);
  const auto shift = bucket / kLinear - 1;
  const std::uint64_t lowest = (bucket % kLinear + kLinear) << shift;
  const std::uint64_t width = 1ull << shift;
  return static_cast<double>(lowest) + static_cast<double>(width - 1) / 2;
}

}  // namespace

void Histogram::Record(std::chrono::nanoseconds latency) {
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(latency.count(), 0));
  counts_[BucketOf(ns, counts_.size())].fetch_add(1, kRelaxed);
  sum_ns_.fetch_add(ns, kRelaxed);
  std::uint64_t seen = max_ns_.load(kRelaxed);
  while (seen < ns && !max_ns_.compare_exchange_weak(seen, ns, kRelaxed)) {
  }
}

LatencySummary Histogram::Summary() const {
  std::array<std::uint64_t, kBuckets> counts;
  LatencySummary summary;
  const std::uint64_t highest = max_ns_.load(kRelaxed);
  const std::size_t buckets = BucketOf(highest, kBuckets) + 1;  // behind them is nothing
  for (std::size_t i = 0; i < buckets; ++i) {
    counts[i] = counts_[i].load(kRelaxed);
    summary.count += counts[i];
  }
  if (summary.count == 0) return summary;

  constexpr double kNsPerUs = 1000;
  const double max_ns = static_cast<double>(highest);
  const auto quantile = [&](double part) {
    const auto rank = static_cast<std::uint64_t>(
        std::max(1.0, std::ceil(part * static_cast<double>(summary.count))));
    std::uint64_t passed = 0;
    std::size_t bucket = 0;
    while (bucket + 1 < buckets && (passed += counts[bucket]) < rank) ++bucket;
    return std::min(MiddleOf(bucket), max_ns) / kNsPerUs;
  };
  summary.mean = static_cast<double>(sum_ns_.load(kRelaxed)) /
                 static_cast<double>(summary.count) / kNsPerUs;
  summary.p50 = quantile(0.50);
  summary.p95 = quantile(0.95);
  summary.p99 = quantile(0.99);
  summary.max = max_ns / kNsPerUs;
  return summary;
}

void Histogram::Reset() {
  for (auto& count : counts_) count.store(0, kRelaxed);
  sum_ns_.store(0, kRelaxed);
  max_ns_.store(0, kRelaxed);
}

}  // namespace taskwal
