#include "recovery/salvage.h"

#include <gtest/gtest.h>

#include <string>

#include "recovery/prepare_log.h"
#include "tests/unit/recovery/log_fixture.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {
namespace {

using wal::Lsn;
using wal::LsnRange;

Result<SalvageReport> PrepareAndSalvage(FileSystem& fs, wal::LogStart* start) {
  PrepareOptions options;
  options.directory = kDirectory;
  PrepareReport prepared;
  Result<wal::LogStart> opened = PrepareLog(fs, options, &prepared);
  if (!opened.ok()) return opened.status();
  *start = std::move(opened).value();
  return Salvage(fs, kDirectory, start);
}

class SalvageTest : public LogFixture {
 protected:
  SalvageReport MustSalvage() {
    auto report = PrepareAndSalvage(fs_, &start_);
    EXPECT_OK(report);
    const ScanReport scan = MustScan();
    EXPECT_FALSE(scan.damaged()) << Describe(scan.findings);
    return report.ok() ? std::move(report).value() : SalvageReport{};
  }

  wal::LogStart start_;
};

TEST_F(SalvageTest, LeavesASoundLogAlone) {
  PutCleanLog();
  const auto before = fs_.Dump(kDirectory);
  const SalvageReport report = MustSalvage();
  EXPECT_TRUE(report.quarantined.empty());
  EXPECT_TRUE(report.lost.empty());
  EXPECT_EQ(fs_.Dump(kDirectory), before);
}

TEST_F(SalvageTest, KeepsEveryIntactRecordAroundDamage) {
  PutCleanLog();
  fs_.Corrupt(PathOf(2), FrameAt(2, 0).offset + 64, 1);
  const auto original = fs_.Content(PathOf(2));
  const std::vector<Lsn> before = ReadLsns(17);
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{7, 9}}));
  EXPECT_EQ(report.kept, 3u);
  EXPECT_EQ(report.quarantined, (std::vector<std::string>{"wal-00000002.log"}));
  EXPECT_EQ(fs_.Content("/log/quarantine/wal-00000002.log"), original);
  EXPECT_EQ(ReadLsns(17), before);
  EXPECT_EQ(before.size(), 14u);
  EXPECT_EQ(start_.state.lost, report.lost);
  EXPECT_EQ(wal::ReadState(fs_, kDirectory)->lost, report.lost);
  EXPECT_EQ(MustScan().scanned, 14u);
}

TEST_F(SalvageTest, SettlesEveryChangedByte) {
  PutCleanLog();
  const auto sound = fs_.Dump(kDirectory);
  for (std::size_t at = 0; at < fs_.Content(PathOf(2)).size(); at += 97) {
    for (const auto& [path, content] : fs_.Dump(kDirectory)) ASSERT_OK(fs_.Remove(path));
    for (const auto& [path, content] : sound) {
      WriteFile(fs_, path, std::as_bytes(std::span(content)));
    }
    MakeLogDirectory(fs_, kDirectory, *wal::ReadState(fs_, kDirectory));
    fs_.Corrupt(PathOf(2), at, 0x20);
    const std::vector<Lsn> before = ReadLsns(17);
    MustSalvage();
    EXPECT_EQ(ReadLsns(17), before) << at;
  }
}

TEST_F(SalvageTest, GivesASegmentOfAKilledProcessItsFooterBack) {
  PutKilledLog();
  const std::vector<Lsn> before = ReadLsns(18);
  fs_.TruncateFile(PathOf(1), fs_.Content(PathOf(1)).size() - 512);
  ASSERT_TRUE(MustScan().damaged());
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.quarantined, (std::vector<std::string>{"wal-00000001.log"}));
  EXPECT_TRUE(report.lost.empty());
  EXPECT_EQ(ReadLsns(18), before);
}

TEST_F(SalvageTest, DeclaresMissingSegments) {
  PutCleanLog();
  ASSERT_OK(fs_.Remove(PathOf(3)));
  ASSERT_OK(fs_.Remove(PathOf(1)));
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{1, 6}, {13, 17}}));
  EXPECT_EQ(start_.segments, (std::vector<std::uint64_t>{2}));
  EXPECT_EQ(start_.next_lsn, 18u);
}

TEST_F(SalvageTest, MovesAwayWhatIsNoneOfOurs) {
  PutCleanLog();
  WriteFile(fs_, PathOf(2), SegmentBuilder({.wal_id = Uuid{{3}}, .number = 2}).Sealed());
  WriteFile(fs_, PathOf(4), std::vector<std::byte>(9000, std::byte{1}));
  WriteFile(fs_, PathOf(5), {});
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{7, 12}}));
  EXPECT_EQ(report.quarantined,
            (std::vector<std::string>{"wal-00000002.log", "wal-00000004.log", "wal-00000005.log"}));
  EXPECT_EQ(start_.segments, (std::vector<std::uint64_t>{1, 3}));
  EXPECT_EQ(start_.next_segment, 6u);
  EXPECT_TRUE(MustScan().findings.empty());
}

TEST_F(SalvageTest, RefusesAnotherFormatVersionWhoseRecordsMayBeIntact) {
  PutCleanLog();
  WriteFile(fs_, PathOf(2), SegmentBuilder({.number = 2, .first_lsn = 7, .version = 2}).Sealed());
  EXPECT_THAT(PrepareAndSalvage(fs_, &start_), StatusIs(StatusCode::kCorruption));
  EXPECT_TRUE(fs_.Exists(PathOf(2)));
}

TEST_F(SalvageTest, RewritesADamagedHeaderUnderItsOwnIdentity) {
  const Uuid former{{0x44}};
  SegmentBuilder segment({.wal_id = former});
  segment.AddFrame(4);
  WriteFile(fs_, PathOf(1), segment.Sealed());
  wal::LogState state;
  state.former = {{former, 4}};
  MakeLogDirectory(fs_, kDirectory, state);
  fs_.Corrupt(PathOf(1), 60, 1);
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.kept, 4u);
  EXPECT_TRUE(report.lost.empty());
  ASSERT_OK_AND_ASSIGN(const auto reader,
                       wal::SegmentReader::Open(fs_, kDirectory, 1, {kTestWalId, former}));
  EXPECT_EQ(reader->header_state(), wal::HeaderState::kValid);
  EXPECT_EQ(reader->header().wal_id, former);
  EXPECT_EQ(reader->header().first_lsn, 1u);
}

TEST_F(SalvageTest, KeepsCompressedFramesAndTheIndex) {
  SegmentBuilder segment({});
  segment.AddFrame(200, 0, true);
  const FramePlace bad = segment.AddFrame(1);
  segment.AddFrame(200, 0, true);
  WriteFile(fs_, PathOf(1), segment.Sealed());
  MakeLogDirectory(fs_, kDirectory);
  fs_.Corrupt(PathOf(1), bad.offset, 1);
  EXPECT_EQ(MustSalvage().kept, 400u);
  ASSERT_OK_AND_ASSIGN(const auto reader,
                       wal::SegmentReader::Open(fs_, kDirectory, 1, {kTestWalId}));
  ASSERT_OK_AND_ASSIGN(const auto footer, reader->ReadFooter());
  EXPECT_EQ(footer.index.size(), 400u);
  wal::Frame frame;
  ASSERT_OK(reader->Next(&frame));
  EXPECT_NE(frame.header.flags & wal::kFrameZstd, 0);
}

TEST_F(SalvageTest, KeepsOnlyWhatCountsOfAnOpenSegment) {
  PutKilledLog();
  PutRing();
  fs_.Corrupt(PathOf(3), FrameAt(3, 0).offset + 64, 1);
  fs_.Corrupt(PathOf(3), FrameAt(3, 2).offset + 64, 1);
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.lost, (std::vector<LsnRange>{{13, 14}}));
  EXPECT_EQ(report.kept, 2u);
  EXPECT_EQ(start_.next_lsn, 17u);
}

TEST_F(SalvageTest, JoinsWhatWasDeclaredBefore) {
  PutCleanLog();
  ASSERT_OK_AND_ASSIGN(wal::LogState state, wal::ReadState(fs_, kDirectory));
  state.lost = {{7, 9}};
  ASSERT_OK(wal::WriteState(fs_, kDirectory, state));
  ASSERT_OK(fs_.Remove(PathOf(2)));
  EXPECT_EQ(MustSalvage().lost, (std::vector<LsnRange>{{10, 12}}));
  EXPECT_EQ(start_.state.lost, (std::vector<LsnRange>{{7, 12}}));
}

TEST_F(SalvageTest, KeepsTheOriginalsOfEarlierRuns) {
  PutCleanLog();
  fs_.Corrupt(PathOf(2), FrameAt(2, 0).offset + 64, 1);
  MustSalvage();
  start_ = {};
  fs_.Corrupt(PathOf(2), 4096 + 64, 1);
  const SalvageReport report = MustSalvage();
  EXPECT_EQ(report.quarantined, (std::vector<std::string>{"wal-00000002.log.2"}));
  EXPECT_TRUE(fs_.Exists("/log/quarantine/wal-00000002.log"));
}

// --- failing and crashing at every call
// ------------------------------------------------------------

// 1: a damaged frame, 2: missing, 3: a damaged header, 4: foreign, 5: empty.
void PutDamagedLog(FileSystem& fs) {
  wal::LogState state;
  state.clean = true;
  state.last_lsn = 14;
  MakeLogDirectory(fs, kDirectory, state);
  SegmentBuilder first({});
  first.AddFrame(2);
  const FramePlace bad = first.AddFrame(2);
  first.AddFrame(2);
  auto bytes = first.Sealed();
  bytes[bad.offset + 66] ^= std::byte{1};
  WriteFile(fs, PathOf(1), bytes);
  SegmentBuilder third({.number = 3, .first_lsn = 11, .synced_lsn = 10});
  third.AddFrame(4);
  bytes = third.Sealed();
  bytes[50] ^= std::byte{1};
  WriteFile(fs, PathOf(3), bytes);
  WriteFile(fs, PathOf(4), SegmentBuilder({.wal_id = Uuid{{1}}, .number = 4}).Sealed());
  WriteFile(fs, PathOf(5), {});
}

void ExpectSalvaged(FileSystem& fs, std::uint64_t n) {
  wal::LogStart start;
  ASSERT_OK(PrepareAndSalvage(fs, &start));
  EXPECT_EQ(start.state.lost, (std::vector<LsnRange>{{3, 4}, {7, 10}})) << n;
  EXPECT_EQ(start.segments, (std::vector<std::uint64_t>{1, 3})) << n;
  ASSERT_OK_AND_ASSIGN(const ScanReport scan, Scan(fs, kDirectory));
  EXPECT_EQ(Describe(scan.findings), "") << n;
  EXPECT_EQ(scan.scanned, 8u) << n;
}

TEST(SalvageFaults, EveryCallThatFailsIsToldAndTheNextRunEnds) {
  bool finished = false;
  for (std::uint64_t n = 1; !finished; ++n) {
    SimulatedFileSystem fs(n);
    PutDamagedLog(fs);
    const std::uint64_t before = fs.calls();
    fs.FailNth(n, {});
    {
      wal::LogStart start;
      const auto report = PrepareAndSalvage(fs, &start);
      EXPECT_TRUE(report.ok() || report.status().code() == StatusCode::kIoError) << n;
    }
    finished = fs.calls() - before < n;
    fs.ClearFaults();
    ExpectSalvaged(fs, n);
  }
}

TEST(SalvageFaults, ACrashAtEveryCallLosesNothingMore) {
  for (const bool power : {false, true}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      bool finished = false;
      for (std::uint64_t n = 1; !finished; ++n) {
        SimulatedFileSystem fs(seed);
        Random random(seed * 1000 + n);
        PutDamagedLog(fs);
        fs.CrashAfter(n);
        {
          wal::LogStart start;
          finished = PrepareAndSalvage(fs, &start).ok();
        }
        if (power) {
          fs.PowerLoss(random);
        } else {
          fs.Kill();
        }
        ExpectSalvaged(fs, n);
      }
    }
  }
}

}  // namespace
}  // namespace taskwal::recovery
