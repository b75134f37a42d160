#include "wal/segment_file.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/log_directory.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {
namespace {

constexpr char kDirectory[] = "/log";
constexpr char kSpare[] = "spare-00000001";
constexpr std::uint64_t kNumber = 7;

// A spare that was a sealed segment of the same log before.
void MakeRecycledSpare(FileSystem& fs) {
  ASSERT_OK(fs.MakeDirectories(kDirectory));
  SegmentBuilder old({.number = 2});
  old.AddFrame(5);
  std::vector<std::byte> bytes = old.Sealed();
  bytes.resize(16u << 10);
  WriteFile(fs, JoinPath(kDirectory, kSpare), bytes);
}

Result<std::unique_ptr<SegmentFile>> Create(FileSystem& fs) {
  SegmentFile::Plan plan;
  plan.directory = kDirectory;
  plan.spare = kSpare;
  plan.bytes = 16u << 10;
  plan.header = SegmentFile::MakeHeader(kTestWalId, kNumber, 3, 16);
  plan.header.first_lsn = 100;
  plan.lanes = 2;
  auto segment = SegmentFile::Create(fs, plan);
  if (segment.ok()) TASKWAL_TRY((*segment)->Publish(fs, kDirectory));
  return segment;
}

void ExpectAWholeSegment(FileSystem& fs) {
  ASSERT_OK_AND_ASSIGN(auto reader, SegmentReader::Open(fs, kDirectory, kNumber, {kTestWalId}));
  EXPECT_EQ(reader->header_state(), HeaderState::kValid);
  EXPECT_EQ(reader->header().first_lsn, 100u);
}

TEST(SegmentFileTest, IsDurableOnReturn) {
  SimulatedFileSystem fs;
  MakeRecycledSpare(fs);
  ASSERT_OK(Create(fs));
  Random random(1);
  fs.PowerLoss(random, {.kept = 0, .garbage = 0});
  ExpectAWholeSegment(fs);
}

// Under its name, what the file was before would pass for a foreign one, and count as damage.
TEST(SegmentFileTest, APowerCutAfterAnyCallLeavesASpareOrAWholeSegment) {
  bool is_done = false;
  int spares = 0;
  for (std::uint64_t n = 1; !is_done && !HasFailure(); ++n) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      SCOPED_TRACE(::testing::Message() << "power cut in call " << n << ", seed " << seed);
      SimulatedFileSystem fs(seed);
      MakeRecycledSpare(fs);
      fs.CrashAfter(n);
      is_done = Create(fs).ok();
      Random random(seed);
      fs.PowerLoss(random);
      if (fs.Exists(JoinPath(kDirectory, kSpare))) {
        ++spares;
      } else {
        ExpectAWholeSegment(fs);
      }
    }
  }
  EXPECT_GT(spares, 20);
}

}  // namespace
}  // namespace taskwal::wal
