// What the log costs at the block device, counted there, on segments that were recycled: a loop
// device of its own, so that nobody else's writes are among them.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "tests/kernel/loop_disk.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "wal/log.h"
#include "wal/log_directory.h"

namespace taskwal::wal {
namespace {

constexpr std::size_t kCommitBytes = 4000;
constexpr int kCommits = 500;

class DeviceWrites : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNoMounts().empty()) GTEST_SKIP() << "not permitted here: " << WhyNoMounts();
    ASSERT_NO_FATAL_FAILURE(disk_.Make());
  }

  void OpenLog(std::uint64_t segment_bytes) {
    LogOptions options;
    options.start_threads = false;
    OpenLog(segment_bytes, options);
  }

  void OpenLog(std::uint64_t segment_bytes, LogOptions options) {
    options.directory = disk_.path() + "/wal";
    options.segment_bytes = segment_bytes;
    options.ring_bytes = 4u << 20;
    options.retention_bytes = 0;
    options.segment_retention = std::chrono::milliseconds(0);
    LogStart start;
    ASSERT_OK(fs_.MakeDirectories(options.directory));
    ASSERT_OK_AND_ASSIGN(start.lock, fs_.Lock(JoinPath(options.directory, "LOCK")));
    start.state.wal_id = Uuid::Make();
    ASSERT_OK_AND_ASSIGN(log_, Log::Open(fs_, Clock::Real(), options, std::move(start)));
  }

  // One frame, written and synced.
  void Commit(int records) {
    const std::string body(kCommitBytes, 'b');
    for (int i = 0; i < records; ++i) {
      ASSERT_OK(log_->Append({20, 0, 1, 7}, body.size(), Durability::kDisk, {},
                             [&](std::span<std::byte> into) {
                               std::memcpy(into.data(), body.data(), body.size());
                             }));
    }
    ASSERT_OK(log_->WaitDurable(log_->end_lsn(), {}));
  }

  // Seals what is full, and makes spares of it.
  void Recycle() {
    while (log_->MaintenanceStep()) {
    }
    ASSERT_OK(log_->Retire(log_->durable_lsn(), {}));
  }

  // Until every segment that is to come has been one before.
  void RunIn(std::uint64_t bytes) {
    for (std::uint64_t done = 0; done < bytes; done += 64 * kCommitBytes) {
      Commit(64);
      Recycle();
    }
  }

  // The same beside the log's own threads, three segments at a time: there are spares for as many.
  void RunInBesideThreads(std::uint64_t segment_bytes) {
    for (int round = 0; round < 3; ++round) {
      for (std::uint64_t done = 0; done < 3 * segment_bytes; done += 64 * kCommitBytes) Commit(64);
      while (log_->GetStats().segments_active > 1) std::this_thread::yield();
      ASSERT_OK(log_->Retire(log_->durable_lsn(), {}));
    }
  }

  LoopDisk::Counters Since(const LoopDisk::Counters& before) const {
    const LoopDisk::Counters now = disk_.counters();
    return {now.writes - before.writes, now.sectors - before.sectors,
            now.flushes - before.flushes};
  }

  TempDir directory_;
  LoopDisk disk_{directory_.path(), LoopDisk::Kind::kExt4, 256u << 20};
  FileSystem& fs_ = FileSystem::Real();
  std::unique_ptr<Log> log_;
};

// What the counters say of a write and an fdatasync of a file that has its blocks: the one data
// write, and the flush, which is counted twice, as a flush and as a write.
LoopDisk::Counters CostOfPlainCommits(LoopDisk& disk) {
  FileSystem& fs = FileSystem::Real();
  auto file = fs.OpenWritable(disk.path() + "/plain", true);
  EXPECT_OK(file);
  const std::vector<std::byte> zeros(kCommits * 4096);
  EXPECT_OK((*file)->WriteAndSync(0, zeros));
  const std::vector<std::byte> block(4096, std::byte{1});
  const LoopDisk::Counters before = disk.counters();
  for (int i = 0; i < kCommits; ++i) {
    EXPECT_OK((*file)->WriteAndSync(static_cast<std::uint64_t>(i) * 4096, block));
  }
  const LoopDisk::Counters after = disk.counters();
  return {after.writes - before.writes, after.sectors - before.sectors,
          after.flushes - before.flushes};
}

void PrintRow(const std::string& what, double count) {
  std::cout << "count|" << what << "|" << count << std::endl;
}

TEST_F(DeviceWrites, ACommitIsOneWriteAndOneFlush) {
  const LoopDisk::Counters plain = CostOfPlainCommits(disk_);
  EXPECT_NEAR(plain.flushes, kCommits, 0.03 * kCommits);
  EXPECT_NEAR(plain.writes, 2 * kCommits, 0.03 * kCommits) << "a flush is a write of its own";

  ASSERT_NO_FATAL_FAILURE(OpenLog(8u << 20));
  RunIn(48u << 20);
  const std::uint64_t rolls = log_->GetStats().segments;
  const LoopDisk::Counters before = disk_.counters();
  const std::uint64_t syncs = log_->GetStats().syncs;
  for (int i = 0; i < kCommits; ++i) Commit(1);
  const LoopDisk::Counters cost = Since(before);
  EXPECT_EQ(log_->GetStats().syncs - syncs, static_cast<std::uint64_t>(kCommits));
  EXPECT_LE(log_->GetStats().segments, rolls + 1);
  const double flushes = static_cast<double>(cost.flushes) / kCommits;
  const double writes = static_cast<double>(cost.writes) / kCommits - flushes;
  PrintRow("data writes per commit", writes);
  PrintRow("flushes per commit", flushes);
  EXPECT_NEAR(writes, 1, 0.03);
  EXPECT_NEAR(flushes, 1, 0.03);
}

// Callers beside each other, the writer's thread and lanes: a sync serves those that wait.
class GroupCommit : public DeviceWrites, public ::testing::WithParamInterface<std::uint32_t> {
 protected:
  static constexpr int kAppenders = 4;

  void AppendFromAll(int records_each) {
    std::vector<std::jthread> appenders;
    for (int i = 0; i < kAppenders; ++i) {
      appenders.emplace_back([&] {
        for (int record = 0; record < records_each; ++record) Commit(1);
      });
    }
  }
};

TEST_P(GroupCommit, ASyncIsOneWriteAndOneFlush) {
  constexpr std::uint64_t kSegmentBytes = 8u << 20;
  LogOptions options;
  options.sync_lanes = GetParam();
  ASSERT_NO_FATAL_FAILURE(OpenLog(kSegmentBytes, options));
  ASSERT_NO_FATAL_FAILURE(RunInBesideThreads(kSegmentBytes));
  const LogStats old = log_->GetStats();
  const LoopDisk::Counters before = disk_.counters();
  AppendFromAll(kCommits);
  const LoopDisk::Counters cost = Since(before);
  const LogStats now = log_->GetStats();
  EXPECT_LE(now.segments, old.segments + 1);
  const double syncs = static_cast<double>(now.syncs - old.syncs);
  ASSERT_GT(syncs, 0);
  EXPECT_LE(syncs, kAppenders * kCommits);
  const double flushes = static_cast<double>(cost.flushes) / syncs;
  const double writes = static_cast<double>(cost.writes) / syncs - flushes;
  const std::string how = ", " + std::to_string(kAppenders) + " callers, " +
                          std::to_string(GetParam()) + " lanes";
  PrintRow("commits per sync" + how, kAppenders * kCommits / syncs);
  PrintRow("data writes per sync" + how, writes);
  PrintRow("flushes per sync" + how, flushes);
  EXPECT_LE(writes, 1.03);
  EXPECT_LE(flushes, 1.03);
  // The kernel serves flushes that wait for each other by one; with one lane none does.
  if (GetParam() > 1) return;
  EXPECT_GE(writes, 0.97);
  EXPECT_GE(flushes, 0.97);
}

INSTANTIATE_TEST_SUITE_P(DeviceWrites, GroupCommit, ::testing::Values(1u, 2u));

TEST_F(DeviceWrites, FramesOf64KibibytesCostATenthMoreThanTheyCarry) {
  ASSERT_NO_FATAL_FAILURE(OpenLog(8u << 20));
  RunIn(48u << 20);
  const LoopDisk::Counters before = disk_.counters();
  const std::uint64_t frames = log_->GetStats().writes;
  constexpr int kRecords = 17;  // 17 times 4,000 bytes: just above 64 KiB
  constexpr int kFrames = 1000;
  for (int i = 0; i < kFrames; ++i) {
    Commit(kRecords);
    Recycle();
  }
  const LoopDisk::Counters cost = Since(before);
  EXPECT_EQ(log_->GetStats().writes - frames, static_cast<std::uint64_t>(kFrames));
  const double ratio = static_cast<double>(cost.sectors * 512) /
                       (static_cast<double>(kFrames) * kRecords * kCommitBytes);
  PrintRow("bytes written per byte of payload, 66 KiB frames", ratio);
  EXPECT_LE(ratio, 1.10);
}

}  // namespace
}  // namespace taskwal::wal
