// How many there were within the last stretch of time, in 64 slots: what falls out of it is known
// to a 63rd of its length, and never forgotten too early. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace taskwal::pipeline {

class SlidingWindow {
 public:
  explicit SlidingWindow(std::chrono::nanoseconds length)
      : slot_length_(std::max<std::int64_t>(length.count() / (kSlots - 1), 1)) {}

  // Where one was counted.
  struct Place {
    std::int64_t slot = 0;
    std::uint64_t clears = 0;
  };
  Place Add(Monotonic now) {
    Advance(now);
    ++slots_[Index(slot_)];
    ++sum_;
    return {slot_, clears_};
  }
  // One that does not count after all. No other's place is taken, however late this comes.
  void TakeBack(const Place& place) {
    std::uint64_t& slot = slots_[Index(place.slot)];
    if (place.clears != clears_ || slot_ - place.slot >= kSlots || slot == 0) return;
    --slot;
    --sum_;
  }
  std::uint64_t Count(Monotonic now) {
    Advance(now);
    return sum_;
  }
  void Clear() {
    slots_.fill(0);
    sum_ = 0;
    ++clears_;
  }

 private:
  static constexpr std::int64_t kSlots = 64;

  static std::size_t Index(std::int64_t slot) {
    return static_cast<std::size_t>((slot % kSlots + kSlots) % kSlots);
  }
  void Advance(Monotonic now) {
    const std::int64_t slot =
        std::chrono::nanoseconds(now.time_since_epoch()).count() / slot_length_;
    if (slot - slot_ >= kSlots) Clear();
    // Threads read the clock before they come here, so it may seem to step back a little.
    for (; slot_ < slot && sum_ > 0; ++slot_) {
      std::uint64_t& oldest = slots_[Index(slot_ + 1)];
      sum_ -= oldest;
      oldest = 0;
    }
    slot_ = std::max(slot_, slot);
  }

  const std::int64_t slot_length_;
  std::array<std::uint64_t, kSlots> slots_{};
  std::int64_t slot_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t clears_ = 0;
};

}  // namespace taskwal::pipeline
