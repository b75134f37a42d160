// The states of the load as the monitor finds them, and the shedding that follows from them.
#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Notes what on_pressure is told.
class DetectionTest : public SteppedPressureTest {
 protected:
  DetectionTest() {
    options_.on_pressure = [this](const PressureEvent& event) {
      MutexLock lock(mutex_);
      told_.push_back(event);
    };
  }
  ~DetectionTest() override { Drain(); }
  // Once it is told of that many: another thread does that.
  std::vector<PressureEvent> Told(std::size_t count) {
    Await([&] {
      MutexLock lock(mutex_);
      return told_.size() >= count;
    });
    MutexLock lock(mutex_);
    return told_;
  }

 private:
  Mutex mutex_;
  std::vector<PressureEvent> told_ GUARDED_BY(mutex_);
};

TEST_F(DetectionTest, Detection_TheStateIsLeftWellBelowWhereItIsEntered) {
  options_.pressure_records = 10;
  allowed_ = 0;
  Open();
  ASSERT_EQ(LogMany(9), 9);
  EXPECT_EQ(Look().state, Pressure::kNormal);
  ASSERT_OK(Log());
  EXPECT_EQ(Look().state, Pressure::kPressure);
  Apply(2);
  EXPECT_EQ(Look().state, Pressure::kPressure) << "8 of 10 are no way out";
  Apply(2);
  EXPECT_EQ(Look().state, Pressure::kNormal);
  const auto events = Told(2);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].signal, "records");
}

TEST_F(DetectionTest, Detection_TwiceTheThresholdIsAnEmergency) {
  options_.pressure_records = 10;
  allowed_ = 0;
  Open();
  ASSERT_EQ(LogMany(20), 20);
  EXPECT_EQ(Look().state, Pressure::kEmergency);
  Apply(4);
  EXPECT_EQ(Look().state, Pressure::kEmergency) << "16 of 20 are no way out";
  Apply(4);
  EXPECT_EQ(Look().state, Pressure::kPressure);
  Apply(12);
  EXPECT_EQ(Look().state, Pressure::kNormal);
}

// Arrivals against what is applied, once enough waits for it to matter.
TEST_F(DetectionTest, Detection_ArrivalsAheadOfWhatIsAppliedArePressure) {
  options_.monitoring_interval = seconds(1);
  options_.pressure_records = 1000;
  options_.pressure_inflow = 2;
  allowed_ = 0;
  Open();
  ASSERT_EQ(LogMany(100), 100);
  EXPECT_EQ(Look().state, Pressure::kNormal);
  ASSERT_EQ(LogMany(40), 40);
  Apply(40);
  BackpressureSnapshot look = Look();
  EXPECT_EQ(look.state, Pressure::kNormal) << "it keeps up";
  EXPECT_EQ(look.now.arrivals_per_second, 40);
  EXPECT_EQ(look.now.applied_per_second, 40);
  ASSERT_EQ(LogMany(100), 100);
  Apply(40);
  look = Look();
  EXPECT_EQ(look.state, Pressure::kPressure);
  EXPECT_EQ(look.now.score, 1.25);
  ASSERT_EQ(LogMany(40), 40);
  Apply(40);
  EXPECT_EQ(Look().state, Pressure::kNormal);
  const auto events = Told(2);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].signal, "inflow");
}

TEST_F(DetectionTest, Detection_SlowCommitsArePressure) {
  options_.pressure_latency = seconds(1);
  std::atomic<int> takes_ms{1500};
  database_.FailApply([&](const storage::Batch&) {
    time_.Advance(milliseconds(takes_ms));
    return Status::Ok();
  });
  Open();
  ASSERT_OK(Log());
  Await([&] { return pending() == 0; });
  EXPECT_EQ(Look().state, Pressure::kPressure);
  takes_ms = 100;
  ASSERT_OK(Log());
  Await([&] { return pending() == 0; });
  const BackpressureSnapshot look = Look();
  EXPECT_EQ(look.now.latency_ms, 100);
  EXPECT_EQ(look.state, Pressure::kNormal);
  const auto events = Told(2);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].signal, "latency");
  Drain();
}

// A failed attempt is followed by the next at once; forty are enough for a share.
TEST_F(DetectionTest, Detection_FailedTransactionsArePressure) {
  options_.pressure_error_rate = 0.1;
  options_.emergency_error_rate = 0.2;
  allowed_ = 0;
  Open();
  ASSERT_OK(Log());
  Await([&] { return storage_->GetStats().flush_errors >= 40; });
  BackpressureSnapshot look = Look();
  EXPECT_EQ(look.state, Pressure::kEmergency);
  EXPECT_GE(look.now.error_rate, 0.9);
  Apply(1);
  Look();
  for (int i = 0; i < 20 && look.state != Pressure::kNormal; ++i) look = Look();
  EXPECT_EQ(look.state, Pressure::kNormal) << "idle looks let it fade";
  const auto events = Told(2);
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events.front().signal, "errors");
}

// Three times the records that usually wait.
TEST_F(DetectionTest, Detection_ThresholdsAreTakenFromWhatIsUsual) {
  options_.adaptive_thresholds = true;
  options_.recovery_factor = 0.25;
  options_.pressure_records = 1000;
  allowed_ = 0;
  Open();
  ASSERT_EQ(LogMany(200), 200);
  EXPECT_EQ(Look().records_threshold, 1000 - 0.25 * (1000 - 600));
  EXPECT_EQ(Look().records_threshold, 900 - 0.25 * (900 - 600));
}

// By a share of the way at each look, and back to what was given once there is too much.
TEST_F(DetectionTest, Detection_ThresholdsFollowWhatIsUsual) {
  options_.adaptive_thresholds = true;
  options_.recovery_factor = 0.25;
  options_.pressure_records = 1000;
  allowed_ = 0;
  Open();
  EXPECT_EQ(Look().records_threshold, 1000 - 125);  // nothing is usual: half is the least
  EXPECT_EQ(Look().records_threshold, 781.25);
  ASSERT_EQ(LogMany(800), 800);
  const BackpressureSnapshot look = Look();
  EXPECT_EQ(look.state, Pressure::kPressure);
  EXPECT_EQ(look.records_threshold, 781.25 + 0.25 * (1000 - 781.25));
  EXPECT_EQ(look.history.size(), 3u);
}

TEST_F(DetectionTest, Shedding_ReachesFurtherUpAsLongAsTheEmergencyLasts) {
  options_.emergency_enabled = true;
  options_.emergency_throttle = 1;
  options_.pressure_records = 10;
  allowed_ = 0;
  Open();
  const auto taken = [&] {
    std::vector<int> by_priority;
    for (std::int32_t priority = 1; priority <= 5; ++priority) {
      by_priority.push_back(LogMany(1, priority));
    }
    EXPECT_OK(Save("t"));
    return by_priority;
  };
  using ::testing::ElementsAre;
  ASSERT_EQ(LogMany(20), 20);
  EXPECT_THAT(taken(), ElementsAre(1, 1, 1, 1, 1));
  EXPECT_EQ(Look().shed_up_to, 2);
  EXPECT_THAT(taken(), ElementsAre(0, 0, 1, 1, 1));
  EXPECT_EQ(Look().shed_up_to, 3);
  EXPECT_THAT(taken(), ElementsAre(0, 0, 0, 1, 1));
  EXPECT_EQ(Look().shed_up_to, 4);
  EXPECT_THAT(taken(), ElementsAre(0, 0, 0, 0, 1));
  EXPECT_EQ(Look().shed_up_to, 4) << "the highest priority is never shed";
  Apply(static_cast<std::int64_t>(pending()) - 16);
  EXPECT_EQ(Look().shed_up_to, 3) << "it gives way";
  EXPECT_EQ(Look().shed_up_to, 2);
  Apply(16);
  EXPECT_EQ(Look().shed_up_to, 0);
  EXPECT_THAT(taken(), ElementsAre(1, 1, 1, 1, 1));
  const DropCounts drops = storage_->GetStats().drops;
  EXPECT_EQ(drops.of(DropReason::kShed, 1), 3u);
  EXPECT_EQ(drops.of(DropReason::kShed, 2), 3u);
  EXPECT_EQ(drops.of(DropReason::kShed, 3), 2u);
  EXPECT_EQ(drops.of(DropReason::kShed, 4), 1u);
  EXPECT_EQ(drops.total(), 9u);
}

TEST_F(DetectionTest, Shedding_TakesTheShareOfLowPrioritiesThatIsToGo) {
  options_.emergency_enabled = true;
  options_.pressure_records = 10;
  allowed_ = 0;
  Open();
  ASSERT_EQ(LogMany(20), 20);
  Look();
  EXPECT_EQ(LogMany(100, 1), 20);
  EXPECT_EQ(LogMany(100, 2), 20);
  EXPECT_EQ(LogMany(100, 3), 100);
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kShed, 1), 80u);
}

TEST_F(PressureTest, Detection_AnOutageIsToldAndSoIsItsEnd) {
  std::vector<Pressure> told;
  Mutex mutex;
  options_.on_pressure = [&](const PressureEvent& event) {
    MutexLock lock(mutex);
    told.push_back(event.to);
  };
  Open();
  database_.GoAway();
  ASSERT_OK(Log());
  Await([&] { return control().Backpressure().state == Pressure::kEmergency; });
  database_.ComeBack();
  for (int i = 0; control().Backpressure().state != Pressure::kNormal; ++i) {
    ASSERT_LT(i, 10'000);
    ASSERT_OK(Log());
    ASSERT_OK(storage_->Flush(seconds(30)));
  }
  EXPECT_GE(control().Backpressure().changes, 2u);
  Close();
  MutexLock lock(mutex);
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(told.back(), Pressure::kNormal);
  EXPECT_THAT(told, ::testing::Contains(Pressure::kEmergency));
}

}  // namespace
}  // namespace taskwal::pipeline
