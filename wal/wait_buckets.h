// Callers waiting for the durable position, grouped by the LSN they wait for: a wake-up reaches
// those it concerns, however many others sleep. A burst of neighbours shares one wake-up, and those
// woken need no mutex to see that they are done.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <thread>

#include "base/futex.h"
#include "wal/record.h"

namespace taskwal::wal {

// All but Sleep and Notify is guarded by its owner's mutex.
class WaitBuckets {
 public:
  // A place to sleep, taken before the mutex is given up: no wake-up in between is missed.
  struct Place {
    std::uint32_t bucket = 0;
    std::uint32_t turn = 0;
  };
  Place Enter(Lsn lsn) { return EnterBucket(NumberOf(lsn)); }
  // The same for a caller whose record no commit under way covers. The first of them is to lead the
  // next one and sleeps apart, to be woken alone.
  Place EnterToLead(Lsn lsn) {
    if (leader_lsn_ != 0 && leader_lsn_ != lsn) return Enter(lsn);
    leader_lsn_ = lsn;
    return EnterBucket(kLeader);
  }
  // Until woken, or as long as `most`; for the first `awake` of it by letting others run instead of
  // asleep.
  void Sleep(const Place& place, std::chrono::nanoseconds most, std::chrono::nanoseconds awake) {
    Bucket& bucket = buckets_[place.bucket];
    const auto until = std::chrono::steady_clock::now() + most;
    const auto is_woken = [&] { return bucket.turn.load(std::memory_order_relaxed) != place.turn; };
    if (awake.count() > 0) {
      const auto asleep_at = until - most + std::min(most, awake);
      while (!is_woken() && std::chrono::steady_clock::now() < asleep_at) std::this_thread::yield();
    }
    if (!is_woken()) FutexWait(bucket.turn, place.turn, until);
    // Pairs with Add: what was stored before the wake-up is seen.
    static_cast<void>(bucket.turn.load(std::memory_order_acquire));
    bucket.sleepers.fetch_sub(1, std::memory_order_relaxed);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }
  // A caller that gives up leads nothing.
  void Leave(Lsn lsn) {
    if (leader_lsn_ == lsn) leader_lsn_ = 0;
  }

  struct Wakeups {
    std::uint64_t buckets = 0;  // bit per bucket
  };
  // Adds those waiting for an LSN in (from, to]; returns about how many they are.
  std::uint32_t AddSleepers(Lsn from, Lsn to, Wakeups* due) {
    if (sleepers() == 0 || from >= to) return 0;
    const Lsn first = (from + 1) >> kShift;
    const Lsn last = std::min(to >> kShift, first + kBuckets - 1);
    std::uint32_t found = 0;
    for (Lsn at = first; at <= last; ++at) found += Add(at % kBuckets, due);
    if (leader_lsn_ > from && leader_lsn_ <= to) found += AddLeaderItself(due);
    return found;
  }

  // Adds who is to lead the next commit: one that waits for an LSN above `covered`.
  void AddLeader(Lsn covered, Wakeups* due) {
    if (sleepers() == 0) return;
    if (leader_lsn_ > covered) {
      AddLeaderItself(due);
      return;
    }
    const Lsn first = (covered + 1) >> kShift;
    for (Lsn at = first; at < first + kBuckets; ++at) {
      if (Add(at % kBuckets, due) > 0) return;
    }
  }

  // Wakes them; best without the mutex, which those woken may want.
  void Notify(const Wakeups& due) {
    // First of all who leads: the device waits for it.
    if ((due.buckets >> kLeader) != 0) FutexWakeAll(buckets_[kLeader].turn);
    for (std::uint64_t left = due.buckets << 1 >> 1; left != 0; left &= left - 1) {
      FutexWakeAll(buckets_[static_cast<std::size_t>(std::countr_zero(left))].turn);
    }
  }

  void WakeAll() {
    Wakeups due;
    for (std::uint32_t number = 0; number < kBuckets; ++number) Add(number, &due);
    AddLeaderItself(&due);
    Notify(due);
  }

  [[nodiscard]] std::uint32_t sleepers() const { return sleepers_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kBuckets = 63;
  static constexpr std::uint32_t kLeader = kBuckets;
  static constexpr int kShift = 4;  // 16 neighbouring LSNs
  struct alignas(64) Bucket {
    std::atomic<std::uint32_t> turn{0};  // grows with every wake-up
    std::atomic<std::uint32_t> sleepers{0};
  };

  static std::uint32_t NumberOf(Lsn lsn) {
    return static_cast<std::uint32_t>((lsn >> kShift) % kBuckets);
  }
  Place EnterBucket(std::uint32_t number) {
    Bucket& bucket = buckets_[number];
    bucket.sleepers.fetch_add(1, std::memory_order_relaxed);
    sleepers_.fetch_add(1, std::memory_order_relaxed);
    return {number, bucket.turn.load(std::memory_order_relaxed)};
  }
  std::uint32_t Add(std::uint64_t number, Wakeups* due) {
    Bucket& bucket = buckets_[number];
    const std::uint32_t sleepers = bucket.sleepers.load(std::memory_order_relaxed);
    if (sleepers == 0) return 0;
    // Here, under the mutex: whoever entered before it will not sleep, or be woken by Notify.
    bucket.turn.fetch_add(1, std::memory_order_release);
    due->buckets |= std::uint64_t{1} << number;
    return sleepers;
  }
  std::uint32_t AddLeaderItself(Wakeups* due) {
    leader_lsn_ = 0;
    return Add(kLeader, due);
  }

  std::array<Bucket, kBuckets + 1> buckets_;
  std::atomic<std::uint32_t> sleepers_{0};
  Lsn leader_lsn_ = 0;  // what the next leader waits for; 0: there is none
};

}  // namespace taskwal::wal
