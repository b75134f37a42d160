// The door that mutations go through. Whoever shuts it can tell when none is inside any more: a
// rebalance must not begin while a call that chose its target before waits for room. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace taskwal::pipeline {

class CallGate {
 public:
  // A call, from before it looks where its record goes until the record has its LSN.
  class Pass {
   public:
    // The count is raised before the door is looked at, and whoever shuts it looks at the counts
    // afterwards (both sequentially consistent): one of the two sees the other.
    explicit Pass(CallGate& gate) : slot_(gate.counts_ ? &gate.SlotOfThread() : nullptr) {
      if (slot_ != nullptr) slot_->fetch_add(1);
      is_open_ = gate.is_open();
    }
    ~Pass() {
      if (slot_ != nullptr) slot_->fetch_sub(1);
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    [[nodiscard]] bool is_open() const { return is_open_; }

   private:
    std::atomic<std::uint64_t>* const slot_;
    bool is_open_ = false;
  };

  // Before the first Open: from now on IsEmpty can tell. It costs each call two atomic additions.
  void CountCalls() { counts_ = true; }

  [[nodiscard]] bool is_open() const { return is_open_.load(); }
  void Open() { is_open_.store(true); }
  bool Shut() { return is_open_.exchange(false); }  // whether it was open
  // Once shut, and only with CountCalls: nobody is inside, and nobody comes.
  [[nodiscard]] bool IsEmpty() const {
    std::uint64_t inside = 0;
    for (const Slot& slot : slots_) inside += slot.inside.load();
    return inside == 0;
  }

 private:
  // Callers of different slots do not share a cache line.
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> inside{0};
  };

  std::atomic<std::uint64_t>& SlotOfThread() {
    static std::atomic<std::size_t> next{0};
    thread_local const std::size_t mine = next.fetch_add(1, std::memory_order_relaxed);
    return slots_[mine % slots_.size()].inside;
  }

  std::atomic<bool> is_open_{false};
  bool counts_ = false;
  std::array<Slot, 16> slots_;
};

}  // namespace taskwal::pipeline
