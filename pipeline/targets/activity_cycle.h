// Whose turn the next activity is: smooth weighted round-robin (nginx's), computed ahead as one
// cycle, so that a call costs one atomic increment. Any run of calls as long as the cycle has the
// exact proportions, as long as nothing is published meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace taskwal::pipeline {

struct TargetShare {
  std::uint16_t target = 0;
  std::uint32_t weight = 0;
};

// One entry per turn; weights are divided by their common divisor. Empty when all are 0.
std::vector<std::uint16_t> SmoothCycle(std::span<const TargetShare> shares);

class ActivityCycle {
 public:
  // At least one weight is not 0. `turns` have been taken before: a process that logs but a few
  // activities goes on where the one before it ended, so that cycles are whole over their runs.
  explicit ActivityCycle(std::span<const TargetShare> all, std::uint64_t turns = 0);

  // Any thread; no lock, no allocation.
  std::uint16_t Next() {
    const std::uint64_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
    // Pairs with the store in Publish: entries of that length are there. Beside a Publish one call
    // may still get an entry of the cycle before, which is as good as having come earlier.
    const std::uint64_t length = length_.load(std::memory_order_acquire);
    return entries_[turn % length].load(std::memory_order_relaxed);
  }
  // Taken so far, `turns` of the constructor included.
  [[nodiscard]] std::uint64_t turns() const { return turn_.load(std::memory_order_relaxed); }
  // From now on these are served: some of `all`, with their weights. Nothing where all are 0. One
  // caller at a time.
  void Publish(std::span<const TargetShare> shares);

 private:
  // Written by every call that logs an activity: on a cache line of its own.
  alignas(64) std::atomic<std::uint64_t> turn_;
  alignas(64) std::atomic<std::uint64_t> length_{0};
  // Made once, for the longest cycle: that of all. Leaving targets out shortens it, as their
  // common divisor cannot get smaller.
  std::unique_ptr<std::atomic<std::uint16_t>[]> entries_;
};

}  // namespace taskwal::pipeline
