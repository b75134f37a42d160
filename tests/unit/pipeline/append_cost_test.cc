// What a call costs its caller at level `process`: no allocation and no system call.
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

class AppendCostTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Options options;
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
  Task task;
  task.id = "01K9ZQ4T7XTA00000000000001";
  task.dag_id = "nightly-report-2026-11-21";
  task.payload = R"({"source": "orders"})";
  ExpectFree(Count([&] { return storage_->SaveTask(task).ok(); }));
}

TEST_F(AppendCostTest, UpdateTaskStatusIsFree) {
  ExpectFree(Count([&] {
    return storage_->UpdateTaskStatus("01K9ZQ4T7XTA00000000000001", TaskStatus::kRunning).ok();
  }));
}

TEST_F(AppendCostTest, LogActivityIsFreeWhenItBringsItsId) {
  Activity activity;
  activity.id = "01K9ZQ4T7XAC00000000000001";
  activity.task_id = "01K9ZQ4T7XTA00000000000001";
  activity.action = "node.progress";
  activity.message = "batch of 4,096 rows read from the source and written to staging";
  activity.data = R"({"rows": 4096, "bytes": 1048576})";
  ExpectFree(Count([&] { return storage_->LogActivity(activity).ok(); }));
}

}  // namespace
}  // namespace taskwal

#endif  // TASKWAL_COUNTS_CALLS
