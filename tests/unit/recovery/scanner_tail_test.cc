// The end of a log whose process was killed: torn, of unknown standing, taken over, or damaged.

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "base/random.h"
#include "tests/unit/recovery/log_fixture.h"

namespace taskwal::recovery {
namespace {

using wal::LsnRange;

using ScannerTest = LogFixture;

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

// Cut as a torn tail, its LSNs would be given out once more, and be taken for flushed.
TEST_F(ScannerTest, WhatStateKnowsAsFlushedIsNoTornTail) {
  PutKilledLog();
  PutRing();
  fs_.Corrupt(PathOf(3), FrameAt(3, 2).offset, 0x80);
  EXPECT_FALSE(MustScan().damaged());
  wal::TargetState target;
  target.name = "b";
  target.number = 1;
  wal::LogState states[4];
  states[0].flushed_lsn = 18;
  states[1].watermarks = {0, 18};
  states[2].targets = {target};
  states[2].targets[0].flushed_lsn = 18;
  states[3].targets = {target};
  states[3].targets[0].watermarks = {18, 3};
  for (const wal::LogState& state : states) {
    MakeLogDirectory(fs_, kDirectory, state);
    const ScanReport report = MustScan();
    EXPECT_TRUE(report.damaged());
    ASSERT_EQ(report.lost.size(), 1u);
    EXPECT_EQ(report.lost[0], (LsnRange{17, 18}));
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

}  // namespace
}  // namespace taskwal::recovery
