#include "pipeline/flush/flusher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>

#include "base/random.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/operation_log.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flusher_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

}  // namespace
}  // namespace taskwal::pipeline
