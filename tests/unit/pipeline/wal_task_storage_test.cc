#include "pipeline/wal_task_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <latch>
#include <thread>
#include <vector>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

Task TaskNamed(std::string id, std::string dag = "d") {
  Task task;
  task.id = std::move(id);
  task.dag_id = std::move(dag);
  return task;
}

Activity ActivityOn(std::string task_id) {
  Activity activity;
  activity.task_id = std::move(task_id);
  activity.action = "go";
  return activity;
}

class WalTaskStorageTest : public ::testing::Test {
 protected:
  WalTaskStorageTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(20);
    options_.breaker_open_time = milliseconds(20);
    options_.shutdown_timeout = seconds(20);
  }

  Result<std::unique_ptr<WalTaskStorage>> TryOpen(OpenReport* report = nullptr) {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    return WalTaskStorage::Open(std::move(setup), report);
  }
  void Open(OpenReport* report = nullptr) {
    auto opened = TryOpen(report);
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  StoredCounts Stored() {
    auto session = database_.data().Connect();
    EXPECT_OK(session);
    auto counts = (*session)->Count();
    EXPECT_OK(counts);
    return *counts;
  }
  void ExpectBalanced(const Stats& stats) {
    EXPECT_EQ(stats.accepted, stats.applied + stats.dead_lettered + stats.lost + stats.pending);
  }

  TempDir dir_;
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
};

TEST_F(WalTaskStorageTest, EveryMutationReachesTheDatabaseInOrder) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("a"), {}));
  ASSERT_OK(storage_->SaveTasks(std::vector{TaskNamed("b"), TaskNamed("c", "e")}, {}));
  ASSERT_OK(storage_->UpdateTaskStatus("b", TaskStatus::kFailed, "why", {}));
  ASSERT_OK(storage_->DeleteTask("a", {}));
  ASSERT_OK(storage_->LogActivity(ActivityOn("b"), {}));
  ASSERT_OK(storage_->DeleteTasksByDag("e", {}));
  ASSERT_OK(storage_->Flush(seconds(20)));
  ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->QueryTasks({}));
  ASSERT_EQ(page.tasks.size(), 1u);
  EXPECT_EQ(page.tasks[0].id, "b");
  EXPECT_EQ(page.tasks[0].status, TaskStatus::kFailed);
  EXPECT_EQ(page.tasks[0].error, "why");
  ASSERT_OK_AND_ASSIGN(const ActivityPage logged, storage_->ActivitiesByTask("b"));
  ASSERT_EQ(logged.activities.size(), 1u);
  EXPECT_THAT(logged.activities[0].id, Not(IsEmpty()));
  EXPECT_OK(storage_->Close());
}

TEST_F(WalTaskStorageTest, LsnsGrowOverRestarts) {
  Open();
  ASSERT_OK_AND_ASSIGN(const Ack first, storage_->SaveTask(TaskNamed("a"), {}));
  ASSERT_OK_AND_ASSIGN(const Ack second, storage_->SaveTask(TaskNamed("a"), {}));
  EXPECT_GT(first.lsn, 0u);
  EXPECT_GT(second.lsn, first.lsn);
  ASSERT_OK(storage_->Close());
  Open();
  ASSERT_OK_AND_ASSIGN(const Ack third, storage_->SaveTask(TaskNamed("a"), {}));
  EXPECT_GT(third.lsn, second.lsn);
}

TEST_F(WalTaskStorageTest, BadCallsAreRefusedAndNothingOfThemIsKept) {
  Open();
  EXPECT_THAT(storage_->SaveTask(TaskNamed(""), {}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->SaveTasks({}, {}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->SaveTasks(std::vector{TaskNamed("a"), TaskNamed("")}, {}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->UpdateTaskStatus("", TaskStatus::kRunning, "", {}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->DeleteTask(std::string(256, 'x'), {}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->DeleteTasksByDag("", {}), StatusIs(StatusCode::kInvalidArgument));
  Activity activity = ActivityOn("t");
  activity.data = "{";
  EXPECT_THAT(storage_->LogActivity(activity, {}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->GetTask(""), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(storage_->GetStats().end_lsn, 0u);
}

TEST_F(WalTaskStorageTest, AnActivityKeepsItsIdOrIsGivenOne) {
  Open();
  Activity activity = ActivityOn("t");
  ASSERT_OK_AND_ASSIGN(const ActivityAck made, storage_->LogActivity(activity, {}));
  EXPECT_EQ(made.id.size(), 26u);
  activity.id = "mine";
  ASSERT_OK_AND_ASSIGN(const ActivityAck given, storage_->LogActivity(activity, {}));
  EXPECT_THAT(given.id, IsEmpty());
  ASSERT_OK(storage_->LogActivity(activity, {}));  // the same id again: a duplicate, no dead letter
  ASSERT_OK(storage_->Flush(seconds(20)));
  EXPECT_EQ(Stored().activities, 2u);
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.duplicates, 1u);
  EXPECT_EQ(stats.applied, 3u);
  ExpectBalanced(stats);
}

TEST_F(WalTaskStorageTest, WaitForAppliedReturnsOnceTheRowIsThere) {
  Open();
  WriteOptions write;
  write.wait = WaitFor::kApplied;
  write.timeout = seconds(20);
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), write));
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, AnAppendedRecordIsWaitedForLater) {
  Open();
  WriteOptions write;
  write.wait = WaitFor::kAppended;
  ASSERT_OK_AND_ASSIGN(const Ack ack, storage_->SaveTask(TaskNamed("t"), write));
  EXPECT_OK(storage_->Wait(ack.lsn, WaitFor::kAcknowledged, Durability::kDisk, seconds(20)));
  EXPECT_GE(storage_->GetStats().durable_lsn, ack.lsn);
  EXPECT_OK(storage_->Wait(ack.lsn, WaitFor::kApplied, Durability::kDisk, seconds(20)));
  EXPECT_OK(storage_->Wait(ack.lsn, WaitFor::kAcknowledged, Durability::kProcess, milliseconds(0)));
  EXPECT_THAT(storage_->Wait(ack.lsn + 1, WaitFor::kAcknowledged, Durability::kDisk, seconds(1)),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(storage_->Wait(0, WaitFor::kAcknowledged, Durability::kDisk, seconds(1)),
              StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(WalTaskStorageTest, AWaitThatEndsEarlyLeavesTheCallInDoubtWithItsLsn) {
  database_.GoAway();
  Open();
  WriteOptions write;
  write.wait = WaitFor::kApplied;
  write.timeout = milliseconds(0);
  const auto saved = storage_->SaveTask(TaskNamed("t"), write);
  ASSERT_THAT(saved, StatusIs(StatusCode::kInDoubt));
  EXPECT_EQ(saved.status().lsn(), 1u);
  std::stop_source stop;
  stop.request_stop();
  write.timeout = hours(1);
  write.stop = stop.get_token();
  EXPECT_THAT(storage_->SaveTask(TaskNamed("t"), write), StatusIs(StatusCode::kInDoubt));
  database_.ComeBack();
}

TEST_F(WalTaskStorageTest, ADatabaseThatIsAwayDelaysNothingButTheFlush) {
  database_.GoAway();
  OpenReport report;
  Open(&report);
  EXPECT_THAT(report.contact, StatusIs(StatusCode::kUnavailable));
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK(storage_->SaveTask(TaskNamed("t" + std::to_string(i)), {}));
  }
  EXPECT_OK(storage_->GetTask("t7"));
  EXPECT_THAT(storage_->Ping(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->QueryTasks({}), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(storage_->Flush(milliseconds(0)), StatusIs(StatusCode::kUnavailable));
  const Stats away = storage_->GetStats();
  EXPECT_EQ(away.pending, 100u);
  EXPECT_FALSE(away.database_available);
  ExpectBalanced(away);
  database_.ComeBack();
  EXPECT_OK(storage_->Flush(seconds(20)));
  EXPECT_EQ(Stored().tasks, 100u);
  EXPECT_OK(storage_->Ping());
  EXPECT_TRUE(storage_->GetStats().database_available);
}

TEST_F(WalTaskStorageTest, AFlushedQuerySeesWhatWasAcknowledgedBefore) {
  options_.flush_interval = seconds(10);
  options_.flush_linger = seconds(10);
  Open();
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK(storage_->SaveTask(TaskNamed("t" + std::to_string(i)), {}));
    Paging paging;
    paging.consistency = Consistency::kFlushed;
    paging.limit = 1000;
    ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->TasksByDag("d", paging));
    ASSERT_EQ(page.tasks.size(), static_cast<std::size_t>(i + 1));
    ASSERT_OK_AND_ASSIGN(const TaskPage pending, storage_->PendingTasks(paging));
    ASSERT_EQ(pending.tasks.size(), static_cast<std::size_t>(i + 1));
  }
}

TEST_F(WalTaskStorageTest, CloseBringsEverythingIntoTheDatabase) {
  Open();
  WriteOptions write;
  write.durability = Durability::kProcess;
  for (int i = 0; i < 500; ++i) {
    ASSERT_OK(storage_->SaveTask(TaskNamed("t" + std::to_string(i)), write));
  }
  EXPECT_OK(storage_->Close());
  EXPECT_EQ(Stored().tasks, 500u);
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.pending, 0u);
  EXPECT_EQ(stats.applied, 500u);
  ExpectBalanced(stats);
}

TEST_F(WalTaskStorageTest, ASecondEndReturnsWhatTheFirstDidAndCallsAreClosed) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
  EXPECT_OK(storage_->Close());
  EXPECT_OK(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)));
  EXPECT_THAT(storage_->SaveTask(TaskNamed("t"), {}), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->LogActivity(ActivityOn("t"), {}), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->GetTask("t"), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->QueryTasks({}), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->CleanupOldTasks({}, {}), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->Ping(), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->Flush(seconds(1)), StatusIs(StatusCode::kClosed));
}

TEST_F(WalTaskStorageTest, ImmediateShutdownKeepsEverythingForTheNextOpen) {
  database_.GoAway();
  Open();
  for (int i = 0; i < 20; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
              StatusIs(StatusCode::kUnavailable, HasSubstr("LSN 1 to 20")));
  storage_.reset();
  database_.ComeBack();
  OpenReport report;
  Open(&report);
  EXPECT_EQ(report.pending.count(), 20u);
  EXPECT_OK(storage_->Flush(seconds(20)));
  EXPECT_EQ(Stored().activities, 20u);
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.accepted, 20u);
  EXPECT_EQ(stats.recovery_operations, 20u);
  ExpectBalanced(stats);
}

TEST_F(WalTaskStorageTest, GracefulShutdownGivesUpAtItsDeadline) {
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(50)),
              StatusIs(StatusCode::kUnavailable, HasSubstr("safe in")));
}

TEST_F(WalTaskStorageTest, ShutdownFromManyThreadsEndsOnceWithOneAnswer) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  std::latch begin(4);
  std::vector<std::jthread> threads;
  std::atomic<int> done{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      begin.arrive_and_wait();
      if (storage_->Shutdown(ShutdownMode::kFlushPending, milliseconds(0)).ok()) ++done;
    });
  }
  threads.clear();
  EXPECT_EQ(done.load(), 4);
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, ItIsClosedByItsDestructor) {
  Open();
  WriteOptions write;
  write.durability = Durability::kMemory;
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), write));
  storage_.reset();
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, RecoveryThatIsOffRefusesALogWithUnflushedRecords) {
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  options_.enable_recovery = false;
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kRejected, HasSubstr("taskwal recover")));
  database_.ComeBack();
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kRejected, HasSubstr("LSN 1 to 1")));
  EXPECT_EQ(Stored().tasks, 0u);  // a refusal brings nothing
  options_.enable_recovery = true;
  Open();
  ASSERT_OK(storage_->Close());
  storage_.reset();
  options_.enable_recovery = false;
  Open();
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, RecoveryIsToldOnceInsideOpen) {
  int told = 0;
  RecoveryEvent event;
  options_.on_recovery = [&](const RecoveryEvent& given) {
    ++told;
    event = given;
  };
  Open();
  EXPECT_EQ(told, 1);
  EXPECT_GT(event.first_pending, event.last_pending);  // nothing pending
  database_.GoAway();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  Open();
  EXPECT_EQ(told, 2);
  EXPECT_EQ(event.last_pending, 1u);
  EXPECT_EQ(event.corrupt, 0u);
  database_.ComeBack();
}

TEST_F(WalTaskStorageTest, FlushesAreTold) {
  std::atomic<std::uint64_t> records{0};
  options_.on_flush = [&](const FlushEvent& event) {
    if (event.status.ok()) records += event.records;
  };
  Open();
  for (int i = 0; i < 10; ++i) ASSERT_OK(storage_->LogActivity(ActivityOn("t"), {}));
  ASSERT_OK(storage_->Close());
  EXPECT_EQ(records.load(), 10u);
}

TEST_F(WalTaskStorageTest, ADatabaseThatHangsAtOpenIsWaitedForNoLongerThanAsked) {
  std::latch let_go(1);
  database_.OnConnect([&] { let_go.wait(); });
  options_.recovery_timeout = milliseconds(10);
  OpenReport report;
  Open(&report);
  EXPECT_THAT(report.contact, StatusIs(StatusCode::kUnavailable, HasSubstr("not answered")));
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));  // meanwhile everything else works
  let_go.count_down();
  EXPECT_OK(storage_->Flush(seconds(20)));
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(WalTaskStorageTest, ASecondOpenOfTheDirectoryIsRefused) {
  Open();
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kUnavailable, HasSubstr(std::to_string(::getpid()))));
}

TEST_F(WalTaskStorageTest, ANewDirectoryIsMadeOnlyWhereThatIsWanted) {
  WalStorageSetup setup;
  setup.options = options_;
  setup.backend = database_.Open();
  setup.create = false;
  EXPECT_THAT(WalTaskStorage::Open(std::move(setup)), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(FileSystem::Real().Stat(options_.wal_dir), StatusIs(StatusCode::kNotFound));
}

TEST_F(WalTaskStorageTest, ACopyIsRefusedByTheDatabaseOfTheOriginal) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
  storage_.reset();
  std::filesystem::copy(options_.wal_dir, dir_.File("copy"),
                        std::filesystem::copy_options::recursive);
  options_.wal_dir = dir_.File("copy");
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kFenced, HasSubstr("taskwal adopt")));
  EXPECT_THAT(TryOpen(), StatusIs(StatusCode::kFenced));  // and so it stays
  options_.wal_dir = dir_.File("wal");
  EXPECT_OK(TryOpen());
}

TEST_F(WalTaskStorageTest, AnotherDatabaseIsRefused) {
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Close());
  storage_.reset();
  SwitchableDatabase other;
  WalStorageSetup setup;
  setup.options = options_;
  setup.backend = other.Open();
  EXPECT_THAT(WalTaskStorage::Open(std::move(setup)),
              StatusIs(StatusCode::kFenced, HasSubstr("--new-db")));
  EXPECT_OK(TryOpen());
}

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

TEST_F(WalTaskStorageTest, ManyThreadsLoseAndDoubleNothing) {
  Open();
  constexpr int kThreads = 4, kCalls = 500;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        WriteOptions write;
        write.durability = t % 2 == 0 ? Durability::kDisk : Durability::kProcess;
        for (int i = 0; i < kCalls; ++i) {
          const std::string id = std::to_string(t) + "-" + std::to_string(i);
          ASSERT_OK(storage_->SaveTask(TaskNamed(id), write));
          ASSERT_OK(storage_->LogActivity(ActivityOn(id), write));
        }
      });
    }
  }
  ExpectBalanced(storage_->GetStats());
  ASSERT_OK(storage_->Close());
  EXPECT_EQ(Stored().tasks, static_cast<std::uint64_t>(kThreads * kCalls));
  EXPECT_EQ(Stored().activities, static_cast<std::uint64_t>(kThreads * kCalls));
}

// A full log refuses before an LSN is given, and counts it.
TEST_F(WalTaskStorageTest, AFullLogOverloadsAfterBlockTimeoutAndKeepsNothingOfTheCall) {
  options_.quota_bytes = 4u << 20;
  options_.segment_bytes = 1u << 20;
  options_.block_timeout = milliseconds(0);
  database_.GoAway();
  Open();
  Activity activity = ActivityOn("t");
  activity.message = std::string(100'000, 'm');
  WriteOptions write;
  write.durability = Durability::kProcess;
  write.timeout = seconds(2);
  Status refused;
  // The quota is looked at now and then: a fast producer passes it by a little.
  for (int i = 0; i < 5000 && refused.ok(); ++i) {
    refused = storage_->LogActivity(activity, write).status();
  }
  ASSERT_THAT(refused, StatusIs(StatusCode::kOverloaded));
  const Stats full = storage_->GetStats();
  EXPECT_EQ(full.dropped, 1u);
  EXPECT_EQ(full.pending, full.end_lsn);
  database_.ComeBack();
  EXPECT_OK(storage_->Flush(seconds(30)));  // service resumes by itself
  write.timeout = seconds(20);
  EXPECT_OK(storage_->LogActivity(activity, write));
  ASSERT_OK(storage_->Close());
  EXPECT_EQ(Stored().activities, full.end_lsn + 1);
}

TEST_F(WalTaskStorageTest, AFailedSyncIsNoAcknowledgement) {
  SimulatedFileSystem fs(7);
  WalStorageSetup setup;
  setup.options = options_;
  setup.options.wal_dir = "/wal";
  setup.backend = database_.Open();
  setup.fs = &fs;
  ASSERT_OK_AND_ASSIGN(auto storage, WalTaskStorage::Open(std::move(setup)));
  ASSERT_OK(storage->SaveTask(TaskNamed("before"), {}));
  // Every file from now on: the fresh segment fails, too.
  fs.FailNth(1, {.call = SimulatedCall::kSync, .sticky = true});
  const auto saved = storage->SaveTask(TaskNamed("t"), {});
  ASSERT_THAT(saved, StatusIs(StatusCode::kInDoubt));
  EXPECT_GT(saved.status().lsn(), 1u);
  EXPECT_FALSE(storage->SaveTask(TaskNamed("u"), {}).ok());
  EXPECT_OK(storage->QueryTasks({}));  // reads go on
  EXPECT_THAT(storage->Close(), StatusIs(StatusCode::kIoError));
}

}  // namespace
}  // namespace taskwal::pipeline
