// Turns of activities over several targets: only what is kept takes one, and the next open goes on
// behind the last.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <thread>

#include "tests/unit/pipeline/several_targets.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;

const std::vector<NamedWeight> kFour{{"a", 4}, {"b", 3}, {"c", 2}, {"d", 1}};
const std::vector<NamedWeight> kForty{{"a", 40}, {"b", 30}, {"c", 20}, {"d", 10}};

class ActivityTurnsTest : public SeveralTargetsTest {
 protected:
  using Shares = std::map<std::string, std::uint64_t>;

  ActivityTurnsTest() { at_once_.timeout = std::chrono::milliseconds(0); }
  Status Log(const WriteOptions& options = {}) {
    return storage_->LogActivity(ActivityOn("t"), options).status();
  }
  // As a short process has it: a record that takes no turn beside each that does.
  void SaveAndLog(int run) {
    ASSERT_OK(storage_->SaveTask(TaskNamed("t" + std::to_string(run)), {}));
    ASSERT_OK(Log());
  }
  Shares Activities() {
    Shares shares;
    for (const auto& [name, database] : databases_) shares[name] = Stored(name).activities;
    return shares;
  }

  WriteOptions at_once_;
};

TEST_F(ActivityTurnsTest, RunsOfASaveAndAnActivityShareThemExactly) {
  for (int run = 0; run < 10; ++run) {
    Open({{"a", 1}, {"b", 1}});
    SaveAndLog(run);
    Close();
  }
  EXPECT_EQ(Activities(), (Shares{{"a", 5}, {"b", 5}}));
}

TEST_F(ActivityTurnsTest, SoTheyDoUnderAnyWeights) {
  for (int run = 0; run < 20; ++run) {
    Open(kFour);
    SaveAndLog(run);
    Close();
  }
  EXPECT_EQ(Activities(), (Shares{{"a", 8}, {"b", 6}, {"c", 4}, {"d", 2}}));
}

TEST_F(ActivityTurnsTest, ARunWithoutActivitiesChangesNobodysTurn) {
  for (int run = 0; run < 20; ++run) {
    Open({{"a", 1}, {"b", 1}});
    if (run % 2 == 0) {
      ASSERT_OK(Log());
    } else {
      ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
    }
    Close();
  }
  EXPECT_EQ(Activities(), (Shares{{"a", 5}, {"b", 5}}));
}

TEST_F(ActivityTurnsTest, TheStateOfACleanEndNamesThem) {
  Open({{"a", 1}, {"b", 1}});
  for (int run = 0; run < 3; ++run) SaveAndLog(run);
  Close();
  ASSERT_OK_AND_ASSIGN(const wal::LogState state, wal::ReadState(*fs_, options_.wal_dir));
  EXPECT_EQ(state.turns, 3u);
  EXPECT_EQ(state.turns_lsn, 6u);
}

// A cycle that a kill has cut is no full one: what came behind the last word counts as turns.
TEST_F(ActivityTurnsTest, BehindAStateThatKnowsLessTheyAreCountedByRecords) {
  Open({{"a", 1}, {"b", 1}});
  SaveAndLog(0);
  Close();
  ASSERT_OK_AND_ASSIGN(const wal::LogState before, wal::ReadState(*fs_, options_.wal_dir));
  Open({{"a", 1}, {"b", 1}});
  for (int run = 1; run < 4; ++run) SaveAndLog(run);
  Close();
  ASSERT_OK_AND_ASSIGN(wal::LogState state, wal::ReadState(*fs_, options_.wal_dir));
  state.turns = before.turns;
  state.turns_lsn = before.turns_lsn;
  ASSERT_OK(wal::WriteState(*fs_, options_.wal_dir, state));
  Open({{"a", 1}, {"b", 1}});
  ASSERT_OK(Log());
  Close();
  ASSERT_OK_AND_ASSIGN(state, wal::ReadState(*fs_, options_.wal_dir));
  EXPECT_EQ(state.turns, 1u + 6u + 1u);
  EXPECT_EQ(state.turns_lsn, 9u);
}

TEST_F(ActivityTurnsTest, OfASampleWhatIsKeptIsSharedExactly) {
  options_.backpressure_strategy = Overflow::kSample;
  options_.sample_one_in = 10;
  options_.pressure_records = 10;
  options_.pressure_error_rate = options_.emergency_error_rate = 0;  // of who is away
  options_.monitoring_interval = std::chrono::milliseconds(5);
  Open(kForty);
  for (const auto& target : kForty) Database(target.name).GoAway();
  for (int i = 0; i < 10; ++i) ASSERT_OK(Log());
  Control& control = *storage_->GetControl();
  AwaitThat([&] { return control.Backpressure().state == Pressure::kPressure; });
  int kept = 0;
  for (int i = 0; i < 1000; ++i) kept += Log().ok() ? 1 : 0;
  ASSERT_EQ(kept, 100);
  for (const auto& target : kForty) Database(target.name).ComeBack();
  Flush();
  EXPECT_EQ(Activities(), (Shares{{"a", 44}, {"b", 33}, {"c", 22}, {"d", 11}}));
}

TEST_F(ActivityTurnsTest, WhatTheRateLimitRefusesUsesNoTurn) {
  Open(kFour);
  Control& control = *storage_->GetControl();
  std::uint64_t kept = 0;
  for (int round = 0; round < 7; ++round) {
    ASSERT_OK(control.SetRate(0, 0));
    ASSERT_OK(Log());
    ++kept;
    ASSERT_OK(control.SetRate(1, 1));
    while (Log(at_once_).ok()) ++kept;  // until one is refused
  }
  ASSERT_OK(control.SetRate(0, 0));
  for (; kept % 10 != 0; ++kept) ASSERT_OK(Log());
  Flush();
  const std::uint64_t cycles = kept / 10;
  EXPECT_EQ(Activities(),
            (Shares{{"a", 4 * cycles}, {"b", 3 * cycles}, {"c", 2 * cycles}, {"d", cycles}}));
}

TEST_F(ActivityTurnsTest, ACallThatWaitsGoesToWhoIsHealthyWhenItEnters) {
  options_.max_unflushed_records = 1;
  Open({{"a", 1}, {"b", 1}});
  for (const char* name : {"a", "b"}) Database(name).GoAway();
  ASSERT_OK(Log());
  WriteOptions waits;
  waits.timeout = seconds(20);
  Status entered;
  {
    const std::jthread caller([&] { entered = Log(waits); });
    AwaitThat([&] { return storage_->GetControl()->FlowControl().waiting == 1u; });
    // Its turn would have been b's.
    EXPECT_OK(storage_->SetTargetHealth("b", false));
    for (const char* name : {"a", "b"}) Database(name).ComeBack();
  }
  ASSERT_OK(entered);
  Flush();
  EXPECT_EQ(Activities(), (Shares{{"a", 2}, {"b", 0}}));
}

}  // namespace
}  // namespace taskwal::pipeline
