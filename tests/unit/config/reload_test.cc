// The file read again while the storage runs.
#include "config/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "base/logging.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int LetIn(EffectWorld& world, int calls) {
  int let_in = 0;
  for (int i = 0; i < calls; ++i) let_in += world.Log().ok() ? 1 : 0;
  return let_in;
}

bool FewAreLetIn(EffectWorld& world) { return LetIn(world, 100) < 50; }

bool TokensAreSaved(EffectWorld& world) {
  return world.Comes([&] { return world.control().FlowControl().tokens > 500; });
}

bool TheNewestGivesWay(EffectWorld& world) {
  world.apply_gate().Shut();
  EXPECT_EQ(LetIn(world, 2), 1);
  return world.stats().drops.of(DropReason::kNewest) == 1;
}

bool HalfOfTwentyAreSampledOut(EffectWorld& world) {
  world.apply_gate().Shut();
  EXPECT_EQ(LetIn(world, 21), 1);
  return world.stats().drops.of(DropReason::kSampled) == 10;
}

bool FourBatchesAreUnderWay(EffectWorld& world) {
  world.apply_gate().Shut();
  for (int i = 0; i < 100; ++i) EXPECT_OK(world.Log("task-" + std::to_string(i)));
  return world.Comes([&] { return world.apply_gate().waiting() == 4; });
}

bool ErrorsAreNotLogged(EffectWorld&) { return !Logger().should_log(spdlog::level::err); }

std::vector<KeyEffect> RunTimeEffects() {
  return {
      {"buffer.backpressure_strategy", "drop_newest", "buffer.size=1 buffer.block_timeout=0",
       &TheNewestGivesWay},
      {"buffer.sample_one_in", "2",
       "buffer.size=1 buffer.block_timeout=0 buffer.backpressure_strategy=sample",
       &HalfOfTwentyAreSampledOut},
      {"buffer.rate_limit", "1", "buffer.block_timeout=0", &FewAreLetIn},
      {"buffer.rate_burst", "1000", "buffer.rate_limit=1000 buffer.rate_window=0",
       &TokensAreSaved},
      {"worker_pool.num_workers", "4", "", &FourBatchesAreUnderWay},
      {"log.level", "off", "", &ErrorsAreNotLogged},
  };
}

// The file of a world, written anew by the tests.
class Reload : public ::testing::Test {
 protected:
  ~Reload() override { Logger().set_level(level_); }

  static std::string FileIn(const EffectWorld& world) { return world.dir().File("taskwal.yaml"); }
  static void Write(const EffectWorld& world, const std::string& text) {
    std::ofstream(FileIn(world)) << text;
  }

  const spdlog::level::level_enum level_ = Logger().level();
};

class RunTimeEffect : public Reload, public ::testing::WithParamInterface<KeyEffect> {};

TEST_P(RunTimeEffect, ShowsOnceTheFileHasBeenReadAgain) {
  const KeyEffect& effect = GetParam();
  {
    EffectWorld before(effect, false);
    before.Open();
    EXPECT_FALSE(effect.holds(before));
  }
  EffectWorld world(effect, false);
  world.Open();
  Reloader reloader(FileIn(world), world.config(), world.config());
  Write(world, YamlOf(effect, true, world.wal()));
  ASSERT_OK_AND_ASSIGN(const ReloadReport report, reloader.Reload(&world.control()));
  EXPECT_THAT(report.applied, ElementsAre(effect.key));
  EXPECT_THAT(report.need_restart, IsEmpty());
  world.ExpectEffect();
  EXPECT_TRUE(effect.holds(world));
}

INSTANTIATE_TEST_SUITE_P(Configuration, RunTimeEffect, ::testing::ValuesIn(RunTimeEffects()),
                         [](const ::testing::TestParamInfo<KeyEffect>& effect) {
                           std::string name(effect.param.key);
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST_F(Reload, EveryKeyOfTheRunTimeIsTestedForItsEffect) {
  std::vector<std::string> tested;
  for (const KeyEffect& effect : RunTimeEffects()) tested.emplace_back(effect.key);
  EXPECT_EQ(RunTimeKeys(), tested);
}

const KeyEffect kPlain{"buffer.rate_limit", "5", "", nullptr};

TEST_F(Reload, AKeyThatNeedsARestartIsNamedEachTimeAndChangesNothing) {
  EffectWorld world(kPlain, false);
  world.Open();
  Reloader reloader(FileIn(world), world.config(), world.config());
  Write(world, world.yaml() + "worker_pool:\n  batch_size: 7\n");
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const ReloadReport report, reloader.Reload(&world.control()));
    EXPECT_THAT(report.need_restart, ElementsAre("worker_pool.batch_size"));
    EXPECT_THAT(report.applied, IsEmpty());
  }
  EXPECT_EQ(world.flow().batch_size.size, 5000u);
}

TEST_F(Reload, AWrongFileChangesNothing) {
  EffectWorld world(kPlain, false);
  world.Open();
  Reloader reloader(FileIn(world), world.config(), world.config());
  Write(world, world.yaml() + "buffer:\n  rate_limit: 5\n  rate_brust: 5\n");
  const auto report = reloader.Reload(&world.control());
  EXPECT_THAT(report, StatusIs(StatusCode::kInvalidArgument, HasSubstr("rate_burst")));
  EXPECT_EQ(world.control().FlowControl().rate_limit, 0u);
}

TEST_F(Reload, WhatTheCommandLineSaysStays) {
  EffectWorld world(kPlain, true);
  world.Open();
  Reloader reloader(FileIn(world), DaemonConfig{}, world.config());
  Write(world, YamlOf({"buffer.rate_limit", "9", "buffer.rate_burst=3", nullptr}, true,
                      world.wal()));
  ASSERT_OK_AND_ASSIGN(const ReloadReport report, reloader.Reload(&world.control()));
  EXPECT_THAT(report.applied, ElementsAre("buffer.rate_burst"));
  EXPECT_EQ(world.control().FlowControl().rate_limit, 5u);
  EXPECT_EQ(world.control().FlowControl().rate_burst, 3u);
}

// Knobs turned by other means are left alone as long as the file says the same.
TEST_F(Reload, TurnsNothingThatTheFileSaysAsBefore) {
  EffectWorld world(kPlain, true);
  world.Open();
  Reloader reloader(FileIn(world), world.config(), world.config());
  ASSERT_OK(world.control().SetRate(77, 0));
  Write(world, world.yaml());
  ASSERT_OK_AND_ASSIGN(const ReloadReport report, reloader.Reload(&world.control()));
  EXPECT_THAT(report.applied, IsEmpty());
  EXPECT_EQ(world.control().FlowControl().rate_limit, 77u);
}

// Nor are they where another key turns the same knob.
TEST_F(Reload, TurnsOfOneKnobWhatTheFileSaysAnew) {
  EffectWorld world(kPlain, true);
  world.Open();
  Reloader reloader(FileIn(world), world.config(), world.config());
  ASSERT_OK(world.control().SetRate(77, 0));
  ASSERT_OK(world.control().SetPolicy(Overflow::kDropNewest, 3));
  Write(world, YamlOf({"buffer.rate_limit", "5", "buffer.rate_burst=9 buffer.sample_one_in=4",
                       nullptr}, true, world.wal()));
  ASSERT_OK_AND_ASSIGN(ReloadReport report, reloader.Reload(&world.control()));
  EXPECT_THAT(report.applied, ElementsAre("buffer.rate_burst", "buffer.sample_one_in"));
  EXPECT_EQ(world.control().FlowControl().rate_limit, 77u);
  EXPECT_EQ(world.control().FlowControl().rate_burst, 9u);
  EXPECT_EQ(world.control().FlowControl().policy, Overflow::kDropNewest);
  EXPECT_EQ(world.control().FlowControl().sample_one_in, 4u);
}

TEST_F(Reload, WithoutALogOnlyItsOwnTurns) {
  EffectWorld world(kPlain, true);
  Reloader reloader(FileIn(world), DaemonConfig{}, DaemonConfig{});
  Write(world, "buffer:\n  rate_limit: 5\nlog:\n  level: debug\n");
  ASSERT_OK_AND_ASSIGN(const ReloadReport report, reloader.Reload(nullptr));
  EXPECT_THAT(report.applied, ElementsAre("log.level"));
  EXPECT_THAT(report.need_restart, ElementsAre("buffer.rate_limit"));
}

TEST_F(Reload, AnotherDatabaseNeedsARestart) {
  EffectWorld world(kPlain, true);
  Reloader reloader(FileIn(world), DaemonConfig{}, DaemonConfig{});
  Write(world, "database: 'memory:'\n");
  ASSERT_OK_AND_ASSIGN(ReloadReport report, reloader.Reload(nullptr));
  EXPECT_THAT(report.need_restart, ElementsAre("database"));
  Write(world, "targets:\n  - {name: a, dsn: 'memory:'}\n");
  ASSERT_OK_AND_ASSIGN(report, reloader.Reload(nullptr));
  EXPECT_THAT(report.need_restart, ElementsAre("targets"));
}

}  // namespace
}  // namespace taskwal::config
