// worker_pool.*: when batches go, and how large they are.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

// The first record is in the database; those logged now are to go by themselves, without anybody
// waiting for them.
void Prime(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Log());
  world.Flush();
}

bool ThreeRecordsGoAtOnce(EffectWorld& world) {
  Prime(world);
  for (int i = 0; i < 3; ++i) EXPECT_OK(world.Log());
  return world.Comes([&] { return world.stats().applied == 4; });
}

bool ARecordStaysBehind(EffectWorld& world) {
  Prime(world);
  EXPECT_OK(world.Log());
  return world.StaysAway([&] { return world.stats().applied == 2; },
                         std::chrono::milliseconds(600));
}

// Of six records that are waiting together.
std::size_t LargestBatch(EffectWorld& world, std::size_t message_bytes) {
  std::atomic<std::size_t> largest{0};
  world.OnApply([&](const storage::Batch& batch) {
    largest = std::max(largest.load(), batch.activities.size());
    return Status::Ok();
  });
  world.apply_gate().Shut();
  world.Open();
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return world.apply_gate().waiting() == 1; });
  for (int i = 0; i < 6; ++i) EXPECT_OK(world.Log("t", 3, message_bytes));
  EffectWorld::Expect([&] { return world.flow().queued_records == 7; });
  world.apply_gate().Open();
  world.Flush();
  world.OnApply({});
  return largest;
}

bool SixRecordsNeedThreeBatches(EffectWorld& world) { return LargestBatch(world, 500) == 2; }

bool ASlowDatabaseGetsSmallerBatches(EffectWorld& world) {
  world.OnApply([](const storage::Batch&) {
    Clock::Real().SleepFor(std::chrono::milliseconds(10));
    return Status::Ok();
  });
  Prime(world);
  EXPECT_OK(world.Log());
  world.Flush();
  return world.flow().batch_size.size < 2;
}

bool OneStepDoublesTheSize(EffectWorld& world) {
  Prime(world);
  return world.flow().batch_size.size == 2;
}

bool OneRecordPerBatchScoresLow(EffectWorld& world) {
  Prime(world);
  EXPECT_FALSE(world.flow().batch_size.history.empty());
  return world.flow().batch_size.score < 0.6;
}

constexpr std::string_view kNothingIsDue =
    "worker_pool.flush_interval=1h worker_pool.flush_linger=1h";
constexpr std::string_view kOnlyTheInterval = "worker_pool.flush_linger=1h";
constexpr std::string_view kOnlyTheLinger = "worker_pool.flush_interval=1h";
constexpr std::string_view kTwoEachTime =
    "worker_pool.batch_size=2 worker_pool.batch_size_min=1 "
    "worker_pool.batch_evaluation_interval=0";
constexpr std::string_view kSizeFollows =
    "worker_pool.batch_size=2 worker_pool.target_latency=1h "
    "worker_pool.batch_evaluation_interval=1h";
constexpr std::string_view kSizeFollowsWithinBounds =
    "worker_pool.batch_size_min=1 worker_pool.target_latency=1h "
    "worker_pool.batch_evaluation_interval=1h";
constexpr std::string_view kSizeGrows =
    "worker_pool.batch_size=1 worker_pool.batch_size_min=1 worker_pool.target_latency=1h "
    "worker_pool.batch_evaluation_interval=0";
constexpr std::string_view kSizeDoubles =
    "worker_pool.batch_size=1 worker_pool.batch_size_min=1 worker_pool.target_latency=1h "
    "worker_pool.batch_adjustment=1";

}  // namespace

std::vector<KeyEffect> BatchEffects() {
  return {
      {"worker_pool.flush_records", "3", kNothingIsDue, &ThreeRecordsGoAtOnce},
      {"worker_pool.flush_interval", "1h", kOnlyTheInterval, &ARecordStaysBehind},
      {"worker_pool.flush_linger", "1h", kOnlyTheLinger, &ARecordStaysBehind},
      {"worker_pool.batch_size", "2", "", &SixRecordsNeedThreeBatches},
      {"worker_pool.batch_bytes", "1500", "", &SixRecordsNeedThreeBatches},
      {"worker_pool.target_latency", "1ms", kTwoEachTime, &ASlowDatabaseGetsSmallerBatches},
      {"worker_pool.batch_size_min", "1", kSizeFollows, &SixRecordsNeedThreeBatches},
      {"worker_pool.batch_size_max", "2", kSizeFollowsWithinBounds, &SixRecordsNeedThreeBatches},
      {"worker_pool.batch_adjustment", "1", kSizeGrows, &OneStepDoublesTheSize},
      {"worker_pool.batch_evaluation_interval", "0", kSizeDoubles, &OneStepDoublesTheSize},
      {"worker_pool.throughput_target", "1000000000000", kSizeGrows, &OneRecordPerBatchScoresLow},
  };
}

}  // namespace taskwal::config
