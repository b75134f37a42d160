#include "pipeline/flush/dead_letters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "base/status_macros.h"
#include "pipeline/flush/letter_file.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kDir[] = "/wal";
constexpr char kFirst[] = "/wal/dead-letters/letters-00000001";

class DeadLettersTest : public ::testing::Test {
 protected:
  DeadLettersTest() { EXPECT_OK(fs_.MakeDirectories(kDir)); }

  std::unique_ptr<DeadLetters> Open(bool read_only = false) {
    damage_.clear();
    auto letters = DeadLetters::Open(fs_, kDir, read_only, &damage_);
    EXPECT_OK(letters);
    return letters.ok() ? std::move(letters).value() : nullptr;
  }

  DeadLetter Rejected(wal::Lsn lsn, const std::string& task = "task",
                      OperationType type = OperationType::kTaskUpdate) const {
    DeadLetter letter;
    letter.wal_id = wal_id_;
    letter.lsns = {lsn, lsn};
    letter.stamp = 7;
    letter.type = type;
    letter.body = {std::byte{1}, std::byte{2}};
    letter.task_id = task;
    letter.error = "constraint failed";
    letter.sql_code = "SQLite 275";
    letter.attempts = 4;
    letter.first_failed = Time(std::chrono::microseconds(111));
    letter.last_failed = Time(std::chrono::microseconds(222));
    letter.backend = "sqlite://x.db";
    return letter;
  }
  DeadLetter Loss(wal::Lsn from, wal::Lsn to) const {
    DeadLetter letter;
    letter.kind = DeadLetter::Kind::kLoss;
    letter.wal_id = wal_id_;
    letter.lsns = {from, to};
    letter.error = "wal-00000001.log offset 4096: body checksum";
    return letter;
  }
  static std::uint64_t EntryBytes(const DeadLetter& letter) {
    return MakeEntry(EntryKind::kLetter, EncodeLetter(letter), 1, 0).size();
  }
  static std::vector<DeadLetter> All(const DeadLetters& letters) {
    std::vector<DeadLetter> all;
    EXPECT_OK(letters.ForEach([&](const DeadLetter& letter) {
      all.push_back(letter);
      return true;
    }));
    return all;
  }
  static std::vector<wal::Lsn> LsnsOf(const DeadLetters& letters) {
    std::vector<wal::Lsn> lsns;
    for (const DeadLetter& letter : All(letters)) lsns.push_back(letter.lsns.from);
    return lsns;
  }

  SimulatedFileSystem fs_;
  const Uuid wal_id_ = *Uuid::Parse("11111111-2222-4333-8444-555555555555");
  std::vector<std::string> damage_;
};

TEST_F(DeadLettersTest, StartsEmptyAndMakesNothing) {
  const auto letters = Open();
  EXPECT_EQ(letters->count(), 0u);
  EXPECT_THAT(All(*letters), IsEmpty());
  EXPECT_FALSE(fs_.Exists("/wal/dead-letters"));
}

TEST_F(DeadLettersTest, GivesBackEveryField) {
  ASSERT_OK(Open()->Add(Rejected(5)));
  const auto all = All(*Open());
  ASSERT_THAT(all, SizeIs(1));
  const DeadLetter& letter = all[0];
  EXPECT_EQ(letter.kind, DeadLetter::Kind::kRejected);
  EXPECT_EQ(letter.id(), "11111111-2222-4333-8444-555555555555-5");
  EXPECT_EQ(letter.lsns, (wal::LsnRange{5, 5}));
  EXPECT_EQ(letter.stamp, 7u);
  EXPECT_EQ(letter.type, OperationType::kTaskUpdate);
  EXPECT_EQ(letter.body, (std::vector{std::byte{1}, std::byte{2}}));
  EXPECT_EQ(letter.task_id, "task");
  EXPECT_EQ(letter.error, "constraint failed");
  EXPECT_EQ(letter.sql_code, "SQLite 275");
  EXPECT_EQ(letter.attempts, 4u);
  EXPECT_EQ(letter.first_failed, Time(std::chrono::microseconds(111)));
  EXPECT_EQ(letter.last_failed, Time(std::chrono::microseconds(222)));
  EXPECT_EQ(letter.backend, "sqlite://x.db");
}

TEST_F(DeadLettersTest, KeepsTheOrderOfAdding) {
  const auto letters = Open();
  for (const wal::Lsn lsn : {9, 3, 7}) ASSERT_OK(letters->Add(Rejected(lsn)));
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(9, 3, 7));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(9, 3, 7));
}

TEST_F(DeadLettersTest, StopsVisitingWhenTold) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(1)));
  ASSERT_OK(letters->Add(Rejected(2)));
  int visits = 0;
  EXPECT_OK(letters->ForEach([&](const DeadLetter&) { return ++visits < 1; }));
  EXPECT_EQ(visits, 1);
}

TEST_F(DeadLettersTest, KnowsLettersByLogAndLsn) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(5)));
  EXPECT_TRUE(letters->Contains(wal_id_, 5));
  EXPECT_FALSE(letters->Contains(wal_id_, 6));
  EXPECT_FALSE(letters->Contains(Uuid(), 5));
}

TEST_F(DeadLettersTest, AddsALetterOnce) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(5)));
  ASSERT_OK(letters->Add(Rejected(5)));
  EXPECT_EQ(letters->count(), 1u);
  EXPECT_EQ(Open()->count(), 1u);
}

TEST_F(DeadLettersTest, SurvivesPowerLossOnceAdded) {
  ASSERT_OK(Open()->Add(Rejected(5)));
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0.0});
  EXPECT_TRUE(Open()->Contains(wal_id_, 5));
}

TEST_F(DeadLettersTest, CountsTheLsnsOfLossesApart) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Loss(10, 19)));
  EXPECT_EQ(letters->count(), 0u);
  EXPECT_EQ(letters->lost(), 10u);
  EXPECT_FALSE(letters->Contains(wal_id_, 10));
}

TEST_F(DeadLettersTest, AddsOnlyWhatNoOtherLossCovers) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Loss(10, 19)));
  ASSERT_OK(letters->Add(Loss(30, 39)));
  ASSERT_OK(letters->Add(Loss(12, 15)));
  ASSERT_OK(letters->Add(Loss(5, 45)));
  EXPECT_EQ(letters->lost(), 41u);
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(10, 30, 5, 20, 40));
  EXPECT_EQ(Open()->lost(), 41u);
}

// What some partitions have lost says nothing of the others.
TEST_F(DeadLettersTest, ALossOfSomePartitionsCoversTheSameOnesOnly) {
  const auto of = [](DeadLetter loss, const std::string& partitions) {
    loss.metadata[kLossPartitions] = partitions;
    return loss;
  };
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(of(Loss(10, 19), "3")));
    ASSERT_OK(letters->Add(of(Loss(10, 19), "3")));
    ASSERT_OK(letters->Add(of(Loss(15, 24), "0,7")));
    ASSERT_OK(letters->Add(of(Loss(12, 21), "3")));
    EXPECT_THAT(LsnsOf(*letters), ElementsAre(10, 15, 20));
    ASSERT_OK(letters->Add(Loss(1, 30)));
    ASSERT_OK(letters->Add(of(Loss(20, 29), "5")));
    DeadLetter of_another_target = Loss(1, 30);
    of_another_target.target = 1;
    ASSERT_OK(letters->Add(of_another_target));
    EXPECT_EQ(letters->lost(), 30u);
  }
  const auto again = Open();
  EXPECT_THAT(LsnsOf(*again), ElementsAre(10, 15, 20, 1, 1));
  EXPECT_EQ(All(*again)[1].metadata.at(kLossPartitions), "0,7");
  EXPECT_EQ(again->lost(), 30u);
}

// --- tasks whose save was lettered
// ----------------------------------------------------------------

TEST_F(DeadLettersTest, HoldsWhatComesBehindALetteredSave) {
  ASSERT_OK(Open()->Add(Rejected(10, "t")));
  const auto letters = Open();
  EXPECT_TRUE(letters->HoldsSaveOf("t"));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 11));
  EXPECT_FALSE(letters->HoldsSaveOf("t", 10));
  EXPECT_FALSE(letters->HoldsSaveOf("u"));
}

TEST_F(DeadLettersTest, HoldsNothingBehindOtherLetters) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(10, "t", OperationType::kStatusUpdate)));
  ASSERT_OK(letters->Add(Rejected(11, "t", OperationType::kActivityLog)));
  EXPECT_FALSE(letters->HoldsSaveOf("t"));
}

TEST_F(DeadLettersTest, HoldsEveryTaskOfALetteredBatch) {
  std::vector<Task> tasks(2);
  tasks[0].id = "a";
  tasks[1].id = "b";
  DeadLetter letter = Rejected(10, "", OperationType::kBatchUpdate);
  letter.body.resize(storage::EncodedBytes(tasks));
  storage::Encode(tasks, Time(), letter.body);
  ASSERT_OK(Open()->Add(letter));
  const auto letters = Open();
  EXPECT_TRUE(letters->HoldsSaveOf("a"));
  EXPECT_TRUE(letters->HoldsSaveOf("b"));
}

TEST_F(DeadLettersTest, ClearsATaskDurablyFromAnLsnOn) {
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(10, "t")));
    ASSERT_OK(letters->ClearTask("t", 20));
  }
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0.0});
  const auto letters = Open();
  EXPECT_FALSE(letters->HoldsSaveOf("t", 21));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 15));  // a replay of what came in between
  EXPECT_THAT(All(*letters), SizeIs(1));
}

TEST_F(DeadLettersTest, HoldsAgainWhenTheClearingSaveIsLost) {
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(10, "t")));
    ASSERT_OK(letters->Add(Rejected(11, "u")));
    ASSERT_OK(letters->ClearTask("t", 20));
    ASSERT_OK(letters->ClearTask("u", 21));
    const auto is_gone = [](const std::string& task, wal::Lsn) { return task == "t"; };
    ASSERT_OK(letters->VoidClears({15, 30}, is_gone));
    EXPECT_TRUE(letters->HoldsSaveOf("t", 39));
  }
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0.0});
  const auto letters = Open();
  EXPECT_TRUE(letters->HoldsSaveOf("t", 39));
  EXPECT_FALSE(letters->WasClearedSince("t", 10, 39));
  EXPECT_FALSE(letters->HoldsSaveOf("u", 39));
  ASSERT_OK(letters->ClearTask("t", 20));  // it turned up after all
  EXPECT_FALSE(letters->HoldsSaveOf("t", 39));
  EXPECT_FALSE(Open()->HoldsSaveOf("t", 39));
}

TEST_F(DeadLettersTest, HoldsAgainWhenTheClearingSaveIsLetteredToo) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(10, "t")));
  ASSERT_OK(letters->ClearTask("t", 20));
  ASSERT_OK(letters->Add(Rejected(20, "t")));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 21));
  EXPECT_TRUE(Open()->HoldsSaveOf("t", 21));
}

TEST_F(DeadLettersTest, WritesNothingToClearATaskThatIsNotHeld) {
  const auto letters = Open();
  ASSERT_OK(letters->ClearTask("t", 20));
  EXPECT_FALSE(fs_.Exists(kFirst));
}

TEST_F(DeadLettersTest, ADeletedDagClearsItsTasks) {
  const auto letters = Open();
  const auto save_of = [&](wal::Lsn lsn, const std::string& task, const std::string& dag) {
    Task saved;
    saved.id = task;
    saved.dag_id = dag;
    DeadLetter letter = Rejected(lsn, task);
    letter.body.resize(storage::EncodedBytes(saved));
    storage::Encode(saved, Time(), letter.body);
    return letter;
  };
  ASSERT_OK(letters->Add(save_of(10, "t", "gone")));
  ASSERT_OK(letters->Add(save_of(11, "u", "stays")));
  ASSERT_OK(letters->Add(save_of(21, "later", "gone")));
  ASSERT_OK(letters->ClearDag("gone", 20));
  for (const auto& store : {Open()}) {
    EXPECT_FALSE(store->HoldsSaveOf("t", 30));
    EXPECT_TRUE(store->HoldsSaveOf("u", 30));
    EXPECT_TRUE(store->HoldsSaveOf("later", 30));
    EXPECT_TRUE(store->WasClearedSince("t", 10, 30));
  }
}

// --- what becomes of letters
// ----------------------------------------------------------------------

TEST_F(DeadLettersTest, GivesBackWhatARetryKnowsOfItsOrigin) {
  DeadLetter letter = Rejected(50);
  letter.target = 3;
  letter.retried_from = LetterOrigin{{Uuid(), 5, 3}, 77};
  letter.retries = 2;
  letter.metadata = {{"worker", "1"}, {"empty", ""}};
  ASSERT_OK(Open()->Add(letter));
  const auto letters = Open();
  ASSERT_OK_AND_ASSIGN(const DeadLetter read, letters->Read({wal_id_, 50, 3}));
  EXPECT_EQ(read.origin(), *letter.retried_from);
  EXPECT_EQ(read.id(), "00000000-0000-0000-0000-000000000000-5-3");
  EXPECT_EQ(read.retries, 2u);
  EXPECT_EQ(read.metadata, letter.metadata);
}

TEST_F(DeadLettersTest, TheSameRecordMayBeRefusedByTwoTargets) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(5)));
  EXPECT_FALSE(letters->Contains({wal_id_, 5, 1}));
  DeadLetter second = Rejected(5);
  second.target = 1;
  ASSERT_OK(letters->Add(second));
  EXPECT_EQ(letters->count(), 2u);
}

TEST_F(DeadLettersTest, ASettledLetterIsGoneAndStaysFinal) {
  {
    const auto letters = Open();
    for (const wal::Lsn lsn : {1, 2, 3}) ASSERT_OK(letters->Add(Rejected(lsn, "t")));
    const std::vector<LetterResolution> settled = {
        {{wal_id_, 1, 0}, {LetterOutcome::kPurged, 0}},
        {{wal_id_, 3, 0}, {LetterOutcome::kRetried, 9}}};
    ASSERT_OK(letters->Resolve(settled));
    EXPECT_EQ(letters->GetStats().purged, 1u);
    EXPECT_EQ(letters->GetStats().retried, 1u);
  }
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0.0});
  const auto letters = Open();
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(2));
  EXPECT_EQ(letters->count(), 1u);
  EXPECT_TRUE(letters->Contains(wal_id_, 1));
  EXPECT_EQ(letters->StandingOf({wal_id_, 3, 0})->by, 9u);
  EXPECT_FALSE(letters->StandingOf({wal_id_, 4, 0}).has_value());
  ASSERT_OK(letters->Add(Rejected(1)));
  EXPECT_EQ(letters->count(), 1u);
}

TEST_F(DeadLettersTest, TheFirstWordOnALetterStands) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(1)));
  const std::vector<LetterResolution> first = {{{wal_id_, 1, 0}, {LetterOutcome::kRetried, 9}}};
  const std::vector<LetterResolution> second = {{{wal_id_, 1, 0}, {LetterOutcome::kPurged, 0}},
                                                {{wal_id_, 7, 0}, {LetterOutcome::kPurged, 0}}};
  ASSERT_OK(letters->Resolve(first));
  ASSERT_OK(letters->Resolve(second));
  EXPECT_EQ(letters->StandingOf({wal_id_, 1, 0})->outcome, LetterOutcome::kRetried);
  EXPECT_FALSE(letters->Contains(wal_id_, 7));
}

TEST_F(DeadLettersTest, ASettledSaveHoldsNothingBack) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(10, "t")));
  const std::vector<LetterResolution> purged = {{{wal_id_, 10, 0}, {LetterOutcome::kPurged, 0}}};
  ASSERT_OK(letters->Resolve(purged));
  EXPECT_FALSE(letters->HoldsSaveOf("t"));
  EXPECT_FALSE(Open()->HoldsSaveOf("t"));
}

// The later of two retries may bring the older save.
TEST_F(DeadLettersTest, WhatWasAppendedFirstDecidesWhatHolds) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(5, "t")));
  ASSERT_OK(letters->Add(Rejected(7, "t")));
  ASSERT_OK(letters->ClearTask("t", 60, 5));  // a retry of the first
  EXPECT_TRUE(letters->HoldsSaveOf("t", 61));
  EXPECT_FALSE(letters->WasClearedSince("t", 7, 61));
  ASSERT_OK(letters->ClearTask("t", 62, 7));
  EXPECT_FALSE(letters->HoldsSaveOf("t", 63));
  EXPECT_TRUE(letters->WasClearedSince("t", 5, 63));
  EXPECT_FALSE(letters->WasClearedSince("t", 7, 63));
  DeadLetter again = Rejected(62, "t");  // refused after all
  again.retried_from = LetterOrigin{{wal_id_, 7, 0}, 0};
  ASSERT_OK(letters->Add(again));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 63));
  EXPECT_TRUE(Open()->HoldsSaveOf("t", 63));
}

TEST_F(DeadLettersTest, RefusesMoreThanItsLimitsButForLosses) {
  const auto letters = Open();
  EXPECT_OK(letters->CheckRoom({2, 1000}));
  ASSERT_OK(letters->Add(Rejected(1)));
  ASSERT_OK(letters->Add(Loss(5, 9)));
  EXPECT_OK(letters->CheckRoom({2, 1000}));
  EXPECT_THAT(letters->CheckRoom({1, 1000}),
              StatusIs(StatusCode::kOverloaded, HasSubstr("dead_letter_count_max=1")));
  EXPECT_THAT(letters->CheckRoom({2, 100}),
              StatusIs(StatusCode::kOverloaded, HasSubstr("dead_letter_bytes_max=100")));
}

TEST_F(DeadLettersTest, OnlyActivitiesExpireAndAreCounted) {
  {
    const auto letters = Open();
    const auto failed_at = [&](wal::Lsn lsn, OperationType type, int seconds) {
      DeadLetter letter = Rejected(lsn, "t", type);
      letter.last_failed = Time(std::chrono::seconds(seconds));
      return letter;
    };
    ASSERT_OK(letters->Add(failed_at(1, OperationType::kActivityLog, 10)));
    ASSERT_OK(letters->Add(failed_at(2, OperationType::kTaskUpdate, 10)));
    ASSERT_OK(letters->Add(failed_at(3, OperationType::kStatusUpdate, 10)));
    ASSERT_OK(letters->Add(failed_at(4, OperationType::kActivityLog, 30)));
    ASSERT_OK_AND_ASSIGN(const std::uint64_t gone,
                         letters->Expire(Time(std::chrono::seconds(20))));
    EXPECT_EQ(gone, 1u);
    const LetterStats stats = letters->GetStats();
    EXPECT_EQ(stats.added, stats.open + stats.expired);
    EXPECT_EQ(stats.expired, 1u);
  }
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(2, 3, 4));
}

// --- cleaning
// -------------------------------------------------------------------------------------

class DeadLettersCleaning : public DeadLettersTest {
 protected:
  // A store of which half and more is settled: of letters 1 to 20, only 5 and 15 are open.
  std::unique_ptr<DeadLetters> Wasteful(FileSystem& fs) {
    auto opened = DeadLetters::Open(fs, kDir, false);
    EXPECT_OK(opened);
    auto letters = std::move(opened).value();
    std::vector<LetterResolution> purged;
    for (wal::Lsn lsn = 1; lsn <= 20; ++lsn) {
      DeadLetter letter = Rejected(lsn, "t-" + std::to_string(lsn));
      letter.body.resize(100'000);
      EXPECT_OK(letters->Add(letter));
      if (lsn % 10 != 5) purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
    }
    EXPECT_OK(letters->Add(Loss(30, 39)));
    EXPECT_OK(letters->ClearTask("t-5", 40));
    EXPECT_OK(letters->Resolve(purged));
    return letters;
  }
  void ExpectComplete(const DeadLetters& letters) {
    EXPECT_EQ(letters.count(), 2u);
    EXPECT_EQ(letters.lost(), 10u);
    std::vector<wal::Lsn> lsns = LsnsOf(letters);
    std::sort(lsns.begin(), lsns.end());
    EXPECT_THAT(lsns, ElementsAre(5, 15, 30));
    for (wal::Lsn lsn = 10; lsn <= 20; ++lsn) EXPECT_TRUE(letters.Contains(wal_id_, lsn)) << lsn;
    EXPECT_FALSE(letters.HoldsSaveOf("t-5", 41));
    EXPECT_TRUE(letters.HoldsSaveOf("t-15", 41));
  }
};

TEST_F(DeadLettersCleaning, GivesBackTheDiskAndForgetsNothingThatAReplayMayMeet) {
  const auto letters = Wasteful(fs_);
  ASSERT_OK(letters->Clean(10));
  EXPECT_FALSE(fs_.Exists(kFirst));
  EXPECT_LT(fs_.Content("/wal/dead-letters/letters-00000002").size(), 300'000u);
  ExpectComplete(*letters);
  ExpectComplete(*Open());
  EXPECT_THAT(damage_, IsEmpty());
  EXPECT_FALSE(letters->Contains(wal_id_, 9));  // retired with its segment
  ASSERT_OK(letters->Add(Rejected(50)));
  EXPECT_EQ(Open()->count(), 3u);
}

TEST_F(DeadLettersCleaning, LeavesAStoreAloneThatIsMostlyOpen) {
  const auto letters = Open();
  for (wal::Lsn lsn = 1; lsn <= 4; ++lsn) ASSERT_OK(letters->Add(Rejected(lsn)));
  const auto before = fs_.Dump(kDir);
  ASSERT_OK(letters->Clean(1));
  EXPECT_EQ(fs_.Dump(kDir), before);
}

TEST_F(DeadLettersCleaning, WritesAsManyFilesAsItNeeds) {
  const auto letters = Open();
  std::vector<LetterResolution> purged;
  for (wal::Lsn lsn = 1; lsn <= 8; ++lsn) {
    DeadLetter letter = Rejected(lsn);
    letter.body.resize(12u << 20);
    ASSERT_OK(letters->Add(letter));
    if (lsn % 2 == 0) purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
  }
  ASSERT_OK(letters->Resolve(purged));
  ASSERT_OK(letters->Clean(1));
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(DeadLettersCleaning, RefusesToGoOnOverADamagedLetter) {
  const auto letters = Wasteful(fs_);
  fs_.Corrupt(kFirst, kLetterFileHeaderBytes + 4 * 100'300 + 50'000, 0x01);
  EXPECT_THAT(letters->Clean(1), StatusIs(StatusCode::kCorruption));
  EXPECT_TRUE(fs_.Exists(kFirst));
}

// For N = 1, 2, 3… the N-th call fails, then a power cut: nothing that was promised is gone.
TEST_F(DeadLettersCleaning, LosesNothingWhicheverCallFails) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    auto letters = Wasteful(fs);
    const std::uint64_t before = fs.calls();
    fs.FailNth(n, {});
    const Status cleaned = letters->Clean(10);
    const bool has_failed = fs.calls() - before >= n;
    fs.ClearFaults();
    if (has_failed && cleaned.ok()) ExpectComplete(*letters);  // only removing the old file failed
    Random random(n);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto again, DeadLetters::Open(fs, kDir, false, &damage));
    ExpectComplete(*again);
    EXPECT_THAT(damage, IsEmpty()) << n;
    if (!has_failed) break;
  }
}

TEST_F(DeadLettersCleaning, LosesNothingWhereverItIsKilled) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    auto letters = Wasteful(fs);
    fs.CrashAfter(n);
    IgnoreStatus(letters->Clean(10), "it is killed in there");
    const bool has_crashed = fs.crashed();
    letters.reset();
    Random random(n);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto again, DeadLetters::Open(fs, kDir, false, &damage));
    ExpectComplete(*again);
    EXPECT_THAT(damage, IsEmpty()) << n;
    ASSERT_OK(again->Add(Rejected(60)));
    if (!has_crashed) break;
  }
}

// --- files
// ------------------------------------------------------------------------------------------

TEST_F(DeadLettersTest, BeginsANewFileWhenOneIsFull) {
  DeadLetter large = Rejected(1);
  large.body.resize(kLetterFileBytes);
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(large));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  EXPECT_TRUE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  const auto letters = Open();
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(1, 2));
  ASSERT_OK(letters->Add(Rejected(3)));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2, 3));
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(DeadLettersTest, CutsATornLastEntryAndKeepsACopy) {
  std::uint64_t end = 0;
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    end = fs_.Content(kFirst).size() + EntryBytes(Rejected(2));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  for (std::uint64_t cut = 1; cut < 40; ++cut) {
    SimulatedFileSystem fresh;
    ASSERT_OK(fresh.MakeDirectories("/wal/dead-letters"));
    ASSERT_OK(WriteFileAtomically(fresh, kFirst, fs_.Content(kFirst).substr(0, end - cut)));
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fresh, kDir, false, &damage));
    EXPECT_THAT(LsnsOf(*letters), ElementsAre(1)) << cut;
    EXPECT_THAT(damage, IsEmpty());
    ASSERT_OK(letters->Add(Rejected(3)));
    ASSERT_OK_AND_ASSIGN(const auto again, DeadLetters::Open(fresh, kDir, false, &damage));
    EXPECT_THAT(LsnsOf(*again), ElementsAre(1, 3)) << cut;
    EXPECT_THAT(damage, IsEmpty());
    EXPECT_THAT(fresh.Dump("/wal/quarantine"), SizeIs(1));
  }
}

// As a file of an earlier version ends, or one whose last sector was cut.
TEST_F(DeadLettersTest, WritesNothingIntoASectorThatHoldsALetter) {
  std::uint64_t end = 0;
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    end = kLetterFileHeaderBytes + EntryBytes(Rejected(1));
    EXPECT_EQ(fs_.Content(kFirst).size() % 512, 0u);
  }
  fs_.TruncateFile(kFirst, end);
  ASSERT_OK(Open()->Add(Rejected(2)));
  EXPECT_EQ(fs_.Content(kFirst).size(), end);
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2));
  EXPECT_THAT(damage_, IsEmpty());
}

// The sectors that were being written are garbage.
TEST_F(DeadLettersTest, ALetterOutlivesThePowerCutInWhichTheNextIsWritten) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    for (std::uint64_t call = 1; call <= 2; ++call) {
      SimulatedFileSystem fs(seed);
      ASSERT_OK(fs.MakeDirectories(kDir));
      {
        ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
        ASSERT_OK(letters->Add(Rejected(1)));
        fs.CrashAfter(call);
        IgnoreStatus(letters->Add(Rejected(2)), "it is killed in there");
      }
      Random random(seed);
      fs.PowerLoss(random, {.kept = 0.0, .garbage = 1.0});
      ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, true));
      EXPECT_TRUE(letters->Contains(wal_id_, 1)) << seed << " " << call;
    }
  }
}

TEST_F(DeadLettersTest, ReportsDamageBeforeASoundEntryAndPassesOverIt) {
  std::uint64_t second = 0;
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    second = fs_.Content(kFirst).size();
    for (const wal::Lsn lsn : {2, 3}) ASSERT_OK(letters->Add(Rejected(lsn)));
  }
  fs_.Corrupt(kFirst, second + EntryBytes(Rejected(2)) / 2, 0x10);
  const auto letters = Open();
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(1, 3));
  EXPECT_THAT(damage_, ElementsAre(HasSubstr("letters-00000001: bytes")));
}

TEST_F(DeadLettersTest, NoticesEveryFlippedByteOfOlderEntries) {
  {
    const auto letters = Open();
    for (const wal::Lsn lsn : {1, 2}) ASSERT_OK(letters->Add(Rejected(lsn)));
  }
  const std::uint64_t entry = (fs_.Content(kFirst).size() - kLetterFileHeaderBytes) / 2;
  for (std::uint64_t at = 0; at < kLetterFileHeaderBytes + entry; ++at) {
    fs_.Corrupt(kFirst, at, 0x01);
    Open(true);
    EXPECT_THAT(damage_, SizeIs(1)) << at;
    fs_.Corrupt(kFirst, at, 0x01);
  }
  Open(true);
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(DeadLettersTest, NoticesAnOlderFileThatWasCutOrRemoved) {
  DeadLetter large = Rejected(1);
  large.body.resize(kLetterFileBytes);
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(large));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  fs_.TruncateFile(kFirst, 1000);
  Open(true);
  EXPECT_THAT(damage_, ::testing::Contains(HasSubstr("was cut short")));
  ASSERT_OK(fs_.Remove(kFirst));
  EXPECT_THAT(LsnsOf(*Open(true)), ElementsAre(2));
  EXPECT_THAT(damage_, ElementsAre(HasSubstr("letters-00000001 is missing")));
}

TEST_F(DeadLettersTest, SaysWhenALetterIsDamagedAfterOpening) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(1)));
  fs_.Corrupt(kFirst, kLetterFileHeaderBytes + 40, 0x01);
  EXPECT_THAT(letters->ForEach([](const DeadLetter&) { return true; }),
              StatusIs(StatusCode::kCorruption));
}

TEST_F(DeadLettersTest, ChangesNothingWhenReadOnly) {
  ASSERT_OK(Open()->Add(Rejected(1)));
  fs_.TruncateFile(kFirst, fs_.Content(kFirst).size() + 3);
  const auto before = fs_.Dump(kDir);
  EXPECT_THAT(LsnsOf(*Open(true)), ElementsAre(1));
  EXPECT_EQ(fs_.Dump(kDir), before);
}

TEST_F(DeadLettersTest, WaitsForSpaceAndUsesTheSameFile) {
  const auto letters = Open();
  fs_.SetCapacity(10);
  EXPECT_THAT(letters->Add(Rejected(1)), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(letters->Contains(wal_id_, 1));
  fs_.SetCapacity(1 << 20);
  ASSERT_OK(letters->Add(Rejected(1)));
  EXPECT_FALSE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1));
}

TEST_F(DeadLettersTest, LeavesAFileWhoseSyncFailed) {
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    fs_.FailNth(1, {.call = SimulatedCall::kSync});
    EXPECT_THAT(letters->Add(Rejected(2)), StatusIs(StatusCode::kIoError));
    EXPECT_FALSE(letters->Contains(wal_id_, 2));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  EXPECT_TRUE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2));
  EXPECT_THAT(damage_, IsEmpty());
}

// For N = 1, 2, 3… the process that makes the file is killed in its N-th call. The next one goes on
// in that file, and its name must be on disk before a letter in it counts.
TEST_F(DeadLettersTest, GoesOnInTheFileOfAKilledProcessAndKeepsItOverAPowerCut) {
  constexpr std::uint64_t kSeeds = 8;  // the call that it dies in had its effect, or not
  bool has_died = true;
  for (std::uint64_t n = 1; has_died; ++n) {
    has_died = false;
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
      SimulatedFileSystem fs(seed);
      ASSERT_OK(fs.MakeDirectories(kDir));
      {
        ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
        fs.CrashAfter(n);
        IgnoreStatus(letters->Add(Rejected(1)), "it is killed in there");
        has_died = has_died || fs.crashed();
      }
      fs.Kill();
      {
        ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
        ASSERT_OK(letters->Add(Rejected(2)));
      }
      Random random(seed);
      fs.PowerLoss(random, {.kept = 0.0, .garbage = 0.0});
      ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, true));
      EXPECT_TRUE(letters->Contains(wal_id_, 2)) << n << " " << seed;
    }
  }
}

// For N = 1, 2, 3… the N-th call fails; what Add said is true after a power cut.
TEST_F(DeadLettersTest, KeepsWhatItPromisedWhicheverCallFails) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    fs.FailNth(n, {});
    const std::uint64_t before = fs.calls();
    std::vector<wal::Lsn> kept;
    {
      auto letters = DeadLetters::Open(fs, kDir, false);
      for (wal::Lsn lsn = 1; letters.ok() && lsn <= 4; ++lsn) {
        if ((*letters)->Add(Rejected(lsn)).ok()) kept.push_back(lsn);
      }
    }
    const bool has_failed = fs.calls() - before >= n;
    fs.ClearFaults();
    Random random(n);
    fs.PowerLoss(random);
    ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
    for (const wal::Lsn lsn : kept) EXPECT_TRUE(letters->Contains(wal_id_, lsn)) << n;
    ASSERT_OK(letters->Add(Rejected(9)));
    if (!has_failed) break;
  }
}

TEST_F(DeadLettersTest, KeepsWhatItPromisedWhereverItIsKilled) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    fs.CrashAfter(n);
    std::vector<wal::Lsn> kept;
    {
      auto letters = DeadLetters::Open(fs, kDir, false);
      for (wal::Lsn lsn = 1; letters.ok() && lsn <= 4; ++lsn) {
        if ((*letters)->Add(Rejected(lsn)).ok()) kept.push_back(lsn);
      }
    }
    const bool has_crashed = fs.crashed();
    Random random(n);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false, &damage));
    for (const wal::Lsn lsn : kept) EXPECT_TRUE(letters->Contains(wal_id_, lsn)) << n;
    EXPECT_THAT(damage, IsEmpty()) << n;
    ASSERT_OK(letters->Add(Rejected(9)));
    if (!has_crashed) break;
  }
}

TEST_F(DeadLettersTest, TakesLettersFromSeveralThreads) {
  const auto letters = Open();
  std::vector<std::thread> threads;
  for (wal::Lsn first = 0; first < 4; ++first) {
    threads.emplace_back([&, first] {
      for (wal::Lsn i = 0; i < 25; ++i) EXPECT_OK(letters->Add(Rejected(1 + first * 25 + i)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(letters->count(), 100u);
  EXPECT_EQ(Open()->count(), 100u);
}

TEST(LetterFile, ParsesOnlyItsOwnNames) {
  EXPECT_EQ(ParseLetterFileName(LetterFileName(7)), 7u);
  EXPECT_EQ(ParseLetterFileName(LetterFileName(123456789)), 123456789u);
  for (const char* name : {"letters-0", "letters-00000000", "letters-1", "letters-0000000a",
                           "letters-", "wal-00000001.log", "letters-00000001.tmp"}) {
    EXPECT_EQ(ParseLetterFileName(name), std::nullopt) << name;
  }
}

TEST(LetterFile, ValidatesAnEntryOnlyInItsPlace) {
  const std::vector<std::byte> body(10, std::byte{3});
  const auto entry = MakeEntry(EntryKind::kLetter, body, 1, 40);
  EXPECT_TRUE(ParseEntry(entry, 1, 40).has_value());
  EXPECT_FALSE(ParseEntry(entry, 1, 41).has_value());
  EXPECT_FALSE(ParseEntry(entry, 2, 40).has_value());
}

TEST(LetterFile, RefusesBodiesThatAreNoLetter) {
  DeadLetter letter;
  letter.lsns = {1, 1};
  std::vector<std::byte> body = EncodeLetter(letter);
  ASSERT_TRUE(DecodeLetter(body).has_value());
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(DecodeLetter(std::span(body).first(size)).has_value()) << size;
  }
  body.push_back(std::byte{0});
  EXPECT_FALSE(DecodeLetter(body).has_value());
  EXPECT_FALSE(DecodeTaskCleared(std::span(body).first(3)).has_value());
}

TEST(LetterFile, ReportsASoundEntryThatIsNoLetter) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/wal/dead-letters"));
  const auto append = [](std::string* file, const std::vector<std::byte>& bytes) {
    file->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  std::string file;
  append(&file, MakeLetterFileHeader(1, 0));
  append(&file, MakeEntry(EntryKind::kLetter, {}, 1, file.size()));
  append(&file, MakeEntry(static_cast<EntryKind>(99), {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kTaskCleared, {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kResolved, {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kRetired, {}, 1, file.size()));
  ASSERT_OK(WriteFileAtomically(fs, kFirst, file));
  std::vector<std::string> damage;
  ASSERT_OK(DeadLetters::Open(fs, kDir, false, &damage));
  EXPECT_THAT(damage, SizeIs(5));
}

}  // namespace
}  // namespace taskwal::pipeline
