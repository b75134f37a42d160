// A log of several databases, whose STATE has version 2: one that ended cleanly, and what a killed
// process leaves in the midst of a rebalance. As golden_test.cc and killed_log_test.cc, of which it
// is the third part: nothing of it is generated at build time.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/status_macros.h"
#include "pipeline/targets/home_table.h"
#include "pipeline/targets/target_plan.h"
#include "recovery/scanner.h"
#include "storage/operation.h"
#include "tests/golden/golden_text.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"

namespace taskwal {
namespace {

constexpr char kGolden[] = TASKWAL_SOURCE_DIR "/tests/golden/";
constexpr char kClean[] = "v2-targets";
constexpr char kKilled[] = "v2-targets-killed";
constexpr char kDirectory[] = "/log";
constexpr char kSegment[] = "wal-00000001.log";
constexpr wal::Lsn kSegmentEnd = 7;  // of its last record
constexpr Uuid kBootId = {{0xb0, 0x07}};

// The machine that it was written on, still running.
class SameBoot final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<Uuid> BootId() override { return kBootId; }
};

wal::TargetState Target(std::uint16_t number, const std::string& name, std::uint32_t weight,
                        wal::Lsn flushed) {
  wal::TargetState target;
  target.number = number;
  target.name = name;
  target.weight = target.next_weight = weight;
  target.db_id = Uuid{{static_cast<std::uint8_t>(0xd0 + number)}};
  target.registered_epoch = 1;
  target.watermarks.assign(16, flushed);
  target.flushed_lsn = flushed;
  return target;
}

wal::LogState StateOf(bool killed) {
  wal::LogState state;
  state.wal_id = kTestWalId;
  state.epoch = 1;
  state.lock_inode = 4711;
  state.targets = {Target(0, "default", 1, 3), Target(1, "eu-1", 2, killed ? 2 : kSegmentEnd),
                   Target(2, "old", 0, 0)};
  state.targets[1].joined_lsn = 1;
  state.targets[2].removed = true;
  state.flushed_lsn = killed ? 2 : 3;
  state.clean = !killed;
  state.last_lsn = killed ? 0 : kSegmentEnd;
  state.rebalancing = killed;
  if (killed) state.targets[0].next_weight = 3;
  return state;
}

struct Made {
  wal::RecordHeader header;
  std::vector<std::byte> body;
};

Made MadeOf(storage::OperationType type, std::uint64_t key, std::uint16_t target, wal::Lsn lsn,
            std::vector<std::byte> body) {
  wal::RecordHeader header;
  header.type = static_cast<std::uint8_t>(type);
  header.target = target;
  header.key = key;
  header.stamp = 1795240800000000 + lsn;
  return {header, std::move(body)};
}

// At its task's home.
Made UpdateOf(const std::string& id, wal::Lsn lsn) {
  std::vector<std::byte> body(storage::EncodedStatusUpdateBytes(id, "exit 1"));
  storage::EncodeStatusUpdate(id, TaskStatus::kFailed, "exit 1",
                              GoldenTime(static_cast<std::int64_t>(lsn)), body);
  const pipeline::HomeTable homes(pipeline::TaskShares(StateOf(false), false));
  const std::uint64_t key = storage::KeyOf(id);
  return MadeOf(storage::OperationType::kStatusUpdate, key, homes.Of(key), lsn, std::move(body));
}

Made ActivityOf(std::uint16_t target, wal::Lsn lsn) {
  Activity activity;
  activity.task_id = "t-1";
  activity.action = "start";
  const std::string id = "activity-" + std::to_string(lsn);
  std::vector<std::byte> body(storage::EncodedBytes(activity, id));
  storage::Encode(activity, id, GoldenTime(static_cast<std::int64_t>(lsn)), body);
  return MadeOf(storage::OperationType::kActivityLog, storage::KeyOf("t-1"), target, lsn,
                std::move(body));
}

// The business of every target.
Made DagDeleteOf(wal::Lsn lsn) {
  std::vector<std::byte> body(storage::EncodedNameBytes("nightly"));
  storage::EncodeName("nightly", GoldenTime(static_cast<std::int64_t>(lsn)), body);
  return MadeOf(storage::OperationType::kDagDelete, storage::KeyOf("nightly"), wal::kEveryTarget,
                lsn, std::move(body));
}

std::vector<std::byte> SegmentOf(bool killed) {
  SegmentBuilder segment({});
  for (const Made& made : {UpdateOf("t-1", 1), UpdateOf("t-2", 2), UpdateOf("t-3", 3),
                           UpdateOf("t-4", 4), ActivityOf(0, 5), ActivityOf(1, 6),
                           DagDeleteOf(kSegmentEnd)}) {
    segment.AddRecord(made.header, made.body);
  }
  return killed ? segment.Unsealed(16384) : segment.Sealed();
}

// What no segment has yet: 8 to 10 are published, 11 is claimed.
void WriteRing(FileSystem& fs) {
  const std::string path = wal::JoinPath(kDirectory, wal::kRingFileName);
  ASSERT_OK_AND_ASSIGN(const auto ring, wal::RingBuffer::Create(fs, path, 4096, kTestWalId, 1,
                                                                kSegmentEnd + 1));
  wal::Lsn lsn = kSegmentEnd;
  for (const Made& made : {UpdateOf("t-5", 8), ActivityOf(1, 9), DagDeleteOf(10)}) {
    const auto claim = ring->TryClaim(made.header, made.body.size(), wal::kSlotNeedsSync);
    ASSERT_NE(claim.slot, nullptr);
    std::memcpy(wal::RingBuffer::BodyOf(claim.slot, made.body.size()).data(), made.body.data(),
                made.body.size());
    ring->Publish(claim.slot, ++lsn, made.body.size());
  }
  ASSERT_NE(ring->TryClaim({}, 8, 0).slot, nullptr);
}

void WriteLog(FileSystem& fs, bool killed) {
  ASSERT_OK(fs.MakeDirectories(kDirectory));
  WriteFile(fs, wal::JoinPath(kDirectory, kSegment), SegmentOf(killed));
  ASSERT_OK(wal::WriteState(fs, kDirectory, StateOf(killed)));
  std::string written;
  ASSERT_OK(wal::KeepTargetList(fs, kDirectory, StateOf(killed), &written));
  if (killed) WriteRing(fs);
}

std::string LineOfTarget(const wal::TargetState& target) {
  std::string line = "target " + std::to_string(target.number) + ' ' + target.name + " weight " +
                     std::to_string(target.weight) + " next " + std::to_string(target.next_weight) +
                     " joined " + std::to_string(target.joined_lsn) + " removed " +
                     std::to_string(target.removed) + " db " + target.db_id.ToString() + " epoch " +
                     std::to_string(target.registered_epoch) + " flushed " +
                     std::to_string(target.flushed_lsn) + " watermarks";
  for (const wal::Lsn watermark : target.watermarks) line += ' ' + std::to_string(watermark);
  return line + '\n';
}

std::string RescuedFrom(FileSystem& fs, const std::string& directory) {
  const auto rescue = wal::RescueRing(fs, wal::JoinPath(directory, wal::kRingFileName),
                                      {kTestWalId}, kSegmentEnd + 1);
  EXPECT_OK(rescue);
  std::string all = rescue->refused;
  for (const wal::RecordView& record : rescue->records) all += LineOf(record);
  return all;
}

// STATE, the records, and of a killed process what its ring held.
Result<std::string> ReadAll(const std::string& directory) {
  FileSystem& fs = FileSystem::Real();
  TASKWAL_ASSIGN(const wal::LogState state, wal::ReadState(fs, directory));
  std::string all = "clean " + std::to_string(state.clean) + " rebalancing " +
                    std::to_string(state.rebalancing) + " flushed " +
                    std::to_string(state.flushed_lsn) + " last " + std::to_string(state.last_lsn) +
                    '\n';
  for (const wal::TargetState& target : state.targets) all += LineOfTarget(target);
  TASKWAL_ASSIGN(const std::string records, RecordsIn(fs, directory, state, kSegmentEnd));
  all += records;
  if (state.clean) return all;
  SameBoot same_boot(fs);
  return all + "same boot:\n" + RescuedFrom(same_boot, directory) + "other boot:\n" +
         RescuedFrom(fs, directory);
}

class TargetsLog : public ::testing::TestWithParam<const char*> {
 protected:
  // Opening a ring maps it for writing.
  void SetUp() override {
    std::error_code absent;  // while it is about to be made
    std::filesystem::copy(kGolden + std::string(GetParam()), copy_,
                          std::filesystem::copy_options::recursive, absent);
  }

  const TempDir dir_;
  const std::string copy_ = dir_.File("copy");
};

INSTANTIATE_TEST_SUITE_P(Ends, TargetsLog, ::testing::Values(kClean, kKilled),
                         [](const auto& test) {
                           return test.param == kClean ? "Clean" : "Killed";
                         });

TEST_P(TargetsLog, ReadsAsItAlwaysDid) {
  ASSERT_OK_AND_ASSIGN(const std::string expected,
                       ReadFile(FileSystem::Real(), wal::JoinPath(copy_, "expected.txt")));
  ASSERT_OK_AND_ASSIGN(const std::string found, ReadAll(copy_));
  EXPECT_EQ(found, expected);
}

TEST_P(TargetsLog, IsNoDamage) {
  SameBoot same_boot(FileSystem::Real());
  ASSERT_OK_AND_ASSIGN(const auto report, recovery::Scan(same_boot, copy_));
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(report.scanned, kSegmentEnd);
  EXPECT_EQ(report.ring_records, GetParam() == kKilled ? 3u : 0u);
}

// A task is looked for where its records were sent: the homes are a part of the format.
TEST_P(TargetsLog, FindsTasksAtHomeWhereTheirRecordsGo) {
  ASSERT_OK_AND_ASSIGN(const wal::LogState state, wal::ReadState(FileSystem::Real(), copy_));
  const pipeline::HomeTable homes(pipeline::TaskShares(state, false));
  EXPECT_EQ(homes.Of(storage::KeyOf("t-1")), 1);
  EXPECT_EQ(homes.Of(storage::KeyOf("t-2")), 1);
  EXPECT_EQ(homes.Of(storage::KeyOf("t-3")), 0);
  EXPECT_EQ(homes.Of(storage::KeyOf("t-4")), 0);
}

TEST_P(TargetsLog, NamesItsTargetsWithoutState) {
  ASSERT_OK_AND_ASSIGN(const wal::LogState state, wal::ReadState(FileSystem::Real(), copy_));
  ASSERT_OK_AND_ASSIGN(const wal::LogState list, wal::ReadTargetList(FileSystem::Real(), copy_));
  EXPECT_EQ(list.rebalancing, state.rebalancing);
  ASSERT_EQ(list.targets.size(), state.targets.size());
  for (std::size_t i = 0; i < list.targets.size(); ++i) {
    EXPECT_EQ(list.targets[i].name, state.targets[i].name);
    EXPECT_EQ(list.targets[i].number, state.targets[i].number);
    EXPECT_EQ(list.targets[i].weight, state.targets[i].weight);
    EXPECT_EQ(list.targets[i].next_weight, state.targets[i].next_weight);
    EXPECT_EQ(list.targets[i].joined_lsn, state.targets[i].joined_lsn);
  }
}

TEST_P(TargetsLog, IsStillWrittenByteForByte) {
  SimulatedFileSystem disk;
  SameBoot fs(disk);
  const bool killed = GetParam() == kKilled;
  WriteLog(fs, killed);
  disk.Kill();
  const char* target = std::getenv("TASKWAL_WRITE_GOLDEN");
  const std::string directory =
      target == nullptr ? copy_ : target + std::string(killed ? "-targets-killed" : "-targets");
  ASSERT_OK(FileSystem::Real().MakeDirectories(directory));
  for (const std::string name : {"STATE", "TARGETS", kSegment, wal::kRingFileName}) {
    if (name == wal::kRingFileName && !killed) continue;
    const auto made = ReadBytes(disk, wal::JoinPath(kDirectory, name));
    const std::string path = wal::JoinPath(directory, name);
    if (target != nullptr) WriteFile(FileSystem::Real(), path, made);
    EXPECT_EQ(Hex(ReadBytes(FileSystem::Real(), path)), Hex(made)) << name;
  }
  if (target == nullptr) return;
  ASSERT_OK_AND_ASSIGN(const std::string all, ReadAll(directory));
  WriteFile(FileSystem::Real(), wal::JoinPath(directory, "expected.txt"),
            std::as_bytes(std::span(all)));
}

}  // namespace
}  // namespace taskwal
