// Opening the whole product costs the end of the log, not its backlog: as
// tests/unit/recovery/open_cost_test.cc, with the flusher, the dead letters and the reads.
#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <thread>
#include <utility>

#include "pipeline/wal_task_storage.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

constexpr char kDirectory[] = "/wal";

// Counts what the thread that opens asks for: what others do meanwhile delays nobody.
class OpenersCalls final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    Count();
    return ForwardingFileSystem::OpenWritable(path, create);
  }
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    Count();
    return ForwardingFileSystem::OpenReadable(path);
  }
  Result<FileStat> Stat(const std::string& path) override {
    Count();
    return ForwardingFileSystem::Stat(path);
  }
  Result<std::vector<DirectoryEntry>> List(const std::string& path) override {
    Count();
    return ForwardingFileSystem::List(path);
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  void Count() {
    if (std::this_thread::get_id() == opener_) ++count_;
  }

  const std::thread::id opener_ = std::this_thread::get_id();
  std::uint64_t count_ = 0;
};

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

  OpenersCalls fs(disk);
  SwitchableDatabase database;
  database.GoAway();
  WalStorageSetup setup;
  setup.options.wal_dir = kDirectory;
  setup.options.ring_bytes = 1u << 20;
  setup.backend = database.Open();
  setup.fs = &fs;
  const std::uint64_t before = MemoryAtRest();
  ASSERT_OK_AND_ASSIGN(const auto storage, WalTaskStorage::Open(std::move(setup)));
  const std::uint64_t calls = fs.count();
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

}  // namespace
}  // namespace taskwal::pipeline
