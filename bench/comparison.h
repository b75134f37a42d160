// What a benchmark found: one Comparison per scenario and yardstick, one pair of figures per round.
// A ratio is taken inside its round, so that what the machine does meanwhile hits both sides.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "taskwal/status.h"

namespace taskwal::bench {

struct Settings {
  std::string directory;  // exists; everything is written below it and removed again
  int rounds = 5;
  bool quick = false;     // tiny sizes: shows that it works, measures nothing
  // --- RunFlush
  std::string database;   // DSN of a server; empty: SQLite, in `directory`
  std::string part;       // of a server's scenarios (ServerParts); empty: all
  std::function<void(std::uint64_t done, std::uint64_t all)> on_progress;  // may be empty
  std::stop_token stop;   // requested: ends after the step under way
};
// kUnavailable once a stop is requested.
Status CheckGoesOn(const Settings& settings);

// What is asked of the ratio; without a yardstick, of our own figure.
struct Goal {
  enum class Kind : std::uint8_t { kNone, kAtLeast, kAtMost } kind = Kind::kNone;
  double bound = 0;
};
inline Goal AtLeast(double bound) { return {Goal::Kind::kAtLeast, bound}; }
inline Goal AtMost(double bound) { return {Goal::Kind::kAtMost, bound}; }

struct Comparison {
  std::string scenario;      // "append process"
  int producers = 0;         // 0: does not apply
  std::string unit;          // "records/s", "us"
  std::string yardstick;     // "reference"; empty: none
  Goal goal;
  std::vector<double> ours;  // by round
  std::vector<double> theirs;

  void Add(double our, double their = 0);
  [[nodiscard]] std::vector<double> ratios() const;  // by round; empty without a yardstick
  [[nodiscard]] bool is_met() const;                 // true where there is no goal
};

struct Report {
  std::string benchmark;
  std::vector<Comparison> comparisons;
};

// 0 for none.
double MedianOf(std::vector<double> values);
// The value below which `fraction` of them lie; sorts. 0 for none.
double Percentile(std::vector<double>* values, double fraction);

// Level `process`: throughput by producers, and the caller's latency at a paced rate.
Result<Report> RunAppend(const Settings& settings);
// Level `disk`: throughput by producers, latency of one, many outstanding, work of the device.
Result<Report> RunCommit(const Settings& settings);
// Into SQLite or a server: calls end to end, draining a backlog.
Result<Report> RunFlush(const Settings& settings);
Result<Report> RunServerFlush(const Settings& settings);
// "activities", "tasks", "calls", "backlog".
const std::vector<std::string>& ServerParts();
// Scanning, opening and draining a large log.
Result<Report> RunRecover(const Settings& settings);

}  // namespace taskwal::bench
