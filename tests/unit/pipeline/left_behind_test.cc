// A database call that a shutdown left behind comes back while the process ends: what it uses is
// still there, though all else of the program is destroyed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "base/status_macros.h"
#include "pipeline/wal_task_storage.h"
#include "storage/backend.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;

// Made before anything that the program makes as it goes along, and so destroyed behind all that.
struct Last {
  ~Last() {
    if (at_the_end) at_the_end();
  }
  std::function<void()> at_the_end;
} last;

// What one call waits for, and what became of it. Outlives the storage.
struct Hang {
  std::latch begun{1};
  std::latch go_on{1};
  Mutex mutex;
  CondVar changed;
  bool is_armed GUARDED_BY(mutex) = false;
  bool is_over GUARDED_BY(mutex) = false;
  Status applied GUARDED_BY(mutex) = Status::Unavailable("it never came back");
};

// Another one's session; a call of Apply hangs before it begins.
class HangingSession final : public storage::Session {
 public:
  HangingSession(Hang& hang, std::unique_ptr<storage::Session> session)
      : hang_(hang), session_(std::move(session)) {}

  Result<storage::ApplyResult> Apply(const storage::Batch& batch) override {
    bool hangs = false;
    {
      MutexLock lock(hang_.mutex);
      hangs = std::exchange(hang_.is_armed, false);
    }
    if (!hangs) return session_->Apply(batch);
    hang_.begun.count_down();
    hang_.go_on.wait();
    auto applied = session_->Apply(batch);
    MutexLock lock(hang_.mutex);
    hang_.applied = applied.status();
    return applied;
  }
  Result<storage::LogRow> ReadLog(const Uuid& wal_id) override { return session_->ReadLog(wal_id); }
  Result<storage::LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                      std::span<const storage::Lsn> start) override {
    return session_->RegisterLog(wal_id, epoch, start);
  }
  Status Ping() override { return session_->Ping(); }
  Result<StoredTask> GetTask(std::string_view id) override { return session_->GetTask(id); }
  Result<TaskPage> QueryTasks(const TaskQuery& query) override {
    return session_->QueryTasks(query);
  }
  Result<TaskPage> ResumableTasks(const Paging& paging) override {
    return session_->ResumableTasks(paging);
  }
  Result<ActivityPage> QueryActivities(const ActivityQuery& query) override {
    return session_->QueryActivities(query);
  }
  Result<StoredCounts> Count() override { return session_->Count(); }
  Result<std::uint64_t> HighestStamp() override { return session_->HighestStamp(); }
  Result<std::vector<std::string>> OldTasks(Time before, std::span<const TaskStatus> statuses,
                                            std::string_view after, std::uint32_t limit) override {
    return session_->OldTasks(before, statuses, after, limit);
  }
  Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                    std::span<const TaskStatus> statuses) override {
    return session_->DeleteTasks(ids, before, statuses);
  }
  Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) override {
    return session_->DeleteOldActivities(before, limit);
  }

 private:
  Hang& hang_;
  const std::unique_ptr<storage::Session> session_;
};

class HangingBackend final : public storage::Backend {
 public:
  HangingBackend(Hang& hang, std::unique_ptr<storage::Backend> backend)
      : hang_(hang), backend_(std::move(backend)) {}
  ~HangingBackend() override {
    backend_.reset();
    MutexLock lock(hang_.mutex);
    hang_.is_over = true;
    hang_.changed.NotifyAll();
  }

  [[nodiscard]] std::string_view kind() const override { return backend_->kind(); }
  [[nodiscard]] const std::string& name() const override { return backend_->name(); }
  [[nodiscard]] std::uint32_t writers_max() const override { return backend_->writers_max(); }
  [[nodiscard]] bool is_volatile() const override { return backend_->is_volatile(); }
  Result<std::unique_ptr<storage::Session>> Connect() override {
    TASKWAL_ASSIGN(auto session, backend_->Connect());
    return std::unique_ptr<storage::Session>(
        std::make_unique<HangingSession>(hang_, std::move(session)));
  }
  [[nodiscard]] Uuid db_id() const override { return backend_->db_id(); }

 private:
  Hang& hang_;
  std::unique_ptr<storage::Backend> backend_;
};

std::unique_ptr<TaskStorage> OpenHanging(const TempDir& dir, Hang* hang) {
  WalStorageSetup setup;
  setup.options.wal_dir = dir.File("wal");
  setup.options.flush_linger = milliseconds(0);
  auto backend = storage::MakeBackend("sqlite://" + dir.File("t.db"), {});
  EXPECT_OK(backend);
  setup.backend = std::make_unique<HangingBackend>(*hang, std::move(backend).value());
  auto storage = WalTaskStorage::Open(std::move(setup));
  EXPECT_OK(storage);
  return std::move(storage).value();
}

// Ends the process: 0 where the call that was left behind did its work while all was destroyed.
void EndWithACallLeftBehind() {
  auto* dir = new TempDir;  // the call still writes to it
  auto* hang = new Hang;
  auto storage = OpenHanging(*dir, hang);
  Task task;
  task.id = "first";
  EXPECT_OK(storage->SaveTask(task, {}));
  EXPECT_OK(storage->Flush(std::chrono::seconds(60)));
  {
    MutexLock lock(hang->mutex);
    hang->is_armed = true;
  }
  task.id = "second";
  EXPECT_OK(storage->SaveTask(task, {}));
  hang->begun.wait();
  EXPECT_FALSE(storage->Shutdown(ShutdownMode::kImmediate, milliseconds(10)).ok());
  storage.reset();
  last.at_the_end = [hang, dir] {
    hang->go_on.count_down();
    MutexLock lock(hang->mutex);
    while (!hang->is_over) hang->changed.Wait(hang->mutex);
    delete dir;
    ::_exit(hang->applied.ok() ? 0 : 3);
  };
  std::exit(4);
}

TEST(LeftBehindAtTheEnd, ACallThatComesBackWhileTheProcessEndsFindsAllItUses) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(EndWithACallLeftBehind(), ::testing::ExitedWithCode(0), "");
}

// Nothing waits for it, either: nor for its storage's other threads, which have ended and which
// nobody joins. ThreadSanitizer calls those leaked, and is told not to look for them.
TEST(LeftBehindAtTheEnd, ACallThatNeverComesBackHoldsUpNoEnd) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const char* given = std::getenv("TSAN_OPTIONS");
  const std::string options = given == nullptr ? "" : given;
  const std::string unlooked = options + (options.empty() ? "" : ":") + "report_thread_leaks=0";
  ASSERT_EQ(::setenv("TSAN_OPTIONS", unlooked.c_str(), 1), 0);  // the child's: it is run anew
  const auto end = [] {
    auto* hang = new Hang;
    const auto* dir = new TempDir;
    auto storage = OpenHanging(*dir, hang);
    {
      MutexLock lock(hang->mutex);
      hang->is_armed = true;
    }
    Task task;
    task.id = "first";
    EXPECT_OK(storage->SaveTask(task, {}));
    hang->begun.wait();
    EXPECT_FALSE(storage->Shutdown(ShutdownMode::kImmediate, milliseconds(10)).ok());
    storage.reset();
    delete dir;
    std::exit(5);
  };
  EXPECT_EXIT(end(), ::testing::ExitedWithCode(5), "");
  ASSERT_EQ(given == nullptr ? ::unsetenv("TSAN_OPTIONS")
                             : ::setenv("TSAN_OPTIONS", options.c_str(), 1),
            0);
}

}  // namespace
}  // namespace taskwal::pipeline
