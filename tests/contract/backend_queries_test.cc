// What storage/backend.h promises of queries and clean-up, on every backend alike.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/contract/backend_fixture.h"

namespace taskwal::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BackendQueries : public BackendContract {};
INSTANTIATE_TEST_SUITE_P(Backends, BackendQueries, ::testing::ValuesIn(kBackends), BackendName);

// --- queries

// 1,000 tasks, five at each moment, so that pages end inside groups of equal times.
std::vector<std::string> ThousandIds() {
  std::vector<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    std::string digits = std::to_string((i * 7919) % 1000);
    ids.push_back("t-" + std::string(4 - digits.size(), '0') + digits);
  }
  return ids;
}

Time MomentOf(const std::string& id) { return After(std::stoi(id.substr(2)) % 200); }

// In the order of (created_at, id).
std::vector<std::string> InOrder(std::vector<std::string> ids, bool newest_first) {
  std::sort(ids.begin(), ids.end(), [](const std::string& a, const std::string& b) {
    return std::pair(MomentOf(a), a) < std::pair(MomentOf(b), b);
  });
  if (newest_first) std::reverse(ids.begin(), ids.end());
  return ids;
}

TEST_P(BackendQueries, TaskPagesHaveNoGapsAndNoRepeats) {
  std::vector<TaskChange> changes;
  for (const std::string& id : ThousandIds()) {
    changes.push_back(Put(MakeTask(id, "run-1", TaskStatus::kPending, MomentOf(id)), {1, 1}));
  }
  ApplyTasks(changes);
  for (const bool newest_first : {false, true}) {
    for (const std::uint32_t limit : {13u, 100u, 1000u}) {
      TaskQuery query;
      query.paging.newest_first = newest_first;
      query.paging.limit = limit;
      EXPECT_EQ(TaskIds(query), InOrder(ThousandIds(), newest_first)) << limit;
      query.created_from = After(50);
      query.created_until = After(150);
      auto expected = InOrder(ThousandIds(), newest_first);
      std::erase_if(expected, [](const auto& id) {
        return MomentOf(id) < After(50) || MomentOf(id) >= After(150);
      });
      EXPECT_EQ(TaskIds(query), expected) << limit;
    }
  }
}

TEST_P(BackendQueries, ActivityPagesHaveNoGapsAndNoRepeats) {
  std::vector<Activity> activities;
  for (const std::string& id : ThousandIds()) {
    activities.push_back(MakeActivity(id, "t", MomentOf(id)));
  }
  Apply(MakeBatch({}, activities));
  for (const bool newest_first : {false, true}) {
    ActivityQuery query;
    query.paging.newest_first = newest_first;
    query.paging.limit = 33;
    EXPECT_EQ(ActivityIds(query), InOrder(ThousandIds(), newest_first));
    query.task_id = "t";
    EXPECT_EQ(ActivityIds(query), InOrder(ThousandIds(), newest_first));
  }
}

TEST_P(BackendQueries, PagesOfSeveralStatusesAreMergedInOrder) {
  std::vector<TaskChange> changes;
  for (const std::string& id : ThousandIds()) {
    const auto status = static_cast<TaskStatus>(std::stoi(id.substr(2)) % 5);
    changes.push_back(Put(MakeTask(id, "run-1", status, MomentOf(id)), {1, 1}));
  }
  ApplyTasks(changes);
  for (const bool with_dag : {false, true}) {
    for (const bool newest_first : {false, true}) {
      TaskQuery query;
      query.paging.limit = 13;
      query.paging.newest_first = newest_first;
      if (with_dag) query.dag_id = "run-1";
      query.statuses = {TaskStatus::kCancelled, TaskStatus::kRunning, TaskStatus::kRunning};
      auto expected = InOrder(ThousandIds(), newest_first);
      std::erase_if(expected, [](const std::string& id) {
        const int status = std::stoi(id.substr(2)) % 5;
        return status != 1 && status != 4;
      });
      EXPECT_EQ(TaskIds(query), expected);
    }
  }
}

TEST_P(BackendQueries, LastPageThatIsFullSaysSo) {
  ApplyTasks({Put(MakeTask("a"), {1, 1}), Put(MakeTask("b"), {2, 2})});
  TaskQuery query;
  query.paging.limit = 2;
  ASSERT_OK_AND_ASSIGN(const TaskPage page, session_->QueryTasks(query));
  EXPECT_EQ(page.tasks.size(), 2u);
  EXPECT_EQ(page.next_page, "");
}

TEST_P(BackendQueries, PagingGoesOnBehindARowThatIsGone) {
  ApplyTasks({Put(MakeTask("a"), {1, 1}), Put(MakeTask("b"), {2, 2}), Put(MakeTask("c"), {3, 3})});
  TaskQuery query;
  query.paging.limit = 2;
  ASSERT_OK_AND_ASSIGN(const TaskPage page, session_->QueryTasks(query));
  ApplyTasks({Delete("b", {4, 4})});
  query.paging.after = page.next_page;
  EXPECT_THAT(TaskIds(query), ElementsAre("c"));
}

TEST_P(BackendQueries, BadPagingIsRefused) {
  TaskQuery tasks;
  ActivityQuery activities;
  Paging none, many, foreign;
  none.limit = 0;
  many.limit = 10001;
  foreign.after = "2";
  for (const Paging& paging : {none, many, foreign}) {
    tasks.paging = activities.paging = paging;
    EXPECT_THAT(session_->QueryTasks(tasks), StatusIs(StatusCode::kInvalidArgument));
    EXPECT_THAT(session_->QueryActivities(activities), StatusIs(StatusCode::kInvalidArgument));
    EXPECT_THAT(session_->ResumableTasks(paging), StatusIs(StatusCode::kInvalidArgument));
  }
}

TEST_P(BackendQueries, EachTaskFilterSelects) {
  Task x = MakeTask("x", "run-1", TaskStatus::kRunning, After(10));
  Task y = MakeTask("y", "run-2", TaskStatus::kFailed, After(20));
  Task z = MakeTask("z", "run-1", TaskStatus::kCompleted, After(30));
  x.node_id = "n1";
  y.node_id = "n1";
  z.node_id = "n2";
  z.updated_at = After(40);
  ApplyTasks({Put(x, {1, 1}), Put(y, {2, 2}), Put(z, {3, 3})});
  EXPECT_THAT(TaskIds(), ElementsAre("x", "y", "z"));
  EXPECT_THAT(TaskIds([](auto& q) { q.dag_id = "run-1"; }), ElementsAre("x", "z"));
  EXPECT_THAT(TaskIds([](auto& q) { q.node_id = "n1"; }), ElementsAre("x", "y"));
  EXPECT_THAT(TaskIds([](auto& q) { q.dag_id = "run-1"; q.node_id = "n1"; }), ElementsAre("x"));
  EXPECT_THAT(TaskIds([](auto& q) { q.statuses = {TaskStatus::kFailed}; }), ElementsAre("y"));
  EXPECT_THAT(TaskIds([](auto& q) {
                q.dag_id = "run-1";
                q.statuses = {TaskStatus::kFailed};
              }),
              IsEmpty());
  EXPECT_THAT(TaskIds([](auto& q) { q.created_from = After(20); }), ElementsAre("y", "z"));
  EXPECT_THAT(TaskIds([](auto& q) { q.created_until = After(20); }), ElementsAre("x"));
  EXPECT_THAT(TaskIds([](auto& q) { q.updated_from = After(30); }), ElementsAre("z"));
  EXPECT_THAT(TaskIds([](auto& q) { q.updated_until = After(20); }), ElementsAre("x"));
  EXPECT_THAT(TaskIds([](auto& q) { q.created_from = Time::min(); q.created_until = Time::max(); }),
              ElementsAre("x", "y", "z"));
  EXPECT_THAT(TaskIds([](auto& q) { q.dag_id = ""; }), IsEmpty());
}

TEST_P(BackendQueries, EachActivityFilterSelects) {
  Activity x = MakeActivity("x", "t1", After(10)), y = MakeActivity("y", "t2", After(20)),
           z = MakeActivity("z", "t1", After(30));
  x.node_id = "n1";
  y.dag_id = "run-2";
  y.action = "start";
  y.level = Level::kDebug;
  z.level = Level::kFatal;
  Apply(MakeBatch({}, {x, y, z}));
  EXPECT_THAT(ActivityIds(), ElementsAre("x", "y", "z"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.task_id = "t1"; }), ElementsAre("x", "z"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.dag_id = "run-2"; }), ElementsAre("y"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.task_id = "t1"; q.dag_id = "run-2"; }), IsEmpty());
  EXPECT_THAT(ActivityIds([](auto& q) { q.node_id = "n1"; }), ElementsAre("x"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.action = "start"; }), ElementsAre("y"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.level_min = Level::kDebug; }),
              ElementsAre("x", "y", "z"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.level_min = Level::kInfo; }), ElementsAre("x", "z"));
  EXPECT_THAT(ActivityIds([](auto& q) { q.level_min = Level::kFatal; }), ElementsAre("z"));
  EXPECT_THAT(ActivityIds([](auto& q) {
                q.created_from = After(11);
                q.created_until = After(30);
              }),
              ElementsAre("y"));
}

TEST_P(BackendQueries, ResumableAreRunningAndFailedWithRetriesLeft) {
  Task spent = MakeTask("spent", "run-1", TaskStatus::kFailed, After(1));
  Task left = MakeTask("left", "run-1", TaskStatus::kFailed, After(2));
  spent.retry_count = spent.max_retries = left.max_retries = 2;
  left.retry_count = 1;
  ApplyTasks({Put(MakeTask("done", "run-1", TaskStatus::kCompleted), {1, 1}), Put(left, {2, 2}),
              Put(MakeTask("new"), {3, 3}),
              Put(MakeTask("run", "run-1", TaskStatus::kRunning, After(3)), {4, 4}),
              Put(spent, {5, 5}), Put(MakeTask("stop", "run-1", TaskStatus::kCancelled), {6, 6})});
  Paging one_by_one;
  one_by_one.limit = 1;
  const std::vector<std::string> ids = AllIds(one_by_one, [&](const Paging& paging, auto* into) {
    const auto page = session_->ResumableTasks(paging);
    EXPECT_OK(page);
    if (!page.ok()) return std::string();
    for (const Task& task : page->tasks) into->push_back(task.id);
    return page->next_page;
  });
  EXPECT_THAT(ids, ElementsAre("left", "run"));
}

TEST_P(BackendQueries, CountsEveryStatus) {
  Apply(MakeBatch({Put(MakeTask("a"), {1, 1}), Put(MakeTask("b"), {2, 2}),
                   Put(MakeTask("c", "run-1", TaskStatus::kFailed), {3, 3})},
                  {MakeActivity("x")}));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, session_->Count());
  EXPECT_EQ(counts.tasks, 3u);
  EXPECT_EQ(counts.activities, 1u);
  using Share = std::pair<TaskStatus, std::uint64_t>;
  EXPECT_THAT(counts.tasks_by_status,
              ElementsAre(Share(TaskStatus::kPending, 2), Share(TaskStatus::kRunning, 0),
                          Share(TaskStatus::kCompleted, 0), Share(TaskStatus::kFailed, 1),
                          Share(TaskStatus::kCancelled, 0)));
}

// --- clean-up

TEST_P(BackendQueries, OldTasksAreTerminalOldAndGivenInBatches) {
  std::vector<TaskChange> changes;
  for (int i = 0; i < 10; ++i) {
    changes.push_back(
        Put(MakeTask("t" + std::to_string(i), "run-1", static_cast<TaskStatus>(i % 5), After(i)),
            {1, 1}));
  }
  ApplyTasks(changes);
  const auto old = [&](Time before, std::vector<TaskStatus> statuses, std::string after,
                       std::uint32_t limit) {
    auto ids = session_->OldTasks(before, statuses, after, limit);
    EXPECT_OK(ids);
    return ids.ok() ? *ids : std::vector<std::string>();
  };
  EXPECT_THAT(old(After(100), {}, "", 100), ElementsAre("t2", "t3", "t4", "t7", "t8", "t9"));
  EXPECT_THAT(old(After(100), {}, "t3", 2), ElementsAre("t4", "t7"));
  EXPECT_THAT(old(After(8), {}, "", 100), ElementsAre("t2", "t3", "t4", "t7"));
  EXPECT_THAT(old(After(100), {TaskStatus::kFailed}, "", 100), ElementsAre("t3", "t8"));
  EXPECT_THAT(old(After(100), {TaskStatus::kRunning}, "", 100), IsEmpty());
}

TEST_P(BackendQueries, DeletingOldTasksLooksAgain) {
  ApplyTasks({Put(MakeTask("active", "run-1", TaskStatus::kRunning), {1, 1}),
              Put(MakeTask("fresh", "run-1", TaskStatus::kFailed, After(50)), {1, 1}),
              Put(MakeTask("old", "run-1", TaskStatus::kFailed), {1, 1}),
              Put(MakeTask("other", "run-1", TaskStatus::kCancelled), {1, 1})});
  const std::vector<std::string> ids = {"active", "fresh", "ghost", "old", "other"};
  ASSERT_OK_AND_ASSIGN(const std::uint64_t failed,
                       session_->DeleteTasks(ids, After(10), std::vector{TaskStatus::kFailed}));
  EXPECT_EQ(failed, 1u);
  EXPECT_THAT(TaskIds(), ElementsAre("active", "other", "fresh"));
  ASSERT_OK_AND_ASSIGN(const std::uint64_t rest, session_->DeleteTasks(ids, After(10), {}));
  EXPECT_EQ(rest, 1u);
  EXPECT_THAT(TaskIds(), ElementsAre("active", "fresh"));
}

TEST_P(BackendQueries, OldActivitiesGoInBoundedSteps) {
  std::vector<Activity> activities;
  for (int i = 0; i < 10; ++i) {
    activities.push_back(MakeActivity("a" + std::to_string(i), "t", After(i)));
  }
  Apply(MakeBatch({}, activities));
  for (const std::uint64_t expected : {4, 3, 0}) {
    ASSERT_OK_AND_ASSIGN(const std::uint64_t gone, session_->DeleteOldActivities(After(7), 4));
    EXPECT_EQ(gone, expected);
  }
  EXPECT_THAT(ActivityIds(), ElementsAre("a7", "a8", "a9"));
}

}  // namespace
}  // namespace taskwal::storage
