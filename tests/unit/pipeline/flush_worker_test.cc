#include "pipeline/flush/flush_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flush_worker_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;
using storage::OperationType;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Turn = FlushWorker::Turn;

TEST_F(FlushWorkerTest, HasNothingToDoWhileIdle) {
  EXPECT_EQ(Step(), Turn::kIdle);
  EXPECT_EQ(backend_.connects(), 0u);
}

TEST_F(FlushWorkerTest, CommitsRowsAndWatermarksTogether) {
  for (const char* id : {"a", "b", "c", "d"}) Save(id);
  Log("l1");
  EXPECT_EQ(Run(), Turn::kIdle);
  ASSERT_THAT(backend_.committed(), SizeIs(1));
  const auto batch = backend_.committed()[0];
  EXPECT_EQ(batch.tasks, 4u);
  EXPECT_EQ(batch.activities, 1u);
  EXPECT_THAT(batch.moves, Each(Field(&storage::WatermarkMove::expected, 0u)));
  EXPECT_EQ(settled(), 5u);
  EXPECT_TRUE(IsStored("d"));
  EXPECT_EQ(Stats().applied, 5u);
  EXPECT_EQ(Stats().flush_operations, 1u);
  EXPECT_EQ(Stats().rows_written, 5u);
  EXPECT_TRUE(Stats().database_available);
}

TEST_F(FlushWorkerTest, ComposesTheOperationsOfATask) {
  Save("a");
  Update("a", TaskStatus::kRunning);
  Update("a", TaskStatus::kCompleted);
  Run();
  EXPECT_EQ(backend_.committed()[0].tasks, 1u);
  EXPECT_EQ(Session()->GetTask("a")->task.status, TaskStatus::kCompleted);
  EXPECT_EQ(Session()->GetTask("a")->origin.lsn, 3u);
}

TEST_F(FlushWorkerTest, TellsOfEachBatch) {
  Save("a");
  Save("b");
  Run();
  ASSERT_THAT(events_, SizeIs(1));
  EXPECT_OK(events_[0].status);
  EXPECT_EQ(events_[0].records, 2u);
  EXPECT_EQ(events_[0].first_lsn, 1u);
  EXPECT_EQ(events_[0].last_lsn, 2u);
}

TEST_F(FlushWorkerTest, GoesOnWhenACallbackThrows) {
  options_.on_flush = [](const FlushEvent&) { throw 1; };
  Save("a");
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_EQ(Stats().flush_errors, 0u);
}

TEST_F(FlushWorkerTest, RaisesTheClockWhenItConnects) {
  Save("a");
  Run();
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("b");
  Drain();
  EXPECT_EQ(stamp_, 1001u);
}

TEST_F(FlushWorkerTest, AppliesABarrierAloneAndMovesEveryPartition) {
  Save("a", "dag");
  Save("b", "other");
  const wal::Lsn barrier = Delete("dag", OperationType::kDagDelete);
  Save("c", "dag");
  Run();
  ASSERT_THAT(backend_.committed(), SizeIs(3));
  const auto batch = backend_.committed()[1];
  EXPECT_EQ(batch.dag_deletes, 1u);
  EXPECT_EQ(batch.tasks, 0u);
  EXPECT_THAT(batch.moves, SizeIs(kPartitions));
  EXPECT_THAT(batch.moves, Each(Field(&storage::WatermarkMove::to, barrier)));
  EXPECT_FALSE(IsStored("a"));
  EXPECT_TRUE(IsStored("b"));
  EXPECT_TRUE(IsStored("c"));
}

TEST_F(FlushWorkerTest, CountsActivitiesThatComeTwice) {
  backend_.MindActivityIds();
  Log("x");
  Log("x");
  Run();
  EXPECT_EQ(Stats().duplicates, 1u);
  Log("x");
  Log("y");
  Run();
  EXPECT_EQ(Stats().duplicates, 2u);
  EXPECT_EQ(Stats().applied, 4u);
  EXPECT_TRUE(backend_.committed().back().idempotent);
  EXPECT_THAT(Lettered(), IsEmpty());
  Log("z");
  Run();
  EXPECT_FALSE(backend_.committed().back().idempotent);
}

TEST_F(FlushWorkerTest, ReplaysInIdempotentForm) {
  identity_.replayed_until = 2;
  worker_->Begin(identity_, nullptr);
  Log("x");
  Run();
  Log("y");
  Log("z");
  Run();
  Log("last");
  Run();
  std::vector<bool> idempotent;
  for (const auto& batch : backend_.committed()) idempotent.push_back(batch.idempotent);
  EXPECT_THAT(idempotent, ElementsAre(true, true, false));
}

TEST_F(FlushWorkerTest, CountsWhatItDidAndWhatWentWrong) {
  Save("a");
  Save("b");
  Run();
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kThrows, ApplyFault::kThrowsOddly});
  Save("c");
  Drain();
  const WorkerSnapshot worker = counters_.workers()[0];
  EXPECT_EQ(worker.batches, 2u);
  EXPECT_EQ(worker.records, 3u);
  EXPECT_EQ(worker.failures, 3u);
  EXPECT_EQ(worker.exceptions, 2u);
  EXPECT_EQ(worker.in_hand, 0u);
  EXPECT_EQ(worker.flush_time.count, 2u);
}

TEST_F(FlushWorkerTest, CountsItsTimeInDatabaseCalls) {
  backend_.OnApply([this](const storage::Batch&) { clock_.Advance(seconds(2)); });
  Save("a");
  Run();
  EXPECT_DOUBLE_EQ(counters_.workers()[0].busy_seconds, 2);
}

TEST_F(FlushWorkerTest, TellsTheErrorHookOfWhatWasThrown) {
  std::vector<ErrorEvent> errors;
  options_.on_error = [&](const ErrorEvent& event) { errors.push_back(event); };
  backend_.NextApplies({ApplyFault::kThrows});
  Save("a");
  Drain();
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(errors[0].component, "worker");
  EXPECT_EQ(errors[0].database, "scripted:");
  EXPECT_THAT(errors[0].message, HasSubstr("the driver threw"));
}

TEST_F(FlushWorkerTest, RetiresOnlyWithEmptyHands) {
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("a");
  Run();
  EXPECT_FALSE(worker_->Retire());
  Drain();
  EXPECT_TRUE(worker_->Retire());
}

}  // namespace
}  // namespace taskwal::pipeline
