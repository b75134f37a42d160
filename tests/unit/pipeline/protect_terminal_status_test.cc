// Options::protect_terminal_status through the whole of TaskStorage: what GetTask shows before the
// database has it is what the database then holds.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "taskwal/open.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

constexpr std::chrono::milliseconds kFlushMax{60000};

class ProtectTerminalStatus : public ::testing::TestWithParam<bool> {
 protected:
  void Open(bool protect = true) {
    storage_.reset();
    Options options;
    options.wal_dir = dir_.File("wal");
    options.wal_enabled = GetParam();
    options.durability = Durability::kProcess;
    options.protect_terminal_status = protect;
    // Nothing reaches the database before Flush asks for it.
    options.flush_interval = options.flush_linger = std::chrono::minutes(1);
    ASSERT_OK_AND_ASSIGN(storage_, OpenTaskStorage("sqlite://" + dir_.File("db"), options));
  }
  void SetUp() override { Open(); }

  static WriteOptions Reset() {
    WriteOptions options;
    options.reset = true;
    return options;
  }
  void Save(TaskStatus status, const WriteOptions& options = {}) {
    Task task;
    task.id = "t";
    task.status = status;
    ASSERT_OK(storage_->SaveTask(task, options));
  }
  void Update(TaskStatus status, const WriteOptions& options = {}) {
    ASSERT_OK(storage_->UpdateTaskStatus("t", status, "", options));
  }
  // In the log, and then in the database.
  void ExpectStatus(TaskStatus status) {
    ASSERT_OK_AND_ASSIGN(const Task logged, storage_->GetTask("t"));
    EXPECT_EQ(logged.status, status);
    ASSERT_OK(storage_->Flush(kFlushMax));
    ASSERT_OK_AND_ASSIGN(const TaskPage stored, storage_->QueryTasks({}));
    ASSERT_EQ(stored.tasks.size(), 1u);
    EXPECT_EQ(stored.tasks[0], logged);
  }

  TempDir dir_;
  std::unique_ptr<TaskStorage> storage_;
};
INSTANTIATE_TEST_SUITE_P(Storages, ProtectTerminalStatus, ::testing::Bool(), [](const auto& test) {
  return test.param ? "WithLog" : "Direct";
});

TEST_P(ProtectTerminalStatus, ALateUpdateInTheSameBatchReopensNothing) {
  Save(TaskStatus::kPending);
  Update(TaskStatus::kRunning);
  Update(TaskStatus::kCompleted);
  Update(TaskStatus::kRunning);
  ExpectStatus(TaskStatus::kCompleted);
}

TEST_P(ProtectTerminalStatus, ALateUpdateOfAStoredTaskReopensNothing) {
  Save(TaskStatus::kFailed);
  ExpectStatus(TaskStatus::kFailed);
  Update(TaskStatus::kPending);
  ExpectStatus(TaskStatus::kFailed);
  Update(TaskStatus::kCancelled);
  ExpectStatus(TaskStatus::kCancelled);
}

TEST_P(ProtectTerminalStatus, ALateSaveReopensNothing) {
  Save(TaskStatus::kCompleted);
  Save(TaskStatus::kRunning);
  ExpectStatus(TaskStatus::kCompleted);
  Save(TaskStatus::kRunning);
  Task batch;
  batch.id = "t";
  ASSERT_OK(storage_->SaveTasks(std::span(&batch, 1)));
  ExpectStatus(TaskStatus::kCompleted);
}

TEST_P(ProtectTerminalStatus, AResetReopens) {
  Save(TaskStatus::kCompleted);
  Update(TaskStatus::kPending, Reset());
  ExpectStatus(TaskStatus::kPending);
  Update(TaskStatus::kFailed);
  ExpectStatus(TaskStatus::kFailed);
  Save(TaskStatus::kRunning, Reset());
  ExpectStatus(TaskStatus::kRunning);
}

TEST_P(ProtectTerminalStatus, ADeletedTaskMayBeginAgain) {
  Save(TaskStatus::kCompleted);
  ASSERT_OK(storage_->DeleteTask("t"));
  Save(TaskStatus::kPending);
  ExpectStatus(TaskStatus::kPending);
}

TEST_P(ProtectTerminalStatus, IsOffByDefault) {
  EXPECT_FALSE(Options().protect_terminal_status);
  Open(false);
  Save(TaskStatus::kCompleted);
  Update(TaskStatus::kRunning);
  ExpectStatus(TaskStatus::kRunning);
}

// Decided when the call is made: a replay by somebody without the option comes to the same.
TEST(ProtectTerminalStatusReplay, HoldsWhereTheOptionIsGone) {
  TempDir dir;
  Options options;
  options.wal_dir = dir.File("wal");
  options.durability = Durability::kProcess;
  options.protect_terminal_status = true;
  options.recovery_timeout = std::chrono::milliseconds(0);
  // Not there yet, and so the log keeps all.
  const std::string dsn = "sqlite://" + dir.File("later/db");
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn, options));
  Task task;
  task.id = "t";
  task.status = TaskStatus::kCompleted;
  ASSERT_OK(storage->SaveTask(task));
  ASSERT_OK(storage->UpdateTaskStatus("t", TaskStatus::kRunning));
  EXPECT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}), StatusIs(StatusCode::kUnavailable));
  storage.reset();
  options.protect_terminal_status = false;
  std::filesystem::create_directory(dir.File("later"));
  ASSERT_OK_AND_ASSIGN(storage, OpenTaskStorage(dsn, options));
  ASSERT_OK(storage->Flush(kFlushMax));
  ASSERT_OK_AND_ASSIGN(const Task stored, storage->GetTask("t"));
  EXPECT_EQ(stored.status, TaskStatus::kCompleted);
}

}  // namespace
}  // namespace taskwal
