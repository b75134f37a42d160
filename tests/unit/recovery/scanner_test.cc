#include "recovery/scanner.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tests/support/forwarding_file_system.h"
#include "tests/unit/recovery/log_fixture.h"

namespace taskwal::recovery {
namespace {

using ::testing::HasSubstr;
using wal::LsnRange;

using ScannerTest = LogFixture;

bool EachDamageHasARange(const ScanReport& report) {
  return std::all_of(report.findings.begin(), report.findings.end(), [](const Finding& finding) {
    return !IsDamage(finding.verdict) || (finding.lsns.from >= 1 && !finding.lsns.empty());
  });
}

TEST_F(ScannerTest, ACleanLogHasNoFindings) {
  PutCleanLog();
  const ScanReport report = MustScan();
  EXPECT_EQ(Describe(report.findings), "");
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(report.lsns, (LsnRange{1, 17}));
  EXPECT_EQ(report.scanned, 17u);
  EXPECT_EQ(report.synced_lsn, 17u);
  EXPECT_TRUE(report.unknown.empty());
  ASSERT_EQ(report.segments.size(), 3u);
  EXPECT_EQ(report.segments[1].lsns, (LsnRange{7, 12}));
  EXPECT_EQ(report.segments[1].records, 6u);
  EXPECT_EQ(report.segments[1].frames, 2u);
  EXPECT_EQ(report.segments[1].state, "flushing");
  EXPECT_TRUE(report.segments[1].sealed);
}

TEST_F(ScannerTest, EveryChangedByteOfACleanLogIsDamage) {
  PutSmallCleanLog();
  for (std::uint64_t number = 1; number <= 2; ++number) {
    const std::size_t size = fs_.Content(PathOf(number)).size();
    for (std::size_t at = 0; at < size; ++at) {
      fs_.Corrupt(PathOf(number), at, static_cast<std::uint8_t>(1u << (at % 8)));
      const ScanReport report = MustScan();
      EXPECT_TRUE(report.damaged()) << number << " at " << at;
      ASSERT_FALSE(report.findings.empty());
      EXPECT_EQ(report.findings[0].file, wal::SegmentName(number)) << at;
      EXPECT_TRUE(EachDamageHasARange(report)) << number << " at " << at;
      fs_.Corrupt(PathOf(number), at, static_cast<std::uint8_t>(1u << (at % 8)));
    }
  }
  EXPECT_FALSE(MustScan().damaged());
}

TEST_F(ScannerTest, EveryOtherLengthOfACleanLogIsDamage) {
  PutSmallCleanLog();
  for (std::uint64_t number = 1; number <= 2; ++number) {
    const auto bytes = ReadBytes(fs_, PathOf(number));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      fs_.TruncateFile(PathOf(number), size);
      const ScanReport report = MustScan();
      EXPECT_TRUE(report.damaged()) << number << " cut to " << size;
      EXPECT_TRUE(EachDamageHasARange(report)) << number << " cut to " << size;
      WriteFile(fs_, PathOf(number), bytes);
    }
    for (const std::size_t more : {1u, 511u, 512u, 4096u}) {
      fs_.TruncateFile(PathOf(number), bytes.size() + more);
      const ScanReport report = MustScan();
      EXPECT_TRUE(report.damaged()) << number << " longer by " << more;
      EXPECT_TRUE(EachDamageHasARange(report)) << number << " longer by " << more;
    }
    WriteFile(fs_, PathOf(number), bytes);
  }
}

TEST_F(ScannerTest, EveryZeroedSectorOfACleanLogIsDamage) {
  PutCleanLog();
  for (std::uint64_t number = 1; number <= 3; ++number) {
    const auto bytes = ReadBytes(fs_, PathOf(number));
    for (std::size_t at = 0; at < bytes.size(); at += 512) {
      if (at >= 512 && at < 4096) continue;  // zeros anyway
      Zero(number, at, at + 512);
      EXPECT_TRUE(MustScan().damaged()) << number << " at " << at;
      WriteFile(fs_, PathOf(number), bytes);
    }
  }
}

TEST_F(ScannerTest, SegmentsSealedBeforeAKillAreCoveredToo) {
  PutKilledLog();
  PutRing();
  for (std::uint64_t number = 1; number <= 2; ++number) {
    const std::size_t size = fs_.Content(PathOf(number)).size();
    for (std::size_t at = 0; at < size; at += 7) {
      fs_.Corrupt(PathOf(number), at, 0x08);
      EXPECT_TRUE(MustScan().damaged()) << number << " at " << at;
      fs_.Corrupt(PathOf(number), at, 0x08);
    }
  }
}

TEST_F(ScannerTest, InAnOpenSegmentSyncedRecordsAreDamagedAndOthersTorn) {
  PutKilledLog();
  PutRing();
  // 13-14 and 15-16 are named by the frames behind them; 17-18 by nothing.
  for (std::size_t frame = 0; frame < 3; ++frame) {
    const FramePlace place = FrameAt(3, frame);
    const std::uint64_t end_of_data = place.offset + 64 + 2 * sizeof(wal::RecordPrefix) +
                                      TestRecordBody(place.lsns.from).size() +
                                      TestRecordBody(place.lsns.to).size();
    for (std::uint64_t at = place.offset; at < place.end_offset; ++at) {
      fs_.Corrupt(PathOf(3), at, 0x80);
      const ScanReport report = MustScan();
      if (frame < 2) {
        EXPECT_TRUE(report.damaged()) << at;
      } else {
        EXPECT_FALSE(report.damaged()) << at << Describe(report.findings);
        EXPECT_EQ(report.lsns.to, at < end_of_data ? 16u : 18u) << at;
      }
      fs_.Corrupt(PathOf(3), at, 0x80);
    }
  }
}

// The header of segment 3 names 12, its frames name 12, 14 and 16; a cut frame names nothing.
TEST_F(ScannerTest, AnOpenSegmentCutAboveTheSyncedIsTornBelowItDamaged) {
  PutKilledLog();
  PutRing();
  const auto bytes = ReadBytes(fs_, PathOf(3));
  for (const wal::Lsn synced : {12u, 14u, 16u}) {
    wal::LogState state;
    state.last_lsn = synced;
    MakeLogDirectory(fs_, kDirectory, state);
    for (std::uint64_t size = 512; size < FrameAt(3, 2).end_offset; size += 8) {
      fs_.TruncateFile(PathOf(3), size);
      wal::Lsn whole = 12;
      for (std::size_t frame = 0; frame < 3; ++frame) {
        if (FrameAt(3, frame).end_offset <= size) whole = FrameAt(3, frame).lsns.to;
      }
      const ScanReport report = MustScan();
      if (whole < synced) {
        EXPECT_TRUE(report.damaged()) << size << " synced " << synced;
      } else {
        EXPECT_FALSE(report.damaged()) << size << " synced " << synced;
      }
      WriteFile(fs_, PathOf(3), bytes);
    }
  }
}

TEST_F(ScannerTest, LostRecordsAreNamedByFileOffsetAndRange) {
  PutCleanLog();
  fs_.Corrupt(PathOf(2), FrameAt(2, 0).offset + 64, 1);
  const ScanReport report = MustScan();
  EXPECT_EQ(Describe(report.findings), "wal-00000002.log@4096:damage[7-9] ");
  EXPECT_EQ(report.findings[0].detail, "body checksum");
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{7, 9}}));
  EXPECT_EQ(report.scanned, 14u);
  EXPECT_EQ(report.segments[1].state, "failed");
}

TEST_F(ScannerTest, DamageThatCostsNoRecordNamesThoseOfItsFrameOrSegment) {
  PutCleanLog();
  const std::size_t size = fs_.Content(PathOf(1)).size();
  const std::uint64_t padding = FrameAt(1, 0).end_offset - 1;
  const std::uint64_t empty_frame = FrameAt(1, 1).offset;
  const std::vector<std::pair<std::uint64_t, std::string>> places{
      {20, "@0:damaged header[1-6] "},
      {600, "@512:damaged padding[1-6] "},  // of the header block
      {padding, ":damaged padding[1-2] "},
      {empty_frame, "@4608:damage[1-6] "},
      {size - 1, "damaged padding[1-6] "},  // behind the footer's body
  };
  for (const auto& [at, expected] : places) {
    fs_.Corrupt(PathOf(1), at, 1);
    EXPECT_THAT(Describe(MustScan().findings), HasSubstr(expected)) << at;
    fs_.Corrupt(PathOf(1), at, 1);
  }
  const auto bytes = ReadBytes(fs_, PathOf(1));
  fs_.TruncateFile(PathOf(1), size - 512);  // without its footer
  EXPECT_THAT(Describe(MustScan().findings), HasSubstr(":damage[1-6] "));
  WriteFile(fs_, PathOf(1), bytes);
}

TEST_F(ScannerTest, ALossOverSeveralSegmentsIsToldPerFile) {
  PutCleanLog();
  fs_.Corrupt(PathOf(1), FrameAt(1, 2).offset, 1);
  fs_.Corrupt(PathOf(2), FrameAt(2, 0).offset, 1);
  const ScanReport report = MustScan();
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{3, 9}}));
  EXPECT_EQ(Describe(report.findings),
            "wal-00000001.log@5120:damage[3-6] wal-00000002.log@4096:damage[7-9] ");
}

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
  WriteFile(fs_, PathOf(6), std::vector<std::byte>(20000, std::byte{0xee}));
  const ScanReport report = MustScan();
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(Describe(report.findings),
            "wal-00000004.log@0:empty file wal-00000005.log@0:empty file "
            "wal-00000006.log@0:empty file ");
  EXPECT_EQ(report.segments.size(), 3u);
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

TEST_F(ScannerTest, ADamagedHeaderCostsNoRecord) {
  PutCleanLog();
  for (std::uint64_t number = 1; number <= 3; ++number) fs_.Corrupt(PathOf(number), 33, 1);
  const ScanReport report = MustScan();
  EXPECT_EQ(Describe(report.findings),
            "wal-00000001.log@0:damaged header[1-6] wal-00000002.log@0:damaged header[7-12] "
            "wal-00000003.log@0:damaged header[13-17] ");
  EXPECT_TRUE(report.lost.empty());
  EXPECT_EQ(report.scanned, 17u);
}

TEST_F(ScannerTest, AHeaderThatNeverCameToBeTakesItsUnsyncedFramesAlong) {
  PutKilledLog();
  SegmentBuilder next({.number = 4, .first_lsn = 19, .synced_lsn = 16});
  next.AddFrame(3, 16);
  WriteFile(fs_, PathOf(4), next.Unsealed());
  Zero(4, 0, 512);
  const ScanReport report = MustScan();
  EXPECT_FALSE(report.damaged()) << Describe(report.findings);
  EXPECT_EQ(report.lsns, (LsnRange{1, 18}));
}

TEST_F(ScannerTest, FramesBehindAGapAreTorn) {
  PutKilledLog();
  PutRing();
  // Nothing names 15 to 18 any more.
  Zero(3, FrameAt(3, 1).offset, FrameAt(3, 1).end_offset);
  SegmentBuilder segment({.number = 3, .first_lsn = 13, .synced_lsn = 12});
  segment.AddFrame(2, 12);
  segment.AddFrame(2, 12);
  segment.AddFrame(2, 12);
  WriteFile(fs_, PathOf(3), segment.Unsealed());
  Zero(3, segment.frames()[1].offset, segment.frames()[1].end_offset);
  const ScanReport report = MustScan();
  EXPECT_EQ(Describe(report.findings),
            "wal-00000003.log@4608:torn tail[15-16] wal-00000003.log@5120:torn tail[17-18] ");
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(report.lsns, (LsnRange{1, 14}));
  EXPECT_EQ(report.torn_bytes, 1024u);
}

TEST_F(ScannerTest, FramesNothingNamesAreOfUnknownStandingAfterAReboot) {
  PutKilledLog();
  {
    const ScanReport report = MustScan();  // no ring: nobody can tell
    EXPECT_EQ(Describe(report.findings), "wal-00000003.log@4096:tail of unknown standing[17-18] ");
    EXPECT_EQ(report.unknown, (std::vector<LsnRange>{{17, 18}}));
    EXPECT_FALSE(report.damaged());
    EXPECT_EQ(report.lsns, (LsnRange{1, 18}));
  }
  PutRing();
  EXPECT_EQ(Describe(MustScan().findings), "");
  Random random(1);
  fs_.PowerLoss(random, {.kept = 1, .garbage = 0});
  EXPECT_EQ(MustScan().unknown.size(), 1u);
}

TEST_F(ScannerTest, AStateThatNamesALaterLsnProvesTheLoss) {
  PutKilledLog();
  wal::LogState state;
  state.last_lsn = 20;
  MakeLogDirectory(fs_, kDirectory, state);
  const ScanReport report = MustScan();
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{19, 20}}));
  EXPECT_EQ(report.synced_lsn, 20u);
}

// Without a power cut nothing that was written goes by itself, synced or not.
TEST_F(ScannerTest, WhatTheRingSaysWasWrittenIsDamageWhereItIsGone) {
  PutKilledLog();
  PutRing(19);
  EXPECT_EQ(MustScan().findings.size(), 0u);
  Zero(3, FrameAt(3, 2).offset, FrameAt(3, 2).offset + 512);
  const ScanReport zeroed = MustScan();
  EXPECT_TRUE(Has(zeroed.findings, Verdict::kDamage)) << Describe(zeroed.findings);
  EXPECT_EQ(zeroed.lost.size(), 1u);
  ASSERT_OK(fs_.Remove(PathOf(3)));
  const ScanReport removed = MustScan();
  ASSERT_FALSE(removed.findings.empty());
  EXPECT_EQ(removed.findings.back().lsns.to, 18u) << Describe(removed.findings);
}

TEST_F(ScannerTest, WhatALaterSegmentTookOverIsVoid) {
  Put(1, {2, 2, 2}, false);
  next_lsn_ = 3;
  Put(2, {10}, true);
  MakeLogDirectory(fs_, kDirectory);
  fs_.Corrupt(PathOf(1), FrameAt(1, 1).offset, 1);
  const ScanReport report = MustScan();
  EXPECT_FALSE(report.damaged()) << Describe(report.findings);
  EXPECT_TRUE(Has(report.findings, Verdict::kSuperseded));
  EXPECT_EQ(report.scanned, 12u);
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

TEST_F(ScannerTest, DeclaredLossesAreNoDamage) {
  PutCleanLog();
  ASSERT_OK(fs_.Remove(PathOf(2)));
  wal::LogState state;
  state.clean = true;
  state.last_lsn = 17;
  state.lost = {{7, 12}};
  MakeLogDirectory(fs_, kDirectory, state);
  const ScanReport report = MustScan();
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(report.declared, state.lost);
}

TEST_F(ScannerTest, ADamagedStateIsDamageAndTheLogIsReadAllTheSame) {
  PutCleanLog();
  const std::string path = wal::JoinPath(kDirectory, "STATE");
  const std::size_t size = fs_.Content(path).size();
  for (std::size_t at = 0; at < size; at += 5) {
    fs_.Corrupt(path, at, 0x02);
    const ScanReport report = MustScan();
    EXPECT_TRUE(Has(report.findings, Verdict::kDamagedState)) << at;
    EXPECT_TRUE(report.damaged());
    EXPECT_EQ(report.scanned, 17u);
    fs_.Corrupt(path, at, 0x02);
  }
  ASSERT_OK(fs_.Remove(path));
  EXPECT_EQ(Describe(MustScan().findings), "STATE@0:damaged STATE[1-17] ");
}

TEST_F(ScannerTest, NoLogIsNotFound) {
  EXPECT_THAT(Scan(fs_, "/none"), StatusIs(StatusCode::kNotFound));
  ASSERT_OK(fs_.MakeDirectories("/empty"));
  EXPECT_THAT(Scan(fs_, "/empty"), StatusIs(StatusCode::kNotFound));
}

TEST_F(ScannerTest, AStateBeyondRepairIsDamage) {
  WriteFile(fs_, wal::JoinPath(kDirectory, "STATE"), std::vector<std::byte>(10));
  EXPECT_EQ(Describe(MustScan().findings), "STATE@0:damaged STATE ");
}

TEST_F(ScannerTest, ChangesNothing) {
  PutKilledLog();
  fs_.Corrupt(PathOf(2), FrameAt(2, 0).offset + 64, 1);
  const auto before = fs_.Dump(kDirectory);
  MustScan();
  EXPECT_EQ(fs_.Dump(kDirectory), before);
}

TEST_F(ScannerTest, TellsItsProgress) {
  PutCleanLog();
  std::vector<std::uint64_t> done;
  std::uint64_t total = 0;
  ScanOptions options;
  options.on_progress = [&](std::uint64_t bytes, std::uint64_t all) {
    done.push_back(bytes);
    total = all;
  };
  ASSERT_OK(Scan(fs_, kDirectory, options));
  EXPECT_EQ(done.size(), 3u);
  EXPECT_EQ(done.back(), total);
}

// Lets something happen to the log just before a file is opened for reading.
class GrowingFileSystem : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    if (on_open) on_open(path);
    return ForwardingFileSystem::OpenReadable(path);
  }
  std::function<void(const std::string&)> on_open;
};

TEST(Scanner, RecordsSyncedBehindItsBackAreNoDamage) {
  SimulatedFileSystem disk;
  GrowingFileSystem fs(disk);
  MakeLogDirectory(fs, kDirectory);
  SegmentBuilder first({});
  first.AddFrame(2);
  WriteFile(fs, PathOf(1), first.Unsealed());
  SegmentBuilder second({.number = 2, .first_lsn = 5, .synced_lsn = 2});
  WriteFile(fs, PathOf(2), second.Unsealed());
  // When segment 2 is opened, 1 has been read: now 3 and 4 are written there, and 5 names them.
  fs.on_open = [&](const std::string& path) {
    if (path != PathOf(2) || first.next_lsn() > 3) return;
    first.AddFrame(2);
    second.AddFrame(1, 4);
    WriteFile(fs, PathOf(1), first.Unsealed());
    WriteFile(fs, PathOf(2), second.Unsealed());
  };
  ASSERT_OK_AND_ASSIGN(const ScanReport report, Scan(fs, kDirectory));
  EXPECT_FALSE(report.damaged()) << Describe(report.findings);
  EXPECT_EQ(report.lsns, (LsnRange{1, 5}));
}

TEST(Scanner, SegmentsRetiredBehindItsBackAreNotMissing) {
  SimulatedFileSystem disk;
  GrowingFileSystem fs(disk);
  for (std::uint64_t n = 1; n <= 3; ++n) {
    SegmentBuilder segment({.number = n, .first_lsn = n * 2 - 1, .synced_lsn = n * 2 - 2});
    segment.AddFrame(2);
    ASSERT_OK(fs.MakeDirectories(kDirectory));
    WriteFile(fs, PathOf(n), segment.Sealed());
  }
  wal::LogState state = MakeLogDirectory(fs, kDirectory);
  bool retired = false;
  fs.on_open = [&](const std::string& path) {
    if (path != PathOf(1) || retired) return;
    retired = true;
    state.first_lsn = 3;
    EXPECT_OK(wal::WriteState(fs, kDirectory, state));
    EXPECT_OK(fs.Remove(PathOf(1)));
  };
  ASSERT_OK_AND_ASSIGN(const ScanReport report, Scan(fs, kDirectory));
  EXPECT_TRUE(retired);
  EXPECT_FALSE(report.damaged()) << Describe(report.findings);
}

TEST_F(ScannerTest, EveryReadThatFailsIsAnErrorAndNoDamage) {
  PutKilledLog();
  PutRing();
  for (std::uint64_t n = 1; n < 200; ++n) {
    fs_.ClearFaults();
    fs_.FailNth(n, {});
    const auto report = Scan(fs_, kDirectory);
    if (report.ok()) {
      EXPECT_FALSE(report->damaged()) << n << Describe(report->findings);
    } else {
      EXPECT_THAT(report, StatusIs(StatusCode::kIoError));
    }
  }
}

}  // namespace
}  // namespace taskwal::recovery
