#include "pipeline/targets/target_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/pipeline/several_targets.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using TargetSetTest = SeveralTargetsTest;

const std::vector<NamedWeight> kForty{{"a", 40}, {"b", 30}, {"c", 20}, {"d", 10}};

TEST_F(TargetSetTest, ActivitiesFollowTheWeightsExactly) {
  Open(kForty);
  for (int i = 0; i < 700; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  Flush();
  EXPECT_EQ(Stored("a").activities, 280u);
  EXPECT_EQ(Stored("b").activities, 210u);
  EXPECT_EQ(Stored("c").activities, 140u);
  EXPECT_EQ(Stored("d").activities, 70u);
}

TEST_F(TargetSetTest, ATaskLivesInOneDatabaseAndAllItsOperationsGoThere) {
  Open(kForty);
  for (int i = 0; i < 60; ++i) {
    const std::string id = "t" + std::to_string(i);
    ASSERT_OK(storage_->SaveTask(TaskNamed(id), {}));
    ASSERT_OK(storage_->UpdateTaskStatus(id, TaskStatus::kRunning, {}, {}));
    if (i % 3 == 0) {
      ASSERT_OK(storage_->DeleteTask(id, {}));
    }
  }
  Flush();
  std::set<std::string> homes;
  for (int i = 0; i < 60; ++i) {
    const auto holders = HoldersOf("t" + std::to_string(i));
    ASSERT_THAT(holders, SizeIs(i % 3 == 0 ? 0 : 1));
    if (holders.empty()) continue;
    ASSERT_OK_AND_ASSIGN(const Task task, StoredTask(holders[0], "t" + std::to_string(i)));
    EXPECT_EQ(task.status, TaskStatus::kRunning);
    homes.insert(holders[0]);
  }
  EXPECT_GT(homes.size(), 2u);
}

TEST_F(TargetSetTest, ABatchIsSharedOutAndADagDeleteReachesAll) {
  Open(kForty);
  std::vector<Task> tasks;
  for (int i = 0; i < 60; ++i) tasks.push_back(TaskNamed("t" + std::to_string(i), "gone"));
  ASSERT_OK(storage_->SaveTasks(tasks, {}));
  ASSERT_OK(storage_->SaveTask(TaskNamed("stays", "kept"), {}));
  Flush();
  for (const Task& task : tasks) ASSERT_THAT(HoldersOf(task.id), SizeIs(1)) << task.id;
  ASSERT_OK(storage_->DeleteTasksByDag("gone", {}));
  for (const Task& task : tasks) {
    EXPECT_THAT(storage_->GetTask(task.id), StatusIs(StatusCode::kNotFound));
  }
  Flush();
  for (const Task& task : tasks) EXPECT_THAT(HoldersOf(task.id), SizeIs(0)) << task.id;
  EXPECT_THAT(HoldersOf("stays"), SizeIs(1));
}

TEST_F(TargetSetTest, OneThatIsAwayHoldsBackNothingElse) {
  Open({{"a", 1}, {"b", 1}});
  Database("b").GoAway();
  std::vector<std::string> at_b;
  for (int i = 0; i < 40; ++i) {
    const std::string id = "t" + std::to_string(i);
    ASSERT_OK(storage_->SaveTask(TaskNamed(id), {}));
    ASSERT_OK(storage_->LogActivity(ActivityOn(id), {}));
  }
  const std::uint64_t end = storage_->GetStats().end_lsn;
  AwaitThat([&] { return StatsOf("a").flushed_lsn == end; });
  EXPECT_EQ(Stored("a").activities, 20u);
  EXPECT_EQ(StatsOf("a").pending, 0u);
  EXPECT_EQ(StatsOf("b").pending, 20u + 40u - Stored("a").tasks);
  EXPECT_THAT(storage_->Flush(milliseconds(0)).message(), HasSubstr("target b"));
  Database("b").ComeBack();
  Flush();
  EXPECT_EQ(Stored("a").tasks + Stored("b").tasks, 40u);
  EXPECT_EQ(Stored("b").activities, 20u);
  EXPECT_EQ(storage_->GetStats().pending, 0u);
  EXPECT_EQ(storage_->GetStats().applied, 80u);
}

TEST_F(TargetSetTest, ACallWaitsForItsOwnTargetAlone) {
  options_.shutdown_timeout = milliseconds(0);
  Open({{"a", 1}, {"b", 1}});
  Database("b").GoAway();
  WriteOptions applied;
  applied.wait = WaitFor::kApplied;
  applied.timeout = seconds(20);
  int at_a = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string id = "t" + std::to_string(i);
    applied.timeout = milliseconds(0);
    const auto saved = storage_->SaveTask(TaskNamed(id), applied);
    applied.timeout = seconds(20);
    if (saved.ok()) continue;
    ASSERT_EQ(saved.status().code(), StatusCode::kInDoubt);
  }
  // Two turns of the cycle: one of them waits for a, whose database answers.
  for (int i = 0; i < 2; ++i) {
    applied.timeout = i == 0 ? seconds(20) : milliseconds(0);
    at_a += storage_->LogActivity(ActivityOn("t"), applied).ok() ? 1 : 0;
  }
  EXPECT_EQ(at_a, 1);
}

TEST_F(TargetSetTest, AnUnhealthyTargetsShareGoesToTheOthersUntilItIsBack) {
  options_.health_check_interval = milliseconds(10);
  Open(kForty);
  Database("b").GoAway();
  AwaitThat([&] { return !StatsOf("b").healthy; });
  for (int i = 0; i < 70; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  AwaitThat([&] { return Stored("a").activities == 40u; });
  AwaitThat([&] { return Stored("c").activities + Stored("d").activities == 30u; });
  Flush();
  EXPECT_EQ(Stored("b").activities, 0u);
  Database("b").ComeBack();
  AwaitThat([&] { return StatsOf("b").healthy; });
  for (int i = 0; i < 100; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  Flush();
  EXPECT_EQ(Stored("b").activities, 30u);
}

TEST_F(TargetSetTest, WhatWasAssignedWaitsForItsTarget) {
  Open({{"a", 1}, {"b", 1}});
  Database("b").GoAway();
  for (int i = 0; i < 10; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  ASSERT_OK(storage_->SetTargetHealth("b", false));
  for (int i = 0; i < 10; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  EXPECT_TRUE(StatsOf("b").drained);
  AwaitThat([&] { return Stored("a").activities == 15u; });
  EXPECT_EQ(StatsOf("b").pending, 5u);
  Database("b").ComeBack();
  Flush();
  EXPECT_EQ(Stored("b").activities, 5u);
  ASSERT_OK(storage_->SetTargetHealth("b", true));
  for (int i = 0; i < 10; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  Flush();
  EXPECT_EQ(Stored("b").activities, 10u);
  EXPECT_THAT(storage_->SetTargetHealth("x", true), StatusIs(StatusCode::kNotFound));
}

TEST_F(TargetSetTest, WithNoneHealthyAllTakeTheirShareIntoTheLog) {
  options_.health_check_interval = milliseconds(10);
  Open({{"a", 1}, {"b", 1}});
  Database("a").GoAway();
  Database("b").GoAway();
  AwaitThat([&] { return !StatsOf("a").healthy && !StatsOf("b").healthy; });
  for (int i = 0; i < 10; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  Database("a").ComeBack();
  Database("b").ComeBack();
  Flush();
  EXPECT_EQ(Stored("a").activities, 5u);
  EXPECT_EQ(Stored("b").activities, 5u);
}

TEST_F(TargetSetTest, ABacklogIsTakenUpByEachTargetAfterARestart) {
  options_.shutdown_timeout = milliseconds(0);
  options_.recovery_timeout = milliseconds(0);
  Open({{"a", 1}, {"b", 1}});
  Flush();
  Database("b").GoAway();
  for (int i = 0; i < 40; ++i) {
    ASSERT_OK(storage_->SaveTask(TaskNamed("t" + std::to_string(i)), {}));
  }
  AwaitThat([&] { return StatsOf("a").pending == 0; });
  EXPECT_THAT(storage_->Close(), StatusIs(StatusCode::kUnavailable));
  Open({{"a", 1}, {"b", 1}});
  const std::string waiting = [&] {
    for (int i = 0;; ++i) {
      if (HoldersOf("t" + std::to_string(i)).empty()) return "t" + std::to_string(i);
    }
  }();
  // Its own write is seen while the database is away, over the restart.
  ASSERT_OK(storage_->GetTask(waiting));
  ASSERT_OK(storage_->SaveTask(TaskNamed("new"), {}));
  Database("b").ComeBack();
  Flush();
  EXPECT_EQ(Stored("a").tasks + Stored("b").tasks, 41u);
  EXPECT_THAT(HoldersOf(waiting), ElementsAre("b"));
  EXPECT_EQ(storage_->GetStats().pending, 0u);
}

TEST_F(TargetSetTest, ALogOfOneDatabaseGrowsToSeveral) {
  {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = Database("default").Open();
    ASSERT_OK_AND_ASSIGN(storage_, WalTaskStorage::Open(std::move(setup)));
  }
  std::vector<Task> tasks{TaskNamed("x"), TaskNamed("y"), TaskNamed("z")};
  ASSERT_OK(storage_->SaveTasks(tasks, {}));
  Close();
  Open({{"default", 1}, {"b", 3}});
  ASSERT_OK(storage_->UpdateTaskStatus("x", TaskStatus::kRunning, {}, {}));
  ASSERT_OK(storage_->SaveTask(TaskNamed("new"), {}));
  for (int i = 0; i < 8; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("x"), {}));
  Flush();
  EXPECT_EQ(Stored("default").tasks, 4u);
  EXPECT_EQ(Stored("b").tasks, 0u);
  EXPECT_EQ(Stored("default").activities, 2u);
  EXPECT_EQ(Stored("b").activities, 6u);
  ASSERT_OK_AND_ASSIGN(const Task task, storage_->GetTask("x"));
  EXPECT_EQ(task.status, TaskStatus::kRunning);
}

TEST_F(TargetSetTest, ATargetOfTasksMustNotBeLeftOut) {
  Open({{"a", 1}, {"b", 1}});
  Flush();
  Close();
  EXPECT_THAT(TryOpen({{"a", 1}}), StatusIs(StatusCode::kInvalidArgument));
  Open({{"a", 1}, {"b", 0}});
  for (int i = 0; i < 10; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  Flush();
  EXPECT_EQ(Stored("a").activities, 10u);
}

TEST_F(TargetSetTest, OneDatabaseUnderTwoNamesIsRefused) {
  WalStorageSetup setup;
  setup.options = options_;
  setup.targets.push_back({"a", 1, Database("a").Open()});
  setup.targets.push_back({"b", 1, Database("a").Open()});
  EXPECT_THAT(WalTaskStorage::Open(std::move(setup)).status().message(),
              HasSubstr("is the database of target"));
}

TEST_F(TargetSetTest, QueriesAreMergedPageByPage) {
  Open(kForty);
  std::set<std::string> ids;
  for (int i = 0; i < 57; ++i) {
    Task task = TaskNamed("t" + std::to_string(i));
    // Several of one time: the id decides.
    task.created_at = Time(seconds(1000 + i / 5));
    ids.insert(task.id);
    ASSERT_OK(storage_->SaveTask(task, {}));
  }
  Flush();
  for (const bool newest_first : {false, true}) {
    TaskQuery query;
    query.paging.limit = 10;
    query.paging.newest_first = newest_first;
    std::vector<std::pair<Time, std::string>> seen;
    do {
      ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->QueryTasks(query));
      ASSERT_LE(page.tasks.size(), 10u);
      for (const Task& task : page.tasks) seen.emplace_back(*task.created_at, task.id);
      query.paging.after = page.next_page;
    } while (!query.paging.after.empty());
    EXPECT_EQ(seen.size(), ids.size());
    if (newest_first) std::reverse(seen.begin(), seen.end());
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
    std::set<std::string> found;
    for (const auto& [time, id] : seen) found.insert(id);
    EXPECT_EQ(found, ids);
  }
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
  EXPECT_EQ(counts.tasks, 57u);
}

TEST_F(TargetSetTest, APageThatEndsWithTheLastRowIsTheLast) {
  Open(kForty);
  for (int i = 0; i < 20; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  Flush();
  Paging paging;
  paging.limit = 20;
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, storage_->ActivitiesByTask("t", paging));
  EXPECT_THAT(page.activities, SizeIs(20));
  EXPECT_EQ(page.next_page, "");
}

TEST_F(TargetSetTest, AnActivityFoundTwiceCountsOnceInAPage) {
  Open({{"a", 1}, {"b", 1}});
  Activity activity = ActivityOn("t", "same");
  activity.created_at = Time(seconds(7));
  ASSERT_OK(storage_->LogActivity(activity, {}));
  ASSERT_OK(storage_->LogActivity(activity, {}));
  Flush();
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, storage_->ActivitiesByTask("t"));
  EXPECT_THAT(page.activities, SizeIs(1));
}

TEST_F(TargetSetTest, AQueryNamesTheTargetThatDoesNotAnswer) {
  Open({{"a", 1}, {"b", 1}});
  Database("b").GoAway();
  EXPECT_THAT(storage_->QueryTasks({}).status().message(), HasSubstr("target b"));
  EXPECT_THAT(storage_->Ping(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(TargetSetTest, CleanUpReachesEveryDatabase) {
  Open(kForty);
  for (int i = 0; i < 40; ++i) {
    Task task = TaskNamed("t" + std::to_string(i));
    task.status = TaskStatus::kCompleted;
    task.updated_at = Time(seconds(10));
    ASSERT_OK(storage_->SaveTask(task, {}));
    Activity activity = ActivityOn(task.id);
    activity.created_at = Time(seconds(10));
    ASSERT_OK(storage_->LogActivity(activity, {}));
  }
  Flush();
  ASSERT_OK_AND_ASSIGN(const std::uint64_t tasks, storage_->CleanupOldTasks(Time(seconds(11)), {}));
  EXPECT_EQ(tasks, 40u);
  ASSERT_OK_AND_ASSIGN(const std::uint64_t logs,
                       storage_->CleanupOldActivityLogs(Time(seconds(11))));
  EXPECT_EQ(logs, 40u);
}

TEST_F(TargetSetTest, CountersBalanceThroughOutagesAndRestarts) {
  options_.shutdown_timeout = milliseconds(0);
  Open({{"a", 1}, {"b", 1}});
  Database("a").GoAway();
  for (int i = 0; i < 30; ++i) {
    ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
    const Stats stats = storage_->GetStats();
    ASSERT_EQ(stats.accepted, stats.applied + stats.dead_lettered + stats.lost + stats.pending);
  }
  AwaitThat([&] { return StatsOf("b").pending == 0; });
  EXPECT_EQ(storage_->GetStats().pending, 15u);
  const Status closed = storage_->Close();
  EXPECT_FALSE(closed.ok());
  Open({{"a", 1}, {"b", 1}});
  // A thread that was left behind in a call has not told what it had brought.
  const bool is_told = closed.message().find("left behind") == std::string::npos;
  const std::uint64_t taken_up = storage_->GetStats().accepted;
  if (is_told) {
    EXPECT_EQ(taken_up, 15u);
  }
  Database("a").ComeBack();
  Flush();
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.pending, 0u);
  EXPECT_EQ(stats.applied, taken_up);
  EXPECT_EQ(Stored("a").activities + Stored("b").activities, 30u);
}

}  // namespace
}  // namespace taskwal::pipeline
