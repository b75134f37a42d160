// Which target a task is at home in: weighted rendezvous hashing, so that a changed weight moves no
// more tasks than it must. Decided by integers alone, and so the same on every machine
// (docs/FORMAT.md "Homes"). Immutable; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace taskwal::pipeline {

class HomeTable {
 public:
  struct Share {
    std::uint16_t target = 0;
    std::string name;
    std::uint32_t weight = 0;
  };
  // At least one weight is not 0.
  explicit HomeTable(std::span<const Share> shares);

  [[nodiscard]] std::uint16_t Of(std::uint64_t key) const { return slots_[key >> kSlotShift]; }

 private:
  static constexpr int kSlotShift = 50;  // 16,384 slots: a share is met within a few percent

  std::vector<std::uint16_t> slots_;
};

}  // namespace taskwal::pipeline
