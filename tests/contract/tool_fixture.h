// The built tool on a log and a database of its own, for tests of what it promises.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/checksum.h"
#include "storage/backend.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {

inline std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline std::string ContentOf(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::string Activities(int first, int last) {
  std::string text;
  for (int i = first; i <= last; ++i) {
    text += R"({"op":"log_activity","activity":{"id":"a)" + std::to_string(i) +
            R"(","task_id":"t","action":"go"}})"
            "\n";
  }
  return text;
}

// Every file below, with a hash of its content and its time of change.
using Snapshot = std::map<std::string, std::pair<std::uint64_t, std::filesystem::file_time_type>>;

inline Snapshot SnapshotOf(const std::filesystem::path& root) {
  Snapshot files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    std::string content;
    if (entry.is_regular_file()) content = ContentOf(entry.path());
    files[entry.path().string()] = {HashOf(content.data(), content.size()),
                                    entry.last_write_time()};
  }
  return files;
}

inline std::vector<std::string> ChangedSince(const Snapshot& before,
                                             const std::filesystem::path& root) {
  std::vector<std::string> changed;
  const Snapshot after = SnapshotOf(root);
  for (const auto& [path, state] : after) {
    const auto known = before.find(path);
    if (known == before.end() || known->second != state) changed.push_back(path);
  }
  for (const auto& [path, state] : before) {
    if (!after.contains(path)) changed.push_back(path);
  }
  return changed;
}

inline bool IsSignalPending(const Child& child, int signal) {
  std::string path = "/proc/";
  path += std::to_string(child.pid());
  path += "/status";
  std::ifstream status(path);
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("ShdPnd:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
  }
  return false;
}

// Returns once the process answers the signal itself.
inline void AwaitHandler(const Child& child, int signal) {
  const std::string path = "/proc/" + std::to_string(child.pid()) + "/status";
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < until) {
    std::ifstream status(path);
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigCgt:")) continue;
      if ((std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0) return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  FAIL() << "no handler";
}

// Returns when the process has taken it: two that are pending at once would be one.
inline void SendSignal(const Child& child, int signal) {
  child.Kill(signal);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (IsSignalPending(child, signal)) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::yield();
  }
}

class ToolTest : public ::testing::Test {
 protected:
  ToolTest() : wal_(dir_.File("new/wal")), db_("sqlite://" + dir_.File("t.db")) {}

  RunOutcome Tool(std::vector<std::string> arguments, std::string_view input = {},
                  std::vector<std::string> environment = {}) {
    arguments.insert(arguments.begin(), TASKWAL_TOOL);
    return taskwal::Run(arguments, input, {std::move(environment), dir_.path()});
  }
  RunOutcome Ingest(std::string_view input, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"ingest", "--wal", wal_, "--db", db_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Tool(arguments, input);
  }
  RunOutcome Recover(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"recover", "--wal", wal_, "--db", db_, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Tool(arguments);
  }
  std::unique_ptr<Child> StartIngest(std::vector<std::string> more = {}) {
    std::vector<std::string> command{TASKWAL_TOOL, "ingest", "--wal", wal_, "--db", db_};
    command.insert(command.end(), more.begin(), more.end());
    auto child = Child::Start(command);
    EXPECT_OK(child);
    return child.ok() ? std::move(child).value() : nullptr;
  }
  StoredCounts Stored() {
    auto backend = storage::MakeBackend(db_, {});
    EXPECT_OK(backend);
    auto session = (*backend)->Connect();
    EXPECT_OK(session);
    auto counts = (*session)->Count();
    EXPECT_OK(counts);
    return *counts;
  }
  // Beside a process that may just be making the database.
  std::uint64_t StoredSoFar() {
    const auto backend = storage::MakeBackend(db_, {.create = false});
    if (!backend.ok()) return 0;
    const auto session = (*backend)->Connect();
    if (!session.ok()) return 0;
    const auto counts = (*session)->Count();
    return counts.ok() ? counts->activities : 0;
  }
  Result<Task> StoredTask(std::string_view id) {
    auto backend = storage::MakeBackend(db_, {});
    if (!backend.ok()) return backend.status();
    auto session = (*backend)->Connect();
    if (!session.ok()) return session.status();
    auto row = (*session)->GetTask(id);
    if (!row.ok()) return row.status();
    return row->task;
  }
  // Records in segments of few, acknowledged and not in any database: 1 to `count`.
  void FillLog(int count) {
    const auto filled = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0",
                              "--set", "max_segment_size=10", "--set", "frame_bytes=512"},
                             Activities(1, count));
    ASSERT_EQ(filled.exit.code, 4) << filled.err;
  }
  // Activities 1 to `count` are in the database when the ingest is killed.
  void KillIngest(int count) {
    auto ingest = StartIngest();
    ASSERT_NE(ingest, nullptr);
    ASSERT_TRUE(ingest->Write(Activities(1, count)));
    for (int i = 0; i < count; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (StoredSoFar() < static_cast<std::uint64_t>(count)) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ingest->Kill();
    EXPECT_EQ(ingest->Wait().signal, 9);
  }
  std::vector<std::filesystem::path> Segments() {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(wal_)) {
      if (entry.path().filename().string().starts_with("wal-")) paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  // Turns a bit of a record in the middle of the log's second segment.
  void Damage() {
    const auto segments = Segments();
    ASSERT_GE(segments.size(), 3u);
    std::fstream file(segments[1], std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(4096 + 64 + 40);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(4096 + 64 + 40);
    file.put(byte);
  }

  static constexpr const char* kNoDatabase = "sqlite:///nonexistent/t.db";
  TempDir dir_;
  const std::string wal_;
  std::string db_;
};

}  // namespace taskwal
