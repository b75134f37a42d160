// reliability.pressure_*, emergency_* and their kin: how the load is judged.
#include <gtest/gtest.h>

#include <thread>

#include "base/status_macros.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

using std::chrono::milliseconds;

BackpressureSnapshot LoadOf(EffectWorld& world) { return world.control().Backpressure(); }

bool IsUnderPressure(EffectWorld& world) { return LoadOf(world).changes > 0; }

// Unflushed, with nothing failing.
void Pile(EffectWorld& world, int records) {
  world.apply_gate().Shut();
  world.Open();
  for (int i = 0; i < records; ++i) EXPECT_OK(world.Log());
}

// Once; it is not tried again.
void FailOnce(EffectWorld& world) {
  world.OnApply(&FailTransiently);
  world.Open();
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return world.stats().flush_errors == 1; });
}

bool LoadIsLookedAtOften(EffectWorld& world) {
  world.Open();
  return world.Comes([&] { return LoadOf(world).history.size() >= 10; });
}

bool TwelveRecordsArePressure(EffectWorld& world) {
  Pile(world, 12);
  return world.Comes([&] { return IsUnderPressure(world); });
}

bool TwelveRecordsAreNoPressure(EffectWorld& world) {
  Pile(world, 12);
  return world.StaysAway([&] { return IsUnderPressure(world); });
}

bool ASlowTransactionIsPressure(EffectWorld& world) {
  world.OnApply([](const storage::Batch&) {
    std::this_thread::sleep_for(milliseconds(5));
    return Status::Ok();
  });
  world.Open();
  return world.Comes([&] {
    EXPECT_OK(world.Log());
    world.Flush();
    return IsUnderPressure(world);
  });
}

bool OneFailureIsPressure(EffectWorld& world) {
  FailOnce(world);
  return world.Comes([&] { return IsUnderPressure(world); });
}

bool OneFailureIsAnEmergency(EffectWorld& world) {
  FailOnce(world);
  return world.Comes([&] { return LoadOf(world).state == Pressure::kEmergency; });
}

bool ThresholdsStandStill(EffectWorld& world) {
  world.Open();
  return world.StaysAway([&] { return LoadOf(world).records_threshold != 800'000; });
}

std::uint64_t Shed(EffectWorld& world) { return world.stats().drops.of(DropReason::kShed, 1); }

bool UnimportantOnesAreShed(EffectWorld& world) {
  FailOnce(world);
  EffectWorld::Expect([&] { return LoadOf(world).state == Pressure::kEmergency; });
  return world.Comes([&] {
    IgnoreStatus(world.Log("t", 1), "it may be shed");
    return Shed(world) > 0;
  });
}

bool AllUnimportantOnesAreShed(EffectWorld& world) {
  FailOnce(world);
  EffectWorld::Expect([&] {
    IgnoreStatus(world.Log("t", 1), "it may be shed");
    return Shed(world) > 0;
  });
  const std::uint64_t before = Shed(world);
  for (int i = 0; i < 10; ++i) IgnoreStatus(world.Log("t", 1), "it may be shed");
  return Shed(world) - before == 10;
}

constexpr std::string_view kLooks = "reliability.monitoring_interval=1ms";
constexpr std::string_view kLooksAtRecords =
    "reliability.monitoring_interval=1ms reliability.pressure_inflow=0 "
    "reliability.adaptive_thresholds=false";
constexpr std::string_view kLooksAtInflow =
    "reliability.monitoring_interval=1ms reliability.pressure_records=20 "
    "reliability.adaptive_thresholds=false";
constexpr std::string_view kLooksAtFailures =
    "reliability.monitoring_interval=1ms retry.initial_backoff=1h retry.max_backoff=1h";
constexpr std::string_view kFailuresAreEmergencies =
    "reliability.monitoring_interval=1ms retry.initial_backoff=1h retry.max_backoff=1h "
    "reliability.emergency_error_rate=0.01";
constexpr std::string_view kFailuresAreEmergenciesThatShed =
    "reliability.monitoring_interval=1ms retry.initial_backoff=1h retry.max_backoff=1h "
    "reliability.emergency_error_rate=0.01 reliability.emergency_enabled=true";

}  // namespace

std::vector<KeyEffect> PressureEffects() {
  return {
      {"reliability.monitoring_interval", "1ms", "", &LoadIsLookedAtOften},
      {"reliability.pressure_records", "10", kLooksAtRecords, &TwelveRecordsArePressure},
      {"reliability.pressure_latency", "1ms", kLooks, &ASlowTransactionIsPressure},
      {"reliability.pressure_error_rate", "0.01", kLooksAtFailures, &OneFailureIsPressure},
      {"reliability.pressure_inflow", "0", kLooksAtInflow, &TwelveRecordsAreNoPressure},
      {"reliability.adaptive_thresholds", "false", kLooks, &ThresholdsStandStill},
      {"reliability.recovery_factor", "0", kLooks, &ThresholdsStandStill},
      {"reliability.emergency_enabled", "true", kFailuresAreEmergencies, &UnimportantOnesAreShed},
      {"reliability.emergency_throttle", "1", kFailuresAreEmergenciesThatShed,
       &AllUnimportantOnesAreShed},
      {"reliability.emergency_error_rate", "0.01", kLooksAtFailures, &OneFailureIsAnEmergency},
  };
}

}  // namespace taskwal::config
