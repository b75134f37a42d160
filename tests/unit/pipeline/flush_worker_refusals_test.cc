#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <set>
#include <stop_token>
#include <string>
#include <thread>

#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flush_worker_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using storage::OperationType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Turn = FlushWorker::Turn;

TEST_F(FlushWorkerTest, LettersTheOneRowThatIsRefused) {
  for (int i = 0; i < 20; ++i) Save("task-" + std::to_string(i));
  RejectTask("task-13");
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(14));
  EXPECT_EQ(Stats().applied, 19u);
  EXPECT_EQ(Stats().dead_lettered, 1u);
  EXPECT_EQ(settled(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(IsStored("task-" + std::to_string(i)), i != 13) << i;
}

TEST_F(FlushWorkerTest, SaysInTheLetterWhatHappened) {
  RejectTask("bad");
  const Time first = clock_.WallNow();
  Save("bad");
  Run();
  EXPECT_OK(letters_->ForEach([&](const DeadLetter& letter) {
    EXPECT_EQ(letter.wal_id, identity_.wal_id);
    EXPECT_EQ(letter.stamp, 1001u);
    EXPECT_EQ(letter.type, OperationType::kTaskUpdate);
    EXPECT_EQ(letter.task_id, "bad");
    EXPECT_EQ(letter.error, "scripted: constraint failed (SQL 4711)");
    EXPECT_EQ(letter.sql_code, "SQL 4711");
    EXPECT_EQ(letter.attempts, options_.max_flush_retries + 1);
    EXPECT_EQ(letter.first_failed, first);
    EXPECT_EQ(letter.backend, "scripted:");
    EXPECT_TRUE(storage::Decode(letter.type, letter.body).ok());
    return true;
  }));
}

TEST_F(FlushWorkerTest, TriesASingleRefusedRowAgainAsOftenAsTold) {
  RejectTask("bad");
  Save("bad");
  Run();
  EXPECT_EQ(backend_.applies(), options_.max_flush_retries + 2u);  // the last moves the watermark
  EXPECT_EQ(Stats().flush_errors, options_.max_flush_retries + 1u);
}

TEST_F(FlushWorkerTest, TheRetriesOfARefusedRowFollowTheBackoff) {
  options_.initial_backoff = seconds(2);
  options_.max_flush_retries = 3;
  options_.health_check_interval = hours(10);
  Make();
  RejectTask("bad");
  Save("bad");
  for (const int pause : {2, 4, 8}) {
    EXPECT_EQ(RunNow(), Turn::kIdle);
    const std::uint64_t tries = backend_.applies();
    EXPECT_EQ(worker_->NextTurnIn(), seconds(pause));
    clock_.Advance(seconds(pause) - milliseconds(1));
    EXPECT_EQ(Step(), Turn::kIdle);
    EXPECT_EQ(backend_.applies(), tries);
    EXPECT_THAT(Lettered(), IsEmpty());
    clock_.Advance(milliseconds(1));
  }
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));  // the fourth failure is final
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, ABackoffOfZeroTriesARefusedRowAgainAtOnce) {
  options_.initial_backoff = options_.max_backoff = milliseconds(0);
  Make();
  RejectTask("bad");
  Save("bad");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));
}

TEST_F(FlushWorkerTest, OnlyItsOwnPartitionWaitsForARefusedRow) {
  const std::string other = IdElsewhere("bad", "other");
  const std::string later = IdElsewhere("bad", "later");
  RejectTask("bad");
  Save("before");
  Save("bad");
  Save(other);
  Update("bad", TaskStatus::kRunning);
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_TRUE(IsStored("before"));
  EXPECT_TRUE(IsStored(other));
  EXPECT_EQ(settled(), 1u);
  EXPECT_EQ(counters_.workers()[0].in_hand, 2u);
  Save(later);  // of another batch
  Update("bad", TaskStatus::kFailed);
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_TRUE(IsStored(later));
  EXPECT_EQ(settled(), 1u);
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(2, 4, 6));
  EXPECT_EQ(settled(), 6u);
}

TEST_F(FlushWorkerTest, EveryPartitionOfARefusedRowRestsForItself) {
  backend_.RejectTasks(
      [](const storage::TaskChange& change) { return change.id.starts_with("b"); });
  for (int i = 0; i < 5; ++i) Save("b" + std::to_string(i));
  Save("fine");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_TRUE(IsStored("fine"));
  const Monotonic start = clock_.Now();
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), SizeIs(5));
  const auto each = options_.initial_backoff * 3;
  std::set<std::uint32_t> partitions;
  for (int i = 0; i < 5; ++i) {
    partitions.insert(wal::PartitionOf(storage::KeyOf("b" + std::to_string(i)), kPartitions));
  }
  ASSERT_GT(partitions.size(), 1u);
  // As many after one another as the fullest partition has.
  EXPECT_LE(clock_.Now() - start, each * (5 - static_cast<int>(partitions.size()) + 1));
}

TEST_F(FlushWorkerTest, ARefusedBarrierRestsToo) {
  backend_.RejectTasks([](const storage::TaskChange& change) { return change.id == "bad"; });
  SaveAll({"fine", "bad"});
  Save("behind");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_EQ(worker_->NextTurnIn(), options_.initial_backoff);
  EXPECT_FALSE(IsStored("behind"));
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));
  EXPECT_TRUE(IsStored("behind"));
}

TEST_F(FlushWorkerTest, ARefusedRowRestsNoLongerThanFiveSecondsWhileSomebodyWaits) {
  options_.initial_backoff = options_.max_backoff = hours(1);
  options_.max_flush_retries = 1;
  options_.health_check_interval = hours(10);
  Make();
  RejectTask("bad");
  Save("bad");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  ASSERT_EQ(worker_->NextTurnIn(), hours(1));
  clock_.Advance(kUrgentRetry - milliseconds(1));
  EXPECT_EQ(RunNow(), Turn::kIdle);
  ASSERT_THAT(Lettered(), IsEmpty());
  std::stop_source stop;
  std::jthread waiter([&] {
    queues_->WaitSettled(1, {Monotonic::max(), stop.get_token()}, clock_);
  });
  while (queues_->awaited_lsn() == 0) std::this_thread::yield();
  EXPECT_EQ(worker_->NextTurnIn(), milliseconds(1));
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));
}

TEST_F(FlushWorkerTest, ARetiredWorkerLeavesToOthersWhatRests) {
  RejectTask("bad");
  Save("bad");
  Update("bad", TaskStatus::kRunning);
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_FALSE(queues_->DueAt(0, clock_.Now()));
  EXPECT_TRUE(worker_->Retire());
  EXPECT_EQ(counters_.workers()[0].in_hand, 0u);
  EXPECT_TRUE(queues_->DueAt(0, clock_.Now()));
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1, 2));
}

TEST_F(FlushWorkerTest, AppliesWhatIsRefusedForAWhileOnly) {
  int refusals = 2;
  backend_.RejectTasks([&](const storage::TaskChange&) { return refusals-- > 0; });
  Save("a");
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_TRUE(IsStored("a"));
  EXPECT_THAT(Lettered(), IsEmpty());
}

TEST_F(FlushWorkerTest, LettersTheActivityThatIsRefused) {
  for (int i = 0; i < 9; ++i) Log("log-" + std::to_string(i), "t" + std::to_string(i));
  backend_.RejectActivities([](const Activity& activity) { return activity.id == "log-4"; });
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(5));
  EXPECT_EQ(Session()->Count()->activities, 8u);
}

// Without pauses the letters are the first ten of the log.
TEST_F(FlushWorkerTest, LettersNoMoreThanPoisonCouldExplain) {
  options_.batch_size = 100;
  options_.initial_backoff = milliseconds(0);
  Make();
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  for (int i = 0; i < 100; ++i) Save("task-" + std::to_string(i));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(letters_->count(), 10u);
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kOpen);
  EXPECT_THAT(Stats().alarm, HasSubstr("constraint failed"));
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(options_.breaker_open_time);
    EXPECT_EQ(Run(), Turn::kPaused);
  }
  EXPECT_EQ(letters_->count(), 10u);
  EXPECT_EQ(settled(), 10u);
}

TEST_F(FlushWorkerTest, LettersNoMoreThoughEachPartitionRestsForItself) {
  options_.batch_size = 100;
  Make();
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  for (int i = 0; i < 100; ++i) Save("task-" + std::to_string(i));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Run(), Turn::kPaused);
    clock_.Advance(options_.breaker_open_time);
  }
  EXPECT_EQ(letters_->count(), 10u);
  backend_.RejectTasks(nullptr);
  Drain();
  EXPECT_EQ(letters_->count(), 10u);
  EXPECT_EQ(settled(), 100u);
  EXPECT_EQ(Stats().applied, 90u);
}

TEST_F(FlushWorkerTest, BringsTheRestOnceTheSchemaIsRepaired) {
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  for (int i = 0; i < 100; ++i) Save("task-" + std::to_string(i));
  Run();
  backend_.RejectTasks(nullptr);
  Drain();
  EXPECT_EQ(settled(), 100u);
  EXPECT_EQ(Session()->Count()->tasks, 90u);
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(FlushWorkerTest, SparsePoisonHoldsNothingUpHoweverLongItLasts) {
  options_.initial_backoff = milliseconds(0);
  Make();
  backend_.RejectTasks([](const storage::TaskChange& c) { return c.id.starts_with("bad"); });
  for (int group = 0; group < 40; ++group) {
    Save("bad-" + std::to_string(group));
    for (int i = 0; i < 29; ++i) Save("good-" + std::to_string(30 * group + i));
    Drain();
  }
  EXPECT_EQ(letters_->count(), 40u);
  EXPECT_EQ(Stats().applied, 40u * 29);
  EXPECT_EQ(Stats().alarm, "");
}

}  // namespace
}  // namespace taskwal::pipeline
