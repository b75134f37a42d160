// A log directory of each format version, as it was written when that version was current, with
// what must be read from it for ever. Nothing here is generated at build time.
//
// To make the directories of a new version: TASKWAL_WRITE_GOLDEN=DIR golden_test, then check DIR,
// DIR-killed, DIR-targets and DIR-targets-killed in beside the older ones, which stay: those of
// them whose bytes have changed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/file_system.h"
#include "base/status_macros.h"
#include "recovery/scanner.h"
#include "storage/operation.h"
#include "tests/golden/golden_text.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/log_directory.h"

namespace taskwal {
namespace {

constexpr char kGolden[] = TASKWAL_SOURCE_DIR "/tests/golden/v1";

Task ExampleTask(const std::string& id) {
  Task task;
  task.id = id;
  task.dag_id = "nightly";
  task.node_id = "extract";
  task.sub_dag_path = "a/b";
  task.status = TaskStatus::kRunning;
  task.payload = R"({"rows": 12, "name": "größe"})";
  task.started_at = GoldenTime(7);
  task.retry_count = 1;
  task.max_retries = 3;
  return task;
}

// Adds records with real bodies to a segment, stamps and times counting up.
class OperationWriter {
 public:
  explicit OperationWriter(SegmentBuilder* segment, bool compress = false)
      : segment_(*segment), compress_(compress) {}

  void SaveTask(const std::string& id) {
    const Task task = ExampleTask(id);
    std::vector<std::byte> body(storage::EncodedBytes(task));
    storage::Encode(task, GoldenTime(++time_), body);
    Add(storage::OperationType::kTaskUpdate, storage::KeyOf(id), body);
  }
  void UpdateStatus(const std::string& id, TaskStatus status, const std::string& error) {
    std::vector<std::byte> body(storage::EncodedStatusUpdateBytes(id, error));
    storage::EncodeStatusUpdate(id, status, error, GoldenTime(++time_), body);
    Add(storage::OperationType::kStatusUpdate, storage::KeyOf(id), body);
  }
  void Name(storage::OperationType type, const std::string& name) {
    std::vector<std::byte> body(storage::EncodedNameBytes(name));
    storage::EncodeName(name, GoldenTime(++time_), body);
    Add(type, storage::KeyOf(name), body);
  }
  void LogActivity(const std::string& task_id, const std::string& message) {
    Activity activity;
    activity.task_id = task_id;
    activity.dag_id = "nightly";
    activity.action = "start";
    activity.message = message;
    activity.data = R"([1,  2])";
    activity.level = Level::kWarn;
    std::vector<std::byte> body(storage::EncodedBytes(activity, "activity-1"));
    storage::Encode(activity, "activity-1", GoldenTime(++time_), body);
    Add(storage::OperationType::kActivityLog, storage::KeyOf(task_id), body);
  }
  void SaveTasks() {
    const std::vector<Task> tasks = {ExampleTask("t-7"), ExampleTask("t-8")};
    std::vector<std::byte> body(storage::EncodedBytes(tasks));
    storage::Encode(tasks, GoldenTime(++time_), body);
    Add(storage::OperationType::kBatchUpdate, 0, body);
  }
  void Own(std::uint8_t type) {
    wal::RecordHeader header;
    header.type = type;
    segment_.AddRecord(header, {});
  }

 private:
  void Add(storage::OperationType type, std::uint64_t key, std::span<const std::byte> body) {
    wal::RecordHeader header;
    header.type = static_cast<std::uint8_t>(type);
    header.key = key;
    header.stamp = 1795240800000000 + static_cast<std::uint64_t>(time_);
    segment_.AddRecord(header, body, compress_);
  }

  SegmentBuilder& segment_;
  const bool compress_;
  std::int64_t time_ = 0;
};

std::vector<std::byte> FirstSegment() {
  SegmentBuilder segment({});
  OperationWriter writer(&segment);
  writer.SaveTask("t-1");
  writer.UpdateStatus("t-1", TaskStatus::kFailed, "exit 1");
  segment.AddFrame(0);
  writer.LogActivity("t-1", "tried");
  return segment.Sealed();
}

// Of a second epoch, with the records that the log itself makes.
std::vector<std::byte> SecondSegment() {
  SegmentBuilder segment({.number = 2, .first_lsn = 4, .synced_lsn = 3, .epoch = 2});
  OperationWriter writer(&segment);
  writer.Own(wal::kVoidRecord);
  writer.Own(wal::kLostRecord);
  writer.SaveTasks();
  writer.Name(storage::OperationType::kTaskDelete, "t-7");
  writer.Name(storage::OperationType::kDagDelete, "nightly");
  return segment.Sealed();
}

// Compressed; its bytes depend on the version of zstd, its content does not.
std::vector<std::byte> ThirdSegment() {
  SegmentBuilder segment({.number = 4, .first_lsn = 11, .synced_lsn = 8, .epoch = 2});
  OperationWriter writer(&segment, true);
  writer.LogActivity("t-9", std::string(3000, 'z'));
  return segment.Sealed();
}

wal::LogState ExampleState() {
  wal::LogState state;
  state.wal_id = kTestWalId;
  state.former = {{Uuid{{0xf0}}, 2}};
  state.epoch = 2;
  state.last_lsn = 11;
  state.clean = true;
  state.db_id = Uuid{{0xdb}};
  state.watermarks.assign(16, 3);
  state.flushed_lsn = 3;
  state.lost = {{9, 10}};
  state.lock_inode = 4711;
  return state;
}

std::string TextOfState() {
  SimulatedFileSystem fs;
  EXPECT_OK(fs.MakeDirectories("/log"));
  EXPECT_OK(wal::WriteState(fs, "/log", ExampleState()));
  return fs.Content("/log/STATE");
}

Result<std::string> ReadAll(FileSystem& fs, const std::string& directory) {
  TASKWAL_ASSIGN(const wal::LogState state, wal::ReadState(fs, directory));
  return RecordsIn(fs, directory, state, state.last_lsn);
}

TEST(Golden, Version1ReadsAsItAlwaysDid) {
  FileSystem& fs = FileSystem::Real();
  ASSERT_OK_AND_ASSIGN(const std::string found, ReadAll(fs, kGolden));
  ASSERT_OK_AND_ASSIGN(const std::string expected,
                       ReadFile(fs, wal::JoinPath(kGolden, "expected.txt")));
  EXPECT_EQ(found, expected);
}

TEST(Golden, Version1Verifies) {
  ASSERT_OK_AND_ASSIGN(const recovery::ScanReport report,
                       recovery::Scan(FileSystem::Real(), kGolden));
  EXPECT_TRUE(report.findings.empty());
  EXPECT_FALSE(report.damaged());
  EXPECT_EQ(report.scanned, 9u);
  EXPECT_EQ(report.declared, (std::vector<wal::LsnRange>{{9, 10}}));
  ASSERT_EQ(report.segments.size(), 3u);
  EXPECT_EQ(report.segments[0].state, "flushed");
  EXPECT_EQ(report.segments[2].state, "flushing");
}

void WriteGolden(FileSystem& fs, const std::string& directory) {
  ASSERT_OK(fs.MakeDirectories(directory));
  WriteFile(fs, wal::JoinPath(directory, "wal-00000001.log"), FirstSegment());
  WriteFile(fs, wal::JoinPath(directory, "wal-00000002.log"), SecondSegment());
  WriteFile(fs, wal::JoinPath(directory, "wal-00000004.log"), ThirdSegment());
  ASSERT_OK(wal::WriteState(fs, directory, ExampleState()));
  ASSERT_OK_AND_ASSIGN(const std::string all, ReadAll(fs, directory));
  WriteFile(fs, wal::JoinPath(directory, "expected.txt"), std::as_bytes(std::span(all)));
}

TEST(Golden, TheCurrentVersionIsStillWrittenByteForByte) {
  FileSystem& fs = FileSystem::Real();
  if (const char* directory = std::getenv("TASKWAL_WRITE_GOLDEN")) WriteGolden(fs, directory);
  EXPECT_EQ(Hex(ReadBytes(fs, wal::JoinPath(kGolden, "wal-00000001.log"))), Hex(FirstSegment()));
  EXPECT_EQ(Hex(ReadBytes(fs, wal::JoinPath(kGolden, "wal-00000002.log"))), Hex(SecondSegment()));
  ASSERT_OK_AND_ASSIGN(const std::string state, ReadFile(fs, wal::JoinPath(kGolden, "STATE")));
  EXPECT_EQ(state, TextOfState());
}

}  // namespace
}  // namespace taskwal
