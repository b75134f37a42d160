#include "pipeline/targets/target_queries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;
using ::testing::SizeIs;

constexpr std::uint16_t kDatabases = 3;
constexpr int kTasks = 12;

// Every read connects anew, so that a test can step in between any two of them.
class TargetQueriesTest : public ::testing::Test {
 protected:
  TargetQueriesTest() : TargetQueriesTest(kDatabases) {}
  explicit TargetQueriesTest(std::uint16_t count) {
    std::vector<TargetQueries::Database> parts;
    for (std::uint16_t number = 0; number < count; ++number) {
      const std::string name(1, static_cast<char>('a' + number));
      auto& database = databases_.emplace_back(std::make_unique<SwitchableDatabase>());
      backends_.push_back(database->Open());
      calls_.push_back(
          std::make_unique<DatabaseCalls>(*backends_.back(), ConnectionLimits{.idle_max = 0}));
      parts.push_back({number, name, calls_.back().get()});
      database->OnConnect([this] {
        ++reads_;
        if (between_) between_(reads_);
      });
    }
    queries_ = std::make_unique<TargetQueries>(
        std::move(parts), [this](const std::string& id) { return homes_[id]; });
  }

  static std::string Id(int task) { return "t" + std::to_string(100 + task); }
  static Task Made(int task) {
    Task made;
    made.id = Id(task);
    made.status = TaskStatus::kRunning;
    made.created_at = made.updated_at = Time(seconds(1000 + task));
    return made;
  }
  // `between`: called before a read, with its number.
  void Between(std::function<void(int read)> between) {
    reads_ = 0;
    between_ = std::move(between);
  }
  void Apply(std::uint16_t database, storage::TaskChange change) {
    change.origin = {++lsn_, 1};
    storage::Batch batch;
    batch.wal_id = wal_id_;
    batch.idempotent = true;
    batch.tasks.push_back(std::move(change));
    auto session = databases_[database]->data().Connect();
    ASSERT_OK(session);
    ASSERT_OK((*session)->Apply(batch));
  }
  void Put(std::uint16_t database, const Task& task) {
    storage::TaskChange change;
    change.id = task.id;
    change.task = task;
    change.created_rank = storage::MakeCreatedRank(true, {1, wal_id_, lsn_ + 1});
    Apply(database, std::move(change));
  }
  void Delete(std::uint16_t database, const std::string& id) {
    storage::TaskChange change;
    change.kind = storage::TaskChange::Kind::kDelete;
    change.id = id;
    Apply(database, std::move(change));
  }
  void Log(std::uint16_t database, const Activity& activity) {
    storage::Batch batch;
    batch.wal_id = wal_id_;
    batch.idempotent = true;
    batch.activities.push_back({activity, ++lsn_});
    auto session = databases_[database]->data().Connect();
    ASSERT_OK(session);
    ASSERT_OK((*session)->Apply(batch));
  }
  // As a rebalance does.
  void Move(const Task& task, std::uint16_t from, std::uint16_t to) {
    homes_[task.id] = to;
    Put(to, task);
    Delete(from, task.id);
  }

  const Uuid wal_id_ = Uuid::Make();
  storage::Lsn lsn_ = 0;
  int reads_ = 0;
  std::function<void(int)> between_;
  std::map<std::string, std::uint16_t> homes_;
  std::vector<std::unique_ptr<SwitchableDatabase>> databases_;
  std::vector<std::unique_ptr<storage::Backend>> backends_;
  std::vector<std::unique_ptr<DatabaseCalls>> calls_;
  std::unique_ptr<TargetQueries> queries_;
};

// From every database to every other, before every read there is.
TEST_F(TargetQueriesTest, FindATaskThatMovesMeanwhile) {
  const std::vector<std::function<Result<TaskPage>()>> asks = {
      [&] { return queries_->QueryTasks({}); }, [&] { return queries_->ResumableTasks({}); }};
  for (const auto& ask : asks) {
    for (std::uint16_t from = 0; from < kDatabases; ++from) {
      for (std::uint16_t to = 0; to < kDatabases; ++to) {
        for (int moment = 1; from != to && moment < 2 * kDatabases; ++moment) {
          SCOPED_TRACE(testing::Message() << from << " to " << to << " before read " << moment);
          Put(from, Made(0));
          Between([&](int read) {
            if (read == moment) Move(Made(0), from, to);
          });
          ASSERT_OK_AND_ASSIGN(const TaskPage page, ask());
          EXPECT_THAT(page.tasks, SizeIs(1));
          EXPECT_EQ(page.next_page, "");
          Delete(from, Id(0));
          Delete(to, Id(0));
        }
      }
    }
  }
}

// Pages of any size, in both orders, while a task moves at each read.
TEST_F(TargetQueriesTest, KeepTheOrderOfPagesWhileTasksMove) {
  for (const std::uint32_t limit : {1, 2, 5, kTasks}) {
    for (const bool newest_first : {false, true}) {
      SCOPED_TRACE(testing::Message() << "limit " << limit << " newest first " << newest_first);
      std::vector<std::string> expected, seen;
      for (int i = 0; i < kTasks; ++i) {
        const auto at = static_cast<std::uint16_t>(i % kDatabases);
        Put(at, Made(i));
        homes_[Id(i)] = at;
        expected.push_back(Id(newest_first ? kTasks - 1 - i : i));
      }
      Between([&](int read) {
        const int task = newest_first ? kTasks - read : read - 1;
        if (task < 0 || task >= kTasks) return;
        const std::uint16_t from = homes_[Id(task)];
        Move(Made(task), from, static_cast<std::uint16_t>((from + 2) % kDatabases));
      });
      TaskQuery query;
      query.paging.limit = limit;
      query.paging.newest_first = newest_first;
      do {
        ASSERT_OK_AND_ASSIGN(const TaskPage page, queries_->QueryTasks(query));
        ASSERT_LE(page.tasks.size(), limit);
        for (const Task& task : page.tasks) seen.push_back(task.id);
        query.paging.after = page.next_page;
      } while (!query.paging.after.empty());
      EXPECT_EQ(seen, expected);
      for (int i = 0; i < kTasks; ++i) Delete(homes_[Id(i)], Id(i));
    }
  }
}

// Of every eight the first database has five, the second two, the third one, and four in turn have
// the same time: pages end within a time and between two, and the last databases end first.
TEST_F(TargetQueriesTest, PageThroughActivitiesOfSharesThatDiffer) {
  constexpr int kActivities = 40;
  constexpr std::uint16_t kShares[] = {0, 0, 1, 2, 0, 1, 0, 0};
  std::vector<std::string> in_order;
  for (int i = 0; i < kActivities; ++i) {
    Activity activity;
    activity.id = "a" + std::to_string(100 + i);
    activity.task_id = "t";
    activity.created_at = Time(seconds(1000 + i / 4));
    Log(kShares[i % 8], activity);
    in_order.push_back(activity.id);
  }
  for (const std::uint32_t limit : {1, 2, 3, 4, 7, kActivities - 1, kActivities, kActivities + 1}) {
    for (const bool newest_first : {false, true}) {
      SCOPED_TRACE(testing::Message() << "limit " << limit << " newest first " << newest_first);
      std::vector<std::string> expected = in_order, seen;
      if (newest_first) std::reverse(expected.begin(), expected.end());
      ActivityQuery query;
      query.paging.limit = limit;
      query.paging.newest_first = newest_first;
      do {
        ASSERT_OK_AND_ASSIGN(const ActivityPage page, queries_->QueryActivities(query));
        const std::size_t left = expected.size() - seen.size();
        ASSERT_EQ(page.activities.size(), std::min<std::size_t>(limit, left));
        for (const Activity& activity : page.activities) seen.push_back(activity.id);
        query.paging.after = page.next_page;
      } while (!query.paging.after.empty());
      EXPECT_EQ(seen, expected);
    }
  }
}

TEST_F(TargetQueriesTest, ShowWhatBecameOfATaskBehindItsMove) {
  Put(0, Made(0));
  Between([&](int read) {
    if (read != 2) return;
    Move(Made(0), 0, 1);
    Task later = Made(0);
    later.status = TaskStatus::kCompleted;
    later.updated_at = *later.updated_at + seconds(1);
    Put(1, later);
  });
  ASSERT_OK_AND_ASSIGN(const TaskPage page, queries_->QueryTasks({}));
  ASSERT_THAT(page.tasks, SizeIs(1));
  EXPECT_EQ(page.tasks[0].status, TaskStatus::kCompleted);
}

TEST_F(TargetQueriesTest, TheRowAtHomeCountsWhateverItsTime) {
  Task old = Made(0);
  old.updated_at = Time(seconds(1));
  old.error = "at home";
  homes_[old.id] = 1;
  Put(0, Made(0));
  Put(1, old);
  Put(2, Made(0));
  ASSERT_OK_AND_ASSIGN(const TaskPage page, queries_->QueryTasks({}));
  ASSERT_THAT(page.tasks, SizeIs(1));
  EXPECT_EQ(page.tasks[0].error, "at home");
}

TEST_F(TargetQueriesTest, AnotherTimeOfCreationMakesNoSecondTask) {
  Put(0, Made(0));
  Put(1, Made(1));
  Task made_again = Made(0);
  made_again.created_at = made_again.updated_at = Time(seconds(5000));
  Between([&](int read) {
    if (read == 2) Put(0, made_again);
  });
  ASSERT_OK_AND_ASSIGN(const TaskPage page, queries_->QueryTasks({}));
  ASSERT_THAT(page.tasks, SizeIs(2));
  EXPECT_EQ(page.tasks[0].id, Id(1));
  EXPECT_EQ(page.tasks[1], made_again);
}

TEST_F(TargetQueriesTest, ReadAllButTheLastDatabaseAgain) {
  ASSERT_OK(queries_->QueryTasks({}));
  EXPECT_EQ(reads_, 2 * kDatabases - 1);
}

class OneTargetQueriesTest : public TargetQueriesTest {
 protected:
  OneTargetQueriesTest() : TargetQueriesTest(1) {}
};

TEST_F(OneTargetQueriesTest, ReadOnce) {
  ASSERT_OK(queries_->QueryTasks({}));
  EXPECT_EQ(reads_, 1);
}

}  // namespace
}  // namespace taskwal::pipeline
