#include "dag/workflow.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <utility>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "dag/shell_command.h"
#include "dag/shell_guard.h"
#include "dag/sleep.h"

namespace taskwal::dag {
namespace {

using Kind = WorkflowTask::Kind;

std::string NumberText(double value) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return {digits.data(), end};
}

std::string PayloadOf(const WorkflowTask& task) {
  const std::string kind = "{\"kind\":" + JsonQuote(KindName(task.kind));
  switch (task.kind) {
    case Kind::kNoop: break;
    case Kind::kSleep: return kind + ",\"seconds\":" + NumberText(task.seconds) + "}";
    case Kind::kShell: return kind + ",\"command\":" + JsonQuote(task.command) + "}";
    case Kind::kReplay:
      return kind + ",\"name\":" + JsonQuote(task.name) +
             ",\"program\":" + JsonQuote(task.program) +
             ",\"runtime_seconds\":" + NumberText(task.seconds) + "}";
  }
  return kind + "}";
}

std::chrono::nanoseconds Nanoseconds(double seconds) {
  const std::chrono::duration<double> bounded(std::min(seconds, kSecondsMax));
  return std::chrono::duration_cast<std::chrono::nanoseconds>(bounded);
}

NodeFunction SleepFunction(std::chrono::nanoseconds duration, const Sleeper& sleeper) {
  return [duration, sleeper](const NodeContext& context) {
    if (duration.count() == 0 || sleeper(duration, context.stop)) return Status::Ok();
    return Status::Unavailable("interrupted");
  };
}

// The guard is shared by the functions of one graph, which may be copied and outlive it.
NodeFunction ShellFunction(const std::string& command, std::shared_ptr<ShellGuard> guard) {
  return [command, guard = std::move(guard)](const NodeContext& context) -> Status {
    TASKWAL_ASSIGN(const ShellOutcome outcome,
                   RunShell(command, context.stop, kShellGrace, guard.get()));
    TASKWAL_TRY(context.set_result(ShellResultJson(outcome)));
    return ShellStatus(outcome);
  };
}

NodeFunction FunctionOf(const WorkflowTask& task, const BuildOptions& options,
                        const std::shared_ptr<ShellGuard>& guard) {
  switch (task.kind) {
    case Kind::kNoop: break;
    case Kind::kSleep: return SleepFunction(Nanoseconds(task.seconds), options.sleeper);
    case Kind::kShell: return ShellFunction(task.command, guard);
    case Kind::kReplay:
      return SleepFunction(Nanoseconds(options.speed > 0 ? task.seconds / options.speed : 0),
                           options.sleeper);
  }
  return [](const NodeContext&) { return Status::Ok(); };
}

}  // namespace

std::string_view KindName(Kind kind) {
  constexpr std::array<std::string_view, 4> kNames{"noop", "sleep", "shell", "replay"};
  return kNames[static_cast<std::size_t>(kind)];
}

Result<Graph> BuildGraph(const Workflow& workflow, const BuildOptions& given) {
  BuildOptions options = given;
  if (!options.sleeper) options.sleeper = SleepUnlessStopped;
  const auto guard = std::make_shared<ShellGuard>();
  Graph graph(workflow.name);
  for (const WorkflowTask& task : workflow.tasks) {
    NodeOptions node;
    node.kind = KindName(task.kind);
    node.payload = PayloadOf(task);
    node.retries = task.retries;
    node.retry_delay = task.retry_delay;
    node.timeout = task.timeout;
    TASKWAL_TRY(graph.AddNode(task.id, FunctionOf(task, options, guard), std::move(node)));
    for (const std::string& before : task.depends_on) TASKWAL_TRY(graph.AddEdge(before, task.id));
  }
  TASKWAL_TRY(graph.Validate());
  return graph;
}

}  // namespace taskwal::dag
