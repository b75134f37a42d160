#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/simulated_file_system.h"
#include "tests/unit/pipeline/flush_worker_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Turn = FlushWorker::Turn;

TEST_F(FlushWorkerTest, GivesABatchBackThatItCannotBringInTime) {
  options_.batch_timeout = seconds(30);
  backend_.NextApplies(std::vector<ApplyFault>(4, ApplyFault::kUnavailable));
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(counters_.workers()[0].in_hand, 1u);
  clock_.Advance(seconds(29));
  Run();
  EXPECT_EQ(counters_.workers()[0].timeouts, 0u);
  clock_.Advance(seconds(61));
  Run();
  EXPECT_EQ(counters_.workers()[0].timeouts, 1u);
  EXPECT_EQ(counters_.workers()[0].in_hand, 0u) << "others may have it first";
  Drain();
  EXPECT_TRUE(IsStored("a"));
  EXPECT_EQ(Stats().applied, 1u);
}

// Whoever has its batches now tells how they fare.
TEST_F(FlushWorkerTest, NoAlarmOutlivesItsWorkerOrTheNextContact) {
  options_.batch_timeout = seconds(1);
  for (const bool retires : {true, false}) {
    backend_.NextApplies({ApplyFault::kUnavailable});
    Save("a");
    Run();
    clock_.Advance(seconds(1));
    Run();
    EXPECT_NE(Stats().alarm, "");
    if (retires) {
      EXPECT_TRUE(worker_->Retire());
    } else {
      worker_->Begin(identity_, nullptr);
    }
    EXPECT_EQ(Stats().alarm, "") << retires;
    Drain();
  }
}

TEST_F(FlushWorkerTest, KeepsABatchWhoseFateItDoesNotKnow) {
  options_.batch_timeout = seconds(1);
  backend_.NextApplies({ApplyFault::kLostAfter});
  Save("a");
  Run();
  clock_.Advance(seconds(60));
  Run();
  EXPECT_EQ(counters_.workers()[0].timeouts, 0u);
  EXPECT_TRUE(IsStored("a"));
  EXPECT_EQ(Stats().applied, 1u);
}

TEST_F(FlushWorkerTest, GivesATransactionWhatIsLeftOfItsBatchsTime) {
  std::vector<milliseconds> times;
  backend_.OnApply([&](const storage::Batch& batch) {
    times.push_back(batch.time_max);
    clock_.Advance(seconds(3));
  });
  Save("a");
  Save("b");
  Run();
  options_.batch_timeout = seconds(10);
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("c");
  Save("d");
  Run();
  clock_.Advance(milliseconds(100));
  Run();
  Save("alone");  // nothing would be won by cutting it
  Run();
  EXPECT_THAT(times, ElementsAre(milliseconds(0), milliseconds(10'000), milliseconds(6'900),
                                 milliseconds(0)));
}

TEST_F(FlushWorkerTest, GivesEachPartOfARefusedBatchATimeOfItsOwn) {
  options_.batch_timeout = seconds(10);
  options_.initial_backoff = milliseconds(0);
  Make();
  std::vector<milliseconds> times;
  backend_.OnApply([&](const storage::Batch& batch) {
    if (batch.tasks.size() > 1) times.push_back(batch.time_max);
    clock_.Advance(seconds(6));
  });
  RejectTask("bad");
  for (const char* id : {"a", "b", "bad", "c", "d", "e", "f", "g"}) Save(id);
  Drain();
  EXPECT_THAT(times, SizeIs(5));  // of eight, of four, of two and two, of four
  EXPECT_THAT(times, Each(milliseconds(10'000)));
  EXPECT_EQ(counters_.workers()[0].timeouts, 0u);
  EXPECT_THAT(Lettered(), ElementsAre(3u));
}

// A transaction that needs a second for each record, and is cut when its time is over.
class CutTest : public FlushWorkerTest {
 protected:
  CutTest() {
    options_.batch_timeout = seconds(10);
    options_.breaker_failures = 1000;
    Make();
    sizer_.emplace(options_);
    setting_->sizer = &*sizer_;
    backend_.OnApply([this](const storage::Batch& batch) {
      const std::size_t records = batch.tasks.size() + batch.activities.size();
      applied_.push_back(records);
      const std::chrono::nanoseconds needed = records * a_record_;
      const bool is_cut = batch.time_max.count() > 0 && needed >= batch.time_max;
      if (is_cut) backend_.NextApplies({fault_});
      clock_.Advance(is_cut ? batch.time_max * 9 / 10 : needed);
    });
  }
  void LogMany(int count) {
    for (int i = 0; i < count; ++i) Log("a" + std::to_string(next_));
  }

  std::optional<BatchSizer> sizer_;
  milliseconds a_record_{1000};
  ApplyFault fault_ = ApplyFault::kUnavailable;
  std::vector<std::size_t> applied_;
};

TEST_F(CutTest, WhatIsCutIsTriedAgainWithFewerRecords) {
  LogMany(50);
  Drain();
  ASSERT_GE(applied_.size(), 5u);
  EXPECT_THAT(std::vector(applied_.begin(), applied_.begin() + 5),
              ElementsAre(50u, 25u, 12u, 6u, 6u));
  EXPECT_EQ(counters_.workers()[0].timeouts, 3u);
  EXPECT_EQ(Stats().applied, 50u);
  EXPECT_EQ(Session()->Count()->activities, 50u);
  EXPECT_THAT(Lettered(), IsEmpty());
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(CutTest, ACutThatLeftTheCommitInDoubtIsSettledFirst) {
  // The last one is not there when it is looked for, and lands before the next attempt, which must
  // be the same again: others would look like somebody else's.
  for (const ApplyFault fault :
       {ApplyFault::kLostBefore, ApplyFault::kLostAfter, ApplyFault::kLate}) {
    fault_ = fault;
    sizer_.emplace(options_);
    queues_->SetBatchRecords(sizer_->size());
    LogMany(20);
    Drain();
  }
  EXPECT_EQ(Stats().applied, 60u);
  EXPECT_EQ(Session()->Count()->activities, 60u);
  EXPECT_EQ(Stats().duplicates, 0u);
  EXPECT_THAT(Lettered(), IsEmpty());
}

// There is nothing left to make smaller: it has the time of every call.
TEST_F(CutTest, ARecordThatNeedsLongerByItselfComesIn) {
  a_record_ = seconds(11);
  LogMany(3);
  Drain();
  EXPECT_EQ(Stats().applied, 3u);
  EXPECT_EQ(applied_.back(), 1u);
}

TEST_F(CutTest, BatchesGrowAgainWithTheDatabasesPace) {
  LogMany(100);
  Drain();
  EXPECT_EQ(sizer_->size(), 6u);
  a_record_ = milliseconds(10);
  applied_.clear();
  LogMany(300);
  Drain();
  EXPECT_EQ(sizer_->size(), 100u);
  EXPECT_THAT(applied_, ElementsAre(6u, 12u, 24u, 48u, 96u, 100u, 14u));
}

}  // namespace
}  // namespace taskwal::pipeline
