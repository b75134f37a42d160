// A storage with its log in front of a server that fails: what it wrote, and whether the server has
// all of it, once. For each server a fixture derives from it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "base/mutex.h"
#include "taskwal/open.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {

class DatabaseFaults : public ::testing::Test {
 protected:
  using Milliseconds = std::chrono::milliseconds;
  static constexpr Milliseconds kFlushMax{60000};

  // Soon again after a failure; level `process`, so that no disk is waited for.
  Options FaultOptions(Milliseconds database_timeout = std::chrono::seconds(5)) {
    Options options;
    options.wal_dir = dir_.File("wal");
    options.durability = Durability::kProcess;
    options.initial_backoff = Milliseconds(5);
    options.max_backoff = Milliseconds(50);
    options.breaker_open_time = Milliseconds(50);
    options.database_timeout = database_timeout;
    options.on_flush = [this](const FlushEvent& event) {
      if (event.status.ok()) return;
      MutexLock lock(mutex_);
      last_error_ = event.status;
      errors_.insert(event.status.message());
    };
    return options;
  }

  void Open(const std::string& dsn, Options options) {
    ASSERT_OK_AND_ASSIGN(storage_, OpenTaskStorage(dsn, std::move(options)));
  }

  // `count` tasks, each saved and completed with one activity between. Ends with "poison" in the
  // activity's message where its number is `poison`.
  void Write(int count, int poison = -1) {
    for (int end = written_ + count; written_ < end; ++written_) {
      const std::string id = "t" + std::to_string(written_);
      Task task;
      task.id = id;
      task.dag_id = "run";
      task.payload = R"({ "n" : 1 })";
      ASSERT_OK(storage_->SaveTask(task));
      Activity activity;
      activity.id = "a" + std::to_string(written_);
      activity.task_id = id;
      activity.message = written_ == poison ? "poison" : "tab\tquote'\"back\\slash\nline";
      ASSERT_OK(storage_->LogActivity(activity));
      ASSERT_OK(storage_->UpdateTaskStatus(id, TaskStatus::kCompleted));
    }
  }

  void Flush() { ASSERT_OK(storage_->Flush(kFlushMax)); }

  // As the database answers: every task completed, every activity there, and nothing else.
  void ExpectExactlyOnce() {
    ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
    EXPECT_EQ(counts.tasks, static_cast<std::uint64_t>(written_));
    EXPECT_EQ(counts.activities, static_cast<std::uint64_t>(written_));
    for (const auto& [status, count] : counts.tasks_by_status) {
      EXPECT_EQ(count, status == TaskStatus::kCompleted ? counts.tasks : 0)
          << TaskStatusName(status);
    }
    const Stats stats = storage_->GetStats();
    EXPECT_EQ(stats.accepted, stats.applied);
    EXPECT_EQ(stats.duplicates, 0u);
    EXPECT_EQ(stats.dead_lettered, 0u);
    EXPECT_EQ(stats.alarm, "");
  }

  // The last one that a flush met.
  Status last_error() {
    MutexLock lock(mutex_);
    return last_error_;
  }
  // Until a flush has met an error whose text has `part`; false after 30 s.
  bool WaitForError(std::string_view part = {}) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!HasMet(part)) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(Milliseconds(5));
    }
    return true;
  }
  bool HasMet(std::string_view part) {
    MutexLock lock(mutex_);
    return std::any_of(errors_.begin(), errors_.end(), [&](const std::string& error) {
      return error.find(part) != std::string::npos;
    });
  }

  TempDir dir_;
  int written_ = 0;

 private:
  Mutex mutex_;
  Status last_error_ GUARDED_BY(mutex_);
  std::set<std::string> errors_ GUARDED_BY(mutex_);

 protected:
  std::unique_ptr<TaskStorage> storage_;  // the last: its threads call on_flush
};

// How long something took.
class Stopwatch {
 public:
  [[nodiscard]] std::chrono::milliseconds elapsed() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - start_);
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace taskwal
