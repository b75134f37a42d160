// buffer.*: who is let in.
#include <gtest/gtest.h>

#include <thread>

#include "base/status_macros.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {


// Of so many calls in a row.
int LetIn(EffectWorld& world, int calls, std::size_t message_bytes = 0) {
  int let_in = 0;
  for (int i = 0; i < calls; ++i) let_in += world.Log("t", 3, message_bytes).ok() ? 1 : 0;
  return let_in;
}

bool AFewUnflushedRecordsAreTheMost(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  return LetIn(world, 20, 500) < 10;
}

bool RefusesALargeCall(EffectWorld& world) {
  world.Open();
  return world.Log("t", 3, 2000).code() == StatusCode::kInvalidArgument;
}

bool TheNewestGivesWay(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  EXPECT_EQ(LetIn(world, 2), 1);
  return world.stats().drops.of(DropReason::kNewest) == 1;
}

// Calls one after the other, each with as much time as the file gives it.
bool CallsWithoutRoomDoNotWait(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  EXPECT_OK(world.Log());
  std::atomic<bool> is_back{false};
  std::jthread caller([&] {
    for (int i = 0; i < 10; ++i) IgnoreStatus(world.Log(), "at the end there is room");
    is_back = true;
  });
  const bool holds = world.Comes([&] { return is_back.load(); });
  world.apply_gate().Open();
  caller.join();
  return holds;
}

bool HalfOfTwentyAreSampledOut(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  EXPECT_EQ(LetIn(world, 21), 1);
  return world.stats().drops.of(DropReason::kSampled) == 10;
}

bool TheOlderOfTwoThatWaitGivesWay(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  EXPECT_OK(world.Log());
  const auto wait = [&] { IgnoreStatus(world.Log(), "one of the two may give way"); };
  std::jthread first(wait);
  std::jthread second(wait);
  const bool holds =
      world.Comes([&] { return world.stats().drops.of(DropReason::kOldest) == 1; });
  world.apply_gate().Open();
  return holds;
}

bool HalfOfAHundredAreTooMany(EffectWorld& world) {
  world.Open();
  return LetIn(world, 100) < 50;
}

bool HalfOfAHundredComeAtOnce(EffectWorld& world) {
  world.Open();
  return LetIn(world, 100) >= 50;
}

bool KeepsNoOrdinaryActivity(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Log());
  return world.stats().filtered == 1 && world.stats().accepted == 0;
}

bool ATaskThatHasEndedStaysSo(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Save("t"));
  for (const TaskStatus status : {TaskStatus::kCompleted, TaskStatus::kRunning}) {
    EXPECT_OK(world.storage().UpdateTaskStatus("t", status, "", {}));
  }
  world.Flush();
  const auto task = world.storage().GetTask("t");
  EXPECT_OK(task);
  return task->status == TaskStatus::kCompleted;
}

constexpr std::string_view kNoWaiting = "buffer.block_timeout=0";
constexpr std::string_view kOneRecord = "buffer.size=1";
constexpr std::string_view kOneRecordNoWaiting = "buffer.size=1 buffer.block_timeout=0";
constexpr std::string_view kSampleOfNone =
    "buffer.size=1 buffer.block_timeout=0 buffer.backpressure_strategy=sample";
constexpr std::string_view kManyWait =
    "buffer.size=1 buffer.block_timeout=1h buffer.backpressure_strategy=drop_oldest";
constexpr std::string_view kOneASecond = "buffer.block_timeout=0 buffer.rate_limit=1";
constexpr std::string_view kOneASecondInBursts =
    "buffer.block_timeout=0 buffer.rate_limit=1 buffer.rate_burst=100";

}  // namespace

std::vector<KeyEffect> AdmissionEffects() {
  return {
      {"buffer.size", "5", kNoWaiting, &AFewUnflushedRecordsAreTheMost},
      {"buffer.bytes", "4KiB", kNoWaiting, &AFewUnflushedRecordsAreTheMost},
      {"buffer.max_record_size", "1000", "", &RefusesALargeCall},
      {"buffer.backpressure_strategy", "drop_newest", kOneRecordNoWaiting, &TheNewestGivesWay},
      {"buffer.block_timeout", "0", kOneRecord, &CallsWithoutRoomDoNotWait},
      {"buffer.sample_one_in", "2", kSampleOfNone, &HalfOfTwentyAreSampledOut},
      {"buffer.waiting_room", "1", kManyWait, &TheOlderOfTwoThatWaitGivesWay},
      {"buffer.rate_limit", "1", kNoWaiting, &HalfOfAHundredAreTooMany},
      {"buffer.rate_burst", "100", kOneASecond, &HalfOfAHundredComeAtOnce},
      {"buffer.rate_window", "10s", kOneASecondInBursts, &HalfOfAHundredAreTooMany},
      {"buffer.min_activity_level", "warn", "", &KeepsNoOrdinaryActivity},
      {"buffer.protect_terminal_status", "true", "", &ATaskThatHasEndedStaysSo},
  };
}

}  // namespace taskwal::config
