#include "pipeline/flush/batch_sizer.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace taskwal::pipeline {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// A database that takes so long for a transaction and for each record, and always has more to do.
class BatchSizerTest : public ::testing::Test {
 protected:
  BatchSizerTest() {
    options_.target_latency = milliseconds(200);
    options_.batch_size = 5000;
    options_.batch_size_min = 100;
    options_.batch_size_max = 100000;
  }
  void Make() { sizer_.emplace(options_); }
  void RunFor(seconds time) {
    if (!sizer_) Make();
    const Monotonic end = now_ + time;
    while (now_ < end) {
      const std::uint32_t records = std::min(sizer_->size(), most_);
      const nanoseconds took = per_transaction_ + per_record_ * records;
      now_ += took;
      sizer_->OnCommitted(records, true, took, now_);
    }
  }
  double LatencyMs() {
    const std::chrono::duration<double, std::milli> took =
        per_transaction_ + per_record_ * std::min(sizer_->size(), most_);
    return took.count();
  }

  Options options_;
  nanoseconds per_transaction_ = milliseconds(5);
  nanoseconds per_record_ = microseconds(10);
  std::uint32_t most_ = UINT32_MAX;  // records of a batch, for their bytes
  std::optional<BatchSizer> sizer_;
  Monotonic now_{std::chrono::hours(1)};
};

TEST_F(BatchSizerTest, AdaptiveSize_SettlesAtTheTargetLatency) {
  RunFor(seconds(60));
  EXPECT_NEAR(LatencyMs(), 200, 30);
  const std::uint32_t settled = sizer_->size();
  RunFor(seconds(60));
  EXPECT_NEAR(sizer_->size(), settled, 0.1 * settled);
}

TEST_F(BatchSizerTest, AdaptiveSize_FallsAtOnceWhenTheDatabaseIsTenTimesSlower) {
  RunFor(seconds(60));
  per_record_ *= 10;
  RunFor(seconds(10));
  EXPECT_LT(LatencyMs(), 250);
  EXPECT_GT(LatencyMs(), 120);
}

TEST_F(BatchSizerTest, AdaptiveSize_ComesBackWhenTheDatabaseDoes) {
  RunFor(seconds(60));
  const std::uint32_t before = sizer_->size();
  for (const int slower : {2, 10}) {
    per_record_ *= slower;
    RunFor(seconds(60));
    EXPECT_NEAR(LatencyMs(), 200, 40) << slower;
    EXPECT_LT(sizer_->size(), 0.7 * before) << slower;
    per_record_ /= slower;
    RunFor(seconds(120));
    EXPECT_NEAR(sizer_->size(), before, 0.15 * before) << slower;
  }
}

TEST_F(BatchSizerTest, AdaptiveSize_StaysWithinItsBounds) {
  options_.batch_size_max = 6000;
  RunFor(seconds(60));
  EXPECT_EQ(sizer_->size(), 6000u);
  per_record_ = milliseconds(50);
  RunFor(seconds(600));
  EXPECT_EQ(sizer_->size(), 100u);
}

TEST_F(BatchSizerTest, AdaptiveSize_SmallBatchesTellNothing) {
  Make();
  for (int i = 0; i < 1000; ++i) {
    now_ += milliseconds(100);
    sizer_->OnCommitted(10, false, milliseconds(1), now_);
  }
  EXPECT_EQ(sizer_->size(), 5000u);
}

// 4 MiB of records of 20 KB: full, though the size would allow many more.
TEST_F(BatchSizerTest, AdaptiveSize_FallsWhereBytesEndABatch) {
  options_.target_latency = milliseconds(10);
  options_.batch_size_min = 1;
  per_transaction_ = milliseconds(0);
  per_record_ = microseconds(620);
  most_ = 203;
  RunFor(seconds(10));
  EXPECT_NEAR(LatencyMs(), 10, 2);
  EXPECT_NEAR(sizer_->size(), 16, 3);
}

TEST_F(BatchSizerTest, AdaptiveSize_GrowsNoFurtherThanBytesAllow) {
  options_.target_latency = seconds(1);
  per_record_ = microseconds(100);
  most_ = 3920;
  RunFor(seconds(60));
  EXPECT_EQ(sizer_->size(), 5000u) << "in time, and there is nothing to be won";
  options_.batch_size = 1000;
  Make();
  RunFor(seconds(60));
  EXPECT_GE(sizer_->size(), 3920u);
  EXPECT_LE(sizer_->size(), 3920 * 1.1);
}

TEST_F(BatchSizerTest, AdaptiveSize_AtTheBoundOfBytesItFallsAndComesBackWithTheDatabase) {
  options_.target_latency = seconds(1);
  per_record_ = microseconds(100);
  most_ = 3920;
  RunFor(seconds(60));
  for (int i = 0; i < 2; ++i) {
    per_record_ *= 10;
    RunFor(seconds(60));
    EXPECT_NEAR(LatencyMs(), 1000, 150);
    per_record_ /= 10;
    RunFor(seconds(60));
    EXPECT_GE(sizer_->size(), 3920u);
  }
}

// More than half a batch tells whether the size is too large, not whether it is too small.
TEST_F(BatchSizerTest, AdaptiveSize_WithoutMoreInputItFallsButDoesNotGrow) {
  Make();
  const auto commit = [&](milliseconds took) {
    for (int i = 0; i < 20; ++i) {
      now_ += seconds(1);
      sizer_->OnCommitted(3000, false, took, now_);
    }
  };
  commit(milliseconds(10));
  EXPECT_EQ(sizer_->size(), 5000u);
  commit(milliseconds(400));
  EXPECT_EQ(sizer_->size(), 1500u);
}

TEST_F(BatchSizerTest, AdaptiveSize_ShrinksWhileTransactionsFail) {
  Make();
  for (int i = 0; i < 10; ++i) {
    now_ += seconds(2);
    sizer_->OnFailed(now_);
  }
  EXPECT_LT(sizer_->size(), 2500u);
}

// Larger batches that bring less are a step too far, though there is time left.
TEST_F(BatchSizerTest, AdaptiveSize_TakesAGrowthBackThatMadeThingsWorse) {
  Make();
  std::uint32_t largest = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::uint32_t size = sizer_->size();
    largest = std::max(largest, size);
    // Beyond 8,000 records the database thrashes: three times the time.
    const nanoseconds took = per_record_ * size * (size > 8000 ? 3 : 1) / 2;
    now_ += took;
    sizer_->OnCommitted(size, true, took, now_);
  }
  EXPECT_LT(largest, 10000u);
  EXPECT_GT(sizer_->size(), 6000u);
}

TEST_F(BatchSizerTest, PinnedItStaysAndUnpinnedItGoesOnFromThere) {
  RunFor(seconds(30));
  sizer_->Pin(777);
  RunFor(seconds(30));
  EXPECT_EQ(sizer_->size(), 777u);
  EXPECT_EQ(sizer_->Snapshot().pinned, 777u);
  sizer_->Pin(std::nullopt);
  EXPECT_EQ(sizer_->size(), 777u);
  RunFor(seconds(10));
  EXPECT_GT(sizer_->size(), 1000u);
}

TEST_F(BatchSizerTest, WithoutATargetItStandsStill) {
  options_.target_latency = milliseconds(0);
  RunFor(seconds(10));
  EXPECT_EQ(sizer_->size(), 5000u);
  sizer_->Pin(10);
  EXPECT_EQ(sizer_->size(), 10u);
  sizer_->Pin(std::nullopt);
  EXPECT_EQ(sizer_->size(), 5000u);
}

TEST_F(BatchSizerTest, ACutHalvesWhateverTheSizeIs) {
  options_.batch_timeout = seconds(10);
  for (const auto target : {milliseconds(0), milliseconds(200)}) {
    options_.target_latency = target;
    Make();
    sizer_->OnCut(sizer_->size());
    EXPECT_EQ(sizer_->size(), 2500u);
    EXPECT_EQ(sizer_->Snapshot().size, 2500u);
    sizer_->Pin(1000);
    EXPECT_EQ(sizer_->size(), 1000u);
    for (int i = 0; i < 20; ++i) sizer_->OnCut(sizer_->size());
    EXPECT_EQ(sizer_->size(), 1u);
  }
}

TEST_F(BatchSizerTest, AfterACutItDoublesWhileThereIsTime) {
  options_.target_latency = milliseconds(0);
  options_.batch_timeout = seconds(10);
  Make();
  for (int i = 0; i < 3; ++i) sizer_->OnCut(sizer_->size());
  EXPECT_EQ(sizer_->size(), 625u);
  sizer_->OnCommitted(625, true, seconds(3), now_);
  sizer_->OnCommitted(10, false, seconds(1), now_);
  EXPECT_EQ(sizer_->size(), 625u) << "took too long, or was too small to tell";
  for (const std::uint32_t size : {1250u, 2500u, 5000u, 5000u}) {
    sizer_->OnCommitted(sizer_->size(), true, seconds(2), now_);
    EXPECT_EQ(sizer_->size(), size);
  }
}

TEST_F(BatchSizerTest, AdaptiveSize_GoesOnFromWhereItWasCutTo) {
  options_.batch_timeout = seconds(1);
  RunFor(seconds(60));
  const std::uint32_t before = sizer_->size();
  sizer_->OnCut(before);
  EXPECT_EQ(sizer_->size(), before / 2);
  RunFor(seconds(2));
  EXPECT_LT(sizer_->size(), 0.8 * before);
  RunFor(seconds(60));
  EXPECT_NEAR(sizer_->size(), before, 0.15 * before);
}

TEST_F(BatchSizerTest, ScoresLatencyAndThroughputAndKeepsAHistory) {
  RunFor(seconds(120));
  BatchSizeSnapshot snapshot = sizer_->Snapshot();
  EXPECT_EQ(snapshot.history.size(), 60u);
  EXPECT_GT(snapshot.score, 0.9);
  EXPECT_LE(snapshot.score, 1.0);
  EXPECT_NEAR(snapshot.history.back().latency_ms, 200, 30);
  per_record_ *= 10;
  RunFor(seconds(2));
  snapshot = sizer_->Snapshot();
  EXPECT_LT(snapshot.history.back().score, 0.7);
}

}  // namespace
}  // namespace taskwal::pipeline
