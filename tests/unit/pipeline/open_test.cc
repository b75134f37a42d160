#include "taskwal/open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "base/file_system.h"
#include "base/logging.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class OpenTest : public ::testing::Test {
 protected:
  OpenTest() {
    options_.wal_dir = dir_.File("a/b/wal");
    dsn_ = "sqlite://" + dir_.File("t.db");
  }

  TempDir dir_;
  Options options_;
  std::string dsn_;
};

TEST_F(OpenTest, MakesTheDirectoryWithItsParentsAndWorksOnSqlite) {
  Task task;
  task.id = "t";
  {
    ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn_, options_));
    ASSERT_OK(storage->SaveTask(task));
    ASSERT_OK(storage->Close());
  }
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn_, options_));
  EXPECT_OK(storage->GetTask("t"));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage->Count());
  EXPECT_EQ(counts.tasks, 1u);
}

TEST_F(OpenTest, MemoryForgetsAndTheLogBringsBack) {
  Task task;
  task.id = "t";
  {
    ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage("memory:", options_));
    ASSERT_OK(storage->SaveTask(task));
    ASSERT_OK(storage->Close());
  }
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage("memory:", options_));
  ASSERT_OK(storage->Flush(std::chrono::seconds(20)));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage->Count());
  EXPECT_EQ(counts.tasks, 1u);
}

TEST_F(OpenTest, RefusesBadOptionsAndUnknownDatabases) {
  EXPECT_THAT(OpenTaskStorage("oracle://x", options_), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(OpenTaskStorage("", options_), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(FileSystem::Real().Stat(options_.wal_dir), StatusIs(StatusCode::kNotFound));
  options_.sync_lanes = 0;
  EXPECT_THAT(OpenTaskStorage(dsn_, options_),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("sync_lanes")));
}

TEST_F(OpenTest, NeverShowsAPassword) {
  for (const char* dsn : {"oracle://user:hunter2@localhost/db",
                          "mysql://user:hunter2@localhost/db?no_such_parameter=1"}) {
    const auto opened = OpenTaskStorage(dsn, options_);
    ASSERT_FALSE(opened.ok());
    EXPECT_THAT(opened.status().message(), Not(HasSubstr("hunter2")));
  }
}

TEST_F(OpenTest, SaysWhereTheDirectoryIsNone) {
  options_.wal_dir = dir_.File("file");
  ASSERT_OK(WriteFileAtomically(FileSystem::Real(), options_.wal_dir, "x"));
  EXPECT_THAT(OpenTaskStorage(dsn_, options_),
              StatusIs(StatusCode::kIoError, HasSubstr(options_.wal_dir)));
}

TEST_F(OpenTest, TheFactoryOpensByKind) {
  const TaskStorageFactory factory(options_);
  {
    ASSERT_OK_AND_ASSIGN(auto memory, factory.CreateMemoryStorage());
    EXPECT_OK(memory->Ping());
  }
  EXPECT_THAT(factory.CreateSqlStorage("memory:"), StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(auto sql, factory.CreateSqlStorage(dsn_));
  EXPECT_OK(sql->Ping());
}

TEST_F(OpenTest, LogsToTheGivenLoggerAMetricsLinePerInterval) {
  const auto sink = std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(1000);
  options_.logger = std::make_shared<spdlog::logger>("test", sink);
  options_.metrics_interval = std::chrono::milliseconds(1);
  const auto has_logged = [&](const std::string& what) {
    const auto lines = sink->last_formatted();
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(what) != std::string::npos;
    });
  };
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage("memory:", options_));
  EXPECT_TRUE(has_logged("log_open"));
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!has_logged("metrics accepted=") && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(has_logged("metrics accepted="));
  // The last one given is in force, until its storage goes.
  options_.wal_dir += "-2";
  options_.logger = std::make_shared<spdlog::logger>("second", sink);
  spdlog::logger& first = Logger();
  ASSERT_OK_AND_ASSIGN(auto second, OpenTaskStorage("memory:", options_));
  EXPECT_EQ(Logger().name(), "second");
  second.reset();
  EXPECT_EQ(&Logger(), &first);
  storage.reset();
  EXPECT_NE(&Logger(), &first);
}

class DirectTest : public OpenTest {
 protected:
  DirectTest() { options_.wal_enabled = false; }
};

TEST_F(DirectTest, EveryCallIsInTheDatabaseWhenItReturns) {
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn_, options_));
  Task task;
  task.id = "t";
  task.dag_id = "d";
  ASSERT_OK_AND_ASSIGN(const Ack saved, storage->SaveTask(task));
  EXPECT_GT(saved.lsn, 0u);
  ASSERT_OK_AND_ASSIGN(const Task stored, storage->GetTask("t"));
  ASSERT_OK(storage->SaveTask(task));
  ASSERT_OK_AND_ASSIGN(const Ack updated, storage->UpdateTaskStatus("t", TaskStatus::kRunning));
  EXPECT_GT(updated.lsn, saved.lsn);
  ASSERT_OK_AND_ASSIGN(const Task running, storage->GetTask("t"));
  EXPECT_EQ(running.status, TaskStatus::kRunning);
  EXPECT_EQ(running.created_at, stored.created_at);
  EXPECT_TRUE(running.started_at.has_value());
  Activity activity;
  activity.task_id = "t";
  ASSERT_OK_AND_ASSIGN(const ActivityAck logged, storage->LogActivity(activity));
  EXPECT_EQ(logged.id.size(), 26u);
  activity.id = logged.id;
  ASSERT_OK(storage->LogActivity(activity));  // a duplicate changes nothing
  ASSERT_OK(storage->SaveTasks(std::vector{task, task}));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage->Count());
  EXPECT_EQ(counts.tasks, 1u);
  EXPECT_EQ(counts.activities, 1u);
  ASSERT_OK(storage->DeleteTasksByDag("d"));
  EXPECT_THAT(storage->GetTask("t"), StatusIs(StatusCode::kNotFound));
  const Stats stats = storage->GetStats();
  EXPECT_EQ(stats.accepted, 7u);
  EXPECT_EQ(stats.applied, 7u);
  EXPECT_EQ(stats.duplicates, 1u);
  EXPECT_THAT(FileSystem::Real().Stat(options_.wal_dir), StatusIs(StatusCode::kNotFound));
}

TEST_F(DirectTest, LsnsGrowOverRestarts) {
  Task task;
  task.id = "t";
  std::uint64_t before = 0;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn_, options_));
    task.dag_id = std::to_string(i);
    ASSERT_OK_AND_ASSIGN(const Ack ack, storage->SaveTask(task));
    EXPECT_GT(ack.lsn, before);
    before = ack.lsn;
    EXPECT_OK(storage->Wait(ack.lsn, WaitFor::kApplied, Durability::kDisk, {}));
    ASSERT_OK_AND_ASSIGN(const Task stored, storage->GetTask("t"));
    EXPECT_EQ(stored.dag_id, task.dag_id);
  }
}

TEST_F(DirectTest, ChecksCallsAlikeAndEndsOnce) {
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn_, options_));
  EXPECT_THAT(storage->SaveTask({}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage->SaveTasks({}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage->DeleteTask(""), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage->CleanupOldTasks({}, {TaskStatus::kPending}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage->Wait(1ull << 62, WaitFor::kApplied, Durability::kDisk, {}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_OK(storage->Flush(std::chrono::seconds(0)));
  EXPECT_OK(storage->Close());
  EXPECT_OK(storage->Close());
  EXPECT_THAT(storage->DeleteTask("t"), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage->QueryTasks({}), StatusIs(StatusCode::kClosed));
}

TEST_F(DirectTest, NeedsTheDatabase) {
  EXPECT_THAT(OpenTaskStorage("sqlite://" + dir_.File("absent/t.db"), options_),
              StatusIs(StatusCode::kUnavailable));
}

}  // namespace
}  // namespace taskwal
