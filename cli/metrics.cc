// taskwal metrics: live counters and latencies, from the file a process keeps in its log's
// directory, or from a daemon.
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/http_get.h"
#include "cli/progress.h"
#include "pipeline/metrics_snapshot.h"

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;

// A process refreshes its file every second.
constexpr double kFreshSeconds = 5;

struct MetricsArguments {
  std::string directory;
  std::string url;
  std::string token;
  std::chrono::milliseconds interval{2000};
  bool watch = false;
  bool json = false;
};

// "metrics" is what JsonText of metrics/registry.h makes; beside it, where it is from.
using Snapshot = Json;

Result<Snapshot> ReadSnapshotFile(const std::string& directory) {
  const std::string path = directory + "/" + pipeline::kMetricsFileName;
  auto content = ReadFile(FileSystem::Real(), path);
  if (content.status().code() == StatusCode::kNotFound) {
    return Status::NotFound("there are no metrics in " + directory +
                            ": no process has had the log open with enable_metrics");
  }
  if (!content.ok()) return content.status();
  Json file = Json::parse(*content, nullptr, false);
  const auto taken_at = file.is_object() ? ParseTime(file.value("taken_at", "")) : std::nullopt;
  if (!taken_at || !file.contains("metrics")) {
    return Status::Corruption(path + " is no metrics file");
  }
  const std::chrono::duration<double> age = Clock::Real().WallNow() - *taken_at;
  Snapshot snapshot;
  snapshot["taken_at"] = file["taken_at"];
  snapshot["age_seconds"] = age.count();
  snapshot["pid"] = file.value("pid", 0);
  snapshot["ended"] = file.value("ended", false);
  snapshot["running"] = !file.value("ended", false) && age.count() < kFreshSeconds;
  if (file.contains("targets")) snapshot["targets"] = std::move(file["targets"]);
  snapshot["metrics"] = std::move(file["metrics"]);
  return snapshot;
}

// --- the text of Prometheus ---

struct PrometheusLine {
  std::string name;
  Json labels = Json::object();
  double value = 0;
};

// name{label="value",…} number
std::optional<PrometheusLine> ParseLine(std::string_view line) {
  PrometheusLine parsed;
  const std::size_t name_end = line.find_first_of("{ ");
  if (name_end == std::string_view::npos) return std::nullopt;
  parsed.name = line.substr(0, name_end);
  line.remove_prefix(name_end);
  if (line.front() == '{') {
    line.remove_prefix(1);
    while (!line.empty() && line.front() != '}') {
      const std::size_t equals = line.find("=\"");
      if (equals == std::string_view::npos) return std::nullopt;
      const std::string label(line.substr(line.front() == ',' ? 1 : 0,
                                          equals - (line.front() == ',' ? 1 : 0)));
      std::string value;
      std::size_t at = equals + 2;
      for (; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\' && ++at < line.size()) {
          value += line[at] == 'n' ? '\n' : line[at];
        } else {
          value += line[at];
        }
      }
      parsed.labels[label] = value;
      line.remove_prefix(std::min(line.size(), at + 1));
    }
    if (line.empty()) return std::nullopt;
    line.remove_prefix(1);
  }
  if (line.empty() || line.front() != ' ') return std::nullopt;
  parsed.value = std::strtod(std::string(line.substr(1)).c_str(), nullptr);
  return parsed;
}

// The sample of these labels in the family's list, made when absent.
Json& SampleOf(Json& family, const Json& labels) {
  for (Json& sample : family) {
    bool is_same = true;
    for (const auto& [name, value] : labels.items()) {
      is_same = is_same && sample.contains(name) && sample[name] == value;
    }
    if (is_same) return sample;
  }
  family.push_back(labels);
  return family.back();
}

void AddSummaryLine(PrometheusLine line, const std::string& family, Json* metrics) {
  static const std::map<std::string, std::string> kQuantiles = {
      {"0.5", "p50"}, {"0.95", "p95"}, {"0.99", "p99"}, {"1", "max"}};
  std::string member = line.name == family + "_count" ? "count" : "sum";
  if (line.labels.contains("quantile")) {
    const auto known = kQuantiles.find(line.labels["quantile"]);
    if (known == kQuantiles.end()) return;
    member = known->second;
    line.labels.erase("quantile");
  }
  Json& sample = SampleOf((*metrics)[family], line.labels);
  sample[member] = line.value;
}

void FinishSummaries(Json* metrics) {
  for (auto& [name, family] : metrics->items()) {
    if (!family.is_array()) continue;
    for (Json& sample : family) {
      if (!sample.contains("sum")) continue;
      const double count = sample.value("count", 0.0);
      sample["mean"] = count > 0 ? sample["sum"].get<double>() / count : 0.0;
      sample.erase("sum");
    }
    const bool is_single = family.size() == 1 && family[0].contains("count") &&
                           family[0].size() == 6;
    if (is_single) family = Json(family[0]);
  }
}

Json MetricsOf(const std::string& text) {
  Json metrics = Json::object();
  std::string summary;  // the family under way, where it is one
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line(text.data() + at, end - at);
    at = end + 1;
    if (line.starts_with("# TYPE ")) {
      const std::size_t name_end = line.find(' ', 7);
      const bool is_summary = line.ends_with(" summary");
      summary = is_summary ? std::string(line.substr(7, name_end - 7)) : std::string();
      continue;
    }
    auto parsed = line.starts_with('#') ? std::nullopt : ParseLine(line);
    if (!parsed) continue;
    if (!summary.empty()) {
      AddSummaryLine(std::move(*parsed), summary, &metrics);
    } else if (parsed->labels.empty()) {
      metrics[parsed->name] = parsed->value;
    } else {
      SampleOf(metrics[parsed->name], parsed->labels)["value"] = parsed->value;
    }
  }
  FinishSummaries(&metrics);
  return metrics;
}

// Of a daemon's report what its file METRICS has of them.
Json TargetsOf(const std::string& report) {
  Json targets = Json::array();
  const Json parsed = Json::parse(report, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("targets")) return targets;
  for (const Json& target : parsed["targets"]) {
    Json& kept = targets.emplace_back(Json::object());
    for (const char* const name : {"name", "alarm", "last_error", "last_error_at"}) {
      kept[name] = target.is_object() && target.contains(name) ? target[name] : Json(nullptr);
    }
  }
  return targets;
}

Result<Snapshot> AskDaemon(const MetricsArguments& arguments) {
  std::string token = arguments.token;
  if (token.empty()) {
    if (const char* from_environment = std::getenv("TASKWAL_TOKEN")) token = from_environment;
  }
  if (token.starts_with('@')) {
    TASKWAL_ASSIGN(token, FirstLineOf(token.substr(1)));
  }
  TASKWAL_ASSIGN(const std::string text, HttpGet(arguments.url, "/metrics", token));
  TASKWAL_ASSIGN(const std::string report, HttpGet(arguments.url, "/api/v1/targets", token));
  Snapshot snapshot;
  snapshot["taken_at"] = FormatTime(Clock::Real().WallNow());
  snapshot["url"] = arguments.url;
  snapshot["running"] = true;
  snapshot["targets"] = TargetsOf(report);
  snapshot["metrics"] = MetricsOf(text);
  return snapshot;
}

// --- for eyes ---

std::string NumberText(double value) {
  char text[32];
  if (std::abs(value) >= 1e15 || value != std::floor(value)) {
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
  }
  const std::string digits = FormatCount(static_cast<std::uint64_t>(std::abs(value)));
  return value < 0 ? "-" + digits : digits;
}

std::string SecondsText(double seconds) {
  char text[32];
  if (seconds < 1e-3) {
    std::snprintf(text, sizeof text, "%.1f us", seconds * 1e6);
  } else if (seconds < 1) {
    std::snprintf(text, sizeof text, "%.1f ms", seconds * 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.2f s", seconds);
  }
  return text;
}

class MetricsTable {
 public:
  // `before`: an earlier snapshot and how long ago, for rates; may be null.
  MetricsTable(const Json* before, double seconds)
      : before_(before),
        seconds_(seconds),
        table_(before == nullptr ? std::vector<std::string>{"METRIC", "LABELS", "VALUE"}
                                 : std::vector<std::string>{"METRIC", "LABELS", "VALUE", "PER S"}) {
  }

  std::string TextOf(const Json& metrics) {
    for (const auto& [name, family] : metrics.items()) {
      if (family.is_array()) {
        for (const Json& sample : family) Add(name, sample, true);
      } else {
        Add(name, family, false);
      }
    }
    return table_.ToString();
  }

 private:
  void Add(const std::string& name, const Json& sample, bool is_labelled) {
    std::string labels;
    if (sample.is_object()) {
      for (const auto& [label, value] : sample.items()) {
        if (!value.is_string()) continue;
        labels += (labels.empty() ? "" : ",") + label + "=" + value.get<std::string>();
      }
    }
    if (sample.is_object() && sample.contains("count")) {
      AddLatency(name, labels, sample);
      return;
    }
    const double value = ValueOf(sample);
    // Of many reasons, states and priorities most say nothing.
    if (is_labelled && value == 0) return;
    std::vector<std::string> row{name, labels, NumberText(value)};
    if (before_ != nullptr) row.push_back(RateOf(name, sample, value));
    table_.AddRow(std::move(row));
  }

  void AddLatency(const std::string& name, const std::string& labels, const Json& sample) {
    if (sample["count"] == 0) return;
    std::string text = "n " + NumberText(sample["count"]);
    for (const char* const quantile : {"p50", "p95", "p99", "max"}) {
      text += ", " + std::string(quantile) + " " + SecondsText(sample[quantile]);
    }
    std::vector<std::string> row{name, labels, text};
    if (before_ != nullptr) row.emplace_back();
    table_.AddRow(std::move(row));
  }

  static double ValueOf(const Json& sample) {
    const Json& value = sample.is_object() ? sample["value"] : sample;
    return value.is_number() ? value.get<double>() : 0;
  }

  std::string RateOf(const std::string& name, const Json& sample, double value) const {
    if (!name.ends_with("_total") || !before_->contains(name) || seconds_ <= 0) return {};
    const Json& family = (*before_)[name];
    if (!family.is_array()) return NumberText(std::round((value - ValueOf(family)) / seconds_));
    for (const Json& old : family) {
      Json labels = old;
      labels["value"] = sample["value"];
      if (labels == sample) return NumberText(std::round((value - ValueOf(old)) / seconds_));
    }
    return {};
  }

  const Json* before_;
  const double seconds_;
  Table table_;
};

std::string TitleOf(const Snapshot& snapshot) {
  if (snapshot.contains("url")) return snapshot["url"].get<std::string>() + "\n";
  const std::string who = "process " + std::to_string(snapshot["pid"].get<std::int64_t>());
  const double seconds = std::max(0.0, snapshot["age_seconds"].get<double>());
  const std::string age = SecondsText(seconds) + " ago";
  if (snapshot["ended"]) return "as " + who + " left them, " + age + "\n";
  if (snapshot["running"]) return "of " + who + ", " + age + "\n";
  return "of " + who + ", " + age + ": it was killed, or hangs\n";
}

std::string WordOf(const Json& target, const char* name) {
  return target.contains(name) && target[name].is_string() ? target[name].get<std::string>()
                                                           : std::string();
}

// Behind the table: what no figure tells.
std::string ErrorsOf(const Snapshot& snapshot) {
  std::string text;
  if (!snapshot.contains("targets") || !snapshot["targets"].is_array()) return text;
  for (const Json& target : snapshot["targets"]) {
    const std::string alarm = WordOf(target, "alarm");
    const std::string failed_at = WordOf(target, "last_error_at");
    const std::string who = "target " + WordOf(target, "name") + ": ";
    if (!alarm.empty()) text += OneLine(who + "alarm: " + alarm) + "\n";
    if (failed_at.empty()) continue;
    text += OneLine(who + "last error, at " + failed_at + ": " + WordOf(target, "last_error"));
    text += "\n";
  }
  return text;
}

// False when a stop signal came.
bool Rest(std::chrono::milliseconds interval) {
  pollfd polled{StopSignal::fd(), POLLIN, 0};
  ::poll(&polled, 1, static_cast<int>(std::min<std::int64_t>(interval.count(), INT_MAX)));
  return !StopSignal::requested();
}

int RunMetrics(const MetricsArguments& arguments) {
  if (arguments.watch) StopSignal::Install();
  Json before;
  Monotonic taken{};
  const bool clears = arguments.watch && !arguments.json && ::isatty(STDOUT_FILENO) == 1;
  do {
    ProgressBar bar("waiting for " + (arguments.url.empty() ? arguments.directory : arguments.url));
    auto snapshot = arguments.url.empty() ? ReadSnapshotFile(arguments.directory)
                                          : AskDaemon(arguments);
    bar.End();
    if (!snapshot.ok()) return Fail("metrics", snapshot.status());
    const Monotonic now = Clock::Real().Now();
    const std::chrono::duration<double> seconds = now - taken;
    if (arguments.json) {
      std::printf("%s\n", snapshot->dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    } else {
      MetricsTable table(before.is_null() ? nullptr : &before, seconds.count());
      std::printf("%s%s%s%s", clears ? "\033[H\033[2J" : "", TitleOf(*snapshot).c_str(),
                  table.TextOf((*snapshot)["metrics"]).c_str(), ErrorsOf(*snapshot).c_str());
    }
    if (std::fflush(stdout) != 0) return kExitFailed;
    before = std::move((*snapshot)["metrics"]);
    taken = now;
  } while (arguments.watch && Rest(arguments.interval));
  return kExitDone;
}

}  // namespace

void AddMetricsCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<MetricsArguments>();  // shared with the callback
  CLI::App* command = app.add_subcommand("metrics", "Live counters and latencies of a log");
  CLI::Option_group* source = command->add_option_group("Exactly one of");
  source->add_option("--wal", arguments->directory, "Log directory of a process")
      ->type_name("DIR");
  source->add_option("--url", arguments->url, "Address of a daemon: http://host:port")
      ->type_name("URL");
  source->require_option(1);
  command->add_option("--token", arguments->token,
                      "Bearer token of the daemon, or @FILE (TASKWAL_TOKEN when not given)");
  command->add_flag("--watch", arguments->watch, "Again and again, until a signal ends it");
  AddDurationOption(*command, "--interval", &arguments->interval, "Pause of --watch");
  command->add_flag("--json", arguments->json, "Print a JSON object (one a line with --watch)");
  command->footer(
      "With --wal no process is asked: it refreshes DIR/METRICS every second, and leaves it when\n"
      "it ends. Labelled figures that are 0 are left out of the table, but not of the JSON.\n"
      "Behind the table: each database's alarm, and what failed there last.\n"
      "Exit codes: 0 done, 1 no metrics, or no answer.\n"
      "Examples:\n"
      "  taskwal metrics --wal taskwal.wal --watch\n"
      "  taskwal metrics --url http://127.0.0.1:8080 --json | jq .metrics.taskwal_records_pending");
  command->callback([arguments, exit_code] { *exit_code = RunMetrics(*arguments); });
}

}  // namespace taskwal::cli
