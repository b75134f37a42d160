// Sleepers of group commit, woken in bulk and only where somebody sleeps. A commit covers
// neighbouring LSNs, so callers wait in buckets by LSN: one broadcast wakes the callers of one
// commit, not all.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/mutex.h"
#include "wal/record.h"

namespace taskwal::wal {

// Guarded by its owner's mutex, which Wait gives up while it sleeps.
class WaitBuckets {
 public:
  // Sleeps until a wake-up that concerns `lsn`, or until `until`.
  void Wait(Mutex& mutex, Lsn lsn, std::chrono::steady_clock::time_point until) REQUIRES(mutex) {
    Bucket& bucket = BucketOf(lsn);
    ++bucket.sleepers;
    bucket.highest = std::max(bucket.highest, lsn);
    ++sleepers_;
    if (until == std::chrono::steady_clock::time_point::max()) {
      bucket.wake.Wait(mutex);
    } else {
      bucket.wake.WaitUntil(mutex, until);
    }
    --sleepers_;
    if (--bucket.sleepers == 0) bucket.highest = 0;
  }

  // Those waiting for an LSN in (from, to].
  void Wake(Lsn from, Lsn to) {
    if (sleepers_ == 0) return;
    const Lsn first = (from + 1) >> kShift;
    const Lsn last = std::min(to >> kShift, first + kBuckets - 1);
    for (Lsn at = first; at <= last; ++at) Notify(buckets_[at % kBuckets]);
  }

  // Some that wait for an LSN above `gathered`: one of them will lead the next commit.
  void WakeLeader(Lsn gathered) {
    if (sleepers_ == 0) return;
    const Lsn first = (gathered + 1) >> kShift;
    for (Lsn at = first; at < first + kBuckets; ++at) {
      Bucket& bucket = buckets_[at % kBuckets];
      if (bucket.sleepers > 0 && bucket.highest > gathered) {
        Notify(bucket);
        return;
      }
    }
  }

  void WakeAll() {
    for (Bucket& bucket : buckets_) Notify(bucket);
  }

  [[nodiscard]] std::uint32_t sleepers() const { return sleepers_; }

 private:
  static constexpr Lsn kBuckets = 64;
  static constexpr int kShift = 4;  // 16 neighbouring LSNs
  struct Bucket {
    CondVar wake;
    std::uint32_t sleepers = 0;
    Lsn highest = 0;
  };

  Bucket& BucketOf(Lsn lsn) { return buckets_[(lsn >> kShift) % kBuckets]; }
  static void Notify(Bucket& bucket) {
    if (bucket.sleepers > 0) bucket.wake.NotifyAll();
  }

  std::array<Bucket, kBuckets> buckets_;
  std::uint32_t sleepers_ = 0;
};

}  // namespace taskwal::wal
