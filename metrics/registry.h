// Every metric by name, as data: what it is, and how it is read off a snapshot of running storage.
// The table in docs/OPERATIONS.md is this one; Prometheus text, JSON and `taskwal metrics` are made
// of it. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "taskwal/control.h"
#include "taskwal/stats.h"

namespace taskwal::metrics {

// One moment of running storage.
struct Source {
  Stats stats;
  std::vector<TargetFlow> flows;
  BackpressureSnapshot backpressure;
  FlowControlSnapshot flow_control;
};

enum class Kind : std::uint8_t {
  kCounter,  // only grows, until Reset or the process's end
  kGauge,
  kSummary,  // quantiles 0.5, 0.95, 0.99 and 1 (the maximum), count and sum; seconds
};

using Labels = std::vector<std::pair<std::string, std::string>>;

struct Sample {
  Labels labels;
  double value = 0;         // but for summaries
  LatencySummary latency;   // of a summary, in microseconds
};

struct Family {
  std::string_view name;    // lives as long as the program
  std::string_view help;
  Kind kind = Kind::kGauge;
  std::vector<Sample> samples;
};

// All of them, in the order of the documentation; a family whose samples depend on targets or
// workers may have none.
std::vector<Family> Collect(const Source& source);

// Since an earlier moment: counters are told from there on. What was pending then counts as
// accepted since, so that accepted = applied + dead-lettered + lost + pending still holds.
void Rebase(const std::vector<Family>& baseline, std::vector<Family>* families);

// The text format 0.0.4 of Prometheus.
std::string PrometheusText(const std::vector<Family>& families);
// {"name": value, "name": [{"label": …, "value": …}], "summary": {"count": …, "p50": …, …}}: a
// family without labels is its value, any other a list. Latencies in seconds.
std::string JsonText(const std::vector<Family>& families);

}  // namespace taskwal::metrics
