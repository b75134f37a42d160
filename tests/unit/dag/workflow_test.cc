#include "dag/workflow.h"

#include <gmock/gmock.h>

#include "base/mutex.h"
#include "dag/workflow_file.h"
#include "taskwal/dag.h"
#include "tests/support/recording_storage.h"
#include "tests/support/status_matchers.h"
#include "tests/support/workflow_generator.h"

namespace taskwal::dag {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

// Counts what it is asked to wait for, and does not.
class CountedSleeper {
 public:
  Sleeper function() {
    return [this](std::chrono::nanoseconds duration, const std::stop_token&) {
      MutexLock lock(mutex_);
      ++sleeps_;
      total_ += duration;
      return true;
    };
  }
  std::size_t sleeps() {
    MutexLock lock(mutex_);
    return sleeps_;
  }
  std::chrono::nanoseconds total() {
    MutexLock lock(mutex_);
    return total_;
  }

 private:
  Mutex mutex_;
  std::size_t sleeps_ GUARDED_BY(mutex_) = 0;
  std::chrono::nanoseconds total_ GUARDED_BY(mutex_){0};
};

Workflow Trace() { return *ParseWorkflow(MakeWfFormat({}), "trace.json"); }

RunReport MustRun(RecordingStorage& storage, const Graph& graph) {
  auto report = TaskManager(storage).Run(graph, {.dag_id = "d"});
  EXPECT_OK(report);
  return report.ok() ? std::move(report).value() : RunReport{};
}

TEST(Workflow, ReplaysRunTimesScaledBySpeed) {
  for (const double speed : {1.0, 10.0, 0.5}) {
    CountedSleeper sleeper;
    RecordingStorage storage;
    ASSERT_OK_AND_ASSIGN(
        const Graph graph,
        BuildGraph(Trace(), {.speed = speed, .sleeper = sleeper.function()}));
    EXPECT_EQ(MustRun(storage, graph).completed, 1002u);
    EXPECT_EQ(sleeper.sleeps(), 1002u);
    EXPECT_EQ(sleeper.total(), 1002 * std::chrono::nanoseconds(250ms) / speed);
  }
}

TEST(Workflow, SpeedZeroDoesNotWaitAtAll) {
  CountedSleeper sleeper;
  RecordingStorage storage;
  ASSERT_OK_AND_ASSIGN(const Graph graph,
                       BuildGraph(Trace(), {.speed = 0, .sleeper = sleeper.function()}));
  const RunReport report = MustRun(storage, graph);
  EXPECT_EQ(report.completed, 1002u);
  EXPECT_EQ(report.failed, 0u);
  EXPECT_EQ(sleeper.sleeps(), 0u);
  // A row, and two activities at least, of every task.
  EXPECT_EQ(storage.Count()->tasks, 1002u);
  EXPECT_EQ(storage.activities("task_started").size(), 1002u);
  EXPECT_EQ(storage.activities("task_completed").size(), 1002u);
}

TEST(Workflow, SpeedDoesNotChangeASleepOfOurOwnFormat) {
  CountedSleeper sleeper;
  RecordingStorage storage;
  const auto workflow = ParseWorkflow("tasks: [{id: a, kind: sleep, seconds: 2}]", "w");
  ASSERT_OK(workflow);
  ASSERT_OK_AND_ASSIGN(const Graph graph,
                       BuildGraph(*workflow, {.speed = 0, .sleeper = sleeper.function()}));
  MustRun(storage, graph);
  EXPECT_EQ(sleeper.total(), 2s);
}

TEST(Workflow, BoundsWhatATinySpeedMakes) {
  CountedSleeper sleeper;
  RecordingStorage storage;
  WfFormatOptions options;
  options.fan_out = 1;
  ASSERT_OK_AND_ASSIGN(const Workflow workflow, ParseWorkflow(MakeWfFormat(options), "t"));
  ASSERT_OK_AND_ASSIGN(const Graph graph,
                       BuildGraph(workflow, {.speed = 1e-300, .sleeper = sleeper.function()}));
  MustRun(storage, graph);
  EXPECT_EQ(sleeper.total(), 3 * std::chrono::nanoseconds(1'000'000'000s));
}

TEST(Workflow, KeepsWhatATaskIsInItsPayload) {
  RecordingStorage storage;
  const auto workflow = ParseWorkflow(
      "tasks: [{id: n, kind: noop}, {id: s, kind: sleep, seconds: 0}, "
      "{id: c, kind: shell, command: 'echo \"hi\"'}]",
      "w");
  ASSERT_OK(workflow);
  ASSERT_OK_AND_ASSIGN(const Graph graph, BuildGraph(*workflow));
  MustRun(storage, graph);
  EXPECT_EQ(storage.GetTask("d/n")->payload, R"({"kind":"noop"})");
  EXPECT_EQ(storage.GetTask("d/s")->payload, R"({"kind":"sleep","seconds":0})");
  EXPECT_EQ(storage.GetTask("d/c")->payload, R"({"kind":"shell","command":"echo \"hi\""})");

  ASSERT_OK_AND_ASSIGN(const Graph trace, BuildGraph(Trace(), {.speed = 0}));
  MustRun(storage, trace);
  EXPECT_EQ(storage.GetTask("d/merge all")->payload,
            R"({"kind":"replay","name":"merge all","program":"blastall","runtime_seconds":0.25})");
}

TEST(Workflow, PutsExitCodeAndOutputIntoTheEndOfAShellTask) {
  RecordingStorage storage;
  const auto workflow = ParseWorkflow(
      "tasks: [{id: good, kind: shell, command: echo fine}, "
      "{id: bad, kind: shell, command: echo oh; exit 3, depends_on: [good]}]",
      "w");
  ASSERT_OK(workflow);
  ASSERT_OK_AND_ASSIGN(const Graph graph, BuildGraph(*workflow));
  const RunReport report = MustRun(storage, graph);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(report.failed, 1u);
  ASSERT_EQ(storage.activities("task_completed").size(), 1u);
  EXPECT_EQ(storage.activities("task_completed")[0].data,
            R"({"exit_code":0,"output":"fine\n"})");
  ASSERT_EQ(storage.activities("task_failed").size(), 1u);
  EXPECT_EQ(storage.activities("task_failed")[0].data, R"({"exit_code":3,"output":"oh\n"})");
  EXPECT_EQ(storage.GetTask("d/bad")->error, "exit code 3");
}

TEST(Workflow, TimeoutEndsAShellTask) {
  RecordingStorage storage;
  const auto workflow = ParseWorkflow(
      "tasks: [{id: a, kind: shell, command: sleep 1000 & sleep 1000, timeout: 20ms}]", "w");
  ASSERT_OK(workflow);
  ASSERT_OK_AND_ASSIGN(const Graph graph, BuildGraph(*workflow));
  EXPECT_EQ(MustRun(storage, graph).failed, 1u);
  EXPECT_THAT(storage.GetTask("d/a")->error, HasSubstr("timed out after"));
  EXPECT_EQ(storage.activities("task_timed_out").size(), 1u);
}

TEST(Workflow, TimeoutEndsASleep) {
  RecordingStorage storage;
  const auto workflow =
      ParseWorkflow("tasks: [{id: a, kind: sleep, seconds: 1000, timeout: 20ms}]", "w");
  ASSERT_OK(workflow);
  ASSERT_OK_AND_ASSIGN(const Graph graph, BuildGraph(*workflow));
  EXPECT_EQ(MustRun(storage, graph).failed, 1u);
  EXPECT_THAT(storage.GetTask("d/a")->error, HasSubstr("timed out after"));
}

}  // namespace
}  // namespace taskwal::dag
