#include "pipeline/metrics_snapshot.h"

#include <unistd.h>

#include <span>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

constexpr std::uint64_t kSpaceLeft = 1u << 20;

Status WriteNewFile(FileSystem& fs, const std::string& path, const std::string& text) {
  TASKWAL_ASSIGN(const auto file, fs.OpenWritable(path, true));
  TASKWAL_TRY(file->Truncate(0));
  return file->Write(0, std::as_bytes(std::span(text)));
}

}  // namespace

std::vector<metrics::Family> StorageMetrics::Collect() const {
  MutexLock lock(mutex_);  // or the look may be older than the baseline
  std::vector<metrics::Family> families = metrics::Collect(parties_.look());
  metrics::Rebase(baseline_, &families);
  return families;
}

std::string StorageMetrics::Prometheus() { return metrics::PrometheusText(Collect()); }

std::string StorageMetrics::Json() { return metrics::JsonText(Collect()); }

void StorageMetrics::Reset() {
  MutexLock lock(mutex_);
  baseline_ = metrics::Collect(parties_.look());
  parties_.reset_times();
}

Status StorageMetrics::WriteSnapshot(bool has_ended) {
  const std::string text = "{\"taken_at\":" + JsonQuote(FormatTime(parties_.clock.WallNow())) +
                           ",\"pid\":" + std::to_string(::getpid()) +
                           ",\"ended\":" + (has_ended ? "true" : "false") +
                           ",\"metrics\":" + Json() + "}\n";
  const std::string path = wal::JoinPath(parties_.directory, kMetricsFileName);
  const std::string made = path + ".tmp";
  // Not the last room there is: the log and a database beside it have better use for that.
  const auto space = parties_.fs.Space(parties_.directory);
  if (space.ok() && space->available < kSpaceLeft) {
    return Status::Unavailable("no room to spare for " + path);
  }
  const Status written = WriteNewFile(parties_.fs, made, text);
  if (!written.ok()) {
    IgnoreStatus(parties_.fs.Remove(made), "gives back what it took");
    return written;
  }
  return parties_.fs.Rename(made, path);
}

}  // namespace taskwal::pipeline
