// A workflow as it stands in a file, and the graph made of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "taskwal/dag.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// Longer than any sleep or run time that makes sense, short enough for a clock to hold.
inline constexpr double kSecondsMax = 1e9;

struct WorkflowTask {
  enum class Kind : std::uint8_t { kNoop, kSleep, kShell, kReplay };
  std::string id;
  Kind kind = Kind::kNoop;
  std::string command;        // shell
  double seconds = 0;         // sleep; replay: the recorded run time
  std::string name, program;  // replay
  std::vector<std::string> depends_on;
  std::int32_t retries = 0;
  std::chrono::milliseconds retry_delay{0};
  std::chrono::milliseconds timeout{0};
};

struct Workflow {
  std::string name;
  std::vector<WorkflowTask> tasks;
  bool is_trace = false;      // WfFormat
  std::string content_hash;   // of the file's bytes, 16 hexadecimal digits
};

// False when the stop came first.
using Sleeper = std::function<bool(std::chrono::nanoseconds, const std::stop_token&)>;

struct BuildOptions {
  double speed = 1;   // of a replay: run times are divided by it; 0: no waiting
  Sleeper sleeper{};  // empty: the real one
};

// kInvalidArgument as Graph has it: an id, an unknown dependency, a cycle.
Result<Graph> BuildGraph(const Workflow& workflow, const BuildOptions& options = {});

std::string_view KindName(WorkflowTask::Kind kind);

}  // namespace taskwal::dag
