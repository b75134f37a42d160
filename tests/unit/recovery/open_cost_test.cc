// Opening a log costs its end, not its backlog.
#include <gtest/gtest.h>
#include <malloc.h>

#include "recovery/prepare_log.h"
#include "tests/support/counting_file_system.h"
#include "tests/support/fake_clock.h"
#include "tests/unit/recovery/log_fixture.h"
#include "wal/log.h"

namespace taskwal::recovery {
namespace {

struct OpenCost {
  std::uint64_t calls = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t memory = 0;  // held by the open log
};

// What is allocated now; the log buffer is among it, as the simulated disk has it.
std::uint64_t MemoryHeld() {
  const auto info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Of so many sealed segments, none of which any database has.
void Measure(std::uint64_t segments, OpenCost* cost) {
  SimulatedFileSystem disk;
  ASSERT_OK(disk.MakeDirectories(kDirectory));
  wal::Lsn next_lsn = 1;
  for (std::uint64_t number = 1; number <= segments; ++number) {
    SegmentBuilder segment({.number = number, .first_lsn = next_lsn, .synced_lsn = next_lsn - 1});
    segment.AddFrame(4);
    next_lsn = segment.next_lsn();
    WriteFile(disk, PathOf(number), segment.Sealed());
  }
  wal::LogState state;
  state.last_lsn = next_lsn - 1;
  MakeLogDirectory(disk, kDirectory, state);

  FakeClock clock;
  CountingFileSystem fs(disk);
  PrepareReport report;
  wal::LogOptions options;
  options.directory = kDirectory;
  options.segment_bytes = 64u << 10;
  options.start_threads = false;
  const std::uint64_t before = MemoryHeld();
  ASSERT_OK_AND_ASSIGN(wal::LogStart start,
                       PrepareLog(fs, {.directory = kDirectory, .create = false}, &report));
  ASSERT_OK_AND_ASSIGN(const auto log, wal::Log::Open(fs, clock, options, std::move(start)));
  *cost = {fs.counts().calls, fs.counts().bytes_read, MemoryHeld() - before};
  // The first record, by a search among the headers.
  wal::TailReader reader = log->Tail(1);
  wal::Frame frame;
  ASSERT_OK_AND_ASSIGN(const wal::TailEvent event, reader.Next(log->durable_lsn(), &frame));
  EXPECT_EQ(event.kind, wal::TailEvent::Kind::kFrame);
  EXPECT_EQ(log->end_lsn(), segments * 4);
  EXPECT_LE(fs.counts().calls, cost->calls + 60);
}

TEST(OpenCost, DoesNotGrowWithTheBacklog) {
  OpenCost warm;
  OpenCost few;
  OpenCost many;
  Measure(8, &warm);  // what is made once in a process
  Measure(8, &few);
  Measure(1024, &many);
  EXPECT_LE(many.calls, 2 * few.calls) << few.calls;
  EXPECT_LE(many.bytes_read, 2 * few.bytes_read) << few.bytes_read;
  EXPECT_LE(many.memory, few.memory + few.memory / 10) << few.memory;
}

}  // namespace
}  // namespace taskwal::recovery
