#include "pipeline/flush/dead_letters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/dead_letters_fixture.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

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

}  // namespace
}  // namespace taskwal::pipeline
