// Records and producers: the same for everything measured.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bench/writer.h"
#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::bench {

inline constexpr std::size_t kRecordBytes = 256;  // serialised, with the log's prefix
inline constexpr std::uint64_t kActivitiesPerTask = 8;

// The n-th activity and its task: ids of 26 characters, as ULIDs have, kActivitiesPerTask per task.
// The activity takes kRecordBytes in the log.
std::string ActivityIdOf(std::uint64_t n);
std::string TaskIdOf(std::uint64_t task);
Activity MakeActivity(std::uint64_t n);
Task MakeTask(std::uint64_t task);
// Some activities made beforehand, so that making them is not measured.
std::span<const Activity> SampleActivities();

// Runs `work` on `producers` threads at once; seconds from the first one's start to
// the last one's end.
double RunProducers(int producers, const std::function<void(int producer)>& work);

struct Rate {
  std::uint64_t records = 0;
  double seconds = 0;
  [[nodiscard]] double per_second() const {
    return seconds > 0 ? static_cast<double>(records) / seconds : 0;
  }
  Rate& operator+=(const Rate& other) {
    records += other.records;
    seconds += other.seconds;
    return *this;
  }
};

// `records` in all, as fast as they go.
Rate AppendRecords(Writer& writer, int producers, std::uint64_t records);
// One record after another, each waited for, until the time is over. `latencies` (microseconds) may
// be null; one producer only.
Rate CommitRecords(Writer& writer, int producers, std::chrono::milliseconds time,
                   std::vector<double>* latencies);
// One thread that lets `outstanding` records wait for their sync.
Rate CommitOutstanding(Writer& writer, std::uint64_t outstanding, std::chrono::milliseconds time);
// Nanoseconds of each append call, at `per_second` records in all.
std::vector<double> PacedLatencies(Writer& writer, int producers, double per_second,
                                   std::chrono::milliseconds time);

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace taskwal::bench
