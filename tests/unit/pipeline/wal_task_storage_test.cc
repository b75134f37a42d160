#include "pipeline/wal_task_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/simulated_file_system.h"
#include "tests/unit/pipeline/wal_task_storage_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

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

TEST_F(WalTaskStorageTest, ACallOfMoreTasksThanOneTransactionTakesIsRefused) {
  Open();
  std::vector<Task> tasks(9);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    tasks[i].id = "t" + std::to_string(i);
    tasks[i].payload = std::string(15u << 20, 'p');
    tasks[i].payload->front() = tasks[i].payload->back() = '"';
  }
  EXPECT_THAT(storage_->SaveTasks(tasks, {}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("save fewer at once")));
  tasks.resize(1);
  EXPECT_OK(storage_->SaveTasks(tasks, {}));
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
