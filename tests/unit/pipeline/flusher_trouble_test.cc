#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flusher_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Ten minutes, on the fake clock: the log takes everything, the database is asked only now and
// then, and gets it all when it is back.
TEST_F(FlusherTest, AnOutageOfMinutesLosesNothingAndAsksSeldom) {
  for (int i = 0; i < 20; ++i) log_->Save("before-" + std::to_string(i));
  Drain();
  const std::uint64_t applies = backend_.applies();
  const std::uint64_t connects = backend_.connects();
  backend_.RefuseConnections(UINT32_MAX);
  backend_.NextApplies({ApplyFault::kLostBefore, ApplyFault::kLostBefore});  // one for each worker
  for (int second = 0; second < 600; ++second) {
    log_->Save("t-" + std::to_string(second));
    log_->Sync();
    while (flusher_->Step()) {
    }
    clock_.Advance(seconds(1));
  }
  EXPECT_EQ(Stats().breaker_state, "open");
  EXPECT_LE(backend_.applies(), applies + 2);
  EXPECT_LE(backend_.connects(), connects + 5 + 10);  // until it opened, then once a minute
  EXPECT_EQ(Stats().applied, 20u);
  backend_.RefuseConnections(0);
  Drain();
  EXPECT_EQ(Session()->Count()->tasks, 620u);
  EXPECT_EQ(Stats().applied, 620u);
  EXPECT_EQ(flusher_->Flow().breaker.state, "closed");
}

// One transaction in twenty fails, in any of the ways there are.
TEST_F(FlusherTest, DeliversAllOfItWithFivePercentRandomFailures) {
  const std::uint64_t seed = Random::FromSystem().Next();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  options_.batch_size = 20;
  Open();
  std::vector<ApplyFault> faults;
  constexpr std::array kFaults = {ApplyFault::kUnavailable, ApplyFault::kLostBefore,
                                  ApplyFault::kLostAfter, ApplyFault::kThrows,
                                  ApplyFault::kThrowsAfter};
  for (int i = 0; i < 2000; ++i) {
    faults.push_back(random.OneIn(20) ? kFaults[random.Below(kFaults.size())]
                                      : ApplyFault::kNone);
  }
  backend_.NextApplies(faults);
  constexpr int kRecords = 5000;
  for (int i = 0; i < kRecords; ++i) log_->LogActivity("log-" + std::to_string(i), "t");
  Drain();
  // 99.9 % is the floor; a log that keeps what failed delivers all of it, each once.
  EXPECT_EQ(Session()->Count()->activities, static_cast<std::uint64_t>(kRecords));
  EXPECT_EQ(Stats().applied, static_cast<std::uint64_t>(kRecords));
  EXPECT_EQ(Stats().dead_lettered, 0u);
  EXPECT_GT(Stats().flush_errors, 0u);
}

// The database's time goes with the records; it gets ten times slower, and comes back.
TEST_F(FlusherTest, TheBatchSizeFollowsTheDatabaseDownAndUpAgain) {
  auto per_record = std::chrono::microseconds(50);
  backend_.OnApply([&](const storage::Batch& batch) {
    clock_.Advance(milliseconds(2) + per_record * batch.activities.size());
  });
  options_.worker_count = 1;
  options_.batch_size = 100;
  options_.batch_size_min = 20;
  options_.target_latency = milliseconds(50);
  options_.batch_evaluation_interval = milliseconds(50);
  options_.batch_adjustment = 0.3;
  Open();
  int made = 0;
  const auto bring = [&](int records) {
    for (int i = 0; i < records; ++i) log_->LogActivity("log-" + std::to_string(made++), "t");
    Drain();
    return flusher_->Flow().batch_size.size;
  };
  const std::uint32_t settled = bring(20'000);
  EXPECT_NEAR(settled, 960, 250);
  per_record *= 10;
  EXPECT_NEAR(bring(3'000), 96, 40);
  per_record /= 10;
  EXPECT_NEAR(bring(30'000), settled, 250);
  EXPECT_FALSE(flusher_->Flow().batch_size.history.empty());
}

// Whoever of the workers meets it, and however often the process starts anew.
TEST_F(FlusherTest, LettersTenOfWhatIsRefusedThroughoutAndNoneMoreAfterARestart) {
  options_.worker_count = 4;
  Open();
  backend_.RejectActivities([](const Activity&) { return true; });
  for (int i = 0; i < 300; ++i)
    log_->LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
  log_->Sync();
  for (int life = 0; life < 4; ++life) {
    Work(50);
    EXPECT_EQ(letters_->count(), 10u) << "life " << life;
    EXPECT_THAT(Stats().alarm, HasSubstr("nothing more is dead-lettered"));
    Restart();
  }
  backend_.RejectActivities(nullptr);
  Drain();
  EXPECT_EQ(Session()->Count()->activities, 290u);
  EXPECT_EQ(letters_->count(), 10u);
  // All is well again: what is refused now is poison.
  backend_.RejectActivities([](const Activity& activity) { return activity.id == "bad"; });
  log_->LogActivity("bad", "t");
  Drain();
  EXPECT_EQ(letters_->count(), 11u);
}

// Saves that go through say nothing for activities.
TEST_F(FlusherTest, LettersNoMoreActivitiesForSavesThatGoThrough) {
  options_.worker_count = 4;
  Open();
  backend_.RejectActivities([](const Activity&) { return true; });
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 100; ++i) log_->Save("task-" + std::to_string(100 * round + i));
    log_->LogActivity("log-" + std::to_string(round), "t" + std::to_string(round));
    log_->Sync();
    Work(5);
    if (round % 7 == 6) Restart();
  }
  Work(50);
  EXPECT_EQ(letters_->count(), 10u);
  backend_.RejectActivities(nullptr);
  Drain();
  EXPECT_EQ(Session()->Count()->tasks, 3000u);
  EXPECT_EQ(Session()->Count()->activities, 20u);
}

// A few refused rows among many, in many short lives: each of them is poison.
TEST_F(FlusherTest, RemembersWhatWentThroughBetweenLettersOverRestarts) {
  backend_.RejectActivities([](const Activity& activity) { return activity.id.ends_with("bad"); });
  for (int life = 0; life < 60; ++life) {
    for (int i = 0; i < 120; ++i)
      log_->LogActivity(std::to_string(life) + "-" + std::to_string(i), "t" + std::to_string(i));
    if (life % 3 == 0) log_->LogActivity(std::to_string(life) + "-bad", "t");
    Drain();
    life % 2 == 0 ? Restart() : Reopen();
  }
  EXPECT_EQ(letters_->count(), 20u);
  EXPECT_EQ(Session()->Count()->activities, 60u * 120u);
}

// Who purges them has looked at them.
TEST_F(FlusherTest, LettersAgainOnceTheLettersHaveBeenPurged) {
  backend_.RejectActivities([](const Activity& activity) { return activity.id.ends_with("bad"); });
  for (int i = 0; i < 15; ++i)
    log_->LogActivity(std::to_string(i) + "-bad", "t" + std::to_string(i));
  log_->Sync();
  Work(50);
  ASSERT_EQ(letters_->count(), 10u);
  std::vector<LetterResolution> purged;
  ASSERT_OK(letters_->ForEach([&](const DeadLetter& letter) {
    purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
    return true;
  }));
  ASSERT_OK(letters_->Resolve(purged));
  Restart();
  Drain();
  EXPECT_EQ(letters_->count(), 5u);
}

}  // namespace
}  // namespace taskwal::pipeline
