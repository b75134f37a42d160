// What is pending after a restart, where several targets share the log: counted for each, and not
// the range of LSNs from the one that is furthest behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/status_macros.h"
#include "taskwal/control.h"
#include "tests/support/simulated_file_system.h"
#include "tests/unit/pipeline/several_targets.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;

class AccountingRestartTest : public SeveralTargetsTest {
 protected:
  static constexpr std::uint64_t kEach = 20;

  AccountingRestartTest() { options_.block_timeout = milliseconds(0); }
  ~AccountingRestartTest() override {
    Database("b").ComeBack();
    storage_.reset();
  }
  // Leaves a log of which `a` has its half, and `b`, which is away, nothing.
  void OpenBehind() {
    Open(kBoth);
    Database("b").GoAway();
    for (std::uint64_t i = 0; i < 2 * kEach; ++i) {
      ASSERT_OK(storage_->LogActivity(ActivityOn("t" + std::to_string(i)), {}));
    }
    AwaitThat([&] { return StatsOf("a").applied == kEach; });
    IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "the rest stays in the log");
    Open(kBoth);
  }
  // The second one: its first frame.
  void DamageASegment() {
    std::vector<std::string> segments;
    for (const auto& file : std::filesystem::directory_iterator(options_.wal_dir)) {
      const std::string path = file.path();
      if (path.ends_with(".log")) segments.push_back(path);
    }
    std::sort(segments.begin(), segments.end());
    ASSERT_GE(segments.size(), 3u);
    std::fstream file(segments[1], std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 + 80);
    file << std::string(16, 'x');
  }
  std::uint64_t unflushed() { return storage_->GetControl()->FlowControl().unflushed_records; }
  // How many calls are let in before one is refused.
  int CountUntilRefused() {
    int taken = 0;
    while (storage_->LogActivity(ActivityOn("t"), {}).ok()) ++taken;
    return taken;
  }

  const Weights kBoth{{"a", 1}, {"b", 1}};
};

TEST_F(AccountingRestartTest, WhatIsAcceptedIsWhatIsPendingAndDoesNotFall) {
  OpenBehind();
  Stats before = storage_->GetStats();
  EXPECT_EQ(before.accepted, kEach);
  EXPECT_EQ(before.pending, kEach);
  EXPECT_EQ(StatsOf("a").pending, 0u);
  EXPECT_EQ(StatsOf("b").pending, kEach);
  Database("b").ComeBack();
  AwaitThat([&] {
    const Stats now = storage_->GetStats();
    EXPECT_EQ(now.accepted, now.applied + now.dead_lettered + now.lost + now.pending);
    EXPECT_GE(now.accepted, before.accepted);
    before = now;
    return now.pending == 0;
  });
  EXPECT_EQ(before.accepted, kEach);
  EXPECT_EQ(Stored("b").activities, kEach);
}

// A batch for both counts for both, whether it was counted at open or met later.
TEST_F(AccountingRestartTest, WhatCannotBeReadAtOpenIsAcceptedOnceItIs) {
  std::uint64_t unreadable = 0;
  for (std::uint64_t nth = 1; nth <= 16; ++nth) {
    SimulatedFileSystem fs;
    fs_ = &fs;
    options_.wal_dir = "/wal";
    databases_.clear();
    Open(kBoth);
    Database("a").GoAway();
    Database("b").GoAway();
    std::vector<Task> both;
    for (int i = 0; i < 20; ++i) both.push_back(TaskNamed("t" + std::to_string(i)));
    for (int i = 0; i < 5; ++i) ASSERT_OK(storage_->SaveTasks(both, {}));
    IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "it stays in the log");
    storage_.reset();
    fs.FailNth(nth, {.call = SimulatedCall::kRead, .path_part = "wal-"});
    auto opened = TryOpen(kBoth);
    fs.ClearFaults();
    if (!opened.ok()) continue;
    storage_ = std::move(opened).value();
    unreadable += storage_->GetStats().pending == 0 ? 1 : 0;
    Database("a").ComeBack();
    Database("b").ComeBack();
    Flush();
    const Stats stats = storage_->GetStats();
    EXPECT_EQ(stats.pending, 0u) << nth;
    EXPECT_EQ(stats.accepted, stats.applied + stats.dead_lettered + stats.lost) << nth;
    EXPECT_EQ(stats.accepted, 10u) << nth;
    Close();
  }
  EXPECT_GT(unreadable, 0u);
}

// Counted at open, and lost before anybody had read it.
TEST_F(AccountingRestartTest, WhatDamageTookStaysPendingInNoTarget) {
  options_.max_segment_size = 10;
  Open(kBoth);
  Database("a").GoAway();
  Database("b").GoAway();
  for (std::uint64_t i = 0; i < 2 * kEach; ++i) {
    ASSERT_OK(storage_->LogActivity(ActivityOn("t" + std::to_string(i)), {}));
  }
  IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "it stays in the log");
  Open(kBoth);
  EXPECT_EQ(StatsOf("a").pending, kEach);
  EXPECT_EQ(StatsOf("b").pending, kEach);
  DamageASegment();
  Database("a").ComeBack();
  Database("b").ComeBack();
  AwaitThat([&] { return storage_->GetStats().pending == 0; });
  const Stats stats = storage_->GetStats();
  EXPECT_GT(stats.lost, 0u);
  EXPECT_EQ(stats.accepted, stats.applied + stats.lost);
  AwaitThat([&] { return StatsOf("a").pending == 0 && StatsOf("b").pending == 0; });
  ASSERT_OK(storage_->LogActivity(ActivityOn("next"), {}));
  Flush();
  EXPECT_EQ(StatsOf("a").pending, 0u);
  EXPECT_EQ(StatsOf("b").pending, 0u);
}

TEST_F(AccountingRestartTest, TheBudgetStartsWithWhatIsPending) {
  options_.max_unflushed_records = 2 * kEach;
  OpenBehind();
  EXPECT_EQ(unflushed(), kEach);
  Database("b").ComeBack();
  // The counters are a moment ahead of the budget.
  AwaitThat([&] { return storage_->GetStats().pending == 0 && unflushed() == 0; });
}

// The last process ended without saying how far its database had come: what is found there takes
// none of the budget.
TEST_F(AccountingRestartTest, WhatIsFoundInTheDatabaseLeavesTheBudget) {
  options_.max_unflushed_records = kEach;
  const Weights one{{"a", 1}};
  Open(one);
  const std::string state = options_.wal_dir + "/STATE";
  const std::string before = dir_.File("state_before");
  std::filesystem::copy_file(state, before);
  for (std::uint64_t i = 0; i < kEach / 2; ++i) {
    ASSERT_OK(storage_->LogActivity(ActivityOn("t" + std::to_string(i)), {}));
  }
  AwaitThat([&] { return StatsOf("a").applied == kEach / 2; });
  Close();
  std::filesystem::copy_file(before, state, std::filesystem::copy_options::overwrite_existing);
  Database("a").GoAway();
  Open(one);
  EXPECT_EQ(unflushed(), kEach / 2);
  EXPECT_EQ(CountUntilRefused(), static_cast<int>(kEach / 2));
  Database("a").ComeBack();
  // The counters are a moment ahead of the budget.
  AwaitThat([&] { return storage_->GetStats().pending == 0 && unflushed() == 0; });
  EXPECT_EQ(storage_->GetStats().accepted, kEach);
  EXPECT_EQ(storage_->GetStats().applied, kEach);
}

TEST_F(AccountingRestartTest, WhatEveryTargetHasToDoTakesOneOfTheBudget) {
  options_.max_unflushed_records = 10;
  Open(kBoth);
  for (int i = 0; i < 5; ++i) {
    const std::vector<Task> both{TaskNamed("x" + std::to_string(i)),
                                 TaskNamed("y" + std::to_string(i))};
    WriteOptions options;
    options.wait = WaitFor::kApplied;
    options.timeout = std::chrono::seconds(20);
    ASSERT_OK(storage_->SaveTasks(both, options));
  }
  AwaitThat([&] { return unflushed() == 0; });
  Database("a").GoAway();
  Database("b").GoAway();
  EXPECT_EQ(CountUntilRefused(), 10);
  Database("a").ComeBack();
}

}  // namespace
}  // namespace taskwal::pipeline
