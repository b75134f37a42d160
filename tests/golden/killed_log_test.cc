// What a killed process leaves, of each version of RING: a segment that is not sealed, a RING with
// records that no segment has yet, and dead letters. As golden_test.cc, of which it is the other
// half: nothing of it is generated at build time.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "pipeline/flush/dead_letters.h"
#include "recovery/scanner.h"
#include "storage/operation.h"
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
constexpr char kCurrent[] = "v2-killed";
constexpr char kDirectory[] = "/log";
constexpr char kLettersName[] = "dead-letters/letters-00000001";
constexpr Uuid kBootId = {{0xb0, 0x07}};

Time At(std::int64_t microseconds) {
  return Time(std::chrono::microseconds(1795240800000000 + microseconds));
}

// The machine that it was written on, still running.
class SameBoot final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<Uuid> BootId() override { return kBootId; }
};

std::vector<std::byte> UpdateOf(const std::string& id, wal::Lsn lsn) {
  std::vector<std::byte> body(storage::EncodedStatusUpdateBytes(id, "exit 1"));
  storage::EncodeStatusUpdate(id, TaskStatus::kFailed, "exit 1", At(static_cast<int>(lsn)), body);
  return body;
}

wal::RecordHeader HeaderOf(const std::string& id, wal::Lsn lsn) {
  wal::RecordHeader header;
  header.type = static_cast<std::uint8_t>(storage::OperationType::kStatusUpdate);
  header.key = storage::KeyOf(id);
  header.stamp = 1795240800000000 + lsn;
  return header;
}

void WriteSegment(FileSystem& fs) {
  SegmentBuilder segment({});
  for (wal::Lsn lsn = 1; lsn <= 3; ++lsn) {
    segment.AddRecord(HeaderOf("t-1", lsn), UpdateOf("t-1", lsn));
  }
  WriteFile(fs, wal::JoinPath(kDirectory, "wal-00000001.log"), segment.Unsealed(8192));
  wal::LogState state;
  state.wal_id = kTestWalId;
  state.epoch = 1;
  state.lock_inode = 4711;
  ASSERT_OK(wal::WriteState(fs, kDirectory, state));
}

// 4 and 6 are published, 5 and 7 are claimed: their producers were killed before they published.
void WriteRing(FileSystem& fs) {
  const std::string path = wal::JoinPath(kDirectory, wal::kRingFileName);
  ASSERT_OK_AND_ASSIGN(const auto ring,
                       wal::RingBuffer::Create(fs, path, 4096, kTestWalId, 1, 4));
  for (wal::Lsn lsn = 4; lsn <= 7; ++lsn) {
    const std::vector<std::byte> body = UpdateOf("t-2", lsn);
    const auto claim = ring->TryClaim(HeaderOf("t-2", lsn), body.size(), wal::kSlotNeedsSync);
    ASSERT_NE(claim.slot, nullptr);
    if (lsn % 2 != 0) continue;
    std::memcpy(wal::RingBuffer::BodyOf(claim.slot, body.size()).data(), body.data(), body.size());
    ring->Publish(claim.slot, lsn, body.size());
  }
}

void WriteLetters(FileSystem& fs) {
  ASSERT_OK_AND_ASSIGN(const auto letters,
                       pipeline::DeadLetters::Open(fs, kDirectory, false));
  pipeline::DeadLetter letter;
  letter.wal_id = kTestWalId;
  letter.lsns = {2, 2};
  letter.stamp = 1795240800000002;
  letter.type = storage::OperationType::kStatusUpdate;
  letter.body = UpdateOf("t-1", 2);
  letter.task_id = "t-1";
  letter.error = "value too long (22001)";
  letter.sql_code = "22001";
  letter.attempts = 3;
  letter.first_failed = At(20);
  letter.last_failed = At(21);
  letter.backend = "postgresql://***@db/tasks";
  letter.metadata = {{"epoch", "1"}, {"worker", "0"}};
  ASSERT_OK(letters->Add(letter));
  pipeline::DeadLetter loss;
  loss.kind = pipeline::DeadLetter::Kind::kLoss;
  loss.wal_id = Uuid{{0xf0}};
  loss.lsns = {9, 10};
  loss.error = "no segment holds it";
  loss.first_failed = loss.last_failed = At(30);
  ASSERT_OK(letters->Add(loss));
}

std::string LineOf(const wal::RecordView& record) {
  std::string line = std::to_string(record.lsn) + " type " + std::to_string(record.header.type);
  const auto body =
      storage::Decode(static_cast<storage::OperationType>(record.header.type), record.body);
  return line + (body.ok() ? " " + storage::OperationToJson(*body) : "") + "\n";
}

std::string RescuedFrom(FileSystem& fs, const std::string& directory) {
  const auto rescue =
      wal::RescueRing(fs, wal::JoinPath(directory, wal::kRingFileName), {kTestWalId}, 4);
  EXPECT_OK(rescue);
  std::string all = rescue->refused;
  for (const wal::RecordView& record : rescue->records) all += LineOf(record);
  return all;
}

std::string LettersIn(FileSystem& fs, const std::string& directory) {
  std::vector<std::string> damage;
  const auto letters = pipeline::DeadLetters::Open(fs, directory, true, &damage);
  EXPECT_OK(letters);
  EXPECT_TRUE(damage.empty());
  std::string all;
  EXPECT_OK((*letters)->ForEach([&](const pipeline::DeadLetter& letter) {
    const auto body = storage::Decode(letter.type, letter.body);
    all += letter.id() + " " + std::to_string(letter.lsns.from) + "-" +
           std::to_string(letter.lsns.to) + " stamp " + std::to_string(letter.stamp) + " task " +
           letter.task_id + " attempts " + std::to_string(letter.attempts) + " code " +
           letter.sql_code + " at " + letter.backend + ": " + letter.error;
    for (const auto& [key, value] : letter.metadata) all.append(" ").append(key + "=" + value);
    all += (body.ok() ? " " + storage::OperationToJson(*body) : "") + "\n";
    return true;
  }));
  return all;
}

// What is read from a copy of the directory, on the machine that wrote it and on any other.
std::string ReadAll(const std::string& directory) {
  SameBoot same_boot(FileSystem::Real());
  return "same boot:\n" + RescuedFrom(same_boot, directory) + "other boot:\n" +
         RescuedFrom(FileSystem::Real(), directory) + "letters:\n" +
         LettersIn(FileSystem::Real(), directory);
}

class KilledLog : public ::testing::TestWithParam<const char*> {
 protected:
  // Opening a ring maps it for writing.
  void SetUp() override {
    std::filesystem::copy(kGolden + std::string(GetParam()), dir_.File("copy"),
                          std::filesystem::copy_options::recursive);
  }

  TempDir dir_;
};

INSTANTIATE_TEST_SUITE_P(Versions, KilledLog, ::testing::Values("v1-killed", kCurrent),
                         [](const auto& test) { return std::string(test.param).substr(0, 2); });

TEST_P(KilledLog, ReadsAsItAlwaysDid) {
  const std::string copy = dir_.File("copy");
  ASSERT_OK_AND_ASSIGN(const std::string expected,
                       ReadFile(FileSystem::Real(), wal::JoinPath(copy, "expected.txt")));
  EXPECT_EQ(ReadAll(copy), expected);
}

TEST_P(KilledLog, IsNoDamage) {
  SameBoot same_boot(FileSystem::Real());
  ASSERT_OK_AND_ASSIGN(const auto report, recovery::Scan(same_boot, dir_.File("copy")));
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(report.scanned, 3u);
  EXPECT_EQ(report.ring_records, 2u);
}

TEST(KilledLogFormat, TheCurrentVersionIsStillWrittenByteForByte) {
  SimulatedFileSystem disk;
  SameBoot fs(disk);
  ASSERT_OK(fs.MakeDirectories(kDirectory));
  WriteSegment(fs);
  WriteRing(fs);
  WriteLetters(fs);
  disk.Kill();
  const char* target = std::getenv("TASKWAL_WRITE_GOLDEN");
  for (const char* name : {"STATE", "wal-00000001.log", wal::kRingFileName, kLettersName}) {
    const auto made = ReadBytes(disk, wal::JoinPath(kDirectory, name));
    if (target != nullptr) {
      const std::string directory = std::string(target) + "-killed";
      ASSERT_OK(FileSystem::Real().MakeDirectories(directory + "/dead-letters"));
      WriteFile(FileSystem::Real(), wal::JoinPath(directory, name), made);
    } else {
      EXPECT_EQ(ReadBytes(FileSystem::Real(), wal::JoinPath(kGolden + std::string(kCurrent), name)),
                made)
          << name;
    }
  }
  if (target == nullptr) return;
  const std::string directory = std::string(target) + "-killed";
  const std::string all = ReadAll(directory);
  WriteFile(FileSystem::Real(), wal::JoinPath(directory, "expected.txt"),
            std::as_bytes(std::span(all)));
}

}  // namespace
}  // namespace taskwal
