// Latency histogram with bounded relative error and no lock on the recording side (the idea of
// HdrHistogram: a log2 bucket cut into 16 linear parts, so every figure is within 6.25 %).
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "taskwal/stats.h"

namespace taskwal {

class Histogram {
 public:
  // Any thread. About 5 ns.
  void Record(std::chrono::nanoseconds latency);
  // Any thread; a snapshot, in microseconds.
  [[nodiscard]] LatencySummary Summary() const;
  void Reset();

 private:
  static constexpr int kParts = 16;
  static constexpr int kBuckets = 40 * kParts;
  std::array<std::atomic<std::uint64_t>, kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_ns_{0};
  std::atomic<std::uint64_t> max_ns_{0};
};

}  // namespace taskwal
