// What a call costs its caller at level `process`: no allocation and no system call, but for the id
// that is made and handed out.
#include "tests/support/call_counter.h"

#if TASKWAL_COUNTS_CALLS

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "taskwal/open.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

constexpr int kCalls = 5'000;

Task SomeTask(std::string id) {
  Task task;
  task.id = std::move(id);
  task.dag_id = "nightly-report-2026-11-21";
  task.payload = R"({"source": "orders"})";
  return task;
}

Activity SomeActivity() {
  Activity activity;
  activity.id = "01K9ZQ4T7XAC00000000000001";
  activity.task_id = "01K9ZQ4T7XTA00000000000001";
  activity.action = "node.progress";
  activity.message = "batch of 4,096 rows read from the source and written to staging";
  activity.data = R"({"rows": 4096, "bytes": 1048576})";
  return activity;
}

class AppendCostTest : public ::testing::Test {
 protected:
  void SetUp() override { Open({}); }
  void Open(Options options) {
    options.wal_dir = directory_.File("wal");
    options.durability = Durability::kProcess;
    ASSERT_OK_AND_ASSIGN(storage_, OpenTaskStorage("memory:", options));
  }
  void TearDown() override {
    ASSERT_NE(storage_, nullptr);
    EXPECT_OK(storage_->Close());
  }

  // On a thread of its own, whose first call is not counted.
  CallCount Count(const std::function<bool()>& call) {
    CallCount count;
    std::thread([&] {
      bool ok = call();
      CallCounter counter;
      for (int i = 0; i < kCalls && ok; ++i) ok = call();
      count = counter.Stop();
      EXPECT_TRUE(ok);
    }).join();
    return count;
  }

  static void ExpectFree(const CallCount& count) {
    ASSERT_TRUE(count.counts_system_calls);
    EXPECT_EQ(count.allocations, 0u);
    EXPECT_EQ(count.system_calls, 0u) << "last one: " << count.last_system_call;
  }

  const TempDir directory_;
  std::unique_ptr<TaskStorage> storage_;
};

TEST_F(AppendCostTest, SaveTaskIsFree) {
  const Task task = SomeTask("01K9ZQ4T7XTA00000000000001");
  ExpectFree(Count([&] { return storage_->SaveTask(task).ok(); }));
}

TEST_F(AppendCostTest, SaveTasksIsFree) {
  const std::vector<Task> tasks = {SomeTask("01K9ZQ4T7XTA00000000000001"),
                                   SomeTask("01K9ZQ4T7XTA00000000000002"),
                                   SomeTask("01K9ZQ4T7XTA00000000000003")};
  ExpectFree(Count([&] { return storage_->SaveTasks(tasks).ok(); }));
}

TEST_F(AppendCostTest, UpdateTaskStatusIsFree) {
  ExpectFree(Count([&] {
    return storage_->UpdateTaskStatus("01K9ZQ4T7XTA00000000000001", TaskStatus::kRunning).ok();
  }));
}

TEST_F(AppendCostTest, DeleteTaskIsFree) {
  ExpectFree(Count([&] { return storage_->DeleteTask("01K9ZQ4T7XTA00000000000001").ok(); }));
}

TEST_F(AppendCostTest, DeleteTasksByDagIsFree) {
  ExpectFree(Count([&] { return storage_->DeleteTasksByDag("nightly-report-2026-11-21").ok(); }));
}

TEST_F(AppendCostTest, LogActivityIsFreeWhenItBringsItsId) {
  const Activity activity = SomeActivity();
  ExpectFree(Count([&] { return storage_->LogActivity(activity).ok(); }));
}

// Its 26 characters are more than a std::string holds in itself.
TEST_F(AppendCostTest, LogActivityWithoutAnIdAllocatesTheOneItAnswersAlone) {
  Activity activity = SomeActivity();
  activity.id.clear();
  CallCount count = Count([&] { return storage_->LogActivity(activity).ok(); });
  EXPECT_EQ(count.allocations, static_cast<std::uint64_t>(kCalls));
  count.allocations = 0;
  ExpectFree(count);
}

class LimitedAppendCostTest : public AppendCostTest {
 protected:
  // All limits are there, and none bites.
  void SetUp() override {
    Options options;
    options.rate_limit = 1'000'000'000;
    options.rate_burst = 1'000'000'000;
    options.max_unflushed_records = 1'000'000;
    options.max_unflushed_bytes = 1u << 30;
    options.max_record_bytes = 1u << 20;
    options.monitoring_interval = std::chrono::hours(1);  // a call that looks at the load allocates
    Open(options);
  }
  // Whoever gives budgets back holds the gate's lock for a moment, and may lose the processor in
  // it: then a caller waits, once. What calls do by themselves they do in every round.
  CallCount CountAlone(const std::function<bool()>& call) {
    CallCount count = Count(call);
    for (int i = 0; i < 20 && count.allocations == 0 && count.system_calls > 0; ++i) {
      count = Count(call);
    }
    return count;
  }
};

TEST_F(LimitedAppendCostTest, LogActivityIsFreeWhereNoLimitBites) {
  const Activity activity = SomeActivity();
  ExpectFree(CountAlone([&] { return storage_->LogActivity(activity).ok(); }));
}

TEST_F(LimitedAppendCostTest, SaveTaskIsFreeWhereNoLimitBites) {
  const Task task = SomeTask("01K9ZQ4T7XTA00000000000001");
  ExpectFree(CountAlone([&] { return storage_->SaveTask(task).ok(); }));
}

}  // namespace
}  // namespace taskwal

#endif  // TASKWAL_COUNTS_CALLS
