#include <gmock/gmock.h>

#include <atomic>
#include <set>
#include <stdexcept>
#include <thread>

#include "base/json_text.h"
#include "base/mutex.h"
#include "dag/sleep.h"
#include "taskwal/dag.h"
#include "tests/support/recording_storage.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/dag/rendezvous.h"

namespace taskwal {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;
using namespace std::chrono_literals;

Status Succeed(const NodeContext&) { return {}; }
Status FailAlways(const NodeContext&) { return Status::Unavailable("broken"); }
Status UntilStopped(const NodeContext& context) {
  dag::SleepUnlessStopped(1h, context.stop);
  return Status::Unavailable("stopped");
}

// What nodes did, in order, from any thread.
class Journal {
 public:
  NodeFunction Entry(const std::string& what) {
    return [this, what](const NodeContext&) {
      MutexLock lock(mutex_);
      entries_.push_back(what);
      return Status::Ok();
    };
  }
  std::vector<std::string> entries() {
    MutexLock lock(mutex_);
    return entries_;
  }

 private:
  Mutex mutex_;
  std::vector<std::string> entries_ GUARDED_BY(mutex_);
};

class TaskManagerTest : public ::testing::Test {
 protected:
  void Add(const std::string& id, NodeFunction function, const std::vector<std::string>& after = {},
           NodeOptions options = {}) {
    ASSERT_OK(graph_.AddNode(id, std::move(function), std::move(options)));
    for (const std::string& before : after) ASSERT_OK(graph_.AddEdge(before, id));
  }
  RunReport MustRun(RunOptions options = {}) {
    options.dag_id = "d";
    auto report = TaskManager(storage_).Run(graph_, options);
    EXPECT_OK(report);
    return report.ok() ? std::move(report).value() : RunReport{};
  }
  Task Row(const std::string& node) {
    auto task = storage_.GetTask("d/" + node);
    EXPECT_OK(task);
    return task.ok() ? std::move(task).value() : Task{};
  }

  RecordingStorage storage_;
  Graph graph_{"test"};
};

TEST_F(TaskManagerTest, SavesEveryTransition) {
  Add("a", Succeed);
  const RunReport report = MustRun({.run_payload = R"({"by":"test"})"});
  EXPECT_THAT(storage_.calls(),
              ElementsAre("log dag_started d", "save d/a pending", "log task_started d/a",
                          "status d/a running", "log task_completed d/a", "status d/a completed",
                          "log dag_completed d"));
  EXPECT_EQ(report.calls, 7u);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(report.dag_id, "d");
  EXPECT_EQ(storage_.activities("dag_started")[0].data, R"({"by":"test"})");
}

TEST_F(TaskManagerTest, WaitsOnlyForTheLastCallOfAStep) {
  Add("a", Succeed);
  Add("b", Succeed, {"a"});
  MustRun({.workers = 1});
  const auto leading = WaitFor::kAppended;
  const auto last = WaitFor::kAcknowledged;
  EXPECT_THAT(storage_.waits(), ElementsAre(last, leading, last,            // started, rows
                                            leading, last, leading, last,   // a
                                            leading, last, leading, last,   // b
                                            last));
}

TEST_F(TaskManagerTest, WaitsForEachCallThatIsToBeInTheDatabase) {
  Add("a", Succeed);
  RunOptions options;
  options.writes.wait = WaitFor::kApplied;
  MustRun(options);
  EXPECT_THAT(storage_.waits(), Each(WaitFor::kApplied));
}

TEST_F(TaskManagerTest, FillsTheRow) {
  Add("a", Succeed, {}, {.kind = "mine", .retries = 3, .priority = 7});
  Add("b", Succeed, {}, {.payload = R"({ "kept" : "as is" })"});
  MustRun();
  EXPECT_EQ(Row("a").dag_id, "d");
  EXPECT_EQ(Row("a").node_id, "a");
  EXPECT_EQ(Row("a").max_retries, 3);
  EXPECT_EQ(Row("a").priority, 7);
  EXPECT_EQ(Row("a").payload, R"({"kind":"mine"})");
  EXPECT_EQ(Row("b").payload, R"({ "kept" : "as is" })");
}

TEST_F(TaskManagerTest, RunsNodesInTheOrderOfTheirEdges) {
  Journal journal;
  Add("bottom", journal.Entry("bottom"), {"left", "right"});
  Add("left", journal.Entry("middle"), {"top"});
  Add("right", journal.Entry("middle"), {"top"});
  Add("top", journal.Entry("top"));
  EXPECT_EQ(MustRun().completed, 4u);
  EXPECT_THAT(journal.entries(), ElementsAre("top", "middle", "middle", "bottom"));
}

TEST_F(TaskManagerTest, RunsSiblingsAtTheSameTime) {
  Rendezvous meeting(3);
  const auto meet = [&meeting](const NodeContext&) {
    return meeting.Arrive() ? Status::Ok() : Status::Unavailable("nobody came");
  };
  for (const char* id : {"a", "b", "c"}) Add(id, meet);
  EXPECT_EQ(MustRun({.workers = 3}).completed, 3u);
}

TEST_F(TaskManagerTest, RunsHigherPriorityFirst) {
  Journal journal;
  Add("start", Succeed);
  Add("low", journal.Entry("low"), {"start"}, {.priority = -1});
  Add("first", journal.Entry("first"), {"start"});
  Add("second", journal.Entry("second"), {"start"});
  Add("high", journal.Entry("high"), {"start"}, {.priority = 5});
  MustRun({.workers = 1});
  EXPECT_THAT(journal.entries(), ElementsAre("high", "first", "second", "low"));
}

TEST_F(TaskManagerTest, RunsAnEmptyGraph) {
  EXPECT_EQ(MustRun().completed, 0u);
  EXPECT_THAT(storage_.calls(), ElementsAre("log dag_started d", "log dag_completed d"));
}

TEST_F(TaskManagerTest, RetriesUntilItSucceeds) {
  Add("a",
      [](const NodeContext& context) {
        return context.attempt < 3 ? Status::Unavailable("not yet") : Status::Ok();
      },
      {}, {.retries = 5});
  EXPECT_EQ(MustRun().completed, 1u);
  EXPECT_EQ(Row("a").status, TaskStatus::kCompleted);
  EXPECT_EQ(Row("a").retry_count, 2);
  EXPECT_EQ(Row("a").error, "");
  EXPECT_THAT(storage_.calls(),
              ElementsAre("log dag_started d", "save d/a pending",                //
                          "log task_started d/a", "status d/a running",           //
                          "log task_retried d/a", "save d/a pending",             //
                          "log task_started d/a", "status d/a running",           //
                          "log task_retried d/a", "save d/a pending",             //
                          "log task_started d/a", "status d/a running",           //
                          "log task_completed d/a", "status d/a completed",       //
                          "log dag_completed d"));
  EXPECT_EQ(storage_.activities("task_retried")[0].message, "not yet");
}

TEST_F(TaskManagerTest, FailsWhenNoAttemptIsLeft) {
  std::atomic<int> attempts = 0;
  Add("a",
      [&](const NodeContext&) {
        ++attempts;
        return Status::Unavailable("broken");
      },
      {}, {.retries = 2});
  EXPECT_EQ(MustRun().failed, 1u);
  EXPECT_EQ(attempts, 3);
  EXPECT_EQ(Row("a").status, TaskStatus::kFailed);
  EXPECT_EQ(Row("a").retry_count, 2);
  EXPECT_EQ(Row("a").error, "broken");
  EXPECT_THAT(storage_.activities("dag_failed"), SizeIs(1));
}

TEST_F(TaskManagerTest, WaitsBeforeItRetries) {
  std::vector<std::chrono::steady_clock::time_point> starts;
  Add("a",
      [&](const NodeContext&) {
        starts.push_back(std::chrono::steady_clock::now());
        return Status::Unavailable("broken");
      },
      {}, {.retries = 1, .retry_delay = 30ms});
  MustRun({.workers = 1});
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_GE(starts[1] - starts[0], 30ms);
}

TEST_F(TaskManagerTest, ARetryDelayHoldsUpNoWorker) {
  // The only worker must run b before a's second attempt, which waits for it.
  std::atomic<bool> b_ran = false;
  Add("a",
      [&](const NodeContext& context) {
        return context.attempt == 1 || !b_ran ? Status::Unavailable("again") : Status::Ok();
      },
      {}, {.retries = 1, .retry_delay = 20ms});
  Add("b", [&](const NodeContext&) {
    b_ran = true;
    return Status::Ok();
  });
  EXPECT_EQ(MustRun({.workers = 1}).completed, 2u);
}

TEST_F(TaskManagerTest, TimeoutStopsEachAttempt) {
  Add("a", UntilStopped, {}, {.retries = 1, .timeout = 10ms});
  EXPECT_EQ(MustRun().failed, 1u);
  EXPECT_EQ(Row("a").status, TaskStatus::kFailed);
  EXPECT_THAT(Row("a").error, StartsWith("timed out after"));
  EXPECT_THAT(storage_.activities("task_timed_out"), SizeIs(2));
  EXPECT_THAT(storage_.activities("task_retried"), SizeIs(1));
  EXPECT_THAT(storage_.activities("task_failed"), SizeIs(0));
}

TEST_F(TaskManagerTest, ANodeThatFinishesInTimeDoesNotTimeOut) {
  Add("a", Succeed, {}, {.timeout = 1h});
  EXPECT_EQ(MustRun().completed, 1u);
}

TEST_F(TaskManagerTest, AFailureHoldsUpItsDescendantsOnly) {
  Add("good", Succeed);
  Add("after good", Succeed, {"good"});
  Add("bad", FailAlways);
  Add("child", Succeed, {"bad", "good"});
  Add("grandchild", Succeed, {"child"});
  const RunReport report = MustRun();
  EXPECT_EQ(report.completed, 2u);
  EXPECT_EQ(report.failed, 1u);
  EXPECT_FALSE(report.cancelled);
  EXPECT_THAT(report.never_ran, ElementsAre("child", "grandchild"));
  EXPECT_EQ(Row("child").status, TaskStatus::kPending);
  EXPECT_EQ(Row("grandchild").status, TaskStatus::kPending);
  EXPECT_EQ(Row("after good").status, TaskStatus::kCompleted);
}

TEST_F(TaskManagerTest, WhatANodeThrowsIsItsFailure) {
  Add("a", [](const NodeContext&) -> Status { throw std::runtime_error("bad \xff luck"); });
  Add("b", [](const NodeContext&) -> Status { throw 7; });
  EXPECT_EQ(MustRun().failed, 2u);
  EXPECT_THAT(Row("a").error, HasSubstr("threw: bad \xef\xbf\xbd luck"));
  EXPECT_THAT(Row("b").error, HasSubstr("no std::exception"));
}

TEST_F(TaskManagerTest, CancelTellsRunningNodesAndStartsNoMore) {
  std::stop_source stop;
  Add("asks", [&](const NodeContext& context) {
    stop.request_stop();
    return UntilStopped(context);
  });
  Add("after", Succeed, {"asks"});
  const RunReport report = MustRun({.workers = 1, .stop = stop.get_token()});
  EXPECT_TRUE(report.cancelled);
  EXPECT_EQ(report.completed + report.failed, 0u);
  EXPECT_THAT(report.never_ran, SizeIs(0));
  EXPECT_EQ(Row("asks").status, TaskStatus::kCancelled);
  EXPECT_EQ(Row("after").status, TaskStatus::kPending);
  EXPECT_THAT(storage_.activities("task_cancelled"), SizeIs(1));
  EXPECT_THAT(storage_.activities("dag_cancelled"), SizeIs(1));
}

TEST_F(TaskManagerTest, WhatCompletesInSpiteOfACancelIsCompleted) {
  std::stop_source stop;
  Add("asks", [&](const NodeContext&) {
    stop.request_stop();
    return Status::Ok();
  });
  Add("after", Succeed, {"asks"});
  const RunReport report = MustRun({.stop = stop.get_token()});
  EXPECT_TRUE(report.cancelled);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(Row("after").status, TaskStatus::kPending);
}

TEST_F(TaskManagerTest, ACancelBeforeTheRunStartsNothing) {
  std::stop_source stop;
  stop.request_stop();
  Add("a", Succeed);
  EXPECT_TRUE(MustRun({.stop = stop.get_token()}).cancelled);
  EXPECT_EQ(Row("a").status, TaskStatus::kPending);
}

TEST_F(TaskManagerTest, CancelDoesNotWaitForARetryDelay) {
  std::stop_source stop;
  Add("a", FailAlways, {}, {.retries = 1, .retry_delay = 1h});
  std::jthread canceller([&] {
    EXPECT_TRUE(storage_.AwaitCall("log task_retried d/a"));
    stop.request_stop();
  });
  EXPECT_TRUE(MustRun({.stop = stop.get_token()}).cancelled);
  EXPECT_EQ(Row("a").status, TaskStatus::kPending);
}

TEST_F(TaskManagerTest, NodesLogAndLeaveAResult) {
  Add("a", [](const NodeContext& context) {
    EXPECT_EQ(context.dag_id, "d");
    EXPECT_EQ(context.node_id, "a");
    EXPECT_OK(context.log("copied", "3 files", Level::kDebug, R"({"files":3})"));
    EXPECT_OK(context.log("plain", "", Level::kWarn, ""));
    EXPECT_THAT(context.set_result("{"), StatusIs(StatusCode::kInvalidArgument));
    return context.set_result("[1, 2]");
  });
  EXPECT_EQ(MustRun().completed, 1u);
  ASSERT_THAT(storage_.activities("copied"), SizeIs(1));
  const Activity copied = storage_.activities("copied")[0];
  EXPECT_EQ(copied.task_id, "d/a");
  EXPECT_EQ(copied.node_id, "a");
  EXPECT_EQ(copied.message, "3 files");
  EXPECT_EQ(copied.level, Level::kDebug);
  EXPECT_EQ(copied.data, R"({"files":3})");
  EXPECT_EQ(storage_.activities("plain")[0].data, std::nullopt);
  EXPECT_EQ(storage_.activities("task_completed")[0].data, "[1, 2]");
}

TEST_F(TaskManagerTest, ReportsProgressAndOutlivesWhatTheReportThrows) {
  std::size_t reports = 0;
  Add("a", Succeed);
  Add("b", FailAlways, {"a"});
  Add("c", Succeed, {"b"});
  MustRun({.workers = 1, .on_progress = [&](std::size_t done, std::size_t all) {
    EXPECT_EQ(done, ++reports);
    EXPECT_EQ(all, 3u);
    throw std::runtime_error("on purpose");
  }});
  EXPECT_EQ(reports, 2u);
}

TEST_F(TaskManagerTest, AShedActivityStopsNothing) {
  Add("a", FailAlways, {}, {.retries = 1});
  Add("b", Succeed);
  storage_.SetFault([](std::uint64_t, const std::string& call) {
    return call.starts_with("log task_") ? Status::Overloaded("shed") : Status::Ok();
  });
  const RunReport report = MustRun();
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(report.failed, 1u);
}

// By these a run is known when it is resumed: they are written whatever level is kept.
TEST_F(TaskManagerTest, KeepsTheActivitiesThatResumeNeeds) {
  std::atomic<bool> is_first = true;
  Add("a", [&](const NodeContext& context) -> Status {
    EXPECT_OK(context.log("task_completed", "of the node's own", Level::kInfo, ""));
    return is_first.exchange(false) ? Status::Unavailable("broken") : Status::Ok();
  });
  EXPECT_EQ(MustRun().failed, 1u);
  EXPECT_EQ(MustRun({.resume = true}).completed, 1u);
  EXPECT_THAT(storage_.kept(),
              ElementsAre("log dag_started d", "log task_completed d/a", "log dag_completed d"));
}

TEST_F(TaskManagerTest, AnActivityOfTheRunWithoutRoomFailsNoRun) {
  Add("a", Succeed);
  for (const bool is_resumed : {false, true}) {
    storage_.SetFault([&](std::uint64_t, const std::string& call) {
      const bool may_miss = call == "log dag_resumed d" || call == "log dag_completed d";
      return may_miss ? Status::Overloaded("no room") : Status::Ok();
    });
    EXPECT_EQ(MustRun({.resume = is_resumed}).completed, 1u);
  }
  storage_.SetFault([](std::uint64_t, const std::string& call) {
    return call == "log dag_started d" ? Status::Overloaded("no room") : Status::Ok();
  });
  RunOptions unknown;
  unknown.dag_id = "other";
  EXPECT_OK(TaskManager(storage_).Run(graph_, unknown));
  unknown.dag_id = "d";
  EXPECT_THAT(TaskManager(storage_).Run(graph_, unknown), StatusIs(StatusCode::kOverloaded));
}

// Once the calls are told to stop, what finds no room is left for a resumed run.
TEST_F(TaskManagerTest, GivesUpTheCallsThatAreToldToStop) {
  std::stop_source give_up;
  Add("a", Succeed);
  Add("b", Succeed, {"a"});
  for (const char* full : {"log dag_started d", "save d/b pending", "status d/a running",
                           "status d/a completed", "log dag_completed d"}) {
    storage_.Clear();
    give_up = std::stop_source();
    bool is_full = false;
    storage_.SetFault([&](std::uint64_t, const std::string& call) {
      is_full = is_full || call == full;
      if (!is_full) return Status::Ok();
      give_up.request_stop();
      return Status::Overloaded("told to stop");
    });
    const bool is_at_the_end = full == std::string_view("log dag_completed d");
    RunOptions options;
    options.writes.stop = give_up.get_token();
    const RunReport report = MustRun(options);
    EXPECT_EQ(report.cancelled, !is_at_the_end) << full;
    EXPECT_EQ(report.completed, is_at_the_end ? 2u : 0u) << full;
    EXPECT_EQ(report.failed, 0u) << full;
  }
}

// Room comes back between the two calls of a step: no completed task lacks the activity that says
// so.
TEST_F(TaskManagerTest, AGivenUpActivityTakesItsStepAlong) {
  std::stop_source give_up;
  Add("a", Succeed);
  storage_.SetFault([&](std::uint64_t, const std::string& call) {
    if (call != "log task_completed d/a") return Status::Ok();
    give_up.request_stop();
    return Status::Overloaded("told to stop");
  });
  RunOptions options;
  options.writes.stop = give_up.get_token();
  EXPECT_TRUE(MustRun(options).cancelled);
  EXPECT_EQ(storage_.StatusOf("d/a"), "running");
}

// --- resuming and failing storage

// Three layers; counts how often each node's function ran to its end.
class ResumeTest : public TaskManagerTest {
 protected:
  void SetUp() override {
    for (const char* id : {"a", "b", "c"}) Add(id, Counted(id));
    for (const char* id : {"d", "e"}) Add(id, Counted(id), {"a", "b"}, {.retries = 1});
    Add("f", Counted("f"), {"c", "d", "e"});
  }
  NodeFunction Counted(const std::string& id) {
    return [this, id](const NodeContext&) {
      MutexLock lock(mutex_);
      ++runs_[id];
      return Status::Ok();
    };
  }
  std::map<std::string, int> TakeRuns() {
    MutexLock lock(mutex_);
    return std::exchange(runs_, {});
  }
  std::map<std::string, Task> Completed() {
    TaskQuery query;
    query.statuses = {TaskStatus::kCompleted};
    query.paging.consistency = Consistency::kFlushed;
    auto page = storage_.QueryTasks(query);
    EXPECT_OK(page);
    std::map<std::string, Task> rows;
    for (const Task& task : page->tasks) rows.emplace(task.node_id, task);
    return rows;
  }
  // A run into the fault, then one that goes on without it. True when the first met no fault.
  bool FailThenResume(const RecordingStorage::Fault& fault, StatusCode expected) {
    storage_.Clear();
    storage_.SetFault(fault);
    const auto broken = TaskManager(storage_).Run(graph_, {.dag_id = "d"});
    storage_.SetFault({});
    if (broken.ok()) return true;
    EXPECT_THAT(broken, StatusIs(expected));
    TakeRuns();
    const auto completed = Completed();
    // By their rows, or by an activity whose row was still to follow.
    const auto ended = EndedTasks();
    const RunReport report = MustRun({.resume = true});
    EXPECT_EQ(report.completed, 6u);
    EXPECT_EQ(report.skipped, ended.size());
    const auto runs = TakeRuns();
    EXPECT_EQ(runs.size(), 6 - ended.size());
    for (const std::string& id : ended) EXPECT_FALSE(runs.contains(id.substr(2))) << id;
    for (const auto& [id, row] : completed) EXPECT_EQ(Row(id), row) << id;
    EXPECT_EQ(Completed().size(), 6u);
    // Whatever is completed has the one activity that says so, and the run has one beginning.
    EXPECT_EQ(EndedTasks().size(), 6u);
    EXPECT_EQ(storage_.activities("task_completed").size(), 6u);
    EXPECT_THAT(storage_.activities("dag_started"), SizeIs(1));
    EXPECT_THAT(storage_.activities("dag_completed"), SizeIs(1));
    return false;
  }
  std::set<std::string> EndedTasks() {
    std::set<std::string> ids;
    for (const Activity& activity : storage_.activities("task_completed")) {
      ids.insert(activity.task_id);
    }
    return ids;
  }

 private:
  Mutex mutex_;
  std::map<std::string, int> runs_ GUARDED_BY(mutex_);
};

TEST_F(ResumeTest, RunsNoCompletedTaskAgain) {
  MustRun();
  TakeRuns();
  const auto completed = Completed();
  const RunReport report = MustRun({.resume = true});
  EXPECT_EQ(report.completed, 6u);
  EXPECT_EQ(report.skipped, 6u);
  EXPECT_EQ(TakeRuns().size(), 0u);
  EXPECT_EQ(Completed(), completed);
  EXPECT_THAT(storage_.activities("dag_resumed"), SizeIs(1));
}

TEST_F(ResumeTest, RunsFailedCancelledAndRunningTasksAgain) {
  MustRun();
  ASSERT_OK(storage_.UpdateTaskStatus("d/d", TaskStatus::kFailed, "x", {}));
  ASSERT_OK(storage_.UpdateTaskStatus("d/e", TaskStatus::kRunning, "", {}));
  ASSERT_OK(storage_.UpdateTaskStatus("d/f", TaskStatus::kCancelled, "", {}));
  ASSERT_OK(storage_.DeleteTask("d/c", {}));
  TakeRuns();
  EXPECT_EQ(MustRun({.resume = true}).completed, 6u);
  EXPECT_EQ(TakeRuns(),
            (std::map<std::string, int>{{"c", 1}, {"d", 1}, {"e", 1}, {"f", 1}}));
  EXPECT_EQ(Row("d").error, "");
}

// The start, 6 rows, 4 calls per node, the end.
constexpr std::uint64_t kCallsOfARun = 1 + 6 + 6 * 4 + 1;

TEST_F(ResumeTest, AStorageThatFailsForGoodAtAnyCallLeavesTheRunResumable) {
  for (std::uint64_t n = 1; n <= kCallsOfARun; ++n) {
    const auto fault = [n](std::uint64_t number, const std::string&) {
      return number >= n ? Status::IoError("read-only") : Status::Ok();
    };
    EXPECT_FALSE(FailThenResume(fault, StatusCode::kIoError)) << "call " << n;
  }
  EXPECT_TRUE(FailThenResume({}, StatusCode::kIoError));
}

TEST_F(ResumeTest, AnyCallThatFailsOnceEndsTheRunAndLeavesItResumable) {
  for (std::uint64_t n = 1; n <= kCallsOfARun; ++n) {
    const auto fault = [n](std::uint64_t number, const std::string&) {
      return number == n ? Status::Unavailable("once") : Status::Ok();
    };
    EXPECT_FALSE(FailThenResume(fault, StatusCode::kUnavailable)) << "call " << n;
  }
}

TEST_F(ResumeTest, AFailedStorageStopsRunningNodes) {
  Graph graph;
  ASSERT_OK(graph.AddNode("waits", UntilStopped));
  ASSERT_OK(graph.AddNode("ends", [this](const NodeContext&) {
    EXPECT_TRUE(storage_.AwaitCall("status d/waits running"));
    return Status::Ok();
  }));
  storage_.SetFault([](std::uint64_t, const std::string& call) {
    return call == "log task_completed d/ends" ? Status::Fenced("another owner") : Status::Ok();
  });
  EXPECT_THAT(TaskManager(storage_).Run(graph, {.dag_id = "d"}),
              StatusIs(StatusCode::kFenced, "another owner"));
}

// --- ids and options

TEST(TaskManager, TaskIdIsDagAndNode) { EXPECT_EQ(TaskManager::TaskId("d", "n/1"), "d/n/1"); }

TEST(TaskManager, TaskIdOfFullLengthIsKept) {
  const std::string node(253, 'n');
  EXPECT_EQ(TaskManager::TaskId("d", node), "d/" + node);
}

TEST(TaskManager, LongTaskIdsEndInAHash) {
  const std::string node(254, 'n');
  const std::string id = TaskManager::TaskId("d", node);
  EXPECT_EQ(id.size(), 255u);
  EXPECT_THAT(id, StartsWith("d/nnnn"));
  EXPECT_EQ(id.substr(235, 4), "\xe2\x80\xa6#");
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef", 239), std::string::npos);
  EXPECT_EQ(TaskManager::TaskId("d", node), id);
  EXPECT_NE(TaskManager::TaskId("d", node + "n"), id);
}

TEST(TaskManager, LongTaskIdsAreCutBetweenCharacters) {
  for (std::size_t lead = 0; lead < 4; ++lead) {
    std::string node(lead, 'n');
    for (int i = 0; i < 60; ++i) node += "\xf0\x9f\x9a\x80";
    const std::string id = TaskManager::TaskId(std::string(100, 'd'), node);
    EXPECT_TRUE(IsCleanText(id));
    EXPECT_LE(id.size(), kIdBytesMax);
    EXPECT_GT(id.size(), kIdBytesMax - 4);
  }
}

TEST(TaskManager, MadeDagIdsAreShortPlainAndDiffer) {
  const std::string id = TaskManager::MakeDagId("my flow/\xc3\xa4" + std::string(300, 'x'));
  EXPECT_THAT(id, StartsWith("my_flow___xxx"));
  EXPECT_LT(id.size(), 100u);
  EXPECT_NE(id, TaskManager::MakeDagId("my flow/\xc3\xa4" + std::string(300, 'x')));
  EXPECT_THAT(TaskManager::MakeDagId(""), StartsWith("dag-2"));
}

TEST(TaskManager, MakesADagIdWhereNoneIsGiven) {
  RecordingStorage storage;
  const auto report = TaskManager(storage).Run(Graph("flow"));
  ASSERT_OK(report);
  EXPECT_THAT(report->dag_id, StartsWith("flow-2"));
}

TEST(TaskManager, RefusesBadOptions) {
  RecordingStorage storage;
  TaskManager manager(storage);
  const Graph graph;
  const auto is_refused = StatusIs(StatusCode::kInvalidArgument);
  EXPECT_THAT(manager.Run(graph, {.workers = 0}), is_refused);
  EXPECT_THAT(manager.Run(graph, {.workers = 1025}), is_refused);
  EXPECT_THAT(manager.Run(graph, {.dag_id = std::string(256, 'd')}), is_refused);
  EXPECT_THAT(manager.Run(graph, {.dag_id = "\xff"}), is_refused);
  EXPECT_THAT(manager.Run(graph, {.run_payload = "{"}), is_refused);
  Graph cycle;
  ASSERT_OK(cycle.AddNode("a", Succeed));
  ASSERT_OK(cycle.AddEdge("a", "a"));
  EXPECT_THAT(manager.Run(cycle), is_refused);
  EXPECT_THAT(storage.calls(), SizeIs(0));
}

}  // namespace
}  // namespace taskwal
