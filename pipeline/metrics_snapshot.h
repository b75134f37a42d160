// The metrics of one storage as text, and the file METRICS in the log's directory, so that
// `taskwal metrics --wal DIR` has an answer without asking the process. Any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "metrics/registry.h"
#include "taskwal/metrics.h"
#include "taskwal/status.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {

using wal::kMetricsFileName;

class StorageMetrics final : public Metrics {
 public:
  struct Parties {
    FileSystem& fs;
    Clock& clock;
    std::string directory;
    std::function<metrics::Source()> look;
    std::function<void()> reset_times;  // the latencies
  };
  explicit StorageMetrics(Parties parties) : parties_(std::move(parties)) {}

  std::string Prometheus() override;
  std::string Json() override;
  void Reset() override EXCLUDES(mutex_);

  // Replaces METRICS as a whole: {"taken_at":…,"pid":…,"ended":…,"targets":[{"name":…,"alarm":…,
  // "last_error":…,"last_error_at":…}],"metrics":{…}}. Not synced: it is worth nothing after a
  // power cut. `has_ended`: the process is done with the directory.
  Status WriteSnapshot(bool has_ended);

 private:
  std::vector<metrics::Family> Collect() const EXCLUDES(mutex_);
  std::vector<metrics::Family> Collect(std::vector<TargetStats>* targets) const EXCLUDES(mutex_);

  const Parties parties_;
  mutable Mutex mutex_;  // held while looking
  std::vector<metrics::Family> baseline_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::pipeline
