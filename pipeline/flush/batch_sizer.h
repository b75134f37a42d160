// How many records a transaction takes, so that it lasts as long as wanted: grows in small steps
// while there is time left, falls at once to what fits. Small batches (there was no more to bring)
// tell nothing and are not looked at. Full ones always do: where bytes end a batch long before its
// size, the size goes on from the records that were really brought, and never grows far beyond.
//
// Whatever the size, a transaction that was cut (Options::batch_timeout) halves what the next ones
// may take, down to a single record; it doubles again while they need less than a quarter of the
// time. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.h"
#include "base/mutex.h"
#include "taskwal/control.h"
#include "taskwal/options.h"

namespace taskwal::pipeline {

class BatchSizer {
 public:
  explicit BatchSizer(const Options& options);

  [[nodiscard]] std::uint32_t size() const EXCLUDES(mutex_);
  // A transaction of so many records was committed; full: there was more to bring, but no room.
  void OnCommitted(std::uint64_t records, bool is_full, std::chrono::nanoseconds duration,
                   Monotonic now) EXCLUDES(mutex_);
  // One failed: under such conditions less at once loses less.
  void OnFailed(Monotonic now) EXCLUDES(mutex_);
  // One of so many records was not done in time.
  void OnCut(std::uint64_t records) EXCLUDES(mutex_);
  // This size from now on, or (nothing) the controller's again, from there; without one, as
  // configured.
  void Pin(std::optional<std::uint32_t> size) EXCLUDES(mutex_);
  [[nodiscard]] BatchSizeSnapshot Snapshot() const EXCLUDES(mutex_);

 private:
  // What was seen since the last evaluation.
  struct Seen {
    std::uint64_t batches = 0, records = 0;
    std::uint64_t full_batches = 0, full_records = 0;  // of these
    std::chrono::nanoseconds spent{0};
    bool has_failed = false;
  };

  [[nodiscard]] std::uint32_t Wanted() const REQUIRES(mutex_);
  [[nodiscard]] std::uint32_t Size() const REQUIRES(mutex_);
  void MayTakeMore(std::uint64_t records, std::chrono::nanoseconds duration) REQUIRES(mutex_);
  void Evaluate(Monotonic now) REQUIRES(mutex_);
  [[nodiscard]] double ScoreOf(double latency_ms, double rate) REQUIRES(mutex_);
  [[nodiscard]] double NextSize(const Seen& seen, double latency_ms, double score) REQUIRES(mutex_);

  const bool is_adaptive_;
  const double target_ms_;
  const double min_, max_;
  const double adjustment_;
  const std::chrono::milliseconds interval_;
  const double throughput_target_;
  const std::chrono::nanoseconds cut_after_;
  const double configured_;

  mutable Mutex mutex_;
  double size_ GUARDED_BY(mutex_);
  std::optional<std::uint32_t> pinned_ GUARDED_BY(mutex_);
  std::optional<std::uint32_t> cut_to_ GUARDED_BY(mutex_);  // not more than that for now
  Seen seen_ GUARDED_BY(mutex_);
  std::optional<Monotonic> evaluated_at_ GUARDED_BY(mutex_);
  double best_rate_ GUARDED_BY(mutex_) = 0;
  double score_ GUARDED_BY(mutex_) = 0;
  bool has_grown_ GUARDED_BY(mutex_) = false;       // at the last evaluation
  std::uint32_t hold_ GUARDED_BY(mutex_) = 0;       // evaluations without growth
  std::deque<BatchSizeSnapshot::Step> history_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::pipeline
