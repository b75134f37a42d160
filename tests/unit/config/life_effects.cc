// reliability.*, log.metrics: opening, the database's absence, and the end.
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/status_macros.h"
#include "taskwal/open.h"
#include "tests/support/silent_port.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

// One after the other.
bool TwoCallsAreGivenUpInSeconds(EffectWorld& world) {
  auto server = std::make_unique<SilentPort>("mysql");
  const auto storage = OpenTaskStorage(server->dsn(), world.config().options);
  EXPECT_OK(storage);
  const bool holds = world.Comes([&] { return (*storage)->GetStats().flush_errors >= 2; });
  server.reset();
  EXPECT_OK((*storage)->Shutdown(ShutdownMode::kImmediate, {}));
  return holds;
}

bool AnIdleDatabaseIsLookedAtOften(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Log());
  world.Flush();
  world.database().GoAway();
  return world.Comes([&] { return world.stats().flush_errors >= 10; });
}

bool ALogWithUnflushedRecordsIsRefused(EffectWorld& world) {
  world.database().GoAway();
  world.Open();
  EXPECT_OK(world.Log());
  world.Leave();
  world.database().ComeBack();
  const auto again = world.TryOpen();
  EXPECT_TRUE(again.ok() || again.status().code() == StatusCode::kRejected);
  return !again.ok();
}

bool OpensWhileTheDatabaseIsSilent(EffectWorld& world) {
  Gate connections;
  connections.Shut();
  world.database().OnConnect([&] { connections.Pass(); });
  std::atomic<bool> is_open{false};
  std::jthread opener([&] {
    world.Open();
    is_open = true;
  });
  const bool holds = world.Comes([&] { return is_open.load(); });
  connections.Open();
  opener.join();
  world.Leave();
  return holds;
}

bool ClosesWithoutDraining(EffectWorld& world) {
  world.Open();
  world.apply_gate().Shut();
  EXPECT_OK(world.Log());
  std::atomic<bool> is_closed{false};
  std::jthread closer([&] {
    IgnoreStatus(world.storage().Close(), "the log keeps what is not drained");
    is_closed = true;
  });
  const bool holds = world.Comes([&] { return is_closed.load(); });
  world.apply_gate().Open();
  closer.join();
  return holds;
}

bool LeavesNoMetrics(EffectWorld& world) {
  world.Open();
  world.Leave();
  return !std::filesystem::exists(world.wal() + "/METRICS");
}

constexpr std::string_view kTriesOften =
    "retry.initial_backoff=0 circuit_breaker.failure_threshold=1000000";

}  // namespace

std::vector<KeyEffect> LifeEffects() {
  return {
      {"reliability.database_timeout", "1s", "reliability.recovery_timeout=0",
       &TwoCallsAreGivenUpInSeconds},
      {"reliability.health_check_interval", "10ms", kTriesOften, &AnIdleDatabaseIsLookedAtOften},
      {"reliability.enable_recovery", "false", "", &ALogWithUnflushedRecordsIsRefused},
      {"reliability.recovery_timeout", "0", "", &OpensWhileTheDatabaseIsSilent},
      {"reliability.shutdown_timeout", "0", "", &ClosesWithoutDraining},
      {"log.metrics", "false", "", &LeavesNoMetrics},
  };
}

}  // namespace taskwal::config
