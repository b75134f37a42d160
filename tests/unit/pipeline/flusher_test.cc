#include "pipeline/flush/flusher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "base/status_macros.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FlusherTest : public ::testing::Test {
 protected:
  FlusherTest() {
    options_.wal_dir = "/wal";
    options_.worker_count = 2;
    options_.backoff_jitter = false;
    Open();
  }

  void Open() {
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    flusher_ = std::make_unique<Flusher>(log_->log(), backend_, *letters_, clock_, options_, fs_);
  }
  // As a clean end and a new process.
  void Reopen() {
    flusher_.reset();
    log_->Close();
    log_->Open();
    Open();
  }
  // As a kill at this point, and a new process.
  void Restart() {
    flusher_.reset();
    log_->Abandon();
    fs_.Kill();
    log_->Open();
    Open();
  }
  // Until nothing is left, over pauses and the linger.
  void Drain() {
    log_->Sync();
    // Before contact the position is what STATE confirms, which a restored database may not have.
    const auto is_done = [&] {
      return Stats().start_lsn > 0 && flusher_->flushed_lsn() >= log_->log().end_lsn();
    };
    for (int i = 0; i < 200 && !is_done(); ++i) {
      while (flusher_->Step()) {
      }
      clock_.Advance(seconds(1));
    }
    EXPECT_EQ(flusher_->flushed_lsn(), log_->log().end_lsn()) << Stats().alarm;
  }
  // As long as it makes progress, over `pauses`.
  void Work(int pauses) {
    for (int i = 0; i < pauses; ++i) {
      while (flusher_->Step()) {
      }
      clock_.Advance(seconds(1));
    }
  }
  // A hundred tasks over small segments, of which the first have been given up.
  void FlushManySegments() {
    log_->Abandon();
    log_->Open(64u << 10);
    Open();
    for (int i = 0; i < 100; ++i) {
      log_->Save("task-" + std::to_string(i), {}, 4000);
      log_->Sync();
      while (log_->log().MaintenanceStep()) {
      }
    }
    Drain();
  }
  // From here on the same database, restored from before its first contact with this log.
  void RestoreFromBefore(storage::MemoryBackend& restored) {
    backend_.SwitchTo(restored);
    ASSERT_OK(log_->log().SetState([&](wal::LogState* state) {
      state->db_id = restored.db_id();
    }));
  }
  FlusherStats Stats() { return flusher_->GetStats(); }
  std::unique_ptr<storage::Session> Session() { return std::move(memory_.Connect()).value(); }
  bool IsStored(const std::string& id) { return Session()->GetTask(id).ok(); }
  storage::LogRow Row(storage::Backend& backend) {
    return *(*backend.Connect())->ReadLog(log_->log().state().wal_id);
  }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  std::unique_ptr<OperationLog> log_ = std::make_unique<OperationLog>(fs_, clock_);
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
};

// --- the way in
// ------------------------------------------------------------------------------------------

TEST_F(FlusherTest, BringsTheLogIntoTheDatabase) {
  for (int i = 0; i < 50; ++i) log_->Save("task-" + std::to_string(i));
  for (int i = 0; i < 50; ++i) log_->LogActivity("log-" + std::to_string(i), "task-1");
  Drain();
  EXPECT_EQ(Session()->Count()->tasks, 50u);
  EXPECT_EQ(Session()->Count()->activities, 50u);
  EXPECT_EQ(Stats().applied, 100u);
  EXPECT_EQ(Stats().already_there, 0u);
  EXPECT_EQ(Stats().start_lsn, 1u);
  EXPECT_EQ(Stats().breaker_state, "closed");
  EXPECT_TRUE(Stats().last_flush_time.has_value());
}

TEST_F(FlusherTest, NeedsNoDatabaseWhereNothingIsPending) {
  backend_.RefuseConnections(UINT32_MAX);
  EXPECT_OK(flusher_->WaitFlushed(0, {clock_.Now(), {}}));
}

TEST_F(FlusherTest, TellsWhyItIsNotFlushed) {
  backend_.RefuseConnections(UINT32_MAX);
  log_->Save("a");
  log_->Sync();
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(flusher_->WaitFlushed(1, {clock_.Now(), {}}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("connection refused")));
  EXPECT_FALSE(Stats().database_available);
}

TEST_F(FlusherTest, TriesContactAgainUntilItSucceeds) {
  backend_.RefuseConnections(3, Status::InvalidArgument("the schema is newer than this program"));
  log_->Save("a");
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(flusher_->Step());
  EXPECT_EQ(backend_.connects(), 1u);  // backing off
  Drain();
  EXPECT_TRUE(IsStored("a"));
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(FlusherTest, SurvivesADriverThatThrowsAtContact) {
  backend_.ThrowInConnect(1);
  log_->Save("a");
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kUnavailable, HasSubstr("threw")));
  Drain();
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlusherTest, TakesARecordOfSixteenMebibytes) {
  options_.memory_bytes = 1u << 20;
  Open();
  log_->Save("large", {}, 16u << 20);
  log_->Save("small");
  Drain();
  EXPECT_TRUE(IsStored("large"));
  EXPECT_TRUE(IsStored("small"));
}

TEST_F(FlusherTest, AppliesBarriersInLogOrder) {
  log_->Save("a", "dag");
  log_->Save("b", "dag");
  log_->DeleteDag("dag");
  log_->Save("c", "dag");
  log_->SaveAll({"d", "e"});
  log_->Update("d", TaskStatus::kRunning);
  Drain();
  EXPECT_FALSE(IsStored("a"));
  EXPECT_FALSE(IsStored("b"));
  EXPECT_TRUE(IsStored("c"));
  EXPECT_EQ(Session()->GetTask("d")->task.status, TaskStatus::kRunning);
  EXPECT_EQ(Stats().applied, 6u);
}

// --- starting again
// ------------------------------------------------------------------------------------------

TEST_F(FlusherTest, GoesOnWhereItStoppedAfterACleanEnd) {
  for (int i = 0; i < 20; ++i)
    log_->LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
  Drain();
  const std::size_t before = backend_.committed().size();
  Reopen();
  EXPECT_EQ(flusher_->flushed_lsn(), 20u);
  Drain();
  EXPECT_EQ(backend_.committed().size(), before);
  EXPECT_EQ(Stats().start_lsn, 21u);
  EXPECT_EQ(Stats().applied, 0u);
}

TEST_F(FlusherTest, FindsThereWhatWasAppliedBeforeAKill) {
  for (int i = 0; i < 20; ++i)
    log_->LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
  Drain();
  const std::size_t before = backend_.committed().size();
  Restart();
  Drain();
  EXPECT_EQ(backend_.committed().size(), before);
  EXPECT_EQ(Stats().applied, Stats().already_there);
  EXPECT_EQ(Stats().applied, log_->log().end_lsn() - Stats().start_lsn + 1);
}

TEST_F(FlusherTest, SkipsALetteredRecordWhenTheWatermarkHasNotPassedIt) {
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  // The letter is durable; the move of the watermark is not answered.
  options_.max_flush_retries = 0;
  Open();
  backend_.NextApplies({ApplyFault::kNone, ApplyFault::kLostBefore});
  log_->Save("bad");
  log_->Sync();
  while (flusher_->Step()) {
  }
  ASSERT_EQ(letters_->count(), 1u);
  ASSERT_EQ(flusher_->flushed_lsn(), 0u);
  Restart();
  backend_.RejectTasks(nullptr);
  Drain();
  EXPECT_FALSE(IsStored("bad"));
  EXPECT_EQ(Stats().dead_lettered, 1u);
  EXPECT_EQ(letters_->count(), 1u);
}

// --- a database that changes under it
// --------------------------------------------------------------------------

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

TEST_F(FlusherTest, IsFencedByALaterOpener) {
  log_->Save("a");
  Drain();
  const Uuid wal_id = log_->log().state().wal_id;
  ASSERT_OK(Session()->RegisterLog(wal_id, log_->log().epoch() + 1, {}));
  log_->Save("b");
  log_->Sync();
  for (int i = 0; i < 10; ++i) {
    while (flusher_->Step()) {
    }
    clock_.Advance(seconds(1));
  }
  EXPECT_THAT(flusher_->health(), StatusIs(StatusCode::kFenced));
  EXPECT_THAT(flusher_->WaitFlushed(2, {}), StatusIs(StatusCode::kFenced));
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kFenced));
  EXPECT_FALSE(flusher_->Step());
  EXPECT_FALSE(IsStored("b"));
  EXPECT_NE(Stats().alarm, "");
}

TEST_F(FlusherTest, IsFencedByAnotherDatabaseThanBefore) {
  log_->Save("a");
  Drain();
  Reopen();
  storage::MemoryBackend another;
  backend_.SwitchTo(another);
  EXPECT_THAT(flusher_->Contact(), StatusIs(StatusCode::kFenced, HasSubstr("--new-db")));
  EXPECT_THAT(flusher_->health(), StatusIs(StatusCode::kFenced));
  EXPECT_THAT(Row(another).watermarks, IsEmpty());
}

// --- going on while something is stuck
// ------------------------------------------------------------------------

TEST_F(FlusherTest, LetsOtherPartitionsGoOnWhileOneIsStuck) {
  options_.memory_bytes = 1;  // the least there is: 64 KiB a partition
  options_.breaker_failures = 0;
  Open();
  // A row lock: whatever concerns partition 0 fails.
  std::atomic<bool> is_locked = true;
  backend_.OnApply([&](const storage::Batch& batch) {
    for (const auto& move : batch.moves) {
      if (is_locked && move.partition == 0) throw std::runtime_error("lock wait timeout");
    }
  });
  const std::string stuck = OperationLog::IdIn(0);
  const std::string free = OperationLog::IdIn(1);
  for (int i = 0; i < 200; ++i) {
    log_->Save(stuck, {}, 2000);
    log_->Update(free, i % 2 == 0 ? TaskStatus::kRunning : TaskStatus::kPending);
  }
  log_->Save(free);
  log_->Sync();
  for (int i = 0; i < 50; ++i) {
    while (flusher_->Step()) {
    }
    clock_.Advance(seconds(1));
  }
  EXPECT_TRUE(IsStored(free));
  EXPECT_EQ(flusher_->flushed_lsn(1), log_->log().end_lsn());
  EXPECT_EQ(flusher_->flushed_lsn(0), 0u);
  is_locked = false;
  Drain();
  EXPECT_TRUE(IsStored(stuck));
  EXPECT_EQ(Stats().applied, 401u);
}

// Whatever is stuck, and however large the records are: what is read and not settled stays within
// the bound and one record, and in the end all of it is there.
TEST_F(FlusherTest, HoldsNoMoreThanItsBoundAndOneRecord) {
  constexpr std::uint64_t kBound = 256u << 10;  // the least there is, of four partitions
  constexpr std::uint64_t kLargest = 300u << 10;
  Random random(7);
  std::set<std::uint32_t> locked;
  backend_.OnApply([&](const storage::Batch& batch) {
    for (const auto& move : batch.moves) {
      if (locked.contains(move.partition)) throw std::runtime_error("lock wait timeout");
    }
  });
  for (int round = 0; round < 20; ++round) {
    flusher_.reset();
    options_.memory_bytes = 1;
    options_.breaker_failures = 0;
    Open();
    locked = {static_cast<std::uint32_t>(round % 5), static_cast<std::uint32_t>(round % 3)};
    for (int i = 0; i < 30; ++i) {
      const std::string id = "task-" + std::to_string(random.Below(100));
      const std::uint64_t kind = random.Below(12);
      if (kind == 0) {
        log_->SaveAll({id, "other"});
      } else if (kind == 1) {
        log_->DeleteDag("dag");
      } else {
        log_->Save(id, "dag", random.Below(kind < 7 ? 2000 : kLargest));
      }
    }
    log_->Sync();
    for (int turn = 0; turn < 12; ++turn) {
      while (flusher_->Step()) {
        ASSERT_LE(flusher_->Flow().queued_bytes, kBound + kLargest + 1000) << round;
      }
      ASSERT_LE(flusher_->Flow().queued_bytes, kBound + kLargest + 1000) << round;
      clock_.Advance(seconds(1));
      if (turn == 6) locked.clear();
    }
    Drain();
    ASSERT_EQ(flusher_->flushed_lsn(), log_->log().end_lsn()) << round;
  }
  EXPECT_EQ(Stats().lost, 0u);
}

TEST_F(FlusherTest, RetiresWhatIsSettled) {
  log_->Abandon();
  log_->Open(64u << 10);
  Open();
  for (int i = 0; i < 100; ++i) {
    log_->Save("task-" + std::to_string(i), {}, 4000);
    log_->Sync();
    while (log_->log().MaintenanceStep()) {
    }
  }
  const std::uint64_t before = log_->log().GetStats().segments;
  Drain();
  flusher_->Stop();
  EXPECT_LT(log_->log().GetStats().segments, before);
  EXPECT_GT(log_->log().first_lsn(), 1u);
  EXPECT_EQ(log_->log().state().flushed_lsn, 100u);
  EXPECT_EQ(log_->log().state().watermarks, Row(memory_).watermarks);
}

TEST_F(FlusherTest, ConfirmsNothingOfADatabaseThatForgets) {
  backend_.set_volatile(true);
  Open();
  log_->Save("a");
  Drain();
  flusher_->Stop();
  EXPECT_EQ(log_->log().state().flushed_lsn, 1u);
  EXPECT_THAT(log_->log().state().watermarks, IsEmpty());
}

TEST_F(FlusherTest, BringsWhatIsRetainedIntoADatabaseAfterOneThatForgets) {
  backend_.set_volatile(true);
  Open();
  log_->Save("a");
  Drain();
  Reopen();
  storage::MemoryBackend lasting;
  backend_.SwitchTo(lasting);
  backend_.set_volatile(false);
  Open();
  Drain();
  EXPECT_TRUE((*lasting.Connect())->GetTask("a").ok());
}

// --- exactly once, whatever dies
// -----------------------------------------------------------------------------------

// The process dies in its n-th file system call, for every n; a database that is asked throughout
// sees each acknowledged record once.
TEST(FlusherCrash, BringsEachRecordOnceWhereverItIsKilled) {
  for (std::uint64_t n = 1;; n += 3) {
    FakeClock clock;
    SimulatedFileSystem fs(n);
    storage::MemoryBackend memory;
    ScriptedBackend backend(memory);
    backend.RejectActivities([](const Activity& a) { return a.id == "log-7"; });
    Options options;
    options.wal_dir = "/wal";
    options.batch_size = 6;
    options.max_flush_retries = 0;
    OperationLog log(fs, clock);
    for (int i = 0; i < 30; ++i)
      log.LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
    log.Sync();
    bool has_crashed = true;
    for (int life = 0; life < 3; ++life) {
      if (life > 0) log.Open();
      if (life == 0) fs.CrashAfter(n);
      {
        auto letters = DeadLetters::Open(fs, "/wal", false);
        if (letters.ok()) {
          Flusher flusher(log.log(), backend, **letters, clock, options, fs);
          for (int turn = 0; turn < 60; ++turn) {
            while (flusher.Step()) {
            }
            clock.Advance(seconds(1));
          }
          if (life > 0) {
            EXPECT_EQ(flusher.flushed_lsn(), 30u) << n;
            EXPECT_EQ((*letters)->count(), 1u) << n;
          }
        }
      }
      if (life == 0) has_crashed = fs.crashed();
      log.Abandon();
      fs.Kill();
    }
    EXPECT_EQ((*memory.Connect())->Count()->activities, 29u) << n;
    std::size_t rows = 0;
    for (const auto& batch : backend.committed()) rows += batch.activities;
    EXPECT_EQ(rows, 29u) << n;
    if (!has_crashed) break;
  }
}

// --- threads
// -----------------------------------------------------------------------------------------------

class FlusherThreadsTest : public ::testing::Test {
 protected:
  FlusherThreadsTest() {
    options_.wal_dir = "/wal";
    options_.worker_count = 2;
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(2);
    options_.breaker_open_time = milliseconds(1);
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    flusher_ =
        std::make_unique<Flusher>(log_.log(), backend_, *letters_, Clock::Real(), options_, fs_);
  }

  SimulatedFileSystem fs_;
  OperationLog log_{fs_, Clock::Real()};
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
};

TEST_F(FlusherThreadsTest, FlushesWhatSeveralThreadsAppend) {
  flusher_->Start();
  std::vector<std::thread> producers;
  for (int producer = 0; producer < 4; ++producer) {
    producers.emplace_back([&, producer] {
      for (int i = 0; i < 250; ++i) {
        const std::string id = std::to_string(producer) + "-" + std::to_string(i);
        log_.LogActivity(id, "task-" + id);
      }
    });
  }
  for (std::thread& producer : producers) producer.join();
  EXPECT_OK(flusher_->WaitFlushed(log_.log().end_lsn(), {}));
  EXPECT_EQ((*memory_.Connect())->Count()->activities, 1000u);
  flusher_->Stop();
  flusher_->Stop();
}

TEST_F(FlusherThreadsTest, GetsThroughEveryKindOfTrouble) {
  backend_.RefuseConnections(2);
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kLostBefore, ApplyFault::kLostAfter,
                        ApplyFault::kThrows, ApplyFault::kThrowsAfter, ApplyFault::kLate,
                        ApplyFault::kMoved, ApplyFault::kThrowsOddly});
  flusher_->Start();
  for (int i = 0; i < 300; ++i) {
    const std::string id = std::to_string(i);
    log_.LogActivity(id, "task-" + id);
    if (i % 50 == 0) {
      EXPECT_OK(flusher_->WaitFlushed(log_.log().end_lsn(), {}));
    }
  }
  EXPECT_OK(flusher_->WaitFlushed(log_.log().end_lsn(), {}));
  EXPECT_EQ((*memory_.Connect())->Count()->activities, 300u);
  EXPECT_EQ(flusher_->GetStats().applied, 300u);
  EXPECT_EQ(flusher_->GetStats().duplicates, 0u);
}

TEST_F(FlusherThreadsTest, EndsAWaitOnADeadlineAStopAndTheEnd) {
  backend_.RefuseConnections(UINT32_MAX);
  flusher_->Start();
  log_.Save("a");
  EXPECT_THAT(flusher_->WaitFlushed(1, {Clock::Real().Now() + milliseconds(1), {}}),
              StatusIs(StatusCode::kUnavailable));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(flusher_->WaitFlushed(1, {Monotonic::max(), stop.get_token()}),
              StatusIs(StatusCode::kUnavailable));
  std::thread waiter(
      [&] { EXPECT_THAT(flusher_->WaitFlushed(1, {}), StatusIs(StatusCode::kUnavailable)); });
  flusher_->Stop();
  waiter.join();
}

TEST_F(FlusherThreadsTest, EndsAWaitWhenFenced) {
  log_.Save("a");
  ASSERT_OK((*memory_.Connect())
                ->RegisterLog(log_.log().state().wal_id, 99,
                              std::vector<wal::Lsn>(OperationLog::kPartitions, 0)));
  flusher_->Start();
  EXPECT_THAT(flusher_->WaitFlushed(1, {}), StatusIs(StatusCode::kFenced));
}

// --- under pressure ----------------------------------------------------------------------------

// Ten minutes, on the fake clock: the log takes everything, the database is asked only now and
// then, and gets it all when it is back.
TEST_F(FlusherTest, AnOutageOfMinutesLosesNothingAndAsksSeldom) {
  for (int i = 0; i < 20; ++i) log_->Save("before-" + std::to_string(i));
  Drain();
  const std::uint64_t applies = backend_.applies();
  const std::uint64_t connects = backend_.connects();
  backend_.RefuseConnections(UINT32_MAX);
  backend_.NextApplies({ApplyFault::kLostBefore, ApplyFault::kLostBefore});  // one for each worker
  for (int second = 0; second < 600; ++second) {
    log_->Save("t-" + std::to_string(second));
    log_->Sync();
    while (flusher_->Step()) {
    }
    clock_.Advance(seconds(1));
  }
  EXPECT_EQ(Stats().breaker_state, "open");
  EXPECT_LE(backend_.applies(), applies + 2);
  EXPECT_LE(backend_.connects(), connects + 5 + 10);  // until it opened, then once a minute
  EXPECT_EQ(Stats().applied, 20u);
  backend_.RefuseConnections(0);
  Drain();
  EXPECT_EQ(Session()->Count()->tasks, 620u);
  EXPECT_EQ(Stats().applied, 620u);
  EXPECT_EQ(flusher_->Flow().breaker.state, "closed");
}

// One transaction in twenty fails, in any of the ways there are.
TEST_F(FlusherTest, DeliversAllOfItWithFivePercentRandomFailures) {
  const std::uint64_t seed = Random::FromSystem().Next();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  options_.batch_size = 20;
  Open();
  std::vector<ApplyFault> faults;
  constexpr std::array kFaults = {ApplyFault::kUnavailable, ApplyFault::kLostBefore,
                                  ApplyFault::kLostAfter, ApplyFault::kThrows,
                                  ApplyFault::kThrowsAfter};
  for (int i = 0; i < 2000; ++i) {
    faults.push_back(random.OneIn(20) ? kFaults[random.Below(kFaults.size())]
                                      : ApplyFault::kNone);
  }
  backend_.NextApplies(faults);
  constexpr int kRecords = 5000;
  for (int i = 0; i < kRecords; ++i) log_->LogActivity("log-" + std::to_string(i), "t");
  Drain();
  // 99.9 % is the floor; a log that keeps what failed delivers all of it, each once.
  EXPECT_EQ(Session()->Count()->activities, static_cast<std::uint64_t>(kRecords));
  EXPECT_EQ(Stats().applied, static_cast<std::uint64_t>(kRecords));
  EXPECT_EQ(Stats().dead_lettered, 0u);
  EXPECT_GT(Stats().flush_errors, 0u);
}

// The database's time goes with the records; it gets ten times slower, and comes back.
TEST_F(FlusherTest, TheBatchSizeFollowsTheDatabaseDownAndUpAgain) {
  auto per_record = std::chrono::microseconds(50);
  backend_.OnApply([&](const storage::Batch& batch) {
    clock_.Advance(milliseconds(2) + per_record * batch.activities.size());
  });
  options_.worker_count = 1;
  options_.batch_size = 100;
  options_.batch_size_min = 20;
  options_.target_latency = milliseconds(50);
  options_.batch_evaluation_interval = milliseconds(50);
  options_.batch_adjustment = 0.3;
  Open();
  int made = 0;
  const auto bring = [&](int records) {
    for (int i = 0; i < records; ++i) log_->LogActivity("log-" + std::to_string(made++), "t");
    Drain();
    return flusher_->Flow().batch_size.size;
  };
  const std::uint32_t settled = bring(20'000);
  EXPECT_NEAR(settled, 960, 250);
  per_record *= 10;
  EXPECT_NEAR(bring(3'000), 96, 40);
  per_record /= 10;
  EXPECT_NEAR(bring(30'000), settled, 250);
  EXPECT_FALSE(flusher_->Flow().batch_size.history.empty());
}

// --- a database that refuses everything
// ------------------------------------------------------------------------------------------

// Whoever of the workers meets it, and however often the process starts anew.
TEST_F(FlusherTest, LettersTenOfWhatIsRefusedThroughoutAndNoneMoreAfterARestart) {
  options_.worker_count = 4;
  Open();
  backend_.RejectActivities([](const Activity&) { return true; });
  for (int i = 0; i < 300; ++i)
    log_->LogActivity("log-" + std::to_string(i), "t" + std::to_string(i));
  log_->Sync();
  for (int life = 0; life < 4; ++life) {
    Work(50);
    EXPECT_EQ(letters_->count(), 10u) << "life " << life;
    EXPECT_THAT(Stats().alarm, HasSubstr("nothing more is dead-lettered"));
    Restart();
  }
  backend_.RejectActivities(nullptr);
  Drain();
  EXPECT_EQ(Session()->Count()->activities, 290u);
  EXPECT_EQ(letters_->count(), 10u);
  // All is well again: what is refused now is poison.
  backend_.RejectActivities([](const Activity& activity) { return activity.id == "bad"; });
  log_->LogActivity("bad", "t");
  Drain();
  EXPECT_EQ(letters_->count(), 11u);
}

// Saves that go through say nothing for activities.
TEST_F(FlusherTest, LettersNoMoreActivitiesForSavesThatGoThrough) {
  options_.worker_count = 4;
  Open();
  backend_.RejectActivities([](const Activity&) { return true; });
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 100; ++i) log_->Save("task-" + std::to_string(100 * round + i));
    log_->LogActivity("log-" + std::to_string(round), "t" + std::to_string(round));
    log_->Sync();
    Work(5);
    if (round % 7 == 6) Restart();
  }
  Work(50);
  EXPECT_EQ(letters_->count(), 10u);
  backend_.RejectActivities(nullptr);
  Drain();
  EXPECT_EQ(Session()->Count()->tasks, 3000u);
  EXPECT_EQ(Session()->Count()->activities, 20u);
}

// A few refused rows among many, in many short lives: each of them is poison.
TEST_F(FlusherTest, RemembersWhatWentThroughBetweenLettersOverRestarts) {
  backend_.RejectActivities([](const Activity& activity) { return activity.id.ends_with("bad"); });
  for (int life = 0; life < 60; ++life) {
    for (int i = 0; i < 120; ++i)
      log_->LogActivity(std::to_string(life) + "-" + std::to_string(i), "t" + std::to_string(i));
    if (life % 3 == 0) log_->LogActivity(std::to_string(life) + "-bad", "t");
    Drain();
    life % 2 == 0 ? Restart() : Reopen();
  }
  EXPECT_EQ(letters_->count(), 20u);
  EXPECT_EQ(Session()->Count()->activities, 60u * 120u);
}

// Who purges them has looked at them.
TEST_F(FlusherTest, LettersAgainOnceTheLettersHaveBeenPurged) {
  backend_.RejectActivities([](const Activity& activity) { return activity.id.ends_with("bad"); });
  for (int i = 0; i < 15; ++i)
    log_->LogActivity(std::to_string(i) + "-bad", "t" + std::to_string(i));
  log_->Sync();
  Work(50);
  ASSERT_EQ(letters_->count(), 10u);
  std::vector<LetterResolution> purged;
  ASSERT_OK(letters_->ForEach([&](const DeadLetter& letter) {
    purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
    return true;
  }));
  ASSERT_OK(letters_->Resolve(purged));
  Restart();
  Drain();
  EXPECT_EQ(letters_->count(), 5u);
}

}  // namespace
}  // namespace taskwal::pipeline
