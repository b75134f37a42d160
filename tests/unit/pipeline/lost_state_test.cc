// A log of several databases whose STATE is damaged, lost, or put back from an older date: whose a
// record is must not be forgotten with it, for it would be passed over and retired.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "pipeline/identity.h"
#include "recovery/scanner.h"
#include "tests/unit/pipeline/several_targets.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class LostStateTest : public SeveralTargetsTest {
 protected:
  static constexpr int kTasks = 40;
  static constexpr int kActivities = 20;

  LostStateTest() { options_.shutdown_timeout = milliseconds(0); }

  std::string Path(const std::string& name) const { return dir_.File("wal/" + name); }
  std::string Content(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(Path(name), std::ios::binary).rdbuf();
    return text.str();
  }
  void Put(const std::string& name, const std::string& content) const {
    std::ofstream(Path(name), std::ios::binary | std::ios::trunc) << content;
  }
  // All that is of the log, by name.
  std::map<std::string, std::string> LogFiles() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.File("wal"))) {
      const std::string name = entry.path().filename();
      if (!entry.is_directory() && name != "METRICS") files[name] = Content(name);
    }
    return files;
  }
  // As `verify` tells them.
  std::set<std::string> DamagedFiles() const {
    std::set<std::string> files;
    const auto scan = recovery::Scan(FileSystem::Real(), dir_.File("wal"));
    EXPECT_OK(scan);
    for (const recovery::Finding& finding : scan->findings) {
      if (recovery::IsDamage(finding.verdict)) files.insert(finding.file);
    }
    return files;
  }
  void FlipIn(const std::string& name) const {
    std::string content = Content(name);
    ASSERT_GT(content.size(), 40u);
    content[40] ^= 1;
    Put(name, content);
  }

  // Every task in its home, and then a change of each and some activities that `away` did not get:
  // what it was assigned is in the log alone.
  void LeaveABacklogOf(const std::string& away, const Weights& weights) {
    Open(weights);
    for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(TaskId(i)), {}));
    Flush();
    Database(away).GoAway();
    for (int i = 0; i < kTasks; ++i) {
      ASSERT_OK(storage_->UpdateTaskStatus(TaskId(i), TaskStatus::kFailed, "late", {}));
    }
    for (int i = 0; i < kActivities; ++i) {
      ASSERT_OK(storage_->LogActivity(ActivityOn("t", "a" + std::to_string(i)), {}));
    }
    EXPECT_GT(StatsOf(away).pending, 0u);
    EXPECT_THAT(storage_->Close(), StatusIs(StatusCode::kUnavailable));
    storage_.reset();
    Database(away).ComeBack();
  }
  Status AdoptAsMoved(const std::vector<std::string>& names) {
    std::vector<std::unique_ptr<storage::Backend>> backends;
    std::vector<AdoptDatabase> fed;
    for (const std::string& name : names) {
      backends.push_back(Database(name).Open());
      fed.push_back({name, backends.back().get()});
    }
    return Adopt(FileSystem::Real(), Clock::Real(), dir_.File("wal"), fed, Adoption::kMoved)
        .status();
  }
  // Nothing says any more whether it is a copy: the operator does.
  void OpenAgain(const Weights& weights) {
    EXPECT_THAT(TryOpen(weights), StatusIs(StatusCode::kFenced, HasSubstr("adopt")));
    std::vector<std::string> names;
    for (const NamedWeight& one : weights) names.push_back(one.name);
    ASSERT_OK(AdoptAsMoved(names));
    Open(weights);
  }
  void ExpectAllThere() {
    ASSERT_NE(storage_, nullptr);
    Flush();
    std::uint64_t activities = 0;
    for (const auto& [name, database] : databases_) activities += Stored(name).activities;
    EXPECT_EQ(activities, static_cast<std::uint64_t>(kActivities));
    for (int i = 0; i < kTasks; ++i) {
      const auto holders = HoldersOf(TaskId(i));
      ASSERT_EQ(holders.size(), 1u) << TaskId(i);
      EXPECT_EQ(StoredTask(holders.front(), TaskId(i))->error, "late") << TaskId(i);
    }
    const auto letters = storage_->GetDeadLetters()->List(10);
    ASSERT_OK(letters);
    EXPECT_TRUE(letters->empty());
  }
  static std::string TaskId(int i) { return "t" + std::to_string(i); }

  const Weights kBoth{{"a", 1}, {"b", 1}};
};

TEST_F(LostStateTest, WhatATargetWasAssignedReachesItThoughStateIsDamaged) {
  LeaveABacklogOf("b", kBoth);
  FlipIn("STATE");
  OpenAgain(kBoth);
  ExpectAllThere();
}

TEST_F(LostStateTest, WhatATargetWasAssignedReachesItThoughStateIsGone) {
  LeaveABacklogOf("b", kBoth);
  ASSERT_TRUE(std::filesystem::remove(Path("STATE")));
  OpenAgain(kBoth);
  ExpectAllThere();
}

// Numbers and homes are those that the records have, whatever the order and the weights now.
TEST_F(LostStateTest, AnotherOrderAndOtherWeightsChangeNothing) {
  LeaveABacklogOf("b", kBoth);
  FlipIn("STATE");
  OpenAgain({{"b", 7}, {"a", 0}});
  ExpectAllThere();
}

TEST_F(LostStateTest, ATargetThatIsLeftOutIsStillMissed) {
  LeaveABacklogOf("b", kBoth);
  FlipIn("STATE");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(TryOpen({{"a", 1}}),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("in target b")));
    EXPECT_THAT(TryOpen({{"default", 1}}), StatusIs(StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(AdoptAsMoved({"a"}), StatusIs(StatusCode::kInvalidArgument, HasSubstr("a, b")));
  OpenAgain(kBoth);
  ExpectAllThere();
}

// The log of one database became one of several: the later target is not taken for a new one.
TEST_F(LostStateTest, ATargetThatJoinedLaterIsNotTakenForANewOne) {
  const Weights grown{{"default", 1}, {"b", 3}};
  Open({{"default", 1}});
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  Flush();
  Close();
  LeaveABacklogOf("b", grown);
  FlipIn("STATE");
  OpenAgain(grown);
  ExpectAllThere();
}

// STATE as it was before the list had the second target.
TEST_F(LostStateTest, AStateOfAnOlderDateDoesNotBringAnOlderListBack) {
  const Weights grown{{"default", 1}, {"b", 3}};
  Open({{"default", 1}});
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  Flush();
  Close();
  const std::string older = Content("STATE");
  LeaveABacklogOf("b", grown);
  Put("STATE", older);
  EXPECT_THAT(TryOpen({{"default", 1}}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("in target b")));
  OpenAgain(grown);
  ExpectAllThere();
}

// Tasks that were moved by a rebalance are looked for where they are now.
TEST_F(LostStateTest, HomesAreThoseOfTheLastRebalance) {
  Open(kBoth);
  for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(TaskId(i)), {}));
  Flush();
  Close();
  const Weights heavy{{"a", 1}, {"b", 50}};
  Open(heavy);
  Flush();
  ASSERT_OK(storage_->Rebalance(std::chrono::seconds(20), {}));
  Close();
  LeaveABacklogOf("a", heavy);
  ASSERT_TRUE(std::filesystem::remove(Path("STATE")));
  OpenAgain(heavy);
  ExpectAllThere();
}

// Nothing is left that tells whose the records are: they are kept, and nobody is fed.
TEST_F(LostStateTest, WithoutAnyListNothingIsPassedOver) {
  LeaveABacklogOf("b", kBoth);
  const std::string list = Content("TARGETS");
  FlipIn("STATE");
  FlipIn("TARGETS");
  const Weights tried[] = {
      kBoth, {{"a", 1}}, {{"default", 1}}, {{"default", 0}, {"a", 1}, {"b", 1}}};
  for (const Weights& weights : tried) {
    EXPECT_THAT(TryOpen(weights), StatusIs(StatusCode::kCorruption, HasSubstr("TARGETS")));
  }
  EXPECT_THAT(AdoptAsMoved({"default"}), StatusIs(StatusCode::kCorruption, HasSubstr("TARGETS")));
  // Put back from a backup.
  Put("TARGETS", list);
  OpenAgain(kBoth);
  ExpectAllThere();
}

// What is damaged must still be seen to be, and put back it must count.
TEST_F(LostStateTest, ARefusedOpenChangesNothing) {
  LeaveABacklogOf("b", kBoth);
  FlipIn("STATE");
  FlipIn("TARGETS");
  const auto before = LogFiles();
  EXPECT_THAT(TryOpen(kBoth), StatusIs(StatusCode::kCorruption));
  EXPECT_THAT(AdoptAsMoved({"a", "b"}), StatusIs(StatusCode::kCorruption));
  EXPECT_EQ(LogFiles(), before);
  EXPECT_EQ(DamagedFiles(), (std::set<std::string>{"STATE", "TARGETS"}));
}

TEST_F(LostStateTest, ADamagedListAloneIsReportedAndOpensAllTheSame) {
  LeaveABacklogOf("b", kBoth);
  FlipIn("TARGETS");
  EXPECT_EQ(DamagedFiles(), std::set<std::string>{"TARGETS"});
  Open(kBoth);
  ExpectAllThere();
  Close();
  EXPECT_EQ(DamagedFiles(), std::set<std::string>{});
}

// STATE is whole, though it has met no database since it was rebuilt.
TEST_F(LostStateTest, ADamagedListBesideARebuiltStateIsNotNeeded) {
  LeaveABacklogOf("b", kBoth);
  FlipIn("STATE");
  EXPECT_THAT(TryOpen(kBoth), StatusIs(StatusCode::kFenced, HasSubstr("adopt")));
  FlipIn("TARGETS");
  OpenAgain(kBoth);
  ExpectAllThere();
}

// Put back from before a target joined that records are for.
TEST_F(LostStateTest, AListThatIsTooOldForTheRecordsIsNotBelieved) {
  Open({{"a", 1}});
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  Flush();
  Close();
  const std::string older = Content("TARGETS");
  LeaveABacklogOf("b", kBoth);
  const std::string list = Content("TARGETS");
  FlipIn("STATE");
  Put("TARGETS", older);
  for (const Weights& weights : {kBoth, Weights{{"a", 1}}}) {
    EXPECT_THAT(TryOpen(weights), StatusIs(StatusCode::kCorruption, HasSubstr("TARGETS")));
  }
  EXPECT_THAT(AdoptAsMoved({"a"}), StatusIs(StatusCode::kCorruption, HasSubstr("TARGETS")));
  Put("TARGETS", list);
  OpenAgain(kBoth);
  ExpectAllThere();
}

// Of a log that has no targets: there is nothing to write anew.
TEST_F(LostStateTest, ADamagedListThatNobodyNeedsIsKeptAside) {
  const Weights only{{"default", 1}};
  Open(only);
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  Flush();
  Close();
  Put("TARGETS", "garbage");
  EXPECT_EQ(DamagedFiles(), std::set<std::string>{"TARGETS"});
  Open(only);
  Flush();
  Close();
  EXPECT_EQ(DamagedFiles(), std::set<std::string>{});
  EXPECT_EQ(Content("quarantine/TARGETS"), "garbage");
}

// Put back from before the log had targets, STATE knows of none.
TEST_F(LostStateTest, AnOlderStateBesideADamagedListPassesNobodyOver) {
  const Weights only{{"default", 1}};
  const Weights grown{{"default", 1}, {"b", 1}};
  Open(only);
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  Flush();
  Close();
  const std::string older = Content("STATE");
  LeaveABacklogOf("b", grown);
  const std::string list = Content("TARGETS");
  Put("STATE", older);
  FlipIn("TARGETS");
  for (const Weights& weights : {only, grown}) {
    EXPECT_THAT(TryOpen(weights), StatusIs(StatusCode::kCorruption, HasSubstr("TARGETS")));
  }
  Put("TARGETS", list);
  OpenAgain(grown);
  ExpectAllThere();
}

TEST_F(LostStateTest, ADamagedListIsWrittenAnewByTheNextOpen) {
  Open(kBoth);
  Close();
  const std::string list = Content("TARGETS");
  FlipIn("TARGETS");
  Open(kBoth);
  Close();
  EXPECT_EQ(Content("TARGETS").size(), list.size());
  LeaveABacklogOf("b", kBoth);
  FlipIn("STATE");
  OpenAgain(kBoth);
  ExpectAllThere();
}

}  // namespace
}  // namespace taskwal::pipeline
