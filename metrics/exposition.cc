// The registry's families as text. The one file that sees prometheus-cpp.
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <charconv>
#include <cmath>

#include "base/json_text.h"
#include "metrics/registry.h"

namespace taskwal::metrics {
namespace {

constexpr double kMicroseconds = 1e-6;

prometheus::MetricType TypeOf(Kind kind) {
  switch (kind) {
    case Kind::kCounter: return prometheus::MetricType::Counter;
    case Kind::kSummary: return prometheus::MetricType::Summary;
    case Kind::kGauge: break;
  }
  return prometheus::MetricType::Gauge;
}

void FillSummary(const LatencySummary& latency, prometheus::ClientMetric::Summary* summary) {
  summary->sample_count = latency.count;
  summary->sample_sum = latency.mean * static_cast<double>(latency.count) * kMicroseconds;
  summary->quantile = {{0.5, latency.p50 * kMicroseconds},
                       {0.95, latency.p95 * kMicroseconds},
                       {0.99, latency.p99 * kMicroseconds},
                       {1.0, latency.max * kMicroseconds}};
}

prometheus::ClientMetric MetricOf(Kind kind, const Sample& sample) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : sample.labels) metric.label.push_back({name, value});
  metric.gauge.value = sample.value;
  metric.counter.value = sample.value;
  if (kind == Kind::kSummary) FillSummary(sample.latency, &metric.summary);
  return metric;
}

std::string NumberText(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  const auto result = std::to_chars(text, text + sizeof text, value);
  return {text, result.ptr};
}

std::string LatencyJson(const LatencySummary& latency) {
  const auto seconds = [](double microseconds) { return NumberText(microseconds * kMicroseconds); };
  return "\"count\":" + std::to_string(latency.count) + ",\"mean\":" + seconds(latency.mean) +
         ",\"p50\":" + seconds(latency.p50) + ",\"p95\":" + seconds(latency.p95) +
         ",\"p99\":" + seconds(latency.p99) + ",\"max\":" + seconds(latency.max);
}

std::string SampleJson(Kind kind, const Sample& sample) {
  if (sample.labels.empty() && kind != Kind::kSummary) return NumberText(sample.value);
  std::string json = "{";
  for (const auto& [name, value] : sample.labels) {
    json += JsonQuote(name) + ":" + JsonQuote(value) + ",";
  }
  json += kind == Kind::kSummary ? LatencyJson(sample.latency)
                                 : "\"value\":" + NumberText(sample.value);
  return json + "}";
}

}  // namespace

std::string PrometheusText(const std::vector<Family>& families) {
  std::vector<prometheus::MetricFamily> translated;
  for (const Family& family : families) {
    if (family.samples.empty()) continue;
    prometheus::MetricFamily& into = translated.emplace_back();
    into.name = family.name;
    into.help = family.help;
    into.type = TypeOf(family.kind);
    for (const Sample& sample : family.samples) {
      into.metric.push_back(MetricOf(family.kind, sample));
    }
  }
  return prometheus::TextSerializer().Serialize(translated);
}

std::string JsonText(const std::vector<Family>& families) {
  std::string json = "{";
  for (const Family& family : families) {
    if (json.size() > 1) json += ',';
    json += JsonQuote(family.name) + ":";
    const bool is_single = family.samples.size() == 1 && family.samples.front().labels.empty();
    if (is_single) {
      json += SampleJson(family.kind, family.samples.front());
      continue;
    }
    json += '[';
    for (std::size_t i = 0; i < family.samples.size(); ++i) {
      if (i > 0) json += ',';
      json += SampleJson(family.kind, family.samples[i]);
    }
    json += ']';
  }
  return json + "}";
}

}  // namespace taskwal::metrics
