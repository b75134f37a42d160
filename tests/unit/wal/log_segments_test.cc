// When a log goes on in another segment, and what that costs.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>

#include "tests/support/counting_file_system.h"
#include "tests/unit/wal/log_fixture.h"

namespace taskwal::wal {
namespace {

TEST_F(LogTest, RollsThroughManySegments) {
  auto log = Open();
  std::map<Lsn, std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    const std::string body(static_cast<std::size_t>(i % 400), static_cast<char>('a' + i % 26));
    const auto lsn = Put(*log, body);
    ASSERT_OK(lsn);
    expected[*lsn] = body;
  }
  ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  while (log->MaintenanceStep()) {
  }
  EXPECT_GT(log->GetStats().segments, 5u);
  EXPECT_EQ(ReadAll(*log, log->durable_lsn()), expected);
}

TEST_F(LogTest, RollsByRecords) {
  auto log = Open([](LogOptions* o) { o->segment_records_max = 10; });
  for (int i = 0; i < 40; ++i) {
    ASSERT_OK(Put(*log, "x"));
    ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  }
  EXPECT_GE(log->GetStats().segments, 4u);
  EXPECT_EQ(ReadAll(*log, 40).size(), 40u);
}

TEST_F(LogTest, NoSegmentHoldsMoreRecordsThanAllowed) {
  auto log = Open([](LogOptions* o) { o->segment_records_max = 10; });
  for (int i = 0; i < 95; ++i) ASSERT_OK(Put(*log, "x"));
  ASSERT_OK(log->WaitDurable(95, {}));
  EXPECT_GE(log->GetStats().segments, 10u);
  EXPECT_EQ(ReadAll(*log, 95).size(), 95u);
}

// Segments of few records are no larger than what they hold makes them: else each would cost the
// filling of a whole one.
TEST_F(LogTest, ASegmentThatIsFullByCountCostsWhatItHolds) {
  CountingFileSystem counted(fs_);
  LogOptions options = SmallLog();
  options.ring_bytes = 1u << 20;
  options.segment_bytes = 2u << 20;
  options.segment_records_max = 10;
  ASSERT_OK_AND_ASSIGN(const auto log,
                       Log::Open(counted, clock_, options, NewLog(counted, kDirectory)));
  const auto append_segments = [&](int count) {
    for (int i = 0; i < 10 * count; ++i) {
      ASSERT_OK(Put(*log, std::string(400, 'x')));
      if (i % 3 == 0) {
        ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
      }
      while (log->MaintenanceStep()) {
      }
    }
  };
  append_segments(5);  // the first are as large as any log's
  const std::uint64_t before = counted.counts().bytes_written;
  const std::uint64_t log_before = log->GetStats().log_bytes;
  const std::uint64_t segments = log->GetStats().segments;
  append_segments(100);
  ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  EXPECT_EQ(log->GetStats().segments - segments, 100u);
  const std::uint64_t held = log->GetStats().log_bytes - log_before;
  EXPECT_LE(counted.counts().bytes_written - before, 4 * held);
  EXPECT_EQ(ReadAll(*log, log->end_lsn()).size(), 1050u);
}

// Records that grow are no trouble to segments that were made for small ones.
TEST_F(LogTest, ASegmentOfFewRecordsTakesLargerOnesThanBefore) {
  auto log = Open([](LogOptions* o) {
    o->segment_records_max = 4;
    o->frame_bytes = 4096;
  });
  std::map<Lsn, std::string> expected;
  for (const std::size_t bytes : {10u, 10u, 3000u, 12u, 5000u, 100u}) {
    for (int i = 0; i < 9; ++i) {
      const std::string body(bytes, static_cast<char>('a' + i));
      const auto lsn = Put(*log, body);
      ASSERT_OK(lsn);
      expected[*lsn] = body;
      if (i % 4 == 1) {
        ASSERT_OK(log->WaitDurable(*lsn, {}));
      }
      while (log->MaintenanceStep()) {
      }
    }
  }
  ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  EXPECT_EQ(ReadAll(*log, log->end_lsn()), expected);
}

// What an earlier process left is looked at in the background, and a read may fail there.
TEST_F(LogTest, ACleanEndKeepsASegmentThatCouldNotBeRead) {
  LogState state;
  {
    auto log = Open();
    ASSERT_OK(Put(*log, "kept", Durability::kProcess));
    ASSERT_OK(log->Close());
    state = log->state();
  }
  LogStart start = NewLog(fs_, kDirectory);
  start.state = state;
  start.segments = {1};
  start.next_segment = 2;
  start.next_lsn = 2;
  auto log = Log::Open(fs_, clock_, SmallLog(), std::move(start));
  ASSERT_OK(log);
  fs_.FailNth(1, {.call = SimulatedCall::kOpenReadable, .path_part = "wal-00000001.log"});
  ASSERT_TRUE((*log)->MaintenanceStep());
  ASSERT_OK((*log)->Close());
  EXPECT_TRUE(fs_.Exists("/wal/wal-00000001.log"));
}

// Names that a power cut brought back, as no directory was synced behind their removal.
TEST_F(LogTest, AnOpenKeepsAFewSparesOnly) {
  ASSERT_OK(fs_.MakeDirectories(kDirectory));
  for (std::uint64_t number = 1; number <= 100; ++number) {
    ASSERT_OK_AND_ASSIGN(const auto file,
                         fs_.OpenWritable(JoinPath(kDirectory, SpareName(number)), true));
    const std::string content(number == 70 || number == 71 ? 64u << 10 : 100, 'x');
    ASSERT_OK(file->Write(0, std::as_bytes(std::span(content))));
  }
  const auto log = Open();
  ASSERT_OK_AND_ASSIGN(const auto entries, fs_.List(kDirectory));
  const auto spares = std::count_if(entries.begin(), entries.end(), [](const auto& entry) {
    return ParseSpareName(entry.name).has_value();
  });
  EXPECT_LE(spares, 4);
  // What is whole is of more use than what is half made. One became the first segment.
  EXPECT_TRUE(fs_.Exists(JoinPath(kDirectory, SpareName(71))));
}

}  // namespace
}  // namespace taskwal::wal
