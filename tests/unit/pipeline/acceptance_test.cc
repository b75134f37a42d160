// What an operator is promised of the whole pipeline, in figures.
#include <set>

#include "base/random.h"
#include "base/status_macros.h"
#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class AcceptanceTest : public PressureTest {
 protected:
  std::set<std::string> StoredIds() {
    auto session = database_.data().Connect();
    EXPECT_OK(session);
    std::set<std::string> ids;
    ActivityQuery query;
    query.paging.limit = 1000;
    for (;;) {
      const auto page = (*session)->QueryActivities(query);
      EXPECT_OK(page);
      for (const Activity& activity : page->activities) {
        EXPECT_TRUE(ids.insert(activity.id).second) << activity.id << " is there twice";
      }
      if (page->next_page.empty()) return ids;
      query.paging.after = page->next_page;
    }
  }
  Status LogAs(const std::string& id) {
    Activity activity;
    activity.id = id;
    activity.task_id = "t" + std::to_string(id.size());
    return storage_->LogActivity(activity, {}).status();
  }
};

TEST_F(AcceptanceTest, ZeroLossOnRestart) {
  std::set<std::string> acknowledged;
  for (int life = 0; life < 5; ++life) {
    life % 2 == 0 ? database_.GoAway() : database_.ComeBack();
    Open();
    for (int i = 0; i < 200; ++i) {
      const std::string id = std::to_string(life) + "-" + std::to_string(i);
      if (LogAs(id).ok()) acknowledged.insert(id);
    }
    IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "the rest is in the log");
    storage_.reset();
  }
  database_.ComeBack();
  Open();
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(acknowledged.size(), 1000u);
  EXPECT_EQ(StoredIds(), acknowledged);
}

// One in twenty attempts fails by odds, before or after its commit.
TEST_F(AcceptanceTest, Stress_DeliversAllWithFivePercentOfRandomFailures) {
  constexpr std::uint64_t kCalls = 10'000;
  const std::uint64_t seed = Random::FromSystem().Next();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Mutex mutex;
  Random random(seed);
  std::uint64_t failures = 0;
  database_.OnApply([&] {
    MutexLock lock(mutex);
    if (!random.OneIn(20)) return SwitchableDatabase::Cut::kNone;
    ++failures;
    return random.OneIn(2) ? SwitchableDatabase::Cut::kBefore : SwitchableDatabase::Cut::kAfter;
  });
  options_.batch_size = 20;
  options_.block_timeout = seconds(60);
  Open();
  std::uint64_t accepted = 0;
  for (std::uint64_t i = 0; i < kCalls; ++i) accepted += LogAs(std::to_string(i)).ok() ? 1 : 0;
  ASSERT_OK(storage_->Flush(seconds(60)));
  const std::size_t stored = StoredIds().size();
  EXPECT_GE(static_cast<double>(stored), 0.999 * kCalls);
  EXPECT_EQ(stored, accepted) << "what was acknowledged is there";
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
  Close();
  MutexLock lock(mutex);
  EXPECT_GT(failures, 0u);
}

class SteppedAcceptanceTest : public SteppedPressureTest {};

// Calls come on the clock's schedule, whatever the database does: as many as it takes, then twice
// as many for ten seconds, then as many again. No call waits, and none is refused.
TEST_F(SteppedAcceptanceTest, Stress_ASpikeOfTwiceTheRateDropsNothing) {
  constexpr int kPerTick = 5;  // what the database takes in a tenth of a second
  constexpr milliseconds kTick(100);
  options_.monitoring_interval = seconds(1);
  options_.pressure_records = 10'000;
  // A tenth more than what the spike leaves waiting, and half of what comes in all.
  options_.max_unflushed_records = 110 * kPerTick;
  options_.backpressure_strategy = Overflow::kDropNewest;
  options_.emergency_enabled = true;
  allowed_ = 0;
  Open();
  int called = 0, taken = 0;
  const auto run = [&](int ticks, int arrivals) {
    for (int tick = 0; tick < ticks; ++tick) {
      time_.Advance(kTick);
      called += arrivals;
      taken += LogMany(arrivals, 1 + tick % 5);
      Apply(std::min<std::int64_t>(kPerTick, static_cast<std::int64_t>(pending())));
    }
  };
  run(20, kPerTick);
  EXPECT_EQ(pending(), 0u) << "the usual rate is what it takes";
  run(100, 2 * kPerTick);
  EXPECT_EQ(pending(), 100u * kPerTick) << "half of the spike waits";
  run(100, 0);
  EXPECT_EQ(pending(), 0u);
  EXPECT_EQ(taken, called);
  EXPECT_EQ(storage_->GetStats().drops.total(), 0u);
  EXPECT_EQ(Stored().activities, static_cast<std::uint64_t>(called));
}

// Each message takes the database between a tenth of a second and two, and one in twenty fails.
TEST_F(SteppedAcceptanceTest, Stress_DeliversAllToADatabaseThatIsSlowAndFails) {
  constexpr std::uint64_t kMessages = 400;
  const std::uint64_t seed = Random::FromSystem().Next();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);  // the only worker's
  std::atomic<std::uint64_t> failures{0};
  database_.OnApply([&] {
    time_.Advance(milliseconds(100 + random.Next() % 1901));
    if (!random.OneIn(20)) return SwitchableDatabase::Cut::kNone;
    ++failures;
    return random.OneIn(2) ? SwitchableDatabase::Cut::kBefore : SwitchableDatabase::Cut::kAfter;
  });
  Open();
  for (std::uint64_t i = 0; i < kMessages; ++i) ASSERT_OK(Log());
  Await([&] { return pending() == 0; });
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(Stored().activities, kMessages);
  EXPECT_EQ(stats.drops.total(), 0u);
  EXPECT_GE(stats.flush_time.mean, 100'000);
  EXPECT_LE(stats.flush_time.mean, 2'000'000);
  Close();
  EXPECT_GT(failures, 0u);
}

// Twenty minutes without the database, with calls all the time.
TEST_F(SteppedAcceptanceTest, Stress_AnOutageOfMinutesCostsNothing) {
  options_.initial_backoff = seconds(1);
  options_.max_backoff = minutes(1);
  options_.breaker_failures = 5;
  options_.breaker_open_time = minutes(1);
  options_.batch_size = 1000;
  Open();
  database_.GoAway();
  int taken = 0;
  for (int minute = 0; minute < 20; ++minute) {
    taken += LogMany(50);
    ASSERT_OK(Save("t" + std::to_string(minute)));
    for (int i = 0; i < 60; ++i) time_.Advance(seconds(1));
  }
  EXPECT_EQ(Stored().activities, 0u);
  EXPECT_EQ(storage_->GetStats().pending, 1020u);
  database_.ComeBack();
  Await([&] {
    time_.Advance(seconds(1));
    EXPECT_OK(Log());
    ++taken;
    return Stored().tasks == 20;
  });
  Await([&] {
    time_.Advance(seconds(1));
    return pending() == 0;
  });
  EXPECT_EQ(Stored().activities, static_cast<std::uint64_t>(taken));
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

}  // namespace
}  // namespace taskwal::pipeline
