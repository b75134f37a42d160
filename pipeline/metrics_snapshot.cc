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

// What no figure tells of each database.
std::string TargetsJson(const std::vector<TargetStats>& targets) {
  std::string json = "[";
  for (const TargetStats& target : targets) {
    const auto& failed_at = target.last_error_time;
    if (json.size() > 1) json += ',';
    json += "{\"name\":" + JsonQuote(target.name) + ",\"alarm\":" + JsonQuote(target.alarm) +
            ",\"last_error\":" + JsonQuote(target.last_error) +
            ",\"last_error_at\":" + (failed_at ? JsonQuote(FormatTime(*failed_at)) : "null") + "}";
  }
  return json + "]";
}

}  // namespace

std::vector<metrics::Family> StorageMetrics::Collect() const {
  std::vector<TargetStats> targets;
  return Collect(&targets);
}

std::vector<metrics::Family> StorageMetrics::Collect(std::vector<TargetStats>* targets) const {
  MutexLock lock(mutex_);  // or the look may be older than the baseline
  metrics::Source source = parties_.look();
  std::vector<metrics::Family> families = metrics::Collect(source);
  metrics::Rebase(baseline_, &families);
  *targets = std::move(source.stats.targets);
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
  std::vector<TargetStats> targets;
  const std::string figures = metrics::JsonText(Collect(&targets));
  const std::string text = "{\"taken_at\":" + JsonQuote(FormatTime(parties_.clock.WallNow())) +
                           ",\"pid\":" + std::to_string(::getpid()) +
                           ",\"ended\":" + (has_ended ? "true" : "false") +
                           ",\"targets\":" + TargetsJson(targets) +
                           ",\"metrics\":" + figures + "}\n";
  const std::string path = wal::JoinPath(parties_.directory, kMetricsFileName);
  const std::string made = path + ".tmp";
  // Not the last room there is: the log and a database beside it have better use for that.
  const auto space = parties_.fs.Space(parties_.directory);
  if (space.ok() && space->available < kSpaceLeft) {
    return Status::Unavailable("no room to spare for " + path);
  }
  Status written = WriteNewFile(parties_.fs, made, text);
  if (!written.ok()) {
    IgnoreStatus(parties_.fs.Remove(made), "gives back what it took");
    return written;
  }
  return parties_.fs.Rename(made, path);
}

}  // namespace taskwal::pipeline
