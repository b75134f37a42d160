#include "pipeline/targets/activity_cycle.h"

#include <numeric>

#include "base/check.h"

namespace taskwal::pipeline {

std::vector<std::uint16_t> SmoothCycle(std::span<const TargetShare> shares) {
  std::uint64_t divisor = 0;
  std::uint64_t total = 0;
  for (const TargetShare& share : shares) {
    divisor = std::gcd(divisor, std::uint64_t{share.weight});
    total += share.weight;
  }
  std::vector<std::uint16_t> cycle;
  if (total == 0) return cycle;
  const auto sum = static_cast<std::int64_t>(total / divisor);
  std::vector<std::int64_t> credit(shares.size(), 0);
  while (cycle.size() < static_cast<std::size_t>(sum)) {
    std::size_t best = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      credit[i] += static_cast<std::int64_t>(shares[i].weight / divisor);
      if (credit[i] > credit[best]) best = i;
    }
    credit[best] -= sum;
    cycle.push_back(shares[best].target);
  }
  return cycle;
}

ActivityCycle::ActivityCycle(std::span<const TargetShare> all, std::uint64_t turns) : turn_(turns) {
  const std::vector<std::uint16_t> cycle = SmoothCycle(all);
  TASKWAL_CHECK(!cycle.empty());
  entries_ = std::make_unique<std::atomic<std::uint16_t>[]>(cycle.size());
  Publish(all);
}

void ActivityCycle::Publish(std::span<const TargetShare> shares) {
  const std::vector<std::uint16_t> cycle = SmoothCycle(shares);
  if (cycle.empty()) return;
  for (std::size_t i = 0; i < cycle.size(); ++i) {
    entries_[i].store(cycle[i], std::memory_order_relaxed);
  }
  // Pairs with the load in Next.
  length_.store(cycle.size(), std::memory_order_release);
}

}  // namespace taskwal::pipeline
