#include "recovery/prepare_log.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "tests/unit/recovery/log_fixture.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using wal::Lsn;
using wal::LsnRange;

// A STATE that names so much as on disk.
wal::LogState Synced(Lsn last) {
  wal::LogState state;
  state.last_lsn = last;
  return state;
}

class PrepareLogTest : public LogFixture {
 protected:
  static PrepareOptions Options() {
    PrepareOptions options;
    options.directory = kDirectory;
    return options;
  }
  Result<wal::LogStart> Prepare() { return PrepareLog(fs_, Options(), &report_); }
  wal::LogStart MustPrepare() {
    auto start = Prepare();
    EXPECT_OK(start);
    return start.ok() ? std::move(start).value() : wal::LogStart{};
  }
  wal::SegmentReader::Footer FooterOf(std::uint64_t number) {
    const auto reader = wal::SegmentReader::Open(fs_, kDirectory, number, {kTestWalId});
    EXPECT_OK(reader);
    auto footer = (*reader)->ReadFooter();
    EXPECT_OK(footer);
    return footer.ok() ? std::move(footer).value() : wal::SegmentReader::Footer{};
  }
  static std::vector<Lsn> UpTo(Lsn last) {
    std::vector<Lsn> lsns(last);
    std::iota(lsns.begin(), lsns.end(), Lsn{1});
    return lsns;
  }

  PrepareReport report_;
};

TEST_F(PrepareLogTest, MakesADirectoryThatKnowsItself) {
  PrepareOptions options = Options();
  options.directory = "/a/b/log";
  options.partitions = 5;
  {
    ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs_, options, &report_));
    EXPECT_TRUE(report_.created);
    EXPECT_FALSE(start.state.wal_id.IsZero());
    EXPECT_EQ(start.state.partitions, 5u);
    EXPECT_EQ(start.next_lsn, 1u);
    EXPECT_EQ(start.next_segment, 1u);
    EXPECT_TRUE(start.segments.empty());
    EXPECT_NE(start.lock, nullptr);
    EXPECT_NE(start.state.lock_inode, 0u);
  }
  Random random(1);
  fs_.PowerLoss(random, {.kept = 0, .garbage = 0});
  ASSERT_OK_AND_ASSIGN(const wal::LogStart again, PrepareLog(fs_, options, &report_));
  EXPECT_FALSE(report_.created);
  EXPECT_FALSE(report_.copied);
  EXPECT_TRUE(report_.findings.empty());
}

TEST_F(PrepareLogTest, MakesNothingUnlessAsked) {
  PrepareOptions options = Options();
  options.create = false;
  EXPECT_THAT(PrepareLog(fs_, options, &report_), StatusIs(StatusCode::kNotFound));
  EXPECT_TRUE(fs_.Dump(kDirectory).empty());
  options.directory = "/nowhere";
  EXPECT_THAT(PrepareLog(fs_, options, &report_), StatusIs(StatusCode::kNotFound));
  EXPECT_FALSE(fs_.Exists("/nowhere"));
}

TEST_F(PrepareLogTest, ADiskWithoutRoomForANewLogIsNamedWithWhatToDo) {
  for (const SimulatedCall call :
       {SimulatedCall::kMakeDirectories, SimulatedCall::kLock, SimulatedCall::kWrite}) {
    PrepareOptions options = Options();
    options.directory = "/new/log";
    fs_.FailNth(1, {.call = call,
                    .path_part = "/new",
                    .status = Status::Unavailable("No space left on device (errno 28)")});
    EXPECT_THAT(PrepareLog(fs_, options, &report_).status(),
                StatusIs(StatusCode::kUnavailable,
                         AllOf(HasSubstr("no room on the disk that holds /new/log"),
                               Not(HasSubstr("one process writes a log")))))
        << static_cast<int>(call);
    fs_.ClearFaults();
  }
}

TEST_F(PrepareLogTest, ASecondOpenerIsRefused) {
  const wal::LogStart first = MustPrepare();
  EXPECT_THAT(Prepare(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(PrepareLogTest, ACleanLogIsOpenedByItsLastFooterAlone) {
  PutCleanLog();
  const auto before = fs_.Dump(kDirectory);
  const wal::LogStart start = MustPrepare();
  EXPECT_EQ(start.next_lsn, 18u);
  EXPECT_EQ(start.next_segment, 4u);
  EXPECT_EQ(start.segments, (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(start.stamp, TestRecordHeader(17).stamp);
  EXPECT_TRUE(start.state.clean);
  EXPECT_TRUE(report_.findings.empty());
  EXPECT_EQ(fs_.Dump(kDirectory), before);
}

TEST_F(PrepareLogTest, SealsWhatAKilledProcessLeft) {
  PutKilledLog();
  PutRing();
  const wal::LogStart start = MustPrepare();
  EXPECT_EQ(start.next_lsn, 19u);
  EXPECT_EQ(start.stamp, TestRecordHeader(18).stamp);
  EXPECT_TRUE(report_.unknown.empty());
  const auto footer = FooterOf(3);
  EXPECT_EQ(footer.summary.first_lsn, 13u);
  EXPECT_EQ(footer.summary.last_lsn, 16u);
  EXPECT_EQ(footer.summary.synced_lsn, 16u);
  EXPECT_EQ(footer.summary.stamp, TestRecordHeader(16).stamp);
  ASSERT_EQ(footer.index.size(), 4u);
  for (const auto& [key, sector] : footer.index) {
    const auto frame = std::find_if(frames_[2].begin(), frames_[2].end(), [&](const auto& f) {
      return f.offset == sector * wal::kSectorBytes;
    });
    ASSERT_NE(frame, frames_[2].end());
    EXPECT_TRUE(TestRecordHeader(frame->lsns.from).key == key ||
                TestRecordHeader(frame->lsns.to).key == key);
  }
  // Named by nothing as synced: written again.
  EXPECT_EQ(start.segments, (std::vector<std::uint64_t>{1, 2, 3, 4}));
  EXPECT_EQ(start.next_segment, 5u);
  const auto rest = FooterOf(4);
  EXPECT_EQ(rest.summary.first_lsn, 17u);
  EXPECT_EQ(rest.summary.last_lsn, 18u);
  EXPECT_EQ(rest.summary.synced_lsn, 18u);
  EXPECT_EQ(rest.summary.stamp, TestRecordHeader(18).stamp);
  EXPECT_EQ(rest.index.size(), 2u);
  EXPECT_EQ(Describe(MustScan().findings), "");
  EXPECT_EQ(ReadLsns(18), UpTo(18));
}

// The kernel tells of a failed sync once: to a process that is dead by now. The pages it has lost
// are still there to be read, and the next sync says OK.
TEST(PrepareLogFailedSync, WhatItTookOfAKilledProcessIsWrittenAgain) {
  PrepareOptions options;
  options.directory = kDirectory;
  for (const bool is_repaired : {false, true}) {
    int losses = 0;
    for (std::uint64_t seed = 1; seed <= 16; ++seed) {
      SimulatedFileSystem fs(seed);
      MakeLogDirectory(fs, kDirectory);
      SegmentBuilder segment({});
      segment.AddFrame(2);
      segment.AddFrame(2, 2);
      const FramePlace unsynced = segment.AddFrame(3, 2);
      segment.AddFrame(1, 2);
      const auto bytes = segment.Unsealed();
      const auto synced = std::span(bytes).first(unsynced.offset);
      WriteFile(fs, PathOf(1), synced);
      {
        ASSERT_OK_AND_ASSIGN(const auto file, fs.OpenWritable(PathOf(1), false));
        ASSERT_OK(file->Write(unsynced.offset, std::span(bytes).subspan(unsynced.offset)));
        fs.FailNth(1, {.call = SimulatedCall::kSync});
        ASSERT_THAT(file->Sync(), StatusIs(StatusCode::kIoError));
      }
      fs.Kill();
      if (is_repaired) {
        PrepareReport report;
        ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs, options, &report));
        EXPECT_EQ(start.next_lsn, 9u);
      }
      Random random(seed);
      fs.PowerLoss(random, {.kept = 0, .garbage = 0});
      ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
      EXPECT_FALSE(scan.damaged()) << Describe(scan.findings);
      losses += scan.lsns.to < 8 ? 1 : 0;
    }
    if (is_repaired) {
      EXPECT_EQ(losses, 0);
    } else {
      EXPECT_GT(losses, 4);  // else nothing was proved
    }
  }
}

// Whatever fails in an open that is refused: the next one that succeeds has everything on disk.
TEST(PrepareLogFailedSync, AnOpenThatFailedLeavesNothingToBelieve) {
  PrepareOptions options;
  options.directory = kDirectory;
  bool finished = false;
  for (std::uint64_t n = 1; !finished; ++n) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      SimulatedFileSystem fs(seed);
      MakeLogDirectory(fs, kDirectory);
      SegmentBuilder segment({});
      segment.AddFrame(2);
      segment.AddFrame(3, 2);
      segment.AddFrame(3, 2);
      WriteFile(fs, PathOf(1), segment.Unsealed());
      fs.FailNth(n, {.path_part = "/log/"});
      PrepareReport report;
      const std::uint64_t before = fs.calls();
      static_cast<void>(PrepareLog(fs, options, &report));
      finished = fs.calls() - before < n;
      fs.ClearFaults();
      fs.Kill();
      ASSERT_OK(PrepareLog(fs, options, &report));
      Random random(seed);
      fs.PowerLoss(random, {.kept = 0, .garbage = 0});
      ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
      EXPECT_EQ(scan.lsns, (LsnRange{1, 8})) << n;
      EXPECT_FALSE(scan.damaged()) << n << Describe(scan.findings);
    }
  }
}

// Two segments are needed for the tail; the one of the later records has its name when there is no
// room for the other's.
TEST(PrepareLogFailedSync, NothingGoesOnBesideATailThatIsHalfMoved) {
  PrepareOptions options;
  options.directory = kDirectory;
  const std::vector<std::byte> body(40u << 20, std::byte{'x'});
  for (std::uint64_t n = 1; n <= 3; ++n) {
    SimulatedFileSystem fs(n);
    MakeLogDirectory(fs, kDirectory);
    wal::Lsn next_lsn = 1;
    for (std::uint64_t number = 1; number <= 2; ++number) {
      SegmentBuilder segment({.number = number, .first_lsn = next_lsn});
      segment.AddRecord(TestRecordHeader(next_lsn), body, false, 0);
      next_lsn = segment.next_lsn();
      WriteFile(fs, PathOf(number), segment.Unsealed(segment.end_offset()));
    }
    fs.FailNth(n, {.call = SimulatedCall::kRename,
                   .path_part = "spare",
                   .status = Status::Unavailable("no space left")});
    PrepareReport report;
    {
      const auto start = PrepareLog(fs, options, &report);
      EXPECT_EQ(start.ok(), n != 2) << n;
      const auto segments = wal::ListSegments(fs, kDirectory);
      EXPECT_TRUE(!start.ok() || start->segments == *segments) << n;
    }
    fs.ClearFaults();
    fs.Kill();
    ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs, options, &report));
    EXPECT_EQ(start.next_lsn, 3u) << n;
    ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
    EXPECT_EQ(Describe(scan.findings), "") << n;
    EXPECT_EQ(scan.lsns, (LsnRange{1, 2})) << n;
  }
}

TEST_F(PrepareLogTest, TheFooterThatAKilledProcessLeftIsGuardedAgain) {
  PutKilledLog();
  const std::uint64_t end = FrameAt(2, 1).end_offset;
  const wal::LogStart start = MustPrepare();
  EXPECT_TRUE(start.state.unsealed.empty());
  ASSERT_OK(wal::WriteState(fs_, kDirectory, start.state));
  fs_.TruncateFile(PathOf(2), end);
  EXPECT_TRUE(MustScan().damaged());
}

TEST_F(PrepareLogTest, TheHeaderOfATailThatWasMovedNamesTheHighestStampBeforeIt) {
  SegmentBuilder segment({});
  segment.AddFrame(4);
  segment.AddFrame(2, 4);
  WriteFile(fs_, PathOf(1), segment.Unsealed());
  MakeLogDirectory(fs_, kDirectory);
  MustPrepare();
  ASSERT_OK_AND_ASSIGN(const auto reader,
                       wal::SegmentReader::Open(fs_, kDirectory, 2, {kTestWalId}));
  EXPECT_EQ(reader->header().first_lsn, 5u);
  EXPECT_GE(reader->header().stamp, TestRecordHeader(4).stamp);
}

TEST_F(PrepareLogTest, OpensOnAFullDiskWithoutAReserve) {
  PutKilledLog();
  std::uint64_t used = 0;
  for (const auto& [name, content] : fs_.Dump(kDirectory)) used += content.size();
  fs_.SetCapacity(used);
  EXPECT_EQ(MustPrepare().next_lsn, 19u);
}

TEST_F(PrepareLogTest, IndexesByTheKeysItIsGiven) {
  PutKilledLog();
  PrepareOptions options = Options();
  options.index_keys = [](const wal::RecordView& record, std::vector<std::uint64_t>* keys) {
    if (record.lsn == 13) *keys = {7, 5, 7};
  };
  ASSERT_OK(PrepareLog(fs_, options, &report_));
  const auto footer = FooterOf(3);
  ASSERT_EQ(footer.index.size(), 2u);
  EXPECT_EQ(std::uint64_t{footer.index[0].key}, 5u);
  EXPECT_EQ(std::uint64_t{footer.index[1].key}, 7u);
}

TEST_F(PrepareLogTest, SealedFramesSurviveAPowerCutRightAfter) {
  PutKilledLog();
  PutRing();
  MustPrepare();
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0, .garbage = 0});
  const ScanReport report = MustScan();
  EXPECT_EQ(Describe(report.findings), "");
  EXPECT_EQ(report.lsns, (LsnRange{1, 18}));
}

TEST_F(PrepareLogTest, ATornTailIsCutAndACopyKept) {
  PutKilledLog();
  PutRing();
  const FramePlace torn = FrameAt(3, 2);
  fs_.Corrupt(PathOf(3), torn.offset + 70, 1);
  const auto cut = fs_.Content(PathOf(3)).substr(torn.offset, torn.end_offset - torn.offset);
  const wal::LogStart start = MustPrepare();
  EXPECT_EQ(start.next_lsn, 17u);
  EXPECT_EQ(report_.torn_bytes, torn.end_offset - torn.offset);
  EXPECT_EQ(Describe(report_.findings), "wal-00000003.log@5120:torn tail[17-18] ");
  EXPECT_EQ(fs_.Content("/log/quarantine/wal-00000003.log.tail-5120"), cut);
  EXPECT_EQ(Describe(MustScan().findings), "");
  EXPECT_EQ(ReadLsns(16), UpTo(16));
}

TEST_F(PrepareLogTest, FramesBehindATornGapAreCutInEverySegment) {
  Put(1, {2}, true);
  SegmentBuilder second({.number = 2, .first_lsn = 3, .synced_lsn = 2});
  second.AddFrame(2, 2);
  const FramePlace gap = second.AddFrame(2, 2);
  SegmentBuilder third({.number = 3, .first_lsn = 7, .synced_lsn = 2});
  third.AddFrame(2, 2);
  WriteFile(fs_, PathOf(2), second.Unsealed());
  WriteFile(fs_, PathOf(3), third.Unsealed());
  Zero(2, gap.offset, gap.end_offset);
  MakeLogDirectory(fs_, kDirectory);
  {
    const wal::LogStart start = MustPrepare();
    EXPECT_EQ(start.next_lsn, 5u);
    EXPECT_EQ(start.segments, (std::vector<std::uint64_t>{1, 2, 3, 4}));
  }
  EXPECT_EQ(FooterOf(2).summary.last_lsn, 2u);
  EXPECT_EQ(FooterOf(4).summary.first_lsn, 3u);
  EXPECT_EQ(FooterOf(4).summary.last_lsn, 4u);
  // It holds nothing and proves nothing: its first LSN will be given again.
  EXPECT_EQ(FooterOf(3).summary.last_lsn, 6u);
  EXPECT_EQ(FooterOf(3).summary.synced_lsn, 4u);
  EXPECT_EQ(MustScan().synced_lsn, 4u);
  EXPECT_TRUE(fs_.Exists("/log/quarantine/wal-00000003.log.tail-4096"));
  EXPECT_EQ(MustPrepare().next_lsn, 5u);
  EXPECT_EQ(Describe(report_.findings), "");
}

TEST_F(PrepareLogTest, AnUnknownTailIsKeptAndReported) {
  PutKilledLog();
  const wal::LogStart start = MustPrepare();
  EXPECT_EQ(start.next_lsn, 19u);
  EXPECT_EQ(report_.unknown, (std::vector<LsnRange>{{17, 18}}));
  EXPECT_EQ(Describe(MustScan().findings), "");
}

TEST_F(PrepareLogTest, DamagedSegmentsStayAsTheyAre) {
  PutKilledLog();
  fs_.Corrupt(PathOf(3), FrameAt(3, 0).offset + 64, 1);
  const auto before = fs_.Content(PathOf(3));
  const wal::LogStart start = MustPrepare();
  EXPECT_EQ(start.next_lsn, 19u);
  EXPECT_TRUE(Has(report_.findings, Verdict::kDamage));
  EXPECT_EQ(fs_.Content(PathOf(3)), before);
  EXPECT_EQ(MustScan().lost, (std::vector<LsnRange>{{13, 14}}));
}

// It is given no footer, and counts all the same.
TEST_F(PrepareLogTest, WhatIsIntactInADamagedSegmentSurvivesAPowerCut) {
  for (const bool is_lossy : {false, true}) {
    SimulatedFileSystem fs;
    MakeLogDirectory(fs, kDirectory);
    SegmentBuilder segment({});
    const FramePlace first = segment.AddFrame(2);
    segment.AddFrame(2, 2);
    const FramePlace unsynced = segment.AddFrame(2, is_lossy ? 4 : 2);
    const auto bytes = segment.Unsealed();
    WriteFile(fs, PathOf(1), std::span(bytes).first(unsynced.offset));
    {
      ASSERT_OK_AND_ASSIGN(const auto file, fs.OpenWritable(PathOf(1), false));
      ASSERT_OK(file->Write(unsynced.offset, std::span(bytes).subspan(unsynced.offset)));
    }
    fs.Corrupt(PathOf(1), is_lossy ? first.offset + 70 : 2000, 0x40);
    {
      ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs, Options(), &report_));
      EXPECT_EQ(start.next_lsn, 7u);
      EXPECT_TRUE(Has(report_.findings, is_lossy ? Verdict::kDamage : Verdict::kDamagedPadding));
    }
    Random random(1);
    fs.PowerLoss(random, {.kept = 0, .garbage = 0});
    ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
    EXPECT_EQ(scan.lsns.to, 6u);
    const std::vector<LsnRange> lost = {{1, 2}};
    EXPECT_EQ(scan.lost, is_lossy ? lost : std::vector<LsnRange>());
  }
}

TEST_F(PrepareLogTest, NoSyncedLsnIsGivenAgainWhenTheEndIsDamaged) {
  PutKilledLog();
  wal::LogState state;
  state.last_lsn = 18;
  MakeLogDirectory(fs_, kDirectory, state);
  fs_.Corrupt(PathOf(3), FrameAt(3, 2).offset + 64, 1);
  EXPECT_EQ(MustPrepare().next_lsn, 19u);
  state.last_lsn = 30;
  MakeLogDirectory(fs_, kDirectory, state);
  EXPECT_EQ(MustPrepare().next_lsn, 31u);
  state.last_lsn = 17;
  MakeLogDirectory(fs_, kDirectory, state);
  Put(4, {2}, false);
  // 17 and 18 are damaged, but 19 and 20 stand behind what is named.
  EXPECT_EQ(MustPrepare().next_lsn, 21u);
}

TEST_F(PrepareLogTest, EmptyAndHalfMadeFilesArePassedOver) {
  PutKilledLog();
  PutRing();
  WriteFile(fs_, PathOf(4), {});
  WriteFile(fs_, PathOf(5), std::vector<std::byte>(8192));
  WriteFile(fs_, PathOf(6), std::vector<std::byte>(8192, std::byte{0x77}));
  const wal::LogStart start = MustPrepare();
  EXPECT_EQ(start.next_lsn, 19u);
  EXPECT_EQ(start.next_segment, 8u);
  EXPECT_EQ(start.segments, (std::vector<std::uint64_t>{1, 2, 3, 7}));
  EXPECT_TRUE(fs_.Exists(PathOf(6)));
}

TEST_F(PrepareLogTest, NumbersInQuarantineAreNotUsedAgain) {
  PutCleanLog();
  ASSERT_OK(fs_.MakeDirectories("/log/quarantine"));
  WriteFile(fs_, "/log/quarantine/wal-00000009.log.2", {});
  EXPECT_EQ(MustPrepare().next_segment, 10u);
}

TEST_F(PrepareLogTest, AnotherFormatVersionIsRefused) {
  PutCleanLog();
  WriteFile(fs_, PathOf(4), SegmentBuilder({.number = 4, .first_lsn = 18, .version = 2}).Sealed());
  EXPECT_THAT(Prepare(), StatusIs(StatusCode::kCorruption, HasSubstr("does not read")));
}

TEST_F(PrepareLogTest, AHoleThatLostNoRecordIsClosed) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  const FramePlace idle = segment.AddFrame(0);
  segment.AddFrame(2, 0);
  WriteFile(fs_, PathOf(1), segment.Unsealed());
  MakeLogDirectory(fs_, kDirectory, Synced(4));
  for (const bool garbage : {false, true}) {
    WriteFile(fs_, PathOf(1), segment.Unsealed());
    Zero(1, idle.offset, idle.end_offset);
    if (garbage) fs_.Corrupt(PathOf(1), idle.offset + 9, 0x40);
    EXPECT_EQ(MustPrepare().next_lsn, 5u);
    EXPECT_EQ(Describe(MustScan().findings), "");
    EXPECT_EQ(fs_.Exists("/log/quarantine/wal-00000001.log.hole-4608"), garbage);
  }
}

TEST_F(PrepareLogTest, StaleBytesInTheHeaderBlockOfANewFileAreCleaned) {
  SegmentBuilder segment({});
  segment.AddFrame(2, 0);
  WriteFile(fs_, PathOf(1), segment.Unsealed());
  MakeLogDirectory(fs_, kDirectory);
  fs_.Corrupt(PathOf(1), 2000, 0x40);
  fs_.Corrupt(PathOf(1), segment.end_offset() - 1, 0x40);
  EXPECT_EQ(MustPrepare().next_lsn, 3u);
  EXPECT_EQ(Describe(MustScan().findings), "");
}

TEST_F(PrepareLogTest, AFooterThatIsTornIsWrittenAgain) {
  SegmentBuilder segment({});
  segment.AddFrame(60);
  const auto sealed = segment.Sealed();
  MakeLogDirectory(fs_, kDirectory, Synced(60));
  for (std::size_t size = segment.end_offset(); size <= sealed.size(); size += 512) {
    WriteFile(fs_, PathOf(1), std::span(sealed).first(size));
    EXPECT_EQ(MustPrepare().next_lsn, 61u);
    EXPECT_EQ(ReadBytes(fs_, PathOf(1)), sealed);
  }
  // The cut did not reach the disk, the footer did.
  auto longer = sealed;
  longer.resize(sealed.size() + 4096);
  WriteFile(fs_, PathOf(1), longer);
  MustPrepare();
  EXPECT_EQ(ReadBytes(fs_, PathOf(1)), sealed);
}

TEST_F(PrepareLogTest, ACopyIsToldOnceAndForAll) {
  PutCleanLog();
  fs_.CopyTree(kDirectory, "/copy");
  PrepareOptions options = Options();
  options.directory = "/copy";
  const auto original = wal::ReadState(fs_, kDirectory);
  for (int opened = 0; opened < 2; ++opened) {
    ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs_, options, &report_));
    EXPECT_TRUE(report_.copied);
    ASSERT_OK_AND_ASSIGN(const wal::LogState state, wal::ReadState(fs_, "/copy"));
    EXPECT_TRUE(state.copied);
    EXPECT_EQ(state.copied_at, 17u);
    EXPECT_EQ(state.lock_inode, original->lock_inode);
    EXPECT_EQ(state.lock_born, original->lock_born);
  }
  MustPrepare();
  EXPECT_FALSE(report_.copied);
}

TEST_F(PrepareLogTest, AMovedDirectoryIsNoCopy) {
  PutCleanLog();
  ASSERT_OK(fs_.Rename(kDirectory, "/moved"));
  PrepareOptions options = Options();
  options.directory = "/moved";
  ASSERT_OK(PrepareLog(fs_, options, &report_));
  EXPECT_FALSE(report_.copied);
}

TEST_F(PrepareLogTest, BirthTimesCountOnlyWhereBothAreKnown) {
  PutCleanLog();
  ASSERT_OK_AND_ASSIGN(wal::LogState state, wal::ReadState(fs_, kDirectory));
  state.lock_born = 0;
  ASSERT_OK(wal::WriteState(fs_, kDirectory, state));
  MustPrepare();
  EXPECT_FALSE(report_.copied);
  state.lock_born = 1;
  ASSERT_OK(wal::WriteState(fs_, kDirectory, state));
  MustPrepare();
  EXPECT_TRUE(report_.copied);
}

TEST_F(PrepareLogTest, ADamagedStateIsRebuiltAndKeptAside) {
  PutCleanLog();
  fs_.Corrupt("/log/STATE", 20, 1);
  const auto damaged = fs_.Content("/log/STATE");
  {
    const wal::LogStart start = MustPrepare();
    EXPECT_EQ(start.state.wal_id, kTestWalId);
    EXPECT_EQ(start.state.partitions, 16u);
    EXPECT_EQ(start.state.epoch, 1u);
    EXPECT_EQ(start.state.first_lsn, 1u);
    EXPECT_EQ(start.next_lsn, 18u);
    EXPECT_TRUE(Has(report_.findings, Verdict::kDamagedState));
  }
  EXPECT_EQ(fs_.Content("/log/quarantine/STATE"), damaged);
  MustPrepare();
  EXPECT_TRUE(report_.findings.empty());
  // Original or copy: only what is gone could tell.
  EXPECT_TRUE(report_.copied);
  EXPECT_FALSE(MustScan().damaged());
}

TEST_F(PrepareLogTest, AMissingStateIsRebuilt) {
  PutCleanLog();
  ASSERT_OK(fs_.Remove("/log/STATE"));
  EXPECT_EQ(MustPrepare().next_lsn, 18u);
  EXPECT_EQ(Describe(report_.findings), "STATE@0:damaged STATE[13-17] ");
  EXPECT_OK(wal::ReadState(fs_, kDirectory));
}

TEST_F(PrepareLogTest, AStateIsRebuiltFromTheRingWhereThereIsNothingElse) {
  MakeLogDirectory(fs_, kDirectory);
  PutRing();
  ASSERT_OK(fs_.Remove("/log/STATE"));
  EXPECT_EQ(MustPrepare().state.wal_id, kTestWalId);
}

TEST_F(PrepareLogTest, AStateThatNothingIsLeftOfIsCorruption) {
  WriteFile(fs_, "/log/STATE", std::vector<std::byte>(30));
  EXPECT_THAT(Prepare(), StatusIs(StatusCode::kCorruption));
}

TEST_F(PrepareLogTest, CostsTheSameForAnyNumberOfSegments) {
  const auto calls_with = [](std::uint64_t segments) {
    SimulatedFileSystem fs;
    MakeLogDirectory(fs, kDirectory);
    for (std::uint64_t n = 1; n <= segments; ++n) {
      SegmentBuilder segment({.number = n, .first_lsn = n, .synced_lsn = n - 1});
      segment.AddFrame(1);
      WriteFile(fs, PathOf(n), n < segments ? segment.Sealed() : segment.Unsealed());
    }
    PrepareReport report;
    const std::uint64_t before = fs.calls();
    EXPECT_OK(PrepareLog(fs, Options(), &report));
    return fs.calls() - before;
  };
  EXPECT_EQ(calls_with(1024), calls_with(8));
}

// --- failing and crashing at every call
// ------------------------------------------------------------

// A log with everything to do: a torn tail, a hole, two unsealed segments.
wal::Lsn PutMessyLog(FileSystem& fs) {
  MakeLogDirectory(fs, kDirectory);
  SegmentBuilder first({});
  first.AddFrame(2);
  const FramePlace idle = first.AddFrame(0);
  first.AddFrame(2);
  auto bytes = first.Unsealed();
  bytes[idle.offset + 5] ^= std::byte{1};
  WriteFile(fs, PathOf(1), bytes);
  SegmentBuilder second({.number = 2, .first_lsn = 5, .synced_lsn = 4});
  second.AddFrame(3, 4);
  const FramePlace torn = second.AddFrame(3, 4);
  second.AddFrame(1, 4);
  bytes = second.Unsealed();
  bytes[torn.offset + 70] ^= std::byte{1};
  WriteFile(fs, PathOf(2), bytes);
  return 7;
}

void ExpectRepaired(SimulatedFileSystem& fs, wal::Lsn last, std::uint64_t n) {
  PrepareOptions options;
  options.directory = kDirectory;
  PrepareReport report;
  {
    ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs, options, &report));
    EXPECT_EQ(start.next_lsn, last + 1) << n;
    ASSERT_OK_AND_ASSIGN(const auto segments, wal::ListSegments(fs, kDirectory));
    EXPECT_EQ(start.segments, segments) << n;
  }
  ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
  EXPECT_EQ(Describe(scan.findings), "") << n;
  EXPECT_EQ(scan.lsns, (LsnRange{1, last})) << n;
}

TEST(PrepareLogFaults, EveryCallThatFailsIsToldAndTheNextOpenRepairs) {
  PrepareOptions options;
  options.directory = kDirectory;
  for (const bool sticky : {false, true}) {
    bool finished = false;
    for (std::uint64_t n = 1; !finished; ++n) {
      SimulatedFileSystem fs(n);
      const wal::Lsn last = PutMessyLog(fs);
      fs.FailNth(n, {.path_part = "", .sticky = sticky});
      PrepareReport report;
      const std::uint64_t before = fs.calls();
      const auto start = PrepareLog(fs, options, &report);
      finished = fs.calls() - before < n;
      EXPECT_TRUE(start.ok() || start.status().code() == StatusCode::kIoError)
          << n << start.status().ToString();
      fs.ClearFaults();
      fs.Kill();
      ExpectRepaired(fs, last, n);
    }
  }
}

TEST(PrepareLogFaults, ACrashAtEveryCallIsRepairedByTheNextOpen) {
  PrepareOptions options;
  options.directory = kDirectory;
  for (const bool power : {false, true}) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      bool finished = false;
      // What was synced is not risked: a sector that is being written may come out as garbage.
      const PowerLossOdds odds = seed == 4 ? PowerLossOdds{.kept = 0, .garbage = 1}
                                           : PowerLossOdds{};
      for (std::uint64_t n = 1; !finished; ++n) {
        SimulatedFileSystem fs(seed);
        Random random(seed * 1000 + n);
        const wal::Lsn last = PutMessyLog(fs);
        fs.CrashAfter(n);
        PrepareReport report;
        finished = PrepareLog(fs, options, &report).ok();
        if (power) {
          fs.PowerLoss(random, odds);
        } else {
          fs.Kill();
        }
        ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
        EXPECT_FALSE(scan.damaged()) << n << Describe(scan.findings);
        ExpectRepaired(fs, last, n);
        fs.PowerLoss(random, {.kept = 0, .garbage = 0});
        ASSERT_OK_AND_ASSIGN(const ScanReport left, Scan(fs, kDirectory));
        EXPECT_FALSE(left.damaged()) << n << Describe(left.findings);
        EXPECT_EQ(left.lsns, (LsnRange{1, last})) << n;
      }
    }
  }
}

TEST(PrepareLogFaults, ACrashWhileADirectoryIsMadeLeavesNoneOrAWholeOne) {
  PrepareOptions options;
  options.directory = "/new/log";
  bool finished = false;
  for (std::uint64_t n = 1; !finished; ++n) {
    SimulatedFileSystem fs(n);
    Random random(n);
    fs.CrashAfter(n);
    PrepareReport report;
    finished = PrepareLog(fs, options, &report).ok();
    fs.PowerLoss(random);
    ASSERT_OK_AND_ASSIGN(const wal::LogStart start, PrepareLog(fs, options, &report));
    EXPECT_EQ(start.next_lsn, 1u);
    EXPECT_FALSE(report.copied);
    EXPECT_TRUE(report.findings.empty());
  }
}

}  // namespace
}  // namespace taskwal::recovery
