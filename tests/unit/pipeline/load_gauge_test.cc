#include "pipeline/admission/load_gauge.h"

#include <gtest/gtest.h>

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LoadGaugeTest : public ::testing::Test {
 protected:
  LoadGaugeTest() {
    options_.adaptive_thresholds = false;
    options_.pressure_records = 1000;
    options_.pressure_latency = milliseconds(100);
  }
  void Make() { gauge_.emplace(options_); }
  // One interval: so many records arrive, so many are pending at its end.
  std::optional<PressureEvent> Look(std::uint64_t pending, std::uint64_t arrived = 0) {
    if (!gauge_) Make();
    arrived_ += arrived;
    now_ += seconds(5);
    return gauge_->Look({pending, pending * 100, arrived_}, now_);
  }
  void Transactions(int good, int bad, milliseconds latency = milliseconds(10)) {
    if (!gauge_) Make();
    for (int i = 0; i < good; ++i) gauge_->OnCommitted(latency);
    for (int i = 0; i < bad; ++i) gauge_->OnFailed();
  }
  Pressure state() { return gauge_->state(); }

  Options options_;
  std::optional<LoadGauge> gauge_;
  Monotonic now_{std::chrono::hours(1)};
  std::uint64_t arrived_ = 0;
};

TEST_F(LoadGaugeTest, Detection_EachSignalMakesPressureByItself) {
  EXPECT_FALSE(Look(999).has_value());
  auto event = Look(1000);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->to, Pressure::kPressure);
  EXPECT_EQ(event->signal, "records");

  Make();
  Transactions(10, 0, milliseconds(120));
  event = Look(10);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->signal, "latency");

  Make();
  Transactions(88, 12);
  event = Look(10);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->signal, "errors");

  Make();
  Look(100);
  event = Look(800, 1100);  // 400 applied meanwhile
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->signal, "inflow");
}

TEST_F(LoadGaugeTest, Detection_TheStateIsLeftWellBelowWhereItIsEntered) {
  EXPECT_TRUE(Look(1000).has_value());
  EXPECT_FALSE(Look(900).has_value());
  EXPECT_FALSE(Look(701).has_value());
  EXPECT_EQ(state(), Pressure::kPressure);
  const auto event = Look(699);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->to, Pressure::kNormal);
  EXPECT_EQ(gauge_->Snapshot().changes, 2u);
}

TEST_F(LoadGaugeTest, Detection_TwiceAThresholdIsAnEmergencyAndGivesWayByPressure) {
  Look(2000);
  EXPECT_EQ(state(), Pressure::kEmergency);
  Look(1500);
  EXPECT_EQ(state(), Pressure::kEmergency);
  Look(1300);
  EXPECT_EQ(state(), Pressure::kPressure);
}

TEST_F(LoadGaugeTest, Detection_AFifthOfErrorsIsAnEmergency) {
  Transactions(81, 19);
  Look(10);
  EXPECT_EQ(state(), Pressure::kPressure);
  Make();
  Transactions(80, 20);
  Look(10);
  EXPECT_EQ(state(), Pressure::kEmergency);
}

TEST_F(LoadGaugeTest, ASingleFailureIsNoPressure) {
  Transactions(0, 1);
  EXPECT_FALSE(Look(10).has_value());
}

// While the breaker is open nothing is tried: that is no sign of health.
TEST_F(LoadGaugeTest, AnOutageLastsUntilSomethingSucceeds) {
  Transactions(0, 5);
  Look(10);
  ASSERT_EQ(state(), Pressure::kEmergency);
  for (int i = 0; i < 60; ++i) Look(10);
  EXPECT_EQ(state(), Pressure::kEmergency);
  for (int i = 0; i < 5; ++i) {
    Transactions(20, 0);
    Look(10);
  }
  EXPECT_EQ(state(), Pressure::kNormal);
}

TEST_F(LoadGaugeTest, AnOutageLastsThoughNothingIsPending) {
  Transactions(0, 5);
  Look(0);
  EXPECT_EQ(state(), Pressure::kEmergency);
  for (int i = 0; i < 100; ++i) Look(0);
  EXPECT_EQ(state(), Pressure::kEmergency);
  Transactions(1, 0);
  for (int i = 0; i < 100; ++i) Look(0);
  EXPECT_EQ(state(), Pressure::kNormal);
}

TEST_F(LoadGaugeTest, ASignalWithoutThresholdIsNotLookedAt) {
  options_.pressure_records = 0;
  options_.pressure_latency = milliseconds(0);
  options_.pressure_error_rate = 0;
  options_.emergency_error_rate = 0;
  options_.pressure_inflow = 0;
  Transactions(10, 90, seconds(10));
  Look(1'000'000'000, 1'000'000'000);
  EXPECT_EQ(state(), Pressure::kNormal);
}

TEST_F(LoadGaugeTest, InflowIsLookedAtWithoutARecordThreshold) {
  options_.pressure_records = 0;
  Look(1000);
  EXPECT_FALSE(Look(3000, 2500).has_value());  // too few to matter
  Look(80'000, 1'000'000);
  const auto event = Look(150'000, 100'000);  // 30,000 applied meanwhile
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->to, Pressure::kPressure);
  EXPECT_EQ(event->signal, "inflow");
}

TEST_F(LoadGaugeTest, ThresholdsMoveByAShareTowardsThreeTimesTheUsual) {
  options_.adaptive_thresholds = true;
  options_.recovery_factor = 0.1;
  Look(600);
  // 600 is usual, so three times that is, within twice what was given.
  EXPECT_DOUBLE_EQ(gauge_->Snapshot().records_threshold, 1000 + (1800 - 1000) * 0.1);
  for (int i = 0; i < 100; ++i) Look(600);
  EXPECT_NEAR(gauge_->Snapshot().records_threshold, 1800, 1);
  for (int i = 0; i < 200; ++i) Look(10);
  EXPECT_NEAR(gauge_->Snapshot().records_threshold, 500, 1);  // never below half
}

TEST_F(LoadGaugeTest, UnderPressureThresholdsGoBackToWhatWasGiven) {
  options_.adaptive_thresholds = true;
  for (int i = 0; i < 100; ++i) Look(900);
  EXPECT_NEAR(gauge_->Snapshot().records_threshold, 2000, 1);
  for (int i = 0; i < 100; ++i) Look(5000);
  EXPECT_NEAR(gauge_->Snapshot().records_threshold, 1000, 1);
}

TEST_F(LoadGaugeTest, KeepsAHistoryOfBoundedLength) {
  for (int i = 0; i < 100; ++i) Look(static_cast<std::uint64_t>(i), 500);
  const BackpressureSnapshot snapshot = gauge_->Snapshot();
  ASSERT_EQ(snapshot.history.size(), 60u);
  EXPECT_DOUBLE_EQ(snapshot.history.front().records, 40);
  EXPECT_DOUBLE_EQ(snapshot.now.records, 99);
  EXPECT_DOUBLE_EQ(snapshot.now.arrivals_per_second, 100);
  EXPECT_NEAR(snapshot.now.applied_per_second, 99.8, 1e-6);
}

}  // namespace
}  // namespace taskwal::pipeline
