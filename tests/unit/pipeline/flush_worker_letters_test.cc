#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flush_worker_fixture.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Turn = FlushWorker::Turn;

TEST_F(FlushWorkerTest, SendsPartialOperationsAfterTheLetteredSave) {
  RejectTask("bad");
  const wal::Lsn save = Save("bad");
  const wal::Lsn update = Update("bad", TaskStatus::kRunning);
  Save("good");
  Run();
  const wal::Lsn later = Update("bad", TaskStatus::kCompleted);
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(save, update, later));
  EXPECT_TRUE(IsStored("good"));
  EXPECT_EQ(Stats().dead_lettered, 3u);
}

TEST_F(FlushWorkerTest, WhatFollowsALetterFollowsItThoughLettersAreOffByNow) {
  RejectTask("bad");
  const wal::Lsn save = Save("bad");
  Run();
  options_.dead_letter_enabled = false;
  const wal::Lsn update = Update("bad", TaskStatus::kRunning);
  Save("good");
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(save, update));
  EXPECT_TRUE(IsStored("good"));
}

TEST_F(FlushWorkerTest, AppliesPartialOperationsAgainAfterTheNextSave) {
  RejectTask("t");
  const wal::Lsn save = Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  const wal::Lsn follows = Update("t", TaskStatus::kFailed);
  Save("t");
  Update("t", TaskStatus::kRunning);
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(save, follows));
  EXPECT_EQ(Session()->GetTask("t")->task.status, TaskStatus::kRunning);
}

TEST_F(FlushWorkerTest, AppliesPartialOperationsAgainAfterADeleteOrABatch) {
  RejectTask("t");
  Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  Delete("t");
  Update("t", TaskStatus::kRunning);
  Run();
  EXPECT_THAT(Lettered(), SizeIs(1));
  RejectTask("t");
  Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  SaveAll({"t", "u"});
  Update("t", TaskStatus::kRunning);
  Run();
  EXPECT_THAT(Lettered(), SizeIs(2));
  EXPECT_EQ(Session()->GetTask("t")->task.status, TaskStatus::kRunning);
}

TEST_F(FlushWorkerTest, LettersAWholeBatchForOneBadRow) {
  RejectTask("bad");
  Save("a");
  const wal::Lsn batch = SaveAll({"b", "bad", "c"});
  const wal::Lsn follows = Update("c", TaskStatus::kRunning);
  Save("d");
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(batch, follows));
  EXPECT_FALSE(IsStored("b"));
  EXPECT_TRUE(IsStored("d"));
  EXPECT_EQ(settled(), 4u);
}

TEST_F(FlushWorkerTest, LettersWhatDoesNotDecode) {
  Save("a");
  const wal::Lsn bad = Offer(OperationType::kTaskUpdate, "x", {std::byte{0xff}});
  const wal::Lsn odd = Offer(static_cast<OperationType>(99), "y", {std::byte{1}});
  Save("b");
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(bad, odd));
  EXPECT_TRUE(IsStored("b"));
  EXPECT_EQ(settled(), 4u);
}

TEST_F(FlushWorkerTest, SkipsALetterOfAnEarlierRun) {
  DeadLetter letter;
  letter.wal_id = identity_.wal_id;
  letter.lsns = {1, 1};
  letter.type = OperationType::kTaskUpdate;
  letter.task_id = "a";
  ASSERT_OK(letters_->Add(letter));
  Save("a");
  Save("b");
  Run();
  EXPECT_FALSE(IsStored("a"));
  EXPECT_TRUE(IsStored("b"));
  EXPECT_EQ(Stats().dead_lettered, 1u);
}

TEST_F(FlushWorkerTest, SkipsALetterOfItsFormerIdentity) {
  const Uuid former = Uuid::Make();
  DeadLetter letter;
  letter.wal_id = former;
  letter.lsns = {1, 1};
  letter.type = OperationType::kTaskUpdate;
  ASSERT_OK(letters_->Add(letter));
  identity_.former = {{former, 1}};
  worker_->Begin(identity_, nullptr);
  Save("a");
  Run();
  EXPECT_FALSE(IsStored("a"));
}

TEST_F(FlushWorkerTest, GoesOnWithTheSamePartAfterTroubleInTheMiddle) {
  for (int i = 0; i < 8; ++i) Save("task-" + std::to_string(i));
  RejectTask("task-5");
  backend_.NextApplies({ApplyFault::kNone, ApplyFault::kLostAfter, ApplyFault::kThrows,
                        ApplyFault::kNone, ApplyFault::kLostBefore, ApplyFault::kLostAfter});
  Drain();
  EXPECT_THAT(Lettered(), ElementsAre(6));
  EXPECT_EQ(Stats().applied, 7u);
  EXPECT_EQ(settled(), 8u);
  EXPECT_EQ(Session()->Count()->tasks, 7u);
}

TEST_F(FlushWorkerTest, WaitsWhereALetterCannotBeKept) {
  RejectTask("bad");
  fs_.SetCapacity(1);
  Save("bad");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(settled(), 0u);
  fs_.SetCapacity(1 << 20);
  Drain();
  EXPECT_THAT(Lettered(), ElementsAre(1));
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, WaitsWhereAClearedTaskCannotBeKept) {
  RejectTask("t");
  Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  fs_.FailNth(1, {.call = SimulatedCall::kWrite});
  Save("t");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_FALSE(IsStored("t"));
  Drain();
  EXPECT_TRUE(IsStored("t"));
}

// As a database that is away; a store that is full would open the breaker at once.
TEST_F(FlushWorkerTest, ALetterThatGetsNoDescriptorIsWrittenLater) {
  RejectTask("bad");
  const wal::Lsn save = Save("bad");
  fs_.FailNth(1, {.call = SimulatedCall::kOpenWritable,
                  .path_part = "dead-letters",
                  .status = Status::Overloaded("open: errno 24 (Too many open files)")});
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kClosed);
  EXPECT_THAT(counters_.Snapshot().alarm, HasSubstr("Too many open files"));
  Drain();
  EXPECT_THAT(Lettered(), ElementsAre(save));
}

TEST_F(FlushWorkerTest, LettersNothingMoreOnceTheStoreIsFull) {
  options_.dead_letter_count_max = 2;
  Make();
  backend_.RejectTasks([](const storage::TaskChange& c) { return c.id.starts_with("bad"); });
  for (int i = 0; i < 5; ++i) Save("bad-" + std::to_string(i));
  Save("good");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(letters_->count(), 2u);
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kOpen);
  EXPECT_THAT(Stats().alarm, HasSubstr("dead_letter_count_max=2"));
  EXPECT_EQ(settled(), 2u);
}

TEST_F(FlushWorkerTest, BringsWhatComesBeforeARecordThatMustNotBeLettered) {
  options_.dead_letter_count_max = 0;
  Make();
  for (int i = 0; i < 6; ++i) Save("task-" + std::to_string(i));
  Offer(OperationType::kTaskUpdate, "x", {std::byte{0xff}});
  Save("behind");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_TRUE(IsStored("task-5"));
  EXPECT_EQ(settled(), 6u);
}

TEST_F(FlushWorkerTest, HoldsBackWhatWouldFollowIntoAFullStore) {
  options_.dead_letter_count_max = 1;
  Make();
  RejectTask("bad");
  Save("bad");
  Update("bad", TaskStatus::kRunning);
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(settled(), 1u);
}

}  // namespace
}  // namespace taskwal::pipeline
