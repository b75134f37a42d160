// Where a partition, or all of them together, holds as much as it may.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/pipeline/partition_queues_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using storage::OperationType;
using storage::WatermarkMove;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Offered = PartitionQueues::Offered;

// --- left behind
// -------------------------------------------------------------------------------------------

// Partition 0 full after three records of 1,400 bytes.
class LeftBehindTest : public PartitionQueuesTest {
 protected:
  LeftBehindTest() {
    for (wal::Lsn lsn = 1; lsn <= 5; ++lsn) Offer(lsn, 0, 1400);
    Offer(6, 1);
    queues_->AdvanceTo(7);
  }
  void Late(wal::Lsn from, wal::Lsn to) {
    for (wal::Lsn lsn = from; lsn <= to; ++lsn) {
      const std::uint64_t key = lsn == 6 ? 1 : 0;
      queues_->OfferLate(from, Record(lsn, key, 1400), now_);
    }
    queues_->AdvanceLate(from, to);
  }
};

TEST_F(LeftBehindTest, LetsTheOthersGoOn) {
  EXPECT_TRUE(queues_->has_left_behind());
  EXPECT_FALSE(queues_->is_blocked());
  EXPECT_EQ(queues_->settled_lsn(1), 5u);
  Settle({{1, 0, 6}});
  EXPECT_EQ(queues_->settled_lsn(1), 6u);
  EXPECT_EQ(queues_->CatchUpFrom(), std::nullopt);
}

TEST_F(LeftBehindTest, IsServedFromHalfEmptyOn) {
  Settle({{0, 0, 1}});
  EXPECT_EQ(queues_->CatchUpFrom(), std::nullopt);
  Settle({{0, 1, 2}});
  EXPECT_EQ(queues_->CatchUpFrom(), 4u);
}

TEST_F(LeftBehindTest, ComesUpToTheReaderAgain) {
  Settle({{0, 0, 3}});
  EXPECT_EQ(queues_->settled_lsn(0), 3u);
  Late(4, 6);
  EXPECT_FALSE(queues_->has_left_behind());
  Offer(7, 0);
  queues_->AdvanceTo(8);
  EXPECT_THAT(Take(), ElementsAre(4));
  Settle({{0, 3, 4}});
  EXPECT_THAT(Take(), ElementsAre(5, 6, 7));
}

// What was read before the database went back lies ahead of the reader once more: it is not lost
// when a partition comes up to the reader on the way there.
TEST_F(LeftBehindTest, WhatIsStillToBeReadAgainIsNotLost) {
  for (wal::Lsn lsn = 7; lsn <= 12; ++lsn) Offer(lsn, 0, 1400);
  queues_->AdvanceTo(13);
  Reset({0, 0});
  for (wal::Lsn lsn = 1; lsn <= 5; ++lsn) Offer(lsn, 0, 1400);
  Offer(6, 1);
  queues_->AdvanceTo(7);
  Settle({{0, 0, 3}});
  for (wal::Lsn lsn = 4; lsn <= 5; ++lsn) queues_->OfferLate(4, Record(lsn, 0, 1400), now_);
  EXPECT_EQ(queues_->TakeLost(7, 4), 0u);
  queues_->AdvanceLate(4, 6);
  EXPECT_FALSE(queues_->has_left_behind());
  // Damaged meanwhile: now they are.
  EXPECT_EQ(queues_->TakeLost(13), 6u);
}

TEST_F(LeftBehindTest, StaysBehindAtTheRecordThatFoundNoRoom) {
  for (wal::Lsn lsn = 7; lsn <= 9; ++lsn) Offer(lsn, 0, 1400);
  queues_->AdvanceTo(10);
  Settle({{0, 0, 3}});
  Late(4, 9);  // 4, 5 and 7 fill it again
  EXPECT_TRUE(queues_->has_left_behind());
  Settle({{0, 3, 7}, {1, 0, 6}});
  EXPECT_EQ(queues_->CatchUpFrom(), 8u);
  EXPECT_EQ(queues_->settled_lsn(0), 7u);
  Late(8, 9);
  EXPECT_FALSE(queues_->has_left_behind());
}

TEST_F(LeftBehindTest, GetsNoRecordOfALaterTurnBeforeEarlierOnes) {
  Settle({{0, 0, 3}});
  queues_->OfferLate(5, Record(5, 0), now_);  // a turn that began behind its position
  queues_->AdvanceLate(5, 6);
  EXPECT_EQ(queues_->CatchUpFrom(), 4u);
}

TEST_F(LeftBehindTest, BlocksTheReaderOnceAllAreBehind) {
  for (wal::Lsn lsn = 7; lsn <= 12; ++lsn) Offer(lsn, 1, 1400);
  queues_->AdvanceTo(13);
  EXPECT_TRUE(queues_->is_blocked());
  EXPECT_EQ(queues_->settled_lsn(), 0u);
}

TEST_F(PartitionQueuesTest, TakesOneRecordOfAnySize) {
  EXPECT_EQ(Offer(1, 0, 1u << 20), Offered::kTaken);
  queues_->AdvanceTo(2);
  EXPECT_FALSE(queues_->has_left_behind());
  EXPECT_THAT(Take(), ElementsAre(1));
}

// --- the bound of all together
// ------------------------------------------------------------------------------

// Four partitions of 2,000 bytes each, 8,000 together.
class SharedBoundTest : public PartitionQueuesTest {
 protected:
  SharedBoundTest() {
    limits_.partitions = 4;
    limits_.bytes = 8000;
    Make(1);
  }
  void Make(std::uint32_t workers) {
    limits_.workers = workers;
    limits_.partition_bytes = 2000;
    queues_ = std::make_unique<PartitionQueues>(limits_);
    Reset(std::vector<wal::Lsn>(limits_.partitions, 0));
  }
  std::size_t bytes() { return queues_->fill().bytes; }
};

TEST_F(SharedBoundTest, StopsTheReaderAtTheRecordThatFindsNoRoom) {
  for (wal::Lsn lsn = 1; lsn <= 4; ++lsn) Offer(lsn, lsn - 1, 5000);
  queues_->AdvanceTo(5);
  EXPECT_LE(bytes(), 8000u);
  EXPECT_FALSE(queues_->has_left_behind());
  EXPECT_TRUE(queues_->is_blocked());
  EXPECT_EQ(queues_->next_lsn(), 2u);
  EXPECT_EQ(queues_->settled_lsn(3), 1u);
  Settle({{0, 0, 1}});
  EXPECT_FALSE(queues_->is_blocked());
  Offer(2, 1, 5000);
  queues_->AdvanceTo(3);
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_EQ(queues_->next_lsn(), 3u);
}

TEST_F(SharedBoundTest, TakesNothingBehindTheRecordThatFindsNoRoom) {
  Offer(1, 0, 5000);
  Offer(2, 1, 5000);
  Offer(3, 2, 10);
  EXPECT_EQ(queues_->TakeLost(4), 0u);
  queues_->AdvanceTo(4);
  EXPECT_THAT(Take(), ElementsAre(1));
  Settle({{0, 0, 1}});
  Offer(2, 1, 5000);
  Offer(3, 2, 10);
  EXPECT_EQ(queues_->TakeLost(4), 0u);
  queues_->AdvanceTo(4);
  EXPECT_EQ(queues_->next_lsn(), 4u);
  EXPECT_EQ(Settle({{1, 0, 2}, {2, 0, 3}}).applied, 2u);
}

TEST_F(SharedBoundTest, CountsAsLostWhatFoundNoRoomAndIsDamagedWhenReadAgain) {
  Offer(1, 0, 5000);
  Offer(2, 1, 5000);
  Offer(3, 1, 10);
  EXPECT_EQ(queues_->TakeLost(4), 0u);
  queues_->AdvanceTo(4);
  Settle({{0, 0, 1}});
  EXPECT_EQ(queues_->TakeLost(4), 2u);
  queues_->AdvanceTo(4);
  EXPECT_EQ(queues_->next_lsn(), 4u);
}

TEST_F(SharedBoundTest, LetsTheOldestInWhateverItsSize) {
  Offer(1, 0, 50'000);
  Offer(2, 1, 5000);
  queues_->AdvanceTo(3);
  // What is beyond the bound takes no room from the others.
  EXPECT_EQ(queues_->next_lsn(), 3u);
  Offer(3, 2, 5000);
  queues_->AdvanceTo(4);
  EXPECT_EQ(queues_->next_lsn(), 3u);
  EXPECT_LE(bytes(), 50'000u + 8000u);
  Settle({{1, 0, 2}});
  Offer(3, 2, 50'000);
  queues_->AdvanceTo(4);
  EXPECT_EQ(queues_->next_lsn(), 3u) << "two beyond the bound";
  Settle({{0, 0, 1}});
  Offer(3, 2, 50'000);
  queues_->AdvanceTo(4);
  EXPECT_EQ(queues_->next_lsn(), 4u);
}

TEST_F(SharedBoundTest, ABarrierTakesRoomToo) {
  Offer(1, 0, 5000);
  Offer(2, 0, 5000, OperationType::kBatchUpdate);
  queues_->AdvanceTo(3);
  EXPECT_EQ(queues_->next_lsn(), 2u);
  EXPECT_TRUE(queues_->is_blocked());
  Settle({{0, 0, 1}});
  EXPECT_FALSE(queues_->is_blocked());
  Offer(2, 0, 5000, OperationType::kBatchUpdate);
  queues_->AdvanceTo(3);
  EXPECT_THAT(Take(), ElementsAre(2));
}

// Partition 0 is left behind, a barrier waits for it, and what is behind the barrier fills the
// bound: only what partition 0 lacks can get all of it going again.
class FullBehindABarrierTest : public SharedBoundTest {
 protected:
  FullBehindABarrierTest() {
    Offer(1, 0, 2100);
    Offer(2, 0, 4000);
    Offer(3, 0, 10);
    Offer(4, 0, 10, OperationType::kDagDelete);
    Offer(5, 1, 4000);
    Offer(6, 2, 10);
    queues_->AdvanceTo(7);
  }
};

TEST_F(FullBehindABarrierTest, LetsTheOldestInWhereverItIsRead) {
  ASSERT_EQ(queues_->next_lsn(), 7u);
  EXPECT_EQ(queues_->CatchUpFrom(), std::nullopt);
  Settle({{0, 0, 1}});
  Offer(7, 3, 2000);
  queues_->AdvanceTo(8);
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(queues_->CatchUpFrom(), 2u);
  queues_->OfferLate(2, Record(2, 0, 4000), now_);
  queues_->AdvanceLate(2, 2);
  EXPECT_THAT(Take(), ElementsAre(2));
  Settle({{0, 1, 2}});
  EXPECT_EQ(queues_->CatchUpFrom(), 3u);
  queues_->OfferLate(3, Record(3, 0, 10), now_);
  queues_->AdvanceLate(3, 7);
  EXPECT_FALSE(queues_->has_left_behind());
  Settle({{0, 2, 3}});
  EXPECT_THAT(Take(), ElementsAre(4));
}

TEST_F(FullBehindABarrierTest, IsNotReadAgainForWhatStillFindsNoRoom) {
  Settle({{0, 0, 1}});
  Offer(7, 3, 2000);
  queues_->AdvanceTo(8);
  queues_->OfferLate(2, Record(2, 0, 4000), now_);
  queues_->OfferLate(2, Record(3, 0, 5000), now_);
  queues_->AdvanceLate(2, 7);
  EXPECT_LE(bytes(), 8000u + 4200u);
  EXPECT_EQ(queues_->CatchUpFrom(), std::nullopt);
  Settle({{0, 1, 2}});
  EXPECT_EQ(queues_->CatchUpFrom(), 3u);
  queues_->OfferLate(3, Record(3, 0, 5000), now_);
  queues_->AdvanceLate(3, 7);
  EXPECT_FALSE(queues_->has_left_behind());
  EXPECT_THAT(Take(), ElementsAre(3));
}

TEST_F(LeftBehindTest, WaitsWithABarrierForThoseLeftBehind) {
  Offer(7, 1, 10, OperationType::kDagDelete);
  queues_->AdvanceTo(8);
  Settle({{0, 0, 3}});
  Settle({{1, 0, 6}});
  EXPECT_THAT(Take(), IsEmpty());
  Late(4, 7);
  EXPECT_THAT(Take(), ElementsAre(4));
  Settle({{0, 3, 5}});
  EXPECT_THAT(Take(), ElementsAre(7));
}

}  // namespace
}  // namespace taskwal::pipeline
