// Opening the whole product costs the end of the log, not its backlog: as
// tests/unit/recovery/open_cost_test.cc, with the flusher, the dead letters and the reads.
#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <thread>
#include <utility>

#include "pipeline/wal_task_storage.h"
#include "tests/support/counting_file_system.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

constexpr char kDirectory[] = "/wal";

std::uint64_t MemoryHeld() {
  const auto info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Once its threads have made what they work with, and let go what they have done with.
std::uint64_t MemoryAtRest() {
  std::uint64_t held = MemoryHeld();
  for (int same = 0; same < 50; ++same) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const std::uint64_t now = MemoryHeld();
    if (now != std::exchange(held, now)) same = 0;
  }
  return held;
}

struct OpenCost {
  std::uint64_t calls = 0;
  std::uint64_t memory = 0;
};

// What the thread that opens asks for: what others do meanwhile delays nobody.
CountingFileSystem OpenersCalls(FileSystem& disk) {
  return CountingFileSystem(disk, CountingFileSystem::Whose::kMakers);
}

WalStorageSetup SetupOf(FileSystem& fs, SwitchableDatabase& database) {
  database.GoAway();
  WalStorageSetup setup;
  setup.options.wal_dir = kDirectory;
  setup.options.ring_bytes = 1u << 20;
  setup.backend = database.Open();
  setup.fs = &fs;
  return setup;
}

// Of so many sealed segments, none of which the database has.
void Measure(std::uint64_t segments, OpenCost* cost) {
  SimulatedFileSystem disk;
  ASSERT_OK(disk.MakeDirectories(kDirectory));
  wal::Lsn next_lsn = 1;
  for (std::uint64_t number = 1; number <= segments; ++number) {
    SegmentBuilder segment({.number = number, .first_lsn = next_lsn, .synced_lsn = next_lsn - 1});
    segment.AddFrame(4);
    next_lsn = segment.next_lsn();
    WriteFile(disk, wal::JoinPath(kDirectory, wal::SegmentName(number)), segment.Sealed());
  }
  wal::LogState state;
  state.last_lsn = next_lsn - 1;
  MakeLogDirectory(disk, kDirectory, state);

  CountingFileSystem fs = OpenersCalls(disk);
  SwitchableDatabase database;
  WalStorageSetup setup = SetupOf(fs, database);
  const std::uint64_t before = MemoryAtRest();
  ASSERT_OK_AND_ASSIGN(const auto storage, WalTaskStorage::Open(std::move(setup)));
  const std::uint64_t calls = fs.counts().calls;
  *cost = {calls, MemoryAtRest() - before};
  EXPECT_EQ(storage->GetStats().pending, segments * 4);
  EXPECT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}),
              StatusIs(StatusCode::kUnavailable));
}

TEST(OpenCostOfAll, DoesNotGrowWithTheBacklog) {
  // Threads' buffers count like the opener's, wherever the allocator would put them by then. (A
  // sanitizer's allocator has no such setting, and tells no figures.)
  ::mallopt(M_MMAP_THRESHOLD, 128 << 10);
  OpenCost warm;
  OpenCost few;
  OpenCost many;
  Measure(8, &warm);  // what is made once in a process
  Measure(8, &few);
  Measure(1024, &many);
  EXPECT_LE(many.calls, 2 * few.calls) << few.calls;
  EXPECT_LE(many.memory, few.memory + few.memory / 10) << few.memory;
}

// As a killed process leaves it: the last segment is not sealed, and none is in the database. The
// last two are large. `last_bytes`: of the last one.
void MakeKilledLog(SimulatedFileSystem& disk, std::uint64_t segments, std::uint64_t* last_bytes) {
  const std::vector<std::byte> body(4096, std::byte{'x'});
  ASSERT_OK(disk.MakeDirectories(kDirectory));
  wal::Lsn next_lsn = 1;
  for (std::uint64_t number = 1; number <= segments; ++number) {
    SegmentBuilder segment({.number = number, .first_lsn = next_lsn, .synced_lsn = next_lsn - 1});
    for (int records = number + 2 > segments ? 120 : 4; records > 0; --records) {
      segment.AddRecord(TestRecordHeader(segment.next_lsn()), body);
    }
    next_lsn = segment.next_lsn();
    const auto bytes =
        number < segments ? segment.Sealed() : segment.Unsealed(segment.end_offset() + 8192);
    *last_bytes = bytes.size();
    WriteFile(disk, wal::JoinPath(kDirectory, wal::SegmentName(number)), bytes);
  }
  MakeLogDirectory(disk, kDirectory);
}

// What is read until the first record is on disk.
void MeasureUntilFirstAppend(std::uint64_t segments, CountingFileSystem::Counts* counts,
                             std::uint64_t* last_bytes) {
  SimulatedFileSystem disk;
  MakeKilledLog(disk, segments, last_bytes);
  CountingFileSystem fs = OpenersCalls(disk);
  SwitchableDatabase database;
  ASSERT_OK_AND_ASSIGN(const auto storage, WalTaskStorage::Open(SetupOf(fs, database)));
  ASSERT_OK(storage->DeleteTask("t-1", {}));  // on disk
  *counts = fs.counts();
  EXPECT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}),
              StatusIs(StatusCode::kUnavailable));
}

// The bound of the promise "ready for appends within one segment's scan", without a clock.
TEST(OpenCostOfAll, ReadsOneSegmentAndSomeHeadersWhateverTheBacklog) {
  constexpr std::uint64_t kHeaders = 8 * 4096;
  constexpr std::uint64_t kFooters = 2 * (64u << 10);  // looked for from the end, in two segments
  CountingFileSystem::Counts few, many;
  std::uint64_t last_bytes = 0;
  MeasureUntilFirstAppend(8, &few, &last_bytes);
  EXPECT_GE(few.bytes_read, last_bytes);  // else it is not counted
  EXPECT_LE(few.bytes_read, last_bytes + kFooters + kHeaders);
  MeasureUntilFirstAppend(512, &many, &last_bytes);
  EXPECT_LE(many.bytes_read, last_bytes + kFooters + kHeaders);
  EXPECT_LE(many.bytes_read, few.bytes_read + 4096);
  EXPECT_LE(many.calls, few.calls + 8);
}

}  // namespace
}  // namespace taskwal::pipeline
