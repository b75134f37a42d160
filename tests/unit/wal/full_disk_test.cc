// A disk without a byte or without an inode left, which somebody else takes as soon as it comes
// free, as a database beside the log does: the log goes on giving room, and opens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "tests/support/forwarding_file_system.h"
#include "tests/unit/wal/log_fixture.h"

namespace taskwal::wal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class FullDiskTest : public LogTest {
 protected:
  static void KeepNothing(LogOptions* options) {
    options->retention_bytes = 0;
    options->segment_retention = std::chrono::milliseconds(0);
  }

  // Somebody else has taken all that was free.
  void TakeAllRoom() {
    const auto space = fs_.Space(kDirectory);
    ASSERT_OK(space);
    fs_.SetCapacity(space->total - space->available);
  }

  void Fill(Log& log, int records) {
    for (int i = 0; i < records; ++i) {
      ASSERT_OK(Put(log, std::string(200, 'x')));
      if (i % 200 == 0) Settle(log);
    }
    Settle(log);
  }
  void Settle(Log& log) {
    ASSERT_OK(log.WaitDurable(log.end_lsn(), {}));
    clock_.Advance(std::chrono::seconds(1));
    while (log.MaintenanceStep()) {
    }
  }

  // As recovery would hand it over.
  Result<std::unique_ptr<Log>> OpenAgain(Lsn next_lsn) {
    LogStart start = NewLog(fs_, kDirectory);
    const auto state = ReadState(fs_, kDirectory);
    EXPECT_OK(state);
    start.state = *state;
    const auto segments = ListSegments(fs_, kDirectory);
    EXPECT_OK(segments);
    start.segments = *segments;
    start.next_segment = segments->back() + 1;
    start.next_lsn = next_lsn;
    return Log::Open(fs_, clock_, SmallLog(), std::move(start));
  }

  std::ptrdiff_t CountSpares() {
    const auto entries = fs_.List(kDirectory);
    EXPECT_OK(entries);
    return std::count_if(entries->begin(), entries->end(), [](const DirectoryEntry& entry) {
      return entry.name.starts_with("spare-");
    });
  }

  void Remove(const std::string& prefix) {
    const auto entries = fs_.List(kDirectory);
    ASSERT_OK(entries);
    for (const DirectoryEntry& entry : *entries) {
      if (!entry.name.starts_with(prefix)) continue;
      ASSERT_OK(fs_.Remove(JoinPath(kDirectory, entry.name)));
    }
  }
};

TEST_F(FullDiskTest, WhatIsFlushedGoesThoughNothingIsLeftForState) {
  fs_.SetCapacity(64u << 20);
  auto log = Open(KeepNothing);
  Fill(*log, 3000);
  TakeAllRoom();
  Lsn first = log->first_lsn();
  for (Lsn flushed = 500; flushed <= 2500; flushed += 500) {
    ASSERT_OK(log->Retire(flushed, {flushed, flushed - 1})) << flushed;
    TakeAllRoom();
    EXPECT_GT(log->first_lsn(), first) << flushed;
    first = log->first_lsn();
    const auto state = ReadState(fs_, kDirectory);
    ASSERT_OK(state);
    EXPECT_EQ(state->first_lsn, first);
    EXPECT_EQ(state->watermarks, (std::vector<Lsn>{flushed, flushed - 1}));
  }
  EXPECT_EQ(ReadAll(*log, 3000).size(), 3000u - first + 1);
}

TEST_F(FullDiskTest, WithoutItsReserveTheLogTakesTheRoomOfItsFigures) {
  fs_.SetCapacity(64u << 20);
  auto log = Open(KeepNothing);
  Fill(*log, 1000);
  Remove("RESERVE");
  ASSERT_OK(WriteFileAtomically(fs_, JoinPath(kDirectory, kMetricsFileName),
                                std::string(8000, '1')));
  TakeAllRoom();
  ASSERT_OK(log->Retire(900, {}));
  EXPECT_GT(log->first_lsn(), 1u);
  // The reserve is there again, made of what was given up.
  TakeAllRoom();
  const auto reserve = fs_.Stat(JoinPath(kDirectory, kReserveFileName));
  ASSERT_OK(reserve);
  EXPECT_GE(reserve->size, 32u << 10);
}

TEST_F(FullDiskTest, TheLogOpensByWhatRetentionKeeps) {
  fs_.SetCapacity(64u << 20);
  auto log = Open();
  Fill(*log, 3000);
  ASSERT_OK(log->Retire(2500, {}));
  ASSERT_OK(log->SetState([](LogState* state) { NoteFlushed(0, 2500, {}, state); }));
  ASSERT_EQ(log->first_lsn(), 1u);
  log->Abandon();
  log.reset();
  Remove("RESERVE");
  Remove("spare-");
  // A STATE is rewritten in the room of what was removed last.
  ASSERT_OK(WriteFileAtomically(fs_, JoinPath(kDirectory, kReserveFileName),
                                std::string(4096, '0')));
  TakeAllRoom();
  const auto again = OpenAgain(3001);
  ASSERT_OK(again);
  EXPECT_GT((*again)->first_lsn(), 1u);
  EXPECT_LE((*again)->first_lsn(), 2501u);
  EXPECT_OK(Put(**again, "goes on", Durability::kDisk, 1));
}

TEST_F(FullDiskTest, AnOpenThatFindsNoRoomSaysWhatToDo) {
  fs_.SetCapacity(64u << 20);
  auto log = Open();
  Fill(*log, 1000);
  log->Abandon();
  log.reset();
  Remove("RESERVE");
  Remove("spare-");
  ASSERT_OK(WriteFileAtomically(fs_, JoinPath(kDirectory, kReserveFileName),
                                std::string(4096, '0')));
  // The first one uses up what there was for a STATE.
  for (int attempt = 0; attempt < 3; ++attempt) {
    TakeAllRoom();
    EXPECT_THAT(OpenAgain(1001).status(),
                StatusIs(StatusCode::kUnavailable,
                         AllOf(HasSubstr("no room on the disk that holds /wal"),
                               HasSubstr("make room elsewhere on it (never remove a wal-* file)"))))
        << attempt;
  }
}

// As many targets and partitions as there may be, and the longest names: neither change nor the
// next open waits for room.
TEST_F(FullDiskTest, TheLargestStateAndTargetsAreWritten) {
  fs_.SetCapacity(256u << 20);
  LogStart start = NewLog(fs_, kDirectory);
  start.state.partitions = 1024;
  for (std::uint16_t i = 0; i < 64; ++i) {
    TargetState target;
    target.number = i;
    target.name = std::string(62, 'n') + std::to_string(10 + i);
    target.weight = 1;
    start.state.targets.push_back(target);
  }
  ASSERT_OK_AND_ASSIGN(auto log, Log::Open(fs_, clock_, SmallLog(), std::move(start)));
  Fill(*log, 1000);
  const auto grow = [&](std::uint64_t by) {
    TakeAllRoom();
    ASSERT_OK(log->SetState([&](LogState* state) {
      for (TargetState& target : state->targets) {
        target.watermarks.assign(1024, UINT64_MAX - by);
        target.joined_lsn = UINT64_MAX - by;
      }
    })) << by;
    EXPECT_EQ(ReadState(fs_, kDirectory)->targets[63].watermarks[1023], UINT64_MAX - by);
    EXPECT_EQ(ReadTargetList(fs_, kDirectory)->targets[63].joined_lsn, UINT64_MAX - by);
  };
  for (std::uint64_t by : {0, 1, 2}) grow(by);
  log->Abandon();
  log.reset();
  TakeAllRoom();
  ASSERT_OK_AND_ASSIGN(log, OpenAgain(1001));
  for (std::uint64_t by : {3, 4, 5}) grow(by);
}

// What others on the disk have left is theirs.
class WatchedFileSystem final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    const bool is_made_ahead =
        path.find("spare-") != std::string::npos || path.find("RESERVE") != std::string::npos;
    opened += is_made_ahead ? 1 : 0;
    return ForwardingFileSystem::OpenWritable(path, create);
  }

  int opened = 0;
};

TEST_F(FullDiskTest, NoFileIsFilledAgainAndAgainWithTheLastOfTheDisk) {
  WatchedFileSystem watched(fs_);
  ASSERT_OK_AND_ASSIGN(
      const auto log, Log::Open(watched, clock_, SmallLog(), NewLog(fs_, kDirectory)));
  // Before anything is made ahead: what is in the buffer finds no segment to go to.
  const auto space = fs_.Space(kDirectory);
  fs_.SetCapacity(space->total - space->available + (40u << 10));
  const auto step = [&] {
    clock_.Advance(std::chrono::milliseconds(50));
    log->WriterStep();
  };
  for (int i = 0, refused = 0; i < 5000 && refused < 10; ++i) {
    step();
    const auto lsn = Put(*log, std::string(500, 'x'), Durability::kProcess, 1, {clock_.Now(), {}});
    refused = lsn.ok() ? 0 : refused + 1;
  }
  ASSERT_TRUE(log->GetStats().full);
  ASSERT_LT(log->written_lsn(), log->end_lsn());
  const int before = watched.opened;
  for (int i = 0; i < 100; ++i) {
    step();
    log->MaintenanceStep();
  }
  EXPECT_EQ(watched.opened, before);
  fs_.SetCapacity(1ull << 40);
  for (int i = 0; i < 20; ++i) {
    step();
    log->MaintenanceStep();
  }
  EXPECT_EQ(log->written_lsn(), log->end_lsn());
  EXPECT_FALSE(log->GetStats().full);
}

// For a file that is there already: a spare that is to become the next segment.
class WithoutDescriptors final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    if (lacks && !create) {
      return Status::Overloaded("cannot open " + path + ": Too many open files (errno 24)");
    }
    return ForwardingFileSystem::OpenWritable(path, create);
  }

  bool lacks = false;
};

// No space is lacking, but it is waited for in the same way, and none is filled meanwhile.
TEST_F(FullDiskTest, ALackOfDescriptorsIsSatOut) {
  WithoutDescriptors few(fs_);
  ASSERT_OK_AND_ASSIGN(const auto log,
                       Log::Open(few, clock_, SmallLog(), NewLog(fs_, kDirectory)));
  Settle(*log);
  const auto spares = CountSpares();
  few.lacks = true;
  Lsn accepted = 0;
  for (int i = 0, refused = 0; i < 5000 && refused < 50; ++i) {
    clock_.Advance(std::chrono::milliseconds(50));
    log->WriterStep();
    const auto lsn = Put(*log, std::string(500, 'x'), Durability::kDisk, 1, {clock_.Now(), {}});
    refused = lsn.ok() ? 0 : refused + 1;
    if (lsn.ok()) accepted = *lsn;
  }
  EXPECT_LT(log->durable_lsn(), accepted);
  EXPECT_OK(log->health());
  EXPECT_EQ(CountSpares(), spares);
  few.lacks = false;
  clock_.Advance(std::chrono::milliseconds(50));
  EXPECT_OK(log->WaitDurable(accepted, {}));
  EXPECT_EQ(ReadAll(*log, accepted).size(), accepted);
}

// Somebody's quota again: the disk says that it has room for all.
class QuotaFileSystem final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<DiskSpace> Space(const std::string& /*path*/) override {
    return DiskSpace{1ull << 40, 1ull << 39, false};
  }
};

TEST_F(FullDiskTest, RoomForASmallSegmentIsNoneForARecordThatNeedsALargeOne) {
  QuotaFileSystem quota(fs_);
  ASSERT_OK_AND_ASSIGN(
      const auto log, Log::Open(quota, clock_, SmallLog(), NewLog(fs_, kDirectory)));
  Settle(*log);
  const auto space = fs_.Space(kDirectory);
  fs_.SetCapacity(space->total - space->available + (400u << 10));
  const Deadline now{clock_.Now(), {}};
  auto large = log->Reserve({20, 0, 1, 7}, 1u << 20, Durability::kDisk, now);
  ASSERT_OK(large);
  std::fill(large->body.begin(), large->body.end(), std::byte{'L'});
  EXPECT_THAT(log->Publish(std::move(large).value(), now), StatusIs(StatusCode::kInDoubt));
  const auto step = [&] {
    clock_.Advance(std::chrono::milliseconds(50));
    log->WriterStep();
    log->MaintenanceStep();
  };
  for (int i = 0; i < 20; ++i) step();
  ASSERT_TRUE(log->GetStats().full);
  for (int i = 0; i < 100; ++i) {
    step();
    ASSERT_TRUE(log->GetStats().full) << i;
  }
  fs_.SetCapacity(1ull << 40);
  for (int i = 0; i < 40; ++i) step();
  EXPECT_FALSE(log->GetStats().full);
  EXPECT_EQ(log->written_lsn(), 1u);
}

class FullByTheNextSegment : public FullDiskTest {
 protected:
  // A written record that is not synced, and others for which there is no segment.
  void FillUp(Log& log) {
    TakeAllRoom();
    for (int i = 0; i < 1000 && !log.GetStats().lacks_segment; ++i) {
      ASSERT_OK(Put(log, std::string(600, 'x'), Durability::kProcess, 1, {clock_.Now(), {}}));
      log.WriterStep();
    }
    ASSERT_TRUE(log.GetStats().lacks_segment);
    written_ = log.written_lsn();
    ASSERT_GT(written_, 0u);
    ASSERT_LT(written_, log.end_lsn());
    ASSERT_EQ(log.durable_lsn(), 0u);
  }

  Lsn written_ = 0;
};

TEST_F(FullByTheNextSegment, WhatIsWrittenIsSynced) {
  fs_.SetCapacity(64u << 20);
  auto log = Open();
  FillUp(*log);
  EXPECT_OK(log->WaitDurable(written_, {clock_.Now(), {}}));
  EXPECT_EQ(log->durable_lsn(), written_);
  EXPECT_EQ(log->written_lsn(), written_);
}

TEST_F(FullByTheNextSegment, WhatNobodyWaitsForIsSyncedInTime) {
  fs_.SetCapacity(64u << 20);
  auto log = Open([](LogOptions* options) { options->sync_interval = std::chrono::seconds(1); });
  FillUp(*log);
  clock_.Advance(std::chrono::seconds(1));
  log->WriterStep();
  EXPECT_EQ(log->durable_lsn(), written_);
}

// What is written again goes to a segment that has room for more.
TEST_F(FullByTheNextSegment, IsOverWhereAFailedSyncHasMadeASegment) {
  fs_.SetCapacity(64u << 20);
  auto log = Open();
  FillUp(*log);
  const auto space = fs_.Space(kDirectory);
  ASSERT_OK(space);
  fs_.SetCapacity(space->total + (1u << 20));
  fs_.FailNth(1, {SimulatedCall::kSync, {}, false});
  EXPECT_OK(log->WaitDurable(written_, {clock_.Now(), {}}));
  EXPECT_FALSE(log->GetStats().lacks_segment);
  EXPECT_OK(log->WaitDurable(log->end_lsn(), {clock_.Now(), {}}));
}

TEST_F(FullDiskTest, AFailedSyncAsksForNoMoreRoomThanTheNextSegmentHas) {
  fs_.SetCapacity(1u << 30);
  auto log = Open([](LogOptions* options) { options->segment_bytes = 32u << 20; });
  ASSERT_OK(Put(*log, "first", Durability::kDisk));
  TakeAllRoom();
  const auto space = fs_.Space(kDirectory);
  ASSERT_OK(space);
  fs_.SetCapacity(space->total + (4u << 20));
  fs_.FailNth(1, {SimulatedCall::kSync, {}, false});
  EXPECT_OK(log->WaitDurable(1, {clock_.Now(), {}}));
  EXPECT_OK(log->health());
}

TEST_F(FullDiskTest, WithoutInodesAppendsAreRefusedBeforeTheBufferHasWhatNoFileTakes) {
  auto log = Open();
  Settle(*log);
  fs_.SetLacksInodes(true);
  Status full;
  Lsn accepted = 0;
  for (int i = 0; i < 5000 && full.ok(); ++i) {
    const auto lsn = Put(*log, std::string(500, 'x'), Durability::kDisk, 1, {clock_.Now(), {}});
    full = lsn.status();
    if (lsn.ok()) accepted = *lsn;
    clock_.Advance(std::chrono::milliseconds(50));
    log->MaintenanceStep();
    ASSERT_OK(log->WaitDurable(accepted, {clock_.Now(), {}}));
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded, HasSubstr("no inodes left on /wal")));
  EXPECT_TRUE(log->GetStats().full);
  EXPECT_TRUE(log->GetStats().lacks_segment);
  EXPECT_EQ(log->durable_lsn(), accepted);
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_TRUE(log->GetStats().full);

  fs_.SetLacksInodes(false);
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_FALSE(log->GetStats().full);
  EXPECT_OK(Put(*log, "goes on", Durability::kDisk, 1, {clock_.Now(), {}}));
}

// Somebody's quota, say: the disk itself has room, and no file can be made.
TEST_F(FullDiskTest, ASegmentThatCannotBeMadeIsNoRoomWhateverTheDiskSays) {
  auto log = Open();
  Settle(*log);
  fs_.FailNth(1, {.call = SimulatedCall::kOpenWritable,
                  .path_part = "spare-",
                  .sticky = true,
                  .status = Status::Unavailable("cannot open: Disk quota exceeded (errno 122)")});
  Status full;
  for (int i = 0; i < 5000 && full.ok(); ++i) {
    full = Put(*log, std::string(500, 'x'), Durability::kProcess, 1, {clock_.Now(), {}}).status();
    clock_.Advance(std::chrono::milliseconds(50));
    log->MaintenanceStep();
    log->WriterStep();
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded, HasSubstr("Disk quota exceeded")));
  fs_.ClearFaults();
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_OK(Put(*log, "goes on", Durability::kProcess, 1, {clock_.Now(), {}}));
}

// A directory may have no room for a name where the disk has some: the file that was to get it is
// the next one to try, and no other is filled for it.
TEST_F(FullDiskTest, ASpareWithoutRoomForItsNameIsKept) {
  auto log = Open();
  Settle(*log);
  const auto spares = CountSpares();
  fs_.FailNth(1, {.call = SimulatedCall::kRename,
                  .path_part = "spare-",
                  .sticky = true,
                  .status = Status::Unavailable("cannot rename: No space left (errno 28)")});
  Status full;
  for (int i = 0; i < 5000 && full.ok(); ++i) {
    full = Put(*log, std::string(500, 'x'), Durability::kProcess, 1, {clock_.Now(), {}}).status();
    clock_.Advance(std::chrono::milliseconds(50));
    log->MaintenanceStep();
    log->WriterStep();
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded, HasSubstr("No space left")));
  EXPECT_EQ(CountSpares(), spares);
  fs_.ClearFaults();
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_OK(Put(*log, "goes on", Durability::kProcess, 1, {clock_.Now(), {}}));
}

// What is kept of flushed records, for inspection, goes before appends are refused for long: though
// nothing is flushed any more, as all is.
TEST_F(FullDiskTest, WhatRetentionKeepsGoesWhereNoSegmentCanBeMade) {
  auto log = Open();
  Fill(*log, 1000);
  const Lsn flushed = log->durable_lsn();
  ASSERT_OK(log->Retire(flushed, {}));
  EXPECT_EQ(log->first_lsn(), 1u);
  fs_.SetLacksInodes(true);
  Status full;
  for (int i = 0; i < 5000 && full.ok(); ++i) {
    full = Put(*log, std::string(500, 'x'), Durability::kProcess, 1, {clock_.Now(), {}}).status();
    clock_.Advance(std::chrono::milliseconds(50));
    log->MaintenanceStep();
    log->WriterStep();
    if (log->first_lsn() > 1) break;
  }
  EXPECT_GT(log->first_lsn(), 1u);
}

TEST_F(FullDiskTest, FlushedSegmentsGoWithoutInodes) {
  auto log = Open(KeepNothing);
  Fill(*log, 2000);
  fs_.SetLacksInodes(true);
  ASSERT_OK(log->Retire(1000, {}));
  const Lsn first = log->first_lsn();
  EXPECT_GT(first, 1u);
  ASSERT_OK(log->Retire(1500, {}));
  EXPECT_GT(log->first_lsn(), first);
}

}  // namespace
}  // namespace taskwal::wal
