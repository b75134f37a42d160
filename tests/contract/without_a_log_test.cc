// Storage whose calls go straight to the database (Options::wal_enabled is off), on every backend
// that keeps what it has.
#include <gtest/gtest.h>

#include <barrier>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/direct_task_storage.h"
#include "tests/contract/backend_fixture.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {
namespace {

class WithoutALog : public ::testing::TestWithParam<const char*> {
 protected:
  Result<std::unique_ptr<pipeline::DirectTaskStorage>> Open(Clock& clock) {
    auto backend = OpenBackend(GetParam(), dsn_);
    if (!backend.ok()) return backend.status();
    return pipeline::DirectTaskStorage::Open(std::move(backend).value(), clock);
  }

  TempDir dir_;
  const std::string dsn_ = NewDatabase(GetParam(), dir_);
};

INSTANTIATE_TEST_SUITE_P(Backends, WithoutALog,
                         ::testing::ValuesIn(std::vector(std::begin(kBackends) + 1,
                                                         std::end(kBackends))),
                         BackendName);

// Else what is saved after it would be taken for older than what is there, and dropped.
TEST_P(WithoutALog, StampsGrowOverARestartThoughTheClockStepsBack) {
  FakeClock clock;
  Task task;
  task.id = "t";
  task.error = "first";
  ASSERT_OK_AND_ASSIGN(auto storage, Open(clock));
  ASSERT_OK_AND_ASSIGN(const Ack first, storage->SaveTask(task, {}));
  clock.StepWall(-std::chrono::hours(1));
  ASSERT_OK_AND_ASSIGN(storage, Open(clock));
  task.error = "second";
  ASSERT_OK_AND_ASSIGN(const Ack second, storage->SaveTask(task, {}));
  EXPECT_GT(second.lsn, first.lsn);
  ASSERT_OK_AND_ASSIGN(const Task stored, storage->GetTask("t"));
  EXPECT_EQ(stored.error, "second");
}

TEST_P(WithoutALog, ManyMayOpenANewDatabaseAtOnce) {
  ASSERT_OK_AND_ASSIGN(auto backend, OpenBackend(GetParam(), dsn_));
  ASSERT_OK(backend->Connect());  // its tables are there
  constexpr int kOpeners = 6;
  std::barrier together(kOpeners);
  std::vector<std::jthread> openers;
  for (int i = 0; i < kOpeners; ++i) {
    openers.emplace_back([&, i] {
      together.arrive_and_wait();
      auto storage = Open(Clock::Real());
      ASSERT_OK(storage);
      Task task;
      task.id = std::to_string(i);
      EXPECT_OK((*storage)->SaveTask(task, {}));
    });
  }
  openers.clear();
  ASSERT_OK_AND_ASSIGN(auto storage, Open(Clock::Real()));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage->Count());
  EXPECT_EQ(counts.tasks, std::uint64_t{kOpeners});
}

}  // namespace
}  // namespace taskwal::storage
