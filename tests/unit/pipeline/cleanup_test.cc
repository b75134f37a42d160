// Clean-up by age, and the tasks a crash interrupted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/pipeline/wal_task_storage_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

TEST_F(WalTaskStorageTest, CleanupTakesOldTerminalTasksInBatchesAndSkipsUnflushedOnes) {
  Open();
  const Time old = Clock::Real().WallNow() - hours(48);
  for (int i = 0; i < 1100; ++i) {
    Task task = TaskNamed("t" + std::to_string(i));
    task.status = i % 11 == 0 ? TaskStatus::kRunning : TaskStatus::kCompleted;
    task.updated_at = old;
    WriteOptions write;
    write.durability = Durability::kProcess;
    ASSERT_OK(storage_->SaveTask(task, write));
  }
  ASSERT_OK(storage_->SaveTask(TaskNamed("young"), {}));
  ASSERT_OK(storage_->Flush(seconds(20)));
  ASSERT_OK_AND_ASSIGN(const std::uint64_t none,
                       storage_->CleanupOldTasks(old - hours(1), {TaskStatus::kCompleted}));
  EXPECT_EQ(none, 0u);
  EXPECT_THAT(storage_->CleanupOldTasks(old + hours(1), {TaskStatus::kRunning}),
              StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const std::uint64_t gone, storage_->CleanupOldTasks(old + hours(1), {}));
  EXPECT_EQ(gone, 1000u);
  EXPECT_EQ(Stored().tasks, 101u);
}

TEST_F(WalTaskStorageTest, CleanupLeavesTasksWithUnflushedRecords) {
  // A batch is due by time alone, and that is far away: what is written stays in the log.
  options_.flush_interval = hours(1);
  options_.flush_linger = hours(1);
  Open();
  const Time old = Clock::Real().WallNow() - hours(48);
  for (const char* id : {"idle", "busy"}) {
    Task task = TaskNamed(id);
    task.status = TaskStatus::kCompleted;
    task.updated_at = old;
    ASSERT_OK(storage_->SaveTask(task, {}));
  }
  ASSERT_OK(storage_->Flush(seconds(20)));
  ASSERT_OK(storage_->UpdateTaskStatus("busy", TaskStatus::kRunning, "", {}));
  ASSERT_OK_AND_ASSIGN(const std::uint64_t gone, storage_->CleanupOldTasks(old + hours(1), {}));
  EXPECT_EQ(gone, 1u);
  ASSERT_OK_AND_ASSIGN(const Task busy, storage_->GetTask("busy"));
  EXPECT_EQ(busy.status, TaskStatus::kRunning);
}

TEST_F(WalTaskStorageTest, CleanupOfActivitiesGoesByTheirAge) {
  Open();
  Activity activity = ActivityOn("t");
  const Time now = Clock::Real().WallNow();
  for (int i = 0; i < 700; ++i) {
    activity.created_at = now - hours(i < 600 ? 48 : 1);
    ASSERT_OK(storage_->LogActivity(activity, {}));
  }
  ASSERT_OK(storage_->Flush(seconds(20)));
  ASSERT_OK_AND_ASSIGN(const std::uint64_t gone, storage_->CleanupOldActivityLogs(now - hours(24)));
  EXPECT_EQ(gone, 600u);
  EXPECT_EQ(Stored().activities, 100u);
}

TEST_F(WalTaskStorageTest, ResumableTasksAreThoseACrashInterrupted) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("running"), {}));
  ASSERT_OK(storage_->UpdateTaskStatus("running", TaskStatus::kRunning, "", {}));
  ASSERT_OK(storage_->SaveTask(TaskNamed("pending"), {}));
  Paging paging;
  paging.consistency = Consistency::kFlushed;
  ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->ResumableTasks(paging));
  ASSERT_EQ(page.tasks.size(), 1u);
  EXPECT_EQ(page.tasks[0].id, "running");
}

}  // namespace
}  // namespace taskwal::pipeline
