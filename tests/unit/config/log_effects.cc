// wal.*: the log.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <thread>
#include <utility>

#include "taskwal/open.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/io_uring_probe.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

using std::chrono::milliseconds;

// Whoever writes frames waits in front of the gate.
class GatedFileSystem final : public ForwardingFileSystem {
 public:
  GatedFileSystem() : ForwardingFileSystem(FileSystem::Real()) {}

  Gate& gate() { return gate_; }
  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    auto opened = ForwardingFileSystem::OpenWritable(path, create);
    // A spare is made with `create`, and opened without it to become a segment.
    if (!opened.ok() || create || path.find("/spare-") == std::string::npos) return opened;
    return std::unique_ptr<WritableFile>(
        std::make_unique<File>(gate_, std::move(opened).value()));
  }

 private:
  class File final : public WritableFile {
   public:
    File(Gate& gate, std::unique_ptr<WritableFile> target)
        : gate_(gate), target_(std::move(target)) {}
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      gate_.Pass();
      return target_->Write(offset, bytes);
    }
    Status Sync() override {
      gate_.Pass();
      return target_->Sync();
    }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      gate_.Pass();
      return target_->WriteAndSync(offset, bytes);
    }
    Status Truncate(std::uint64_t size) override { return target_->Truncate(size); }

   private:
    Gate& gate_;
    const std::unique_ptr<WritableFile> target_;
  };

  Gate gate_;
};

std::size_t SegmentFiles(const std::string& directory) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    count += entry.path().filename().string().starts_with("wal-") ? 1 : 0;
  }
  return count;
}

bool WorksWithoutALog(EffectWorld& world) {
  auto storage = OpenTaskStorage("memory:", world.config().options);
  EXPECT_OK(storage);
  Task task;
  task.id = "t";
  EXPECT_OK((*storage)->SaveTask(task));
  EXPECT_OK((*storage)->GetTask("t"));
  EXPECT_OK((*storage)->Close());
  return !std::filesystem::exists(world.wal());
}

bool AcknowledgesWhileTheDiskHangs(EffectWorld& world) {
  GatedFileSystem fs;
  world.Open(fs);
  fs.gate().Shut();
  WriteOptions options;
  options.timeout = milliseconds(50);
  const Status saved = world.Save("t", options);
  fs.gate().Open();
  world.Leave();
  return saved.ok();
}

bool RingTakesLittleSpace(EffectWorld& world) {
  world.Open();
  return std::filesystem::file_size(world.wal() + "/RING") < (1u << 20);
}

bool SmallLogHasSeveralSegments(EffectWorld& world) {
  world.Open();
  for (int i = 0; i < 40; ++i) EXPECT_OK(world.Log("t", 3, 8000));
  return world.stats().segments > 1;
}

bool TenRecordsHaveSeveralSegments(EffectWorld& world) {
  world.Open();
  for (int i = 0; i < 10; ++i) EXPECT_OK(world.Log());
  return world.stats().segments > 1;
}

bool WritesManySmallFrames(EffectWorld& world) {
  GatedFileSystem fs;
  world.Open(fs);
  fs.gate().Shut();
  for (int i = 0; i < 60; ++i) EXPECT_OK(world.Log("t", 3, 200));
  fs.gate().Open();
  world.Flush();
  const std::uint64_t writes = world.stats().writes;
  world.Leave();
  return writes >= 20;
}

bool WritesFewBytes(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Log("t", 3, 200'000));
  return world.stats().bytes_written < 50'000;
}

bool SyncsOnceAtATime(EffectWorld& world) {
  GatedFileSystem fs;
  world.Open(fs);
  fs.gate().Shut();
  std::vector<std::jthread> callers;
  callers.emplace_back([&] { EXPECT_OK(world.Log()); });
  EffectWorld::Expect([&] { return fs.gate().waiting() == 1; });
  for (int i = 0; i < 8; ++i) callers.emplace_back([&] { EXPECT_OK(world.Log()); });
  const bool holds = world.StaysAway([&] { return fs.gate().waiting() == 2; });
  fs.gate().Open();
  callers.clear();
  world.Leave();
  return holds;
}

bool HasIoUringQueues(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Log());
  // Where the kernel refuses them, plain calls serve what asked for them.
  if (!KernelTakesIoUring()) return world.config().options.io_uring;
  return OpenIoUringQueues() > 0;
}

bool SyncsNothingUnasked(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.Log());
  world.Flush();
  EXPECT_OK(world.Log());
  return world.StaysAway([&] { return world.stats().durable_lsn == 2; }, milliseconds(1200));
}

bool RefusesWhatTheDatabaseIsLateWith(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  for (int i = 0; i < 100; ++i) {
    const Status logged = world.Log("t", 3, 4000);
    if (logged.ok()) continue;
    EXPECT_EQ(logged.code(), StatusCode::kOverloaded);
    return true;
  }
  return false;
}

// They go about once a second where something new has settled, as soon as they are sealed.
bool KeepsNoSegmentsThatAreSettled(EffectWorld& world) {
  constexpr int kLooksPerRecord = 200;
  world.Open();
  for (int i = 0; i < 30; ++i) EXPECT_OK(world.Log());
  world.Flush();
  int looks = 0;
  return world.Comes([&] {
    if (++looks % kLooksPerRecord == 0) {
      EXPECT_OK(world.Log());
      world.Flush();
    }
    return SegmentFiles(world.wal()) <= 2;
  });
}

bool NewLogHasFourPartitions(EffectWorld& world) {
  world.Open();
  auto session = world.database().data().Connect();
  EXPECT_OK(session);
  const auto row = (*session)->ReadLog(world.storage().log().state().wal_id);
  EXPECT_OK(row);
  return row->watermarks.size() == 4;
}

constexpr std::string_view kNothingIsAsked =
    "wal.durability=process worker_pool.flush_interval=1h worker_pool.flush_linger=1h "
    "worker_pool.flush_records=1000000";
constexpr std::string_view kSmallSegments = "wal.segment_size=16KiB buffer.block_timeout=0";

}  // namespace

std::vector<KeyEffect> LogEffects() {
  return {
      {"wal.enabled", "false", "", &WorksWithoutALog},
      {"wal.durability", "process", "", &AcknowledgesWhileTheDiskHangs},
      {"wal.ring_size", "64KiB", "", &RingTakesLittleSpace},
      {"wal.segment_size", "64KiB", "", &SmallLogHasSeveralSegments},
      {"wal.segment_records", "5", "", &TenRecordsHaveSeveralSegments},
      {"wal.frame_size", "512", "wal.durability=memory", &WritesManySmallFrames},
      {"wal.compression", "true", "", &WritesFewBytes},
      {"wal.sync_lanes", "1", "", &SyncsOnceAtATime},
      {"wal.io_uring", "true", "", &HasIoUringQueues},
      {"wal.sync_interval", "0", kNothingIsAsked, &SyncsNothingUnasked},
      {"wal.quota", "128KiB", kSmallSegments, &RefusesWhatTheDatabaseIsLateWith},
      {"wal.max_segments", "8", kSmallSegments, &RefusesWhatTheDatabaseIsLateWith},
      {"wal.retention_size", "0", "wal.segment_records=5", &KeepsNoSegmentsThatAreSettled},
      {"wal.retention_age", "0", "wal.segment_records=5", &KeepsNoSegmentsThatAreSettled},
      {"wal.partitions", "4", "", &NewLogHasFourPartitions},
  };
}

}  // namespace taskwal::config
