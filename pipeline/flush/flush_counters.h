// What the flusher tells of itself: counters, the last error, losses. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "base/mutex.h"
#include "metrics/histogram.h"
#include "pipeline/flush/flusher.h"
#include "taskwal/control.h"

namespace taskwal::pipeline {

class FlushCounters {
 public:
  // `change` edits the plain counters under the lock; it must do nothing else.
  template <typename Change>
  void Update(Change&& change) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    change(stats_);
  }
  // `move` brings records from one count to another: between what is unread, in the queues and
  // settled. A snapshot made in another one finds each record in exactly one of them.
  template <typename Move>
  void Transfer(Move&& move) EXCLUDES(transfer_, mutex_) {
    MutexLock lock(transfer_);
    move();
  }
  [[nodiscard]] std::uint64_t flush_operations() const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return stats_.flush_operations;
  }
  void RecordFlush(std::uint32_t worker, std::chrono::nanoseconds duration) EXCLUDES(mutex_) {
    flush_time_.Record(duration);
    MutexLock lock(mutex_);
    worker_times_[worker].Record(duration);
  }

  void ResetTimes() EXCLUDES(mutex_) {
    flush_time_.Reset();
    MutexLock lock(mutex_);
    for (auto& [index, times] : worker_times_) times.Reset();
  }

  // The same for one worker's.
  template <typename Change>
  void UpdateWorker(std::uint32_t index, Change&& change) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    WorkerSnapshot& worker = workers_[index];
    worker.index = index;
    change(worker);
  }
  // Of those that have done something.
  [[nodiscard]] std::map<std::uint32_t, WorkerSnapshot> workers() const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    auto workers = workers_;
    for (auto& [index, worker] : workers) {
      const auto times = worker_times_.find(index);
      if (times != worker_times_.end()) worker.flush_time = times->second.Summary();
    }
    return workers;
  }

  // Whose alarm it is: each is raised and cleared by itself.
  static constexpr std::uint32_t kReader = 0;
  static constexpr std::uint32_t kContact = 1;
  static constexpr std::uint32_t kFirstWorker = 2;
  // The last to be told, as it stays as long as the process.
  static constexpr std::uint32_t kMissing = UINT32_MAX;
  // True when the text is not the one in force.
  bool RaiseAlarm(std::uint32_t source, const std::string& text) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    std::string& alarm = alarms_[source];
    const bool is_new = alarm != text;
    alarm = text;
    return is_new;
  }
  // True when there was one.
  bool ClearAlarm(std::uint32_t source) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return alarms_.erase(source) > 0;
  }

  [[nodiscard]] FlusherStats Snapshot() const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    FlusherStats stats = stats_;
    stats.flush_time = flush_time_.Summary();
    if (!alarms_.empty()) stats.alarm = alarms_.begin()->second;
    return stats;
  }

 private:
  Histogram flush_time_;
  Mutex transfer_;  // before mutex_, and before the queues' own
  mutable Mutex mutex_;
  FlusherStats stats_ GUARDED_BY(mutex_);  // but for alarm and flush_time
  std::map<std::uint32_t, std::string> alarms_ GUARDED_BY(mutex_);
  std::map<std::uint32_t, WorkerSnapshot> workers_ GUARDED_BY(mutex_);  // but for flush_time
  std::map<std::uint32_t, Histogram> worker_times_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::pipeline
