#include "recovery/scanner.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/forwarding_file_system.h"
#include "tests/unit/recovery/log_fixture.h"

namespace taskwal::recovery {
namespace {

using wal::LsnRange;

using ScannerTest = LogFixture;

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

TEST_F(ScannerTest, NoLogIsNotFound) {
  EXPECT_THAT(Scan(fs_, "/none"), StatusIs(StatusCode::kNotFound));
  ASSERT_OK(fs_.MakeDirectories("/empty"));
  EXPECT_THAT(Scan(fs_, "/empty"), StatusIs(StatusCode::kNotFound));
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

}  // namespace
}  // namespace taskwal::recovery
