// What an append may cost its caller: no allocation and no system call while the ring has room.
#include "tests/support/call_counter.h"

#if TASKWAL_COUNTS_CALLS

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "base/file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "wal/log.h"
#include "wal/log_directory.h"

namespace taskwal::wal {
namespace {

constexpr int kAppends = 10'000;
constexpr std::size_t kBodyBytes = 232;

std::unique_ptr<Log> OpenLog(const std::string& directory) {
  FileSystem& fs = FileSystem::Real();
  LogOptions options;
  options.directory = directory;
  options.segment_bytes = 1u << 20;
  LogStart start;
  start.lock = fs.Lock(JoinPath(directory, "LOCK")).value();
  start.state.wal_id = Uuid::Make();
  auto log = Log::Open(fs, Clock::Real(), options, std::move(start));
  EXPECT_OK(log);
  return log.ok() ? std::move(log).value() : nullptr;
}

void AppendAll(Log& log, int count) {
  for (int i = 0; i < count; ++i) {
    const auto lsn = log.Append({kFirstUserType, 0, static_cast<std::uint64_t>(i), 7}, kBodyBytes,
                                Durability::kProcess, {}, [](std::span<std::byte> into) {
                                  std::memset(into.data(), 'x', into.size());
                                });
    // No assertion per record: those allocate.
    if (!lsn.ok()) FAIL() << lsn.status().ToString();
  }
}

// The counters do see what they are meant to see.
TEST(AppendCost, CountersSeeAllocationsAndSystemCalls) {
  CallCount count;
  std::thread([&] {
    CallCounter counter;
    std::vector<int> allocated(100);
    allocated.shrink_to_fit();
    Clock::Real().SleepFor(std::chrono::nanoseconds(1));
    count = counter.Stop();
  }).join();
  EXPECT_GE(count.allocations, 1u);
  ASSERT_TRUE(count.counts_system_calls);
  EXPECT_GE(count.system_calls, 1u);
}

TEST(AppendCost, NoAllocationAndNoSystemCallAtLevelProcess) {
  const TempDir directory;
  const auto log = OpenLog(directory.path());
  ASSERT_NE(log, nullptr);
  CallCount count;
  std::thread([&] {
    AppendAll(*log, 1);  // first touches of the thread
    CallCounter counter;
    AppendAll(*log, kAppends);
    count = counter.Stop();
  }).join();
  EXPECT_EQ(count.allocations, 0u);
  ASSERT_TRUE(count.counts_system_calls);
  EXPECT_EQ(count.system_calls, 0u) << "last one: " << count.last_system_call;
  EXPECT_OK(log->Close());
}

}  // namespace
}  // namespace taskwal::wal

#endif  // TASKWAL_COUNTS_CALLS
