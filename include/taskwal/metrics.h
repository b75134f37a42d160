// The metrics of running storage, as text. TaskStorage::GetMetrics() gives them; any thread may
// call it. docs/OPERATIONS.md lists every one of them; the same figures as values are in Stats and
// in control.h.
#pragma once

#include <string>

namespace taskwal {

class Metrics {
 public:
  virtual ~Metrics() = default;

  // The text format of Prometheus, version 0.0.4.
  virtual std::string Prometheus() = 0;
  // One JSON object, by the names of Prometheus; latencies in seconds, with p50, p95, p99 and max.
  virtual std::string Json() = 0;
  // Counters and latencies start over. What is pending counts as accepted since.
  virtual void Reset() = 0;
};

}  // namespace taskwal
