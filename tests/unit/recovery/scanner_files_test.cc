// Files that are missing, strange, half made or left over.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/unit/recovery/log_fixture.h"

namespace taskwal::recovery {
namespace {

using ::testing::HasSubstr;
using wal::LsnRange;

using ScannerTest = LogFixture;

TEST_F(ScannerTest, MissingSegmentsAreNamed) {
  PutCleanLog();
  const auto first = ReadBytes(fs_, PathOf(1));
  const auto second = ReadBytes(fs_, PathOf(2));
  const auto third = ReadBytes(fs_, PathOf(3));
  ASSERT_OK(fs_.Remove(PathOf(1)));
  EXPECT_EQ(Describe(MustScan().findings), "wal-00000001.log@0:missing segment[1-6] ");
  WriteFile(fs_, PathOf(1), first);
  ASSERT_OK(fs_.Remove(PathOf(2)));
  EXPECT_EQ(Describe(MustScan().findings), "wal-00000002.log@0:missing segment[7-12] ");
  WriteFile(fs_, PathOf(2), second);
  ASSERT_OK(fs_.Remove(PathOf(3)));
  EXPECT_EQ(Describe(MustScan().findings), "wal-00000003.log@0:missing segment[13-17] ");
  ASSERT_OK(fs_.Remove(PathOf(2)));
  ASSERT_OK(fs_.Remove(PathOf(1)));
  EXPECT_EQ(Describe(MustScan().findings), "wal-*.log@0:missing segment[1-17] ");
}

// Nobody can tell which of them held which of the records.
TEST_F(ScannerTest, NeighboursThatAreMissingOrEmptiedAreAllNamed) {
  const auto empty = [this](std::uint64_t number) { WriteFile(fs_, PathOf(number), {}); };
  Put(1, {2}, true);
  Put(2, {2}, true);
  Put(3, {2}, true);
  Put(4, {2}, true);
  wal::LogState state;
  state.clean = true;
  state.last_lsn = 8;
  MakeLogDirectory(fs_, kDirectory, state);
  const auto second = ReadBytes(fs_, PathOf(2));
  const auto third = ReadBytes(fs_, PathOf(3));
  empty(2);
  empty(3);
  EXPECT_EQ(Describe(MustScan().findings),
            "wal-00000002.log@0:damage[3-6] wal-00000003.log@0:damage[3-6] ");
  ASSERT_OK(fs_.Remove(PathOf(2)));
  EXPECT_EQ(Describe(MustScan().findings),
            "wal-00000002.log@0:missing segment[3-6] wal-00000003.log@0:damage[3-6] ");
  ASSERT_OK(fs_.Remove(PathOf(3)));
  const ScanReport both = MustScan();
  EXPECT_EQ(Describe(both.findings), "wal-00000002.log@0:missing segment[3-6] ");
  EXPECT_EQ(both.findings[0].detail, "no such file, nor any up to wal-00000003.log");
  empty(2);
  const ScanReport last = MustScan();
  EXPECT_EQ(Describe(last.findings),
            "wal-00000002.log@0:damage[3-6] wal-00000003.log@0:missing segment[3-6] ");
  EXPECT_EQ(last.findings[1].detail, "no such file");
  // At either end of the log.
  WriteFile(fs_, PathOf(2), second);
  empty(4);
  EXPECT_EQ(Describe(MustScan().findings),
            "wal-00000003.log@0:missing segment[5-8] wal-00000004.log@0:damage[5-8] ");
  WriteFile(fs_, PathOf(3), third);
  empty(1);
  ASSERT_OK(fs_.Remove(PathOf(2)));
  empty(4);
  EXPECT_EQ(Describe(MustScan().findings),
            "wal-00000001.log@0:damage[1-4] wal-00000002.log@0:missing segment[1-4] "
            "wal-00000004.log@0:damage[7-8] ");
}

TEST_F(ScannerTest, RetiredSegmentsAreNotMissing) {
  Put(1, {6}, true);
  Put(2, {6}, true);
  wal::LogState state;
  state.first_lsn = 7;
  state.clean = true;
  state.last_lsn = 12;
  MakeLogDirectory(fs_, kDirectory, state);
  EXPECT_FALSE(MustScan().damaged());
  ASSERT_OK(fs_.Remove(PathOf(1)));
  EXPECT_FALSE(MustScan().damaged());
}

// What was retired was settled, though the next segment's header was made before it was synced.
TEST_F(ScannerTest, RecordsBehindRetiredSegmentsAreNotBehindAGap) {
  SegmentBuilder segment({.number = 2, .first_lsn = 7, .synced_lsn = 3});
  segment.AddFrame(2, 3);
  WriteFile(fs_, PathOf(2), segment.Unsealed());
  wal::LogState state;
  state.first_lsn = 7;
  MakeLogDirectory(fs_, kDirectory, state);
  const ScanReport report = MustScan();
  EXPECT_EQ(report.lsns, (LsnRange{7, 8})) << Describe(report.findings);
  EXPECT_EQ(report.torn_bytes, 0u);
}

TEST_F(ScannerTest, AMissingNumberThatHeldNoRecordIsNoDamage) {
  Put(1, {6}, true);
  Put(4, {6}, true);
  MakeLogDirectory(fs_, kDirectory);
  EXPECT_EQ(Describe(MustScan().findings), "");
}

TEST_F(ScannerTest, AForeignSegmentIsDamage) {
  PutCleanLog();
  const auto own = ReadBytes(fs_, PathOf(2));
  SegmentBuilder foreign({.wal_id = Uuid{{0x55}}, .number = 2, .first_lsn = 7});
  foreign.AddFrame(6);
  WriteFile(fs_, PathOf(2), foreign.Sealed());
  EXPECT_EQ(Describe(MustScan().findings), "wal-00000002.log@0:foreign segment[7-12] ");
  WriteFile(fs_, PathOf(2), own);
  SegmentBuilder extra({.wal_id = Uuid{{0x55}}, .number = 4, .first_lsn = 7});
  extra.AddFrame(6);
  WriteFile(fs_, PathOf(4), extra.Sealed());
  const ScanReport report = MustScan();
  EXPECT_EQ(Describe(report.findings), "wal-00000004.log@0:foreign segment[7-7] ");
  EXPECT_TRUE(report.lost.empty());
  EXPECT_THAT(report.findings[0].detail, HasSubstr("55000000"));
}

TEST_F(ScannerTest, ASegmentUnderAnotherNumberIsForeign) {
  PutCleanLog();
  ASSERT_OK(fs_.Rename(PathOf(2), PathOf(7)));
  const ScanReport report = MustScan();
  EXPECT_TRUE(Has(report.findings, Verdict::kMissingSegment));
  EXPECT_TRUE(Has(report.findings, Verdict::kForeignSegment));
}

TEST_F(ScannerTest, AnotherFormatVersionIsNamed) {
  PutCleanLog();
  WriteFile(fs_, PathOf(4), SegmentBuilder({.number = 4, .first_lsn = 18, .version = 2}).Sealed());
  EXPECT_EQ(Describe(MustScan().findings), "wal-00000004.log@0:other format version[18-18] ");
}

TEST_F(ScannerTest, SparesAndHalfMadeFilesAreNoDamage) {
  PutCleanLog();
  WriteFile(fs_, wal::JoinPath(kDirectory, "spare-00000001"), std::vector<std::byte>(8192));
  WriteFile(fs_, PathOf(4), {});
  WriteFile(fs_, PathOf(5), std::vector<std::byte>(20000));
  // As far as the header was written.
  const auto header = SegmentBuilder({.number = 6, .first_lsn = 18}).Sealed();
  WriteFile(fs_, PathOf(6), std::span(header).first(100));
  const ScanReport report = MustScan();
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(Describe(report.findings),
            "wal-00000004.log@0:empty file wal-00000005.log@0:empty file "
            "wal-00000006.log@0:empty file ");
  EXPECT_EQ(report.segments.size(), 3u);
}

TEST_F(ScannerTest, BytesThatAreNoSegmentAreNamedSo) {
  for (const std::size_t size : {std::size_t{100}, std::size_t{511}, std::size_t{512},
                                 std::size_t{5000}, std::size_t{20'000}}) {
    Random random(size);
    std::vector<std::byte> garbage(size);
    for (std::byte& byte : garbage) byte = static_cast<std::byte>(random.Below(256));
    next_lsn_ = 1;
    PutCleanLog();
    WriteFile(fs_, PathOf(9), garbage);
    const ScanReport report = MustScan();
    EXPECT_FALSE(report.damaged()) << size;
    EXPECT_EQ(Describe(report.findings), "wal-00000009.log@0:not a segment ") << size;
    EXPECT_EQ(report.scanned, 17u);
    EXPECT_EQ(report.segments.size(), 3u);
  }
}

TEST_F(ScannerTest, AFileWithTheHeaderOfARetiredUseIsHalfMade) {
  Put(1, {6}, true);
  const auto retired = ReadBytes(fs_, PathOf(1));
  Put(2, {6}, true);
  wal::LogState state;
  state.first_lsn = 7;
  MakeLogDirectory(fs_, kDirectory, state);
  ASSERT_OK(fs_.Rename(PathOf(1), PathOf(3)));
  EXPECT_EQ(Describe(MustScan().findings), "wal-00000003.log@0:empty file ");
}

TEST_F(ScannerTest, GarbageInPlaceOfASegmentIsDamage) {
  PutCleanLog();
  for (const bool empty : {false, true}) {
    WriteFile(fs_, PathOf(2), std::vector<std::byte>(empty ? 0 : 9000, std::byte{0x11}));
    EXPECT_EQ(Describe(MustScan().findings), "wal-00000002.log@0:damage[7-12] ");
  }
}

TEST_F(ScannerTest, OnlyAFileThatStateNamesAsUnsealedNeedsNoFooterInACleanLog) {
  Put(1, {2, 2, 2}, false);
  next_lsn_ = 3;
  Put(2, {10}, true);
  wal::LogState state;
  state.clean = true;
  state.last_lsn = 12;
  MakeLogDirectory(fs_, kDirectory, state);
  EXPECT_EQ(Describe(MustScan().findings),
            "wal-00000001.log@4096:superseded[3-6] wal-00000001.log@5632:damage[1-6] ");
  for (const std::uint64_t size : {32768, 32768 + 512, 8192 + 4096, 5632}) {
    fs_.TruncateFile(PathOf(1), size);  // as large as the spare was that it was made of
    state.unsealed = {1};
    MakeLogDirectory(fs_, kDirectory, state);
    EXPECT_FALSE(MustScan().damaged()) << size << Describe(MustScan().findings);
    state.unsealed = {2};
    MakeLogDirectory(fs_, kDirectory, state);
    EXPECT_TRUE(MustScan().damaged()) << size;
  }
}

// Its old name was still on the disk when it was written for a later one.
TEST_F(ScannerTest, ARetiredNameWithTheHeaderOfALaterSegmentIsNoDamage) {
  const auto later = SegmentBuilder({.number = 7, .first_lsn = 30, .synced_lsn = 29}).Unsealed(0);
  WriteFile(fs_, PathOf(1), later);
  next_lsn_ = 10;
  Put(2, {3, 3}, true);
  Put(3, {2}, false);
  wal::LogState state;
  state.first_lsn = 10;
  MakeLogDirectory(fs_, kDirectory, state);
  PutRing();
  EXPECT_FALSE(MustScan().damaged()) << Describe(MustScan().findings);
  // One that is counted on is another thing, and so is a stranger's.
  state.first_lsn = 9;
  MakeLogDirectory(fs_, kDirectory, state);
  EXPECT_TRUE(MustScan().damaged()) << Describe(MustScan().findings);
  state.first_lsn = 10;
  MakeLogDirectory(fs_, kDirectory, state);
  WriteFile(fs_, PathOf(1), SegmentBuilder({.wal_id = Uuid{{3}}, .number = 7}).Sealed());
  EXPECT_TRUE(MustScan().damaged()) << Describe(MustScan().findings);
}

// Nobody can tell what it held.
TEST_F(ScannerTest, ANameThatNothingFollowsIsNotRetired) {
  const auto later = SegmentBuilder({.number = 7, .first_lsn = 30, .synced_lsn = 29}).Unsealed(0);
  WriteFile(fs_, PathOf(1), later);
  MakeLogDirectory(fs_, kDirectory, {});
  EXPECT_TRUE(MustScan().damaged()) << Describe(MustScan().findings);
}

TEST_F(ScannerTest, AFooterOfAnOlderUseBehindAFullSegmentIsNoDamage) {
  SegmentBuilder old({.number = 1});
  old.AddFrame(3);
  const auto stale = old.Sealed();
  Put(5, {2}, true);
  next_lsn_ = 40;
  SegmentBuilder full({.number = 6, .first_lsn = 40, .synced_lsn = 39});
  full.AddFrame(3);
  ASSERT_EQ(full.end_offset(), old.end_offset());
  full.AddBytes(std::span(stale).subspan(full.end_offset()));
  WriteFile(fs_, PathOf(6), full.Unsealed(0));
  next_lsn_ = full.next_lsn();
  // Its frames are on disk, its footer is still to be written, and the next one takes frames.
  Put(7, {2, 2}, false);
  wal::LogState state;
  state.first_lsn = 40;
  MakeLogDirectory(fs_, kDirectory, state);
  PutRing();
  const ScanReport report = MustScan();
  EXPECT_FALSE(report.damaged()) << Describe(report.findings);
}

}  // namespace
}  // namespace taskwal::recovery
