// A log to append to and to read back, for the tests of what it does.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/fake_clock.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/log.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

inline constexpr char kDirectory[] = "/wal";

inline LogStart NewLog(FileSystem& fs, const std::string& directory) {
  LogStart start;
  EXPECT_OK(fs.MakeDirectories(directory));
  auto lock = fs.Lock(JoinPath(directory, "LOCK"));
  EXPECT_OK(lock);
  start.lock = std::move(lock).value();
  start.state.wal_id = Uuid::Make();
  return start;
}

// Small files, so that there are many; whoever calls does the work of the threads.
inline LogOptions SmallLog() {
  LogOptions options;
  options.directory = kDirectory;
  options.ring_bytes = 64u << 10;
  options.segment_bytes = 64u << 10;
  options.start_threads = false;
  return options;
}

inline Result<Lsn> Put(Log& log, std::string_view body, Durability level = Durability::kProcess,
                       std::uint64_t key = 1, const Deadline& deadline = {}) {
  return log.Append({20, 0, key, 7}, body.size(), level, deadline, [&](std::span<std::byte> into) {
    std::memcpy(into.data(), body.data(), body.size());
  });
}

// Every record up to `limit`, by LSN.
inline std::map<Lsn, std::string> ReadAll(Log& log, Lsn limit) {
  std::map<Lsn, std::string> all;
  TailReader tail = log.Tail(1);
  Frame frame;
  for (;;) {
    const auto event = tail.Next(limit, &frame);
    EXPECT_OK(event);
    if (!event.ok() || event->kind == TailEvent::Kind::kEnd) return all;
    if (event->kind == TailEvent::Kind::kLoss) {
      ADD_FAILURE() << "loss of " << event->loss.from << " to " << event->loss.to << ": "
                    << event->detail;
      return all;
    }
    FrameRecords records(frame.header, frame.raw);
    for (RecordView record; records.Next(&record);) {
      if (record.lsn < event->from || record.lsn > event->to) continue;
      const std::string body(reinterpret_cast<const char*>(record.body.data()), record.body.size());
      EXPECT_TRUE(all.emplace(record.lsn, body).second) << record.lsn;
    }
  }
}

class LogTest : public ::testing::Test {
 protected:
  std::unique_ptr<Log> Open(const std::function<void(LogOptions*)>& change = {}) {
    LogOptions options = SmallLog();
    if (change) change(&options);
    auto log = Log::Open(fs_, clock_, options, NewLog(fs_, kDirectory));
    EXPECT_OK(log);
    return std::move(log).value();
  }

  SimulatedFileSystem fs_;
  FakeClock clock_;
};

}  // namespace taskwal::wal
