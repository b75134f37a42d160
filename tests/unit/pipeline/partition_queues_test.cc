#include "pipeline/flush/partition_queues.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/unit/pipeline/partition_queues_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using storage::OperationType;
using storage::WatermarkMove;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Offered = PartitionQueues::Offered;

// --- positions
// ----------------------------------------------------------------------------------------

TEST_F(PartitionQueuesTest, IsSettledUpToTheReaderWhereNothingIsQueued) {
  OfferAll({0, 0, 0});
  EXPECT_EQ(queues_->settled_lsn(0), 0u);
  EXPECT_EQ(queues_->settled_lsn(1), 3u);
  EXPECT_EQ(queues_->settled_lsn(), 0u);
}

TEST_F(PartitionQueuesTest, SettlesUpToTheFirstUnsettledRecord) {
  OfferAll({0, 1, 0, 1, 0});
  Settle({{0, 0, 3}});
  EXPECT_EQ(queues_->settled_lsn(0), 4u);
  EXPECT_EQ(queues_->settled_lsn(1), 1u);
  EXPECT_THAT(queues_->stored(), ElementsAre(3, 0));
  Settle({{0, 3, 5}, {1, 0, 4}});
  EXPECT_EQ(queues_->settled_lsn(), 5u);
}

TEST_F(PartitionQueuesTest, NeverStepsBackInTheMiddleOfAFrame) {
  OfferAll({0});
  Offer(2, 0);
  Settle({{0, 0, 1}});
  EXPECT_EQ(queues_->settled_lsn(0), 1u);
  Offer(5, 0);
  Settle({{0, 1, 2}});
  EXPECT_EQ(queues_->settled_lsn(0), 4u);
  Settle({{0, 2, 5}});
  EXPECT_EQ(queues_->settled_lsn(0), 5u);
}

TEST_F(PartitionQueuesTest, CountsEachRecordOnce) {
  OfferAll({0, 0, 1});
  const auto first = Settle({{0, 0, 2}});
  EXPECT_EQ(first.applied, 2u);
  Reset({1, 0});
  EXPECT_EQ(Offer(1, 0), Offered::kKnown);
  EXPECT_EQ(Offer(2, 0), Offered::kTaken);
  EXPECT_EQ(Settle({{0, 1, 2}}).applied, 0u);
}

TEST_F(PartitionQueuesTest, WhoGaveUpIsRelievedOnceAllOfThatIsSettled) {
  Make(2);
  OfferAll({0, 1});
  const auto count = [this](std::uint32_t partition, wal::Lsn from, wal::Lsn to) {
    const std::vector<WatermarkMove> moves{{partition, from, to}};
    auto relieved = queues_->Count(moves).relieved;
    queues_->Settle(0, moves, now_);
    return relieved;
  };
  const auto give_up = [this](std::uint32_t worker) {
    queues_->Take(worker);
    queues_->Release(worker, true);
  };
  give_up(1);
  EXPECT_THAT(Take(0), ElementsAre(1, 2));
  queues_->Release(0, true);  // in the same trouble
  EXPECT_THAT(count(0, 0, 1), IsEmpty()) << "worker 0 gave up more, worker 1 nothing there";
  EXPECT_THAT(count(1, 0, 2), ElementsAre(1, 0));
  Offer(3, 1);
  give_up(1);
  Take(0);
  Offer(4, 1);
  queues_->Release(0);
  EXPECT_THAT(Take(1), ElementsAre(3, 4));
  EXPECT_THAT(count(1, 2, 3), IsEmpty()) << "it has some in hand again";
}

TEST_F(PartitionQueuesTest, CountsLetteredRecordsApart) {
  OfferAll({0, 0});
  queues_->Take(0)[0]->is_lettered = true;
  const auto settled = Settle({{0, 0, 2}});
  EXPECT_EQ(settled.applied, 1u);
  EXPECT_EQ(settled.lettered, 1u);
}

TEST_F(PartitionQueuesTest, FindsWhatWasSettledBeforeOnce) {
  Reset({5, 0});
  EXPECT_EQ(queues_->next_lsn(), 1u);
  EXPECT_EQ(Offer(3, 0), Offered::kFoundSettled);
  EXPECT_EQ(Offer(3, 0), Offered::kKnown);
  EXPECT_EQ(Offer(6, 0), Offered::kTaken);
  EXPECT_THAT(Take(), ElementsAre(6));
}

TEST_F(PartitionQueuesTest, TakesARecordInOnceHoweverOftenItIsOffered) {
  Offer(1, 0);
  Offer(1, 0);
  EXPECT_THAT(Take(), ElementsAre(1));
}

// --- batches
// --------------------------------------------------------------------------------------------

TEST_F(PartitionQueuesTest, ABatchIsFullWhereABoundEndsIt) {
  const auto is_full = [this] {
    bool full = false;
    queues_->Take(0, &full);
    queues_->Release(0);
    return full;
  };
  OfferAll({0, 1, 0, 1});
  EXPECT_FALSE(is_full()) << "there was no more";
  Offer(5, 0);
  EXPECT_TRUE(is_full()) << "as many records as a batch takes";
  Reset({0, 0});
  Offer(1, 0, 1000);
  EXPECT_FALSE(is_full());
  Offer(2, 1, 1000);
  EXPECT_TRUE(is_full()) << "the second one's bytes would be too many";
  Settle({{0, 0, 1}});
  EXPECT_FALSE(is_full());
}

// Nor is it for lack of input that a batch ends where a queue holds no more.
TEST_F(PartitionQueuesTest, ABatchIsFullWhereItTakesAllOfAFullQueue) {
  limits_.partition_bytes = 400;
  queues_ = std::make_unique<PartitionQueues>(limits_);
  Reset({0, 0});
  Offer(1, 0, 500);
  Offer(2, 0, 500);  // left behind
  Offer(3, 1);
  bool is_full = false;
  EXPECT_EQ(queues_->Take(0, &is_full).size(), 2u);
  EXPECT_TRUE(is_full);
}

TEST_F(PartitionQueuesTest, TakesInLsnOrderOverPartitions) {
  OfferAll({0, 1, 1, 0});
  EXPECT_THAT(Take(), ElementsAre(1, 2, 3, 4));
}

TEST_F(PartitionQueuesTest, TakesAtMostTheBatchSize) {
  OfferAll({0, 1, 1, 0, 0, 1, 0});
  EXPECT_THAT(Take(), ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(PartitionQueuesTest, TakesAtMostTheBatchBytesButAtLeastOneRecord) {
  Offer(1, 0, 5000);
  Offer(2, 1, 700);
  Offer(3, 1, 700);
  Offer(4, 1, 700);
  queues_->AdvanceTo(5);
  EXPECT_THAT(Take(), ElementsAre(1));
  Settle({{0, 0, 1}});
  EXPECT_THAT(Take(), ElementsAre(2, 3));
}

TEST_F(PartitionQueuesTest, GivesEachWorkerItsPartitions) {
  Make(2);
  OfferAll({0, 1, 0, 1});
  EXPECT_THAT(Take(0), ElementsAre(1, 3));
  EXPECT_THAT(Take(1), ElementsAre(2, 4));
}

// --- when a batch is due
// -----------------------------------------------------------------------------------

TEST_F(PartitionQueuesTest, IsNeverDueWhileEmpty) { EXPECT_EQ(DueIn(), -1); }

TEST_F(PartitionQueuesTest, IsDueAtOnceWhenNothingWasFlushedLately) {
  OfferAll({0});
  EXPECT_EQ(DueIn(), 0);
}

TEST_F(PartitionQueuesTest, LingersAfterAFlush) {
  OfferAll({0});
  Settle({{0, 0, 1}});
  now_ += milliseconds(5);
  Offer(2, 0);
  queues_->AdvanceTo(3);
  EXPECT_EQ(DueIn(), 15);
}

TEST_F(PartitionQueuesTest, IsDueByAgeCountAndBytes) {
  OfferAll({0});
  now_ += milliseconds(1000);
  queues_->Settle(0, std::vector<WatermarkMove>{{0, 0, 1}}, now_ + milliseconds(900));
  Offer(2, 0);
  EXPECT_EQ(DueIn(), 200);  // the age; the linger would be later
  Offer(3, 0);
  Offer(4, 1);
  EXPECT_EQ(DueIn(), 0);  // the count
  Reset({4, 4});
  Offer(5, 0, 1500);
  EXPECT_EQ(DueIn(), 0);  // the bytes
}

TEST_F(PartitionQueuesTest, IsDueAtOnceWhileSomebodyWaits) {
  OfferAll({0});
  Settle({{0, 0, 1}});
  Offer(2, 0);
  queues_->AdvanceTo(3);
  ASSERT_GT(DueIn(), 0);
  FakeClock clock;
  std::thread waiter([&] { EXPECT_TRUE(queues_->WaitSettled(2, {}, clock)); });
  while (queues_->awaited_lsn() == 0) std::this_thread::yield();
  EXPECT_EQ(queues_->awaited_lsn(), 2u);
  EXPECT_EQ(DueIn(), 0);
  Settle({{0, 1, 2}});
  waiter.join();
  EXPECT_EQ(queues_->awaited_lsn(), 0u);
}

// --- barriers
// -----------------------------------------------------------------------------------------------

TEST_F(PartitionQueuesTest, HoldsEverythingBackBehindABarrier) {
  Offer(1, 0);
  Offer(2, 1, 10, OperationType::kDagDelete);
  Offer(3, 0);
  Offer(4, 1);
  queues_->AdvanceTo(5);
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_EQ(DueIn(), 0);
  EXPECT_EQ(queues_->settled_lsn(1), 1u);
  Settle({{0, 0, 1}});
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_EQ(queues_->settled_lsn(), 1u);
  EXPECT_EQ(Settle({{0, 1, 2}, {1, 0, 2}}).applied, 1u);
  EXPECT_THAT(queues_->stored(), ElementsAre(2, 2));
  EXPECT_THAT(Take(), ElementsAre(3, 4));
}

TEST_F(PartitionQueuesTest, GivesABarrierToTheFirstWorkerAlone) {
  Make(2);
  Offer(1, 1, 10, OperationType::kBatchUpdate);
  Offer(2, 1);
  queues_->AdvanceTo(3);
  EXPECT_THAT(Take(1), IsEmpty());
  EXPECT_EQ(DueIn(1), -1);
  EXPECT_THAT(Take(0), ElementsAre(1));
}

TEST_F(PartitionQueuesTest, FindsABarrierSettledWhereAllPartitionsAreBehindIt) {
  Reset({5, 5});
  EXPECT_EQ(Offer(4, 0, 10, OperationType::kDagDelete), Offered::kFoundSettled);
  Reset({5, 3});
  EXPECT_EQ(Offer(4, 0, 10, OperationType::kDagDelete), Offered::kTaken);
}

TEST_F(PartitionQueuesTest, BlocksTheReaderWhenBarriersFillTheBound) {
  Offer(1, 0, 5000, OperationType::kBatchUpdate);
  queues_->AdvanceTo(2);
  EXPECT_TRUE(queues_->is_blocked());
}

// --- waiting
// -----------------------------------------------------------------------------------------------

TEST_F(PartitionQueuesTest, EndsAWaitByDeadlineStopAndInterrupt) {
  FakeClock clock;
  OfferAll({0});
  EXPECT_FALSE(queues_->WaitSettled(1, {clock.Now(), {}}, clock));
  std::stop_source stop;
  std::thread stopped([&] {
    EXPECT_FALSE(queues_->WaitSettled(1, {Monotonic::max(), stop.get_token()}, clock));
  });
  std::thread interrupted([&] { EXPECT_FALSE(queues_->WaitSettled(1, {}, clock)); });
  stop.request_stop();
  stopped.join();
  queues_->Interrupt();
  interrupted.join();
  EXPECT_FALSE(queues_->WaitSettled(1, {}, clock));
  Settle({{0, 0, 1}});
  EXPECT_TRUE(queues_->WaitSettled(1, {}, clock));
}

TEST_F(PartitionQueuesTest, WakesWhoeverWaitsForAChange) {
  const std::uint64_t seen = queues_->change();
  std::thread waiter([&] { queues_->WaitForChange(seen, std::chrono::hours(1)); });
  queues_->Wake();
  waiter.join();
  queues_->WaitForChange(seen, std::chrono::hours(1));  // changed before: no wait at all
}

// --- workers come and go ------------------------------------------------------------------------

TEST_F(PartitionQueuesTest, APartitionIsHandedOverOnceItsBatchIsDone) {
  Make(1);
  OfferAll({0, 1, 0, 1});
  EXPECT_THAT(Take(0), ElementsAre(1, 2, 3, 4));
  queues_->SetWorkers(2);
  Offer(5, 1);
  queues_->AdvanceTo(6);
  // Worker 1 owns partition 1 now, but worker 0 has records of it in hand.
  EXPECT_THAT(Take(1), IsEmpty());
  EXPECT_EQ(DueIn(1), -1);
  Settle({{0, 0, 3}, {1, 0, 4}});
  queues_->Release(0);
  EXPECT_THAT(Take(1), ElementsAre(5));
}

TEST_F(PartitionQueuesTest, AWorkerThatIsTooManyGetsNothingMore) {
  Make(2);
  OfferAll({0, 1});
  queues_->SetWorkers(1);
  EXPECT_EQ(queues_->workers(), 1u);
  EXPECT_THAT(Take(1), IsEmpty());
  EXPECT_THAT(Take(0), ElementsAre(1, 2));
  queues_->SetWorkers(100);
  EXPECT_EQ(queues_->workers(), 2u);
}

TEST_F(PartitionQueuesTest, WhatAWorkerGivesUpAnotherMayHave) {
  Make(2);
  OfferAll({0, 1});
  EXPECT_THAT(Take(0), ElementsAre(1));
  queues_->Release(0, true);
  EXPECT_THAT(Take(1), ElementsAre(1, 2));
  EXPECT_THAT(Take(0), IsEmpty());
}

TEST_F(PartitionQueuesTest, AnIdleWorkerStealsOnlyWherePartitionsLieIdle) {
  limits_.partitions = 4;
  limits_.work_stealing = true;
  Make(2);
  Reset({0, 0, 0, 0});
  OfferAll({0});
  EXPECT_THAT(Take(0), ElementsAre(1));
  // Partition 2 is worker 0's, too, which is busy with partition 0.
  Offer(2, 0);
  Offer(3, 2);
  queues_->AdvanceTo(4);
  EXPECT_THAT(Take(1), ElementsAre(3));
  queues_->Release(1);
  queues_->Release(0);
  EXPECT_THAT(Take(1), IsEmpty());
}

TEST_F(PartitionQueuesTest, TheSizeOfBatchesChangesFromOneToTheNext) {
  OfferAll({0, 0, 0, 0});
  queues_->SetBatchRecords(3);
  EXPECT_THAT(Take(), ElementsAre(1, 2, 3));
  Settle({{0, 0, 3}});
  queues_->Release(0);
  queues_->SetBatchRecords(0);
  EXPECT_THAT(Take(), ElementsAre(4));
}

TEST_F(PartitionQueuesTest, TellsHowFullItIs) {
  OfferAll({0, 0, 1});
  const PartitionQueues::Fill fill = queues_->fill();
  EXPECT_EQ(fill.records, 3u);
  EXPECT_GT(fill.bytes, 30u);
  EXPECT_GT(fill.utilization, 0);
  EXPECT_LT(fill.utilization, 1);
}

}  // namespace
}  // namespace taskwal::pipeline
