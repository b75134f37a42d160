// What draining takes of a process's memory, with records as large as they get to be.
#include <gtest/gtest.h>

#include <fstream>

#include "taskwal/open.h"
#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

// Their own memory is in the figures.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCanMeasure = false;
#else
constexpr bool kCanMeasure = true;
#endif
constexpr int kRecords = 40;
constexpr std::size_t kRecordBytes = 12u << 20;

// As much as it ever had, in bytes.
std::uint64_t PeakMemoryOf(const Child& child) {
  std::ifstream status("/proc/" + std::to_string(child.pid()) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) << 10;
  }
  ADD_FAILURE() << "no VmHWM";
  return 0;
}

class MemoryBound : public ToolTest {
 protected:
  // Of 16 partitions, and in no database.
  void FillLog() {
    Options options;
    options.wal_dir = wal_;
    options.durability = Durability::kProcess;
    ASSERT_OK_AND_ASSIGN(const auto storage, OpenTaskStorage(kNoDatabase, options));
    for (int i = 0; i < kRecords; ++i) {
      Activity activity;
      activity.task_id = "t" + std::to_string(i);
      activity.data = '"' + std::string(kRecordBytes, 'x') + '"';
      ASSERT_OK(storage->LogActivity(activity));
    }
    EXPECT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}),
                StatusIs(StatusCode::kUnavailable));
  }
  // The peak of an ingest once `count` activities are in the database.
  std::uint64_t PeakOfIngest(std::uint64_t count) {
    auto ingest = StartIngest();
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(100);
    while (StoredSoFar() < count && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(StoredSoFar(), count);
    const std::uint64_t peak = PeakMemoryOf(*ingest);
    ingest->CloseInput();
    EXPECT_EQ(ingest->Wait().code, 0) << ingest->errors();
    return peak;
  }
};

TEST_F(MemoryBound, RecordsOfManyMebibytesDrainWithinMemoryBytes) {
  ASSERT_EQ(Ingest(Activities(1, 1)).exit.code, 0);
  const std::uint64_t without = PeakOfIngest(1);
  FillLog();
  const std::uint64_t with = PeakOfIngest(1 + kRecords);
  if (kCanMeasure) {
    EXPECT_LE(with - without, Options().memory_bytes);
  }
}

}  // namespace
}  // namespace taskwal
