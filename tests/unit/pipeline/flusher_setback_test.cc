#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/operation_log.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flusher_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST_F(FlusherTest, ReplaysWhenTheDatabaseWentBackWhileRunning) {
  for (int i = 0; i < 10; ++i) log_->Save("task-" + std::to_string(i));
  Drain();
  storage::MemoryBackend restored;
  const auto session = std::move(restored.Connect()).value();
  ASSERT_OK(session->RegisterLog(log_->log().state().wal_id, log_->log().epoch(),
                                 std::vector<wal::Lsn>(OperationLog::kPartitions, 0)));
  options_.worker_count = 1;
  backend_.set_volatile(true);  // no db_id to tell it by
  backend_.SwitchTo(restored);
  backend_.NextApplies({ApplyFault::kUnavailable});
  log_->Save("last");
  Drain();
  EXPECT_EQ(session->Count()->tasks, 11u);
  EXPECT_EQ(Stats().applied, 11u);  // each counted once
}

TEST_F(FlusherTest, LooksTwiceBeforeItTakesADatabaseToHaveGoneBack) {
  for (int i = 0; i < 10; ++i) log_->LogActivity("log-" + std::to_string(i), "task");
  Drain();
  const std::size_t commits = backend_.committed().size();
  // A node that has not applied the last commits yet: one answer to the look, one to the contact.
  backend_.AnswerFromThePast(2);
  clock_.Advance(options_.health_check_interval);
  while (flusher_->Step()) {
  }
  EXPECT_THAT(Stats().alarm, HasSubstr("behind what it had confirmed; it is looked at once more"));
  log_->LogActivity("last", "task");
  Drain();
  EXPECT_EQ(backend_.committed().size(), commits + 1);
  EXPECT_EQ(Session()->Count()->activities, 11u);
  EXPECT_EQ(Stats().already_there, 0u);
  EXPECT_EQ(Stats().alarm, "");
}

// Two looks without a pause between them are one.
TEST_F(FlusherTest, ASecondLookThatComesTooEarlyIsNone) {
  for (int i = 0; i < 10; ++i) log_->LogActivity("log-" + std::to_string(i), "task");
  Drain();
  const std::size_t commits = backend_.committed().size();
  backend_.AnswerFromThePast(2);
  EXPECT_THAT(flusher_->MeetAgain(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kUnavailable));
  log_->LogActivity("last", "task");
  Drain();
  EXPECT_EQ(backend_.committed().size(), commits + 1);
  EXPECT_EQ(Stats().already_there, 0u);
}

TEST_F(FlusherTest, ReplaysWhatIsRetainedWhenTheDatabaseWentBackBetweenRuns) {
  for (int i = 0; i < 10; ++i)
    log_->LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
  Drain();
  flusher_->Stop();
  Reopen();
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  Open();
  Drain();
  EXPECT_EQ((*restored.Connect())->Count()->activities, 10u);
  EXPECT_TRUE(backend_.committed().back().idempotent);
}

TEST_F(FlusherTest, NothingCountsAsFlushedWhileASetbackIsLookedAtAgain) {
  for (int i = 0; i < 10; ++i) log_->Save("task-" + std::to_string(i));
  Drain();
  flusher_->Stop();
  Reopen();
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  ASSERT_EQ(flusher_->flushed_lsn(), 10u);
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(flusher_->flushed_lsn(), 0u);
  EXPECT_THAT(flusher_->WaitFlushed(10, {clock_.Now(), {}}), StatusIs(StatusCode::kUnavailable));
  Drain();
  EXPECT_EQ((*restored.Connect())->Count()->tasks, 10u);
}

// Nothing of it is in the log any more, either: that is to be declared first.
TEST_F(FlusherTest, WhatIsGoneForGoodCountsAsFlushedOnlyOnceDeclared) {
  FlushManySegments();
  flusher_->Stop();
  Reopen();
  ASSERT_OK(log_->log().Retire(100, std::vector<wal::Lsn>(OperationLog::kPartitions, 100)));
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(flusher_->flushed_lsn(), 0u);
  Drain();
  EXPECT_EQ(letters_->lost(), log_->log().first_lsn() - 1);
}

// Killed before it has brought everything again: the next process knows what is not there.
TEST_F(FlusherTest, ASetbackOutlivesTheProcess) {
  for (int i = 0; i < 10; ++i) log_->Save("task-" + std::to_string(i));
  Drain();
  flusher_->Stop();
  Reopen();
  ASSERT_EQ(flusher_->flushed_lsn(), 10u);
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  for (int i = 0; i < 10 && Stats().start_lsn == 0; ++i) {
    IgnoreStatus(flusher_->Contact(), "a setback is looked at twice");
    clock_.Advance(seconds(1));
  }
  ASSERT_EQ(Stats().start_lsn, 1u);
  backend_.RefuseConnections(UINT32_MAX);
  Restart();
  EXPECT_EQ(flusher_->flushed_lsn(), 0u);
}

TEST_F(FlusherTest, NamesWhatADatabaseThatWentBackHasLostForGood) {
  FlushManySegments();
  flusher_->Stop();
  const wal::Lsn first = log_->log().first_lsn();
  ASSERT_GT(first, 1u);
  Reopen();
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  Open();
  Drain();
  const wal::LsnRange missing{1, first - 1};
  EXPECT_THAT(Stats().missing, ElementsAre(MissingRecords{missing, {}}));
  EXPECT_THAT(Stats().alarm, HasSubstr("LSN 1 to " + std::to_string(missing.to) + " are not"));
  EXPECT_EQ(letters_->lost(), missing.count());
  EXPECT_EQ((*restored.Connect())->Count()->tasks, 100 - (first - 1));
}

// What was settled when the process began is in nobody's books, and takes no other record's place.
TEST_F(FlusherTest, CountsARecordOnceThoughTheDatabaseGoesBackBehindTheStart) {
  for (int i = 0; i < 10; ++i) log_->Save("task-" + std::to_string(i));
  Drain();
  flusher_->Stop();
  Reopen();
  ASSERT_OK(flusher_->Contact());
  backend_.RefuseConnections(UINT32_MAX);
  backend_.NextApplies(std::vector<ApplyFault>(4, ApplyFault::kLostBefore));
  for (int i = 0; i < 3; ++i) log_->Save("task-" + std::to_string(i));
  log_->Sync();
  while (flusher_->Step()) {
  }
  ASSERT_EQ(Stats().unsettled, 3u);
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  backend_.RefuseConnections(0);
  backend_.NextApplies({});
  Drain();
  const FlusherStats stats = Stats();
  EXPECT_EQ(stats.read, 3 + stats.regained);
  EXPECT_EQ(stats.applied, stats.read);
  EXPECT_EQ((*restored.Connect())->Count()->tasks, 10u);
}

// As PrepareLog leaves it where STATE was damaged, and the oldest segments are not there.
TEST_F(FlusherTest, NamesWhatIsOlderThanALogWithoutStateThatNobodyKnows) {
  for (int i = 0; i < 10; ++i) log_->Save("task-" + std::to_string(i));
  ASSERT_OK(log_->log().SetState([](wal::LogState* state) {
    state->first_lsn = 5;
    state->copied = true;
  }));
  Open();
  Drain();
  EXPECT_EQ(Session()->Count()->tasks, 6u);
  std::vector<wal::LsnRange> losses;
  ASSERT_OK(letters_->ForEach([&](const DeadLetter& letter) {
    if (letter.kind == DeadLetter::Kind::kLoss) losses.push_back(letter.lsns);
    return true;
  }));
  EXPECT_THAT(losses, ElementsAre(wal::LsnRange{1, 4}));
  EXPECT_THAT(Stats().missing, SizeIs(1));
}

// The storage cannot read its backlog, and gives up counting it while the first contact is made.
TEST_F(FlusherTest, WhatIsFoundWhileTheBacklogIsUnreadableIsAcceptedByBeingFound) {
  for (int i = 0; i < 10; ++i) log_->Save("task-" + std::to_string(i));
  Drain();
  flusher_->Stop();
  ASSERT_OK(log_->log().SetState([](wal::LogState* state) {
    wal::NoteFlushed(0, 4, std::vector<wal::Lsn>(state->partitions, 4), state);
  }));
  Open();
  ASSERT_EQ(flusher_->FixStart(true), 4u);
  ASSERT_OK(flusher_->Contact());
  flusher_->StartBooksAt(log_->log().end_lsn());
  EXPECT_GT(Stats().applied, 0u);
  EXPECT_EQ(Stats().regained, Stats().applied);
  log_->Save("next");
  Drain();
  EXPECT_EQ(Stats().applied, 7u);
  EXPECT_EQ(Stats().regained, 6u);
}

// The save that ended the wait for "the next save" is neither in the database nor in the log.
TEST_F(FlusherTest, FollowsTheLetterAgainWhereTheNextSaveIsGone) {
  log_->Save("t");
  log_->Save("kept");
  Drain();
  backend_.RejectTasks([](const storage::TaskChange& change) { return change.task.id != "kept"; });
  log_->Save("t");
  Drain();
  log_->Save("kept");
  Drain();
  ASSERT_EQ(letters_->count(), 1u);
  backend_.RejectTasks(nullptr);
  log_->Save("t");
  Drain();
  flusher_.reset();
  FlushManySegments();
  ASSERT_GT(log_->log().first_lsn(), 5u);
  EXPECT_FALSE(letters_->HoldsSaveOf("t"));
  flusher_->Stop();
  Reopen();
  storage::MemoryBackend restored;
  RestoreFromBefore(restored);
  Open();
  Drain();
  ASSERT_THAT(Stats().missing, SizeIs(1));
  const wal::Lsn update = log_->Update("t", TaskStatus::kCompleted);
  Drain();
  EXPECT_TRUE(letters_->Contains(log_->log().state().wal_id, update));
  log_->Save("t");
  const wal::Lsn later = log_->Update("t", TaskStatus::kCompleted);
  Drain();
  EXPECT_FALSE(letters_->Contains(log_->log().state().wal_id, later));
  EXPECT_EQ((*restored.Connect())->GetTask("t")->task.status, TaskStatus::kCompleted);
}

}  // namespace
}  // namespace taskwal::pipeline
