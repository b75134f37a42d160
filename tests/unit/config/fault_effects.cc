// retry.*, circuit_breaker.*, dead_letter.*: what becomes of batches that fail.
#include <gtest/gtest.h>

#include <algorithm>

#include "taskwal/dead_letters.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

using std::chrono::milliseconds;

std::string BreakerOf(EffectWorld& world) { return world.flow().breaker.state; }

void Await(EffectWorld& world, std::uint64_t applied) {
  EffectWorld::Expect([&] { return world.stats().flushed_lsn == applied; });
}

// The first `times` transactions fail; without the key as with it the record stays where it is
// until then.
void FailFirst(EffectWorld& world, std::uint64_t times) {
  const std::uint64_t before = world.applies();
  world.OnApply([&world, last = before + times](const storage::Batch& batch) {
    return world.applies() <= last ? FailTransiently(batch) : Status::Ok();
  });
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return world.stats().flush_errors >= times; });
}

// --- pauses ------------------------------------------------------------------------------------

bool FourthTryComes(EffectWorld& world) {
  world.OnApply(&FailTransiently);
  world.Open();
  EXPECT_OK(world.Log());
  return world.Comes([&] { return world.applies() >= 4; });
}

bool FourthTryStaysAway(EffectWorld& world) {
  world.OnApply(&FailTransiently);
  world.Open();
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return world.applies() >= 3; });
  return world.StaysAway([&] { return world.applies() >= 4; });
}

bool SecondTryStaysAway(EffectWorld& world) {
  world.OnApply(&FailTransiently);
  world.Open();
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return world.applies() >= 1; });
  return world.StaysAway([&] { return world.applies() == 2; }, milliseconds(400));
}

// Half of a pause may be left to chance.
bool NoPauseIsShorterThanToldInTenTries(EffectWorld& world) {
  constexpr auto kPause = milliseconds(30);
  std::atomic<int> tries{0};
  std::atomic<bool> is_short{false};
  Monotonic last = Monotonic::min();
  world.OnApply([&](const storage::Batch& batch) {
    const Monotonic now = Clock::Real().Now();
    if (tries > 0 && now - last < kPause) is_short = true;
    last = now;
    ++tries;
    return FailTransiently(batch);
  });
  world.Open();
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return tries >= 10; });
  const bool holds = world.StaysAway([&] { return is_short.load(); });
  world.Leave();
  return holds;
}

// --- the breaker -------------------------------------------------------------------------------

bool OneFailureOpensIt(EffectWorld& world) {
  world.Open();
  FailFirst(world, 1);
  return world.flow().breaker.opened == 1;
}

// So many successes before it that the failure is a small share of all.
bool OneFailureAfterSuccessesOpensIt(EffectWorld& world) {
  world.Open();
  for (std::uint64_t i = 1; i <= 5; ++i) {
    EXPECT_OK(world.Log());
    Await(world, i);
  }
  Clock::Real().SleepFor(milliseconds(20));
  FailFirst(world, 1);
  return world.flow().breaker.opened == 1;
}

bool OpenForAMoment(EffectWorld& world) {
  world.Open();
  FailFirst(world, 1);
  return world.Comes([&] { return world.stats().applied == 1; });
}

bool OneGoodTrialIsNotEnough(EffectWorld& world) {
  world.Open();
  FailFirst(world, 1);
  Await(world, 1);
  return BreakerOf(world) == "half-open";
}

bool SecondTrialStaysAway(EffectWorld& world) {
  world.Open();
  FailFirst(world, 1);
  Await(world, 1);
  EXPECT_OK(world.Log());
  return world.StaysAway([&] { return world.stats().flushed_lsn == 2; });
}

// --- dead letters ------------------------------------------------------------------------------

void Letter(EffectWorld& world) {
  world.OnApply(&RefuseRows);
  world.Open();
  EXPECT_OK(world.Log());
  Await(world, 1);
}

bool TheFirstRefusalIsFinal(EffectWorld& world) {
  Letter(world);
  const auto letters = world.storage().GetDeadLetters()->List(10);
  EXPECT_OK(letters);
  return letters->front().attempts == 1;
}

bool TheLogWaitsBehindOneLetter(EffectWorld& world) {
  Letter(world);
  EXPECT_OK(world.Log());
  return world.Comes(
      [&] { return world.stats().alarm.find("the log waits") != std::string::npos; });
}

bool TheLogWaitsForARefusedRow(EffectWorld& world) {
  world.OnApply(&RefuseRows);
  world.Open();
  EXPECT_OK(world.Log());
  EffectWorld::Expect([&] { return world.stats().dead_lettered + world.stats().flush_errors > 0; });
  return world.Comes([&] {
    return world.stats().alarm.find("dead letters are off") != std::string::npos;
  });
}

bool AnActivitysLetterExpires(EffectWorld& world) {
  Letter(world);
  return world.Comes([&] { return world.stats().dead_letters.expired == 1; });
}

constexpr std::string_view kShortPauses = "retry.initial_backoff=1ms";
constexpr std::string_view kSteepPauses =
    "retry.initial_backoff=1ms retry.multiplier=1000 retry.max_backoff=1h retry.jitter=false "
    "circuit_breaker.failure_threshold=1000000";
constexpr std::string_view kPausesWithChance =
    "retry.initial_backoff=30ms retry.strategy=constant "
    "circuit_breaker.failure_threshold=1000000";
constexpr std::string_view kShareOfFailures =
    "circuit_breaker.failure_threshold=1000000 circuit_breaker.min_requests=1 "
    "retry.initial_backoff=1h retry.max_backoff=1h";
constexpr std::string_view kLargeShareOfFailures =
    "circuit_breaker.failure_threshold=1000000 circuit_breaker.min_requests=1 "
    "circuit_breaker.error_rate=0.9 retry.initial_backoff=1h retry.max_backoff=1h "
    "worker_pool.flush_interval=0";
constexpr std::string_view kAnyShareOfFailures =
    "circuit_breaker.failure_threshold=1000000 circuit_breaker.error_rate=0.1 "
    "retry.initial_backoff=1h retry.max_backoff=1h";
constexpr std::string_view kOpensAtOnce =
    "circuit_breaker.failure_threshold=1 retry.initial_backoff=0";
constexpr std::string_view kOpensAtOnceForAMoment =
    "circuit_breaker.failure_threshold=1 circuit_breaker.timeout=1ms retry.initial_backoff=0";
constexpr std::string_view kTwoTrials =
    "circuit_breaker.failure_threshold=1 circuit_breaker.timeout=1ms retry.initial_backoff=0 "
    "circuit_breaker.max_requests=2";
constexpr std::string_view kLooksOften = "log.metrics_interval=10ms";

}  // namespace

std::vector<KeyEffect> FaultEffects() {
  return {
      {"retry.max_retries", "0", "", &TheFirstRefusalIsFinal},
      {"retry.strategy", "constant", kSteepPauses, &FourthTryComes},
      {"retry.initial_backoff", "1h", "retry.max_backoff=1h", &SecondTryStaysAway},
      {"retry.max_backoff", "1ms", kSteepPauses, &FourthTryComes},
      {"retry.multiplier", "1000", kShortPauses, &FourthTryStaysAway},
      {"retry.jitter", "false", kPausesWithChance, &NoPauseIsShorterThanToldInTenTries},
      {"circuit_breaker.failure_threshold", "1", "", &OneFailureOpensIt},
      {"circuit_breaker.error_rate", "0.1", kShareOfFailures, &OneFailureOpensIt},
      {"circuit_breaker.min_requests", "1", kAnyShareOfFailures, &OneFailureOpensIt},
      {"circuit_breaker.interval", "1ms", kLargeShareOfFailures, &OneFailureAfterSuccessesOpensIt},
      {"circuit_breaker.timeout", "1ms", kOpensAtOnce, &OpenForAMoment},
      {"circuit_breaker.max_requests", "2", kOpensAtOnceForAMoment, &OneGoodTrialIsNotEnough},
      {"circuit_breaker.trial_interval", "1h", kTwoTrials, &SecondTrialStaysAway},
      {"dead_letter.enabled", "false", kShortPauses, &TheLogWaitsForARefusedRow},
      {"dead_letter.max_size", "1", "", &TheLogWaitsBehindOneLetter},
      {"dead_letter.max_bytes", "1", "", &TheLogWaitsBehindOneLetter},
      {"dead_letter.max_age", "1ms", kLooksOften, &AnActivitysLetterExpires},
  };
}

}  // namespace taskwal::config
