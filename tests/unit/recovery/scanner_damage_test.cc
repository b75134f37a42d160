// What counts, and is not as it was written: which file, which offset, which LSNs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "recovery/survey.h"
#include "tests/unit/recovery/log_fixture.h"

namespace taskwal::recovery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using wal::LsnRange;

using ScannerTest = LogFixture;

bool EachDamageHasARange(const ScanReport& report) {
  return std::all_of(report.findings.begin(), report.findings.end(), [](const Finding& finding) {
    return !IsDamage(finding.verdict) || (finding.lsns.from >= 1 && !finding.lsns.empty());
  });
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

TEST_F(ScannerTest, AFooterThatIsGoneInFrontOfASealedSegmentIsDamageAfterAKill) {
  PutKilledLog();
  const auto last_sealed = ReadBytes(fs_, PathOf(2));
  fs_.TruncateFile(PathOf(2), last_sealed.size() - 512);
  EXPECT_FALSE(MustScan().damaged());  // the process may have been killed before it wrote that
  WriteFile(fs_, PathOf(2), last_sealed);
  fs_.TruncateFile(PathOf(1), fs_.Content(PathOf(1)).size() - 512);
  EXPECT_THAT(Describe(MustScan().findings),
              AllOf(HasSubstr("wal-00000001.log@"), HasSubstr(":damage[1-6] ")));
}

TEST_F(ScannerTest, AFooterIsMissedOnlyWhereTheNextWasThereBeforeTheReading) {
  PutKilledLog();
  fs_.TruncateFile(PathOf(1), fs_.Content(PathOf(1)).size() - 512);
  SurveyOptions options;
  for (const std::uint64_t sealed : {1, 2}) {
    options.ceiling.sealed = sealed;
    const auto survey = SurveyLog(fs_, kDirectory, options);
    ASSERT_OK(survey);
    EXPECT_EQ(Has(survey->judgement.findings, Verdict::kDamage), sealed == 2) << sealed;
  }
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

TEST_F(ScannerTest, ADamagedHeaderCostsNoFramesThatNothingNames) {
  PutKilledLog();
  SegmentBuilder next({.number = 4, .first_lsn = 19, .synced_lsn = 18});
  next.AddFrame(3, 16);
  WriteFile(fs_, PathOf(4), next.Unsealed());
  fs_.Corrupt(PathOf(4), 33, 1);
  const ScanReport report = MustScan();
  EXPECT_TRUE(Has(report.findings, Verdict::kDamagedHeader)) << Describe(report.findings);
  EXPECT_TRUE(report.lost.empty());
  EXPECT_EQ(report.lsns, (LsnRange{1, 21}));
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

TEST_F(ScannerTest, AStateBeyondRepairIsDamage) {
  WriteFile(fs_, wal::JoinPath(kDirectory, "STATE"), std::vector<std::byte>(10));
  EXPECT_EQ(Describe(MustScan().findings), "STATE@0:damaged STATE ");
}

}  // namespace
}  // namespace taskwal::recovery
