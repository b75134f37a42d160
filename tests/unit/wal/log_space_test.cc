// Where room runs out: the ring, the quota, the disk; and what makes room again.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/wal/log_fixture.h"

namespace taskwal::wal {
namespace {

TEST_F(LogTest, SparesAreGivenUpOnADiskThatRunsFullAndTheReserveStays) {
  const auto count = [&](const std::string& prefix) {
    const auto entries = fs_.List(kDirectory);
    EXPECT_OK(entries);
    return std::count_if(entries->begin(), entries->end(), [&](const DirectoryEntry& entry) {
      return entry.name.starts_with(prefix);
    });
  };
  fs_.SetCapacity(64u << 20);
  auto log = Open();
  while (log->MaintenanceStep()) {
  }
  EXPECT_GE(count("spare-"), 1);
  fs_.SetCapacity(400u << 10);
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(std::chrono::seconds(1));
    log->MaintenanceStep();
  }
  EXPECT_EQ(count("spare-"), 0);
  ASSERT_OK(log->Close());
  EXPECT_EQ(count("RESERVE"), 1);
}

TEST_F(LogTest, AFullRingWithoutRoomIsOverloadedAndKeepsNothing) {
  auto log = Open();
  const Deadline now{clock_.Now(), {}};
  Status full;
  Lsn accepted = 0;
  for (int i = 0; i < 10000 && full.ok(); ++i) {
    const auto lsn = Put(*log, std::string(1000, 'x'), Durability::kProcess, 1, now);
    full = lsn.status();
    if (lsn.ok()) accepted = *lsn;
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(log->end_lsn(), accepted);
  ASSERT_OK(log->WaitDurable(accepted, {}));
  EXPECT_OK(Put(*log, "room again", Durability::kProcess, 1, now));
}

TEST_F(LogTest, WaitsForRoomByWritingItself) {
  auto log = Open();
  for (int i = 0; i < 1000; ++i) ASSERT_OK(Put(*log, std::string(1000, 'x'), Durability::kDisk));
  EXPECT_EQ(log->end_lsn(), 1000u);
}

TEST_F(LogTest, BeyondTheQuotaAppendsAreRefusedUntilFlushed) {
  auto log = Open([](LogOptions* o) {
    o->quota_bytes = 256u << 10;
    o->retention_bytes = 0;
    o->segment_retention = std::chrono::milliseconds(0);
  });
  const auto append_until_full = [&] {
    for (int i = 0; i < 500; ++i) {
      const auto lsn =
          Put(*log, std::string(4000, 'x'), Durability::kProcess, 1, {clock_.Now(), {}});
      if (!lsn.ok()) {
        if (log->GetStats().full) return true;
        EXPECT_OK(log->WaitDurable(log->end_lsn(), {}));
      }
      clock_.Advance(std::chrono::milliseconds(200));
      log->MaintenanceStep();
    }
    return false;
  };
  ASSERT_TRUE(append_until_full());
  EXPECT_LT(log->GetStats().log_bytes, 600u << 10);
  ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  while (log->MaintenanceStep()) {
  }
  ASSERT_OK(log->Retire(log->durable_lsn(), {}));
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_FALSE(log->GetStats().full);
  EXPECT_OK(Put(*log, "goes on", Durability::kProcess, 1, {clock_.Now(), {}}));
}

TEST_F(LogTest, TheQuotaIsLookedAtBeforeEachSegment) {
  auto log = Open([](LogOptions* o) { o->quota_bytes = 256u << 10; });
  // Neither time nor maintenance: only the writer works.
  Status full;
  for (int i = 0; i < 2000 && full.ok(); ++i) {
    full = Put(*log, std::string(4000, 'x'), Durability::kProcess, 1, {clock_.Now(), {}}).status();
    log->WriterStep();
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded));
  EXPECT_TRUE(log->GetStats().full);
}

TEST_F(LogTest, KeepsWhatMayBeNeededAgainThoughTheDiskIsShort) {
  auto log = Open();
  for (int i = 0; i < 2000; ++i) ASSERT_OK(Put(*log, std::string(200, 'x')));
  ASSERT_OK(log->WaitDurable(2000, {}));
  while (log->MaintenanceStep()) {
  }
  ASSERT_OK(log->Retire(2000, {}));
  ASSERT_EQ(log->first_lsn(), 1u);
  log->KeepFrom(1);
  const auto space = fs_.Space(kDirectory);
  ASSERT_OK(space);
  fs_.SetCapacity(space->total - space->available + 4096);
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_EQ(log->first_lsn(), 1u);
  ASSERT_OK(log->Retire(2000, {}));
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_GT(log->first_lsn(), 1u);
}

TEST_F(LogTest, RetiresOnlyWhatIsSettledAndSaysSoInState) {
  auto log = Open([](LogOptions* o) {
    o->retention_bytes = 0;
    o->segment_retention = std::chrono::milliseconds(0);
  });
  for (int i = 0; i < 2000; ++i) ASSERT_OK(Put(*log, std::string(200, 'x')));
  ASSERT_OK(log->WaitDurable(2000, {}));
  while (log->MaintenanceStep()) {
  }
  const std::uint64_t before = log->GetStats().segments;
  ASSERT_OK(log->Retire(0, {}));
  EXPECT_EQ(log->GetStats().segments, before);
  clock_.Advance(std::chrono::seconds(1));
  ASSERT_OK(log->Retire(1000, {5, 6}));
  EXPECT_LT(log->GetStats().segments, before);
  EXPECT_GT(log->first_lsn(), 1u);
  EXPECT_LE(log->first_lsn(), 1001u);
  const auto state = ReadState(fs_, kDirectory);
  ASSERT_OK(state);
  EXPECT_EQ(state->first_lsn, log->first_lsn());
  EXPECT_EQ(state->watermarks, (std::vector<Lsn>{5, 6}));
  TailReader tail = log->Tail(log->first_lsn());
  Frame frame;
  const auto event = tail.Next(2000, &frame);
  ASSERT_OK(event);
  EXPECT_EQ(event->kind, TailEvent::Kind::kFrame);
}

// Else a database that goes back would be told that it is lost, and the files have it.
TEST_F(LogTest, WhatStateStillCountsOnIsNotTakenForRetired) {
  auto log = Open([](LogOptions* o) {
    o->retention_bytes = 0;
    o->segment_retention = std::chrono::milliseconds(0);
  });
  for (int i = 0; i < 2000; ++i) ASSERT_OK(Put(*log, std::string(200, 'x')));
  ASSERT_OK(log->WaitDurable(2000, {}));
  while (log->MaintenanceStep()) {
  }
  clock_.Advance(std::chrono::seconds(1));
  fs_.FailNth(1, {.call = SimulatedCall::kRename, .path_part = "STATE"});
  EXPECT_THAT(log->Retire(1000, {}), StatusIs(StatusCode::kIoError));
  EXPECT_EQ(log->first_lsn(), 1u);
  Frame frame;
  const auto event = log->Tail(1).Next(2000, &frame);
  ASSERT_OK(event);
  EXPECT_EQ(event->kind, TailEvent::Kind::kFrame);
  ASSERT_OK(log->Retire(1000, {}));
  EXPECT_GT(log->first_lsn(), 1u);
}

TEST_F(LogTest, NoSpaceForASegmentRefusesAppendsAndResumesByItself) {
  auto log = Open();
  ASSERT_OK(Put(*log, "a"));
  ASSERT_OK(log->WaitDurable(1, {}));
  fs_.SetCapacity(0);
  Status full;
  Lsn accepted = 1;
  for (int i = 0; i < 3000 && full.ok(); ++i) {
    clock_.Advance(std::chrono::milliseconds(50));
    const auto lsn = Put(*log, std::string(500, 'x'), Durability::kProcess, 1, {clock_.Now(), {}});
    full = lsn.status();
    if (lsn.ok()) accepted = *lsn;
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded));
  fs_.SetCapacity(1ull << 40);
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  ASSERT_OK(log->WaitDurable(accepted, {}));
  EXPECT_OK(Put(*log, "resumed", Durability::kProcess, 1, {clock_.Now(), {}}));
  EXPECT_EQ(ReadAll(*log, accepted).size(), accepted);
}

// Behind an LSN there is no refusal any more, only doubt.
TEST_F(LogTest, ALargeRecordWithoutRoomOnTheDiskIsRefusedBeforeItHasAnLsn) {
  fs_.SetCapacity(4u << 20);
  auto log = Open();
  ASSERT_OK(Put(*log, "before"));
  const Deadline now{clock_.Now(), {}};
  EXPECT_THAT(Put(*log, std::string(4u << 20, 'L'), Durability::kDisk, 1, now),
              StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(log->end_lsn(), 1u);
  ASSERT_OK(Put(*log, "after"));
  ASSERT_OK(log->WaitDurable(2, {}));
  EXPECT_EQ(ReadAll(*log, 2), (std::map<Lsn, std::string>{{1, "before"}, {2, "after"}}));
}

TEST_F(LogTest, WhatADiskKeepsFreeIsNotForLargeRecordsEither) {
  fs_.SetCapacity(4u << 20);
  auto log = Open();
  const auto space = fs_.Space(kDirectory);
  ASSERT_OK(space);
  // It would fit, but not beside the quarter of the disk that stays free.
  const std::string large(space->available - (space->total / 8), 'L');
  EXPECT_THAT(Put(*log, large, Durability::kDisk, 1, {clock_.Now(), {}}),
              StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(log->end_lsn(), 0u);
}

TEST_F(LogTest, LargeRecordsAtOnceAreNotPromisedTheSameRoom) {
  fs_.SetCapacity(4u << 20);
  auto log = Open();
  const Deadline now{clock_.Now(), {}};
  const std::size_t bytes = 3u << 19;  // twice that is more than there is
  auto first = log->Reserve({20, 0, 1, 7}, bytes, Durability::kDisk, now);
  ASSERT_OK(first);
  EXPECT_THAT(log->Reserve({20, 0, 2, 7}, bytes, Durability::kDisk, now),
              StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(log->end_lsn(), 1u);
  ASSERT_OK(log->Publish(std::move(first).value()));
  ASSERT_OK(log->WaitDurable(1, {}));
  fs_.SetCapacity(64u << 20);
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_OK(log->Reserve({20, 0, 2, 7}, bytes, Durability::kDisk, {clock_.Now(), {}}));
}

TEST_F(LogTest, ALargeRecordHasTheRoomOfSparesAndOfWhatRetentionKeeps) {
  fs_.SetCapacity(8u << 20);
  auto log = Open([](LogOptions* o) { o->segment_bytes = 512u << 10; });
  for (int i = 0; i < 30; ++i) {
    ASSERT_OK(Put(*log, std::string(100u << 10, 'x'), Durability::kDisk));
  }
  ASSERT_OK(log->WaitDurable(30, {}));
  while (log->MaintenanceStep()) {
  }
  const std::string large(3u << 20, 'L');
  const Deadline now{clock_.Now(), {}};
  ASSERT_THAT(Put(*log, large, Durability::kDisk, 1, now), StatusIs(StatusCode::kOverloaded));
  ASSERT_OK(log->Retire(30, {}));
  EXPECT_OK(Put(*log, large, Durability::kDisk, 1, now));
}

TEST_F(LogTest, TheQuotaCountsALargeRecordBeforeItHasAnLsn) {
  auto log = Open([](LogOptions* o) { o->quota_bytes = 1u << 20; });
  const std::string large(600u << 10, 'L');
  const Deadline now{clock_.Now(), {}};
  ASSERT_OK(Put(*log, large, Durability::kDisk, 1, now));
  ASSERT_OK(log->WaitDurable(1, {}));
  EXPECT_THAT(Put(*log, large, Durability::kDisk, 1, now), StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(log->end_lsn(), 1u);
  ASSERT_OK(log->Retire(1, {}));
  EXPECT_OK(Put(*log, large, Durability::kDisk, 1, now));
}

// No flushing makes room for it: waiting would have no end.
TEST_F(LogTest, ARecordAboveTheQuotaIsRefused) {
  auto log = Open([](LogOptions* o) { o->quota_bytes = 256u << 10; });
  EXPECT_THAT(Put(*log, std::string(300u << 10, 'L')), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(log->end_lsn(), 0u);
}

// A segment larger than the quota is never closed while nothing can be appended to it.
TEST_F(LogTest, WhatIsFlushedOfTheOpenSegmentDoesNotCountAgainstTheQuota) {
  auto log = Open([](LogOptions* o) {
    o->segment_bytes = 16u << 20;
    o->quota_bytes = 128u << 10;
  });
  const auto append = [&] {
    clock_.Advance(std::chrono::seconds(1));
    log->MaintenanceStep();
    return Put(*log, std::string(4000, 'x'), Durability::kDisk, 1, {clock_.Now(), {}}).status();
  };
  Status full;
  for (int i = 0; i < 100 && full.ok(); ++i) {
    full = append();
    ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  }
  ASSERT_THAT(full, StatusIs(StatusCode::kOverloaded));
  ASSERT_EQ(log->GetStats().segments, 1u);
  ASSERT_OK(log->Retire(log->durable_lsn(), {}));
  EXPECT_EQ(log->GetStats().unflushed_bytes, 0u);
  EXPECT_OK(append());
}

}  // namespace
}  // namespace taskwal::wal
