// The workers that bring batches into the database, and the size of these batches.
#include <algorithm>
#include <latch>
#include <set>
#include <stdexcept>

#include "base/random.h"
#include "storage/operation.h"
#include "tests/unit/pipeline/pressure_fixture.h"
#include "wal/record.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Each;
using ::testing::Le;

TEST_F(PressureTest, Workers_TheirNumberChangesUnderLoadAndOrderHolds) {
  database_.set_writers_max(8);
  options_.max_buffer_size = 1;
  options_.batch_size = 20;
  options_.block_timeout = seconds(30);
  Open();
  std::atomic<bool> over{false};
  std::jthread turning([&] {
    Random random(7);
    while (!over) {
      EXPECT_OK(control().SetWorkerCount(1 + static_cast<std::uint32_t>(random.Below(8))));
      std::this_thread::yield();
    }
  });
  constexpr int kTasks = 20, kRounds = 100;
  for (int round = 0; round < kRounds; ++round) {
    for (int t = 0; t < kTasks; ++t) {
      Task task;
      task.id = "t" + std::to_string(t);
      task.retry_count = round;
      ASSERT_OK(storage_->SaveTask(task, {}));
    }
  }
  over = true;
  turning.join();
  ASSERT_OK(storage_->Flush(seconds(30)));
  ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->QueryTasks({}));
  ASSERT_EQ(page.tasks.size(), static_cast<std::size_t>(kTasks));
  for (const Task& task : page.tasks) EXPECT_EQ(task.retry_count, kRounds - 1) << task.id;
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.applied, static_cast<std::uint64_t>(kTasks * kRounds));
}

// One task's row is locked, and more comes for it than a queue holds: the others go on past all of
// that, and none of it is missing in the end.
TEST_F(PressureTest, Workers_WhatIsStuckIsLeftBehindAndCaughtUpWith) {
  constexpr int kEach = 100;
  const auto id_in = [](std::uint32_t partition) {
    for (int i = 0;; ++i) {
      const std::string id = "t" + std::to_string(i);
      if (wal::PartitionOf(storage::KeyOf(id), 2) == partition) return id;
    }
  };
  const std::string stuck = id_in(0), free = id_in(1);
  const auto is_locked = std::make_shared<std::atomic<bool>>(true);
  database_.FailApply([is_locked, stuck](const storage::Batch& batch) {
    for (const auto& row : batch.activities) {
      if (*is_locked && row.activity.task_id == stuck) return Status::Unavailable("test: locked");
    }
    return Status::Ok();
  });
  options_.partitions = options_.worker_count = 2;
  options_.memory_bytes = 1u << 20;
  options_.breaker_failures = 0;
  options_.block_timeout = seconds(60);
  Open();
  for (int i = 0; i < kEach; ++i) {
    for (const std::string& task : {stuck, free}) {
      Activity activity;
      activity.task_id = task;
      activity.message = std::string(10'000, 'x');
      ASSERT_OK(storage_->LogActivity(activity, {}));
    }
  }
  Await([&] { return Stored().activities == kEach; });
  *is_locked = false;
  Await([&] { return Stored().activities == 2 * kEach; });
}

TEST_F(PressureTest, Workers_AreAsManyAsToldAndShareTheWork) {
  database_.set_writers_max(4);
  options_.worker_count = 1;
  std::atomic<int> together{0};
  database_.FailApply([&](const storage::Batch&) {
    ++together;
    for (int i = 0; i < 20'000 && together < 4; ++i) std::this_thread::sleep_for(milliseconds(1));
    return Status::Ok();
  });
  Open();
  ASSERT_OK(control().SetWorkerCount(4));
  for (int i = 0; i < 64; ++i) ASSERT_OK(Save("t" + std::to_string(i)));
  ASSERT_OK(storage_->Flush(seconds(30)));
  const BufferSnapshot buffer = control().Buffer();
  ASSERT_EQ(buffer.targets.front().workers.size(), 4u);
  for (const WorkerSnapshot& worker : buffer.targets.front().workers) {
    EXPECT_TRUE(worker.active);
    EXPECT_GE(worker.batches, 1u) << worker.index;
    EXPECT_GE(worker.flush_time.count, 1u) << worker.index;
  }
  ASSERT_OK(control().SetWorkerCount(1));
  ASSERT_OK(control().SetWorkerCount(200));  // no more than the database takes
  EXPECT_EQ(control().Buffer().targets.front().workers.size(), 4u);
  Close();
}

TEST_F(PressureTest, Workers_OneThatThrowsIsToldAndGoesOn) {
  std::atomic<int> told{0};
  std::atomic<int> calls{0};
  options_.on_error = [&](const ErrorEvent& event) {
    if (event.component == "worker") ++told;
    throw 1;
  };
  options_.on_flush = [](const FlushEvent&) { throw 2; };
  database_.FailApply([&](const storage::Batch&) {
    if (++calls <= 3) throw std::runtime_error("the driver threw");
    return Status::Ok();
  });
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(told, 3);
  // And the callback's, once for each attempt.
  Await([&] {
    std::uint64_t exceptions = 0;
    const BufferSnapshot buffer = control().Buffer();
    for (const auto& worker : buffer.targets.front().workers) {
      exceptions += worker.exceptions;
    }
    return exceptions == 3 + 4;
  });
  EXPECT_EQ(Stored().activities, 1u);
  Close();
}

// The first task of a batch with tasks.
std::string FirstOf(const storage::Batch& batch) {
  return batch.tasks.empty() ? std::string() : batch.tasks.front().id;
}

// Ids of tasks whose partitions belong to the worker of that index, of two; all of different ones.
std::vector<std::string> IdsOfWorker(std::uint32_t worker, std::uint32_t partitions) {
  std::vector<std::string> ids;
  std::set<std::uint32_t> taken;
  for (int i = 0; ids.size() < partitions / 2; ++i) {
    const std::string id = "task" + std::to_string(i);
    const std::uint32_t partition = wal::PartitionOf(storage::KeyOf(id), partitions);
    if (partition % 2 == worker && taken.insert(partition).second) ids.push_back(id);
  }
  return ids;
}

class TwoWorkersTest : public PressureTest,
                       public ::testing::WithParamInterface<bool> {
 protected:
  TwoWorkersTest() {
    options_.partitions = 8;
    options_.worker_count = 2;
    options_.batch_size = 1;
    options_.breaker_failures = 0;
    options_.flush_linger = milliseconds(0);
    options_.work_stealing = GetParam();
  }
  bool IsStored(const std::string& id) {
    auto session = database_.data().Connect();
    EXPECT_OK(session);
    return (*session)->GetTask(id).ok();
  }
};

// One worker is stuck with a batch; the other takes what else waits for it, or leaves it alone.
TEST_P(TwoWorkersTest, Workers_AnIdleOneStealsFromABusyOneWhereItMay) {
  const std::vector<std::string> its = IdsOfWorker(0, options_.partitions);
  const std::vector<std::string> others = IdsOfWorker(1, options_.partitions);
  const auto release = std::make_shared<std::latch>(1);
  const auto is_stuck = std::make_shared<std::atomic<bool>>(false);
  database_.FailApply([release, is_stuck, stuck = its.front()](const storage::Batch& batch) {
    if (FirstOf(batch) == stuck) {
      *is_stuck = true;
      release->wait();
    }
    return Status::Ok();
  });
  Open();
  ASSERT_OK(Save(its[0]));
  Await([&] { return is_stuck->load(); });
  for (std::size_t i = 1; i < its.size(); ++i) ASSERT_OK(Save(its[i]));
  const bool may_steal = GetParam();
  if (may_steal) {
    for (std::size_t i = 1; i < its.size(); ++i) Await([&] { return IsStored(its[i]); });
  }
  // The other one has been through all of its own by then.
  for (const std::string& id : others) ASSERT_OK(Save(id));
  for (const std::string& id : others) Await([&] { return IsStored(id); });
  for (std::size_t i = 1; i < its.size(); ++i) EXPECT_EQ(IsStored(its[i]), may_steal) << its[i];
  release->count_down();
  ASSERT_OK(storage_->Flush(seconds(30)));
}

INSTANTIATE_TEST_SUITE_P(Stealing, TwoWorkersTest, ::testing::Bool());

// A worker whose connection is of no use gives its batch up, and the other one brings it.
TEST_F(SteppedPressureTest, Workers_ABatchThatIsNotBroughtInTimeIsHandedOver) {
  options_.partitions = 8;
  options_.worker_count = 2;
  options_.batch_timeout = seconds(10);
  Mutex mutex;
  std::thread::id unlucky;
  std::atomic<int> attempts{0};
  database_.FailApply([&](const storage::Batch&) {
    MutexLock lock(mutex);
    ++attempts;
    if (unlucky == std::thread::id()) unlucky = std::this_thread::get_id();
    return unlucky == std::this_thread::get_id() ? Status::Unavailable("test: of no use")
                                                 : Status::Ok();
  });
  Open();
  std::uint64_t turn = 0;
  for (const std::uint32_t worker : {1u, 0u}) {
    ++turn;
    {
      MutexLock lock(mutex);
      unlucky = {};
      attempts = 0;
    }
    ASSERT_OK(Save(IdsOfWorker(worker, options_.partitions).front()));
    Await([&] { return attempts >= 3; });
    EXPECT_EQ(Stored().tasks, turn - 1);
    EXPECT_NE(storage_->GetStats().alarm, "");
    time_.Advance(options_.batch_timeout);
    Await([&] { return pending() == 0; });
    // Not only when the unlucky one commits something, which may be never.
    EXPECT_EQ(storage_->GetStats().alarm, "") << worker;
    EXPECT_EQ(Stored().tasks, turn);
    std::uint64_t timeouts = 0;
    const BufferSnapshot buffer = control().Buffer();
    for (const WorkerSnapshot& one : buffer.targets.front().workers) timeouts += one.timeouts;
    EXPECT_EQ(timeouts, turn);
  }
  Drain();
}

// A database that needs a second for each record, and cuts what takes longer than it is told.
TEST_F(SteppedPressureTest, Workers_ATransactionThatTakesTooLongIsCutAndTriedAgainSmaller) {
  options_.batch_size = 40;
  options_.batch_timeout = seconds(10);
  std::atomic<bool> is_open{false};
  std::atomic<int> cuts{0};
  std::atomic<int> calls{0};
  std::atomic<std::size_t> largest{0};
  database_.FailApply([&](const storage::Batch& batch) {
    ++calls;
    while (!is_open) std::this_thread::sleep_for(milliseconds(1));
    const auto needed = seconds(1) * batch.activities.size();
    const bool is_cut = batch.time_max.count() > 0 && needed > batch.time_max;
    time_.Advance(is_cut ? std::chrono::nanoseconds(batch.time_max) : needed);
    if (!is_cut) {
      largest = std::max(largest.load(), batch.activities.size());
      return Status::Ok();
    }
    ++cuts;
    return Status::Unavailable("test: took longer than the time limit");
  });
  Open();
  // The worker is busy with the first one until all the others wait for it: its next batch is full.
  EXPECT_OK(Log());
  Await([&] { return calls == 1; });
  EXPECT_EQ(LogMany(200), 200);
  Await([&] { return control().Buffer().targets.front().queued_records == 201; });
  is_open = true;
  Await([&] {
    time_.Advance(milliseconds(1));  // of the rest that a worker takes
    return pending() == 0;
  });
  EXPECT_EQ(Stored().activities, 201u);
  EXPECT_LE(largest, 10u);
  EXPECT_GE(cuts, 2);
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.dead_lettered, 0u);
  EXPECT_EQ(stats.duplicates, 0u);
  const TargetFlow flow = control().Buffer().targets.front();
  EXPECT_EQ(flow.workers.front().timeouts, std::uint64_t(cuts));
  Drain();
}

// Nothing is to be flushed, so that no batch would tell.
TEST_F(SteppedPressureTest, Workers_AnIdleDatabaseThatGoesAwayIsNoticedAndSoIsItsReturn) {
  options_.health_check_interval = milliseconds(10);
  Open();
  ASSERT_OK(Log());
  Await([&] { return pending() == 0; });
  database_.GoAway();
  Await([&] {
    time_.Advance(milliseconds(1));
    return !storage_->GetStats().database_available;
  });
  EXPECT_NE(storage_->GetStats().alarm, "");
  database_.ComeBack();
  Await([&] {
    time_.Advance(milliseconds(1));
    return storage_->GetStats().alarm.empty();
  });
  EXPECT_TRUE(storage_->GetStats().database_available);
  EXPECT_EQ(pending(), 0u);
}

TEST_F(PressureTest, AdaptiveSize_IsPinnedAtRunTime) {
  Mutex mutex;
  std::vector<std::uint64_t> sizes;
  options_.on_flush = [&](const FlushEvent& event) {
    MutexLock lock(mutex);
    sizes.push_back(event.records);
  };
  database_.GoAway();
  Open();
  ASSERT_OK(control().SetBatchSize(7));
  EXPECT_THAT(control().SetBatchSize(0), StatusIs(StatusCode::kInvalidArgument));
  for (int i = 0; i < 100; ++i) ASSERT_OK(Log());
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(control().Buffer().targets.front().batch_size.pinned, 7u);
  Close();
  MutexLock lock(mutex);
  EXPECT_THAT(sizes, Each(Le(7u)));
}

// Commits take as long as they have records: the size settles where they take what is wanted, and
// again where the database is ten times slower, and back.
TEST_F(SteppedPressureTest, AdaptiveSize_FollowsTheLatencyOfTheDatabase) {
  options_.target_latency = milliseconds(100);
  options_.batch_evaluation_interval = milliseconds(0);
  options_.batch_size = 400;
  options_.batch_size_min = 10;
  options_.worker_count = 1;  // time that one takes would be another's, too
  std::atomic<int> each_us{1000};
  std::atomic<bool> is_open{false};
  database_.FailApply([&](const storage::Batch& batch) {
    while (!is_open) std::this_thread::sleep_for(milliseconds(1));
    time_.Advance(microseconds(each_us) * batch.activities.size());
    return Status::Ok();
  });
  Open();
  const auto settle = [&](int us) {
    each_us = us;
    is_open = false;
    EXPECT_EQ(LogMany(6'000), 6'000);  // so that batches are full
    is_open = true;
    Await([&] { return pending() == 0; });
    return control().Buffer().targets.front().batch_size;
  };
  const BatchSizeSnapshot at_first = settle(1000);
  EXPECT_THAT(at_first.size, ::testing::AllOf(::testing::Ge(80u), Le(120u)));
  EXPECT_FALSE(at_first.history.empty());
  EXPECT_GT(at_first.score, 0.5);
  EXPECT_LE(settle(10'000).size, 20u);
  EXPECT_GE(settle(1000).size, 60u);
  Drain();
}

// The same where bytes end a batch after some twenty records, long before its size.
TEST_F(SteppedPressureTest, AdaptiveSize_FollowsTheLatencyWhereBytesEndABatch) {
  options_.target_latency = milliseconds(100);
  options_.batch_evaluation_interval = milliseconds(0);
  options_.batch_size = 400;
  options_.batch_size_min = 1;
  options_.batch_bytes = 21'000;
  std::atomic<int> each_us{0};
  std::atomic<bool> is_open{false};
  std::atomic<std::size_t> largest{0};
  database_.FailApply([&](const storage::Batch& batch) {
    while (!is_open) std::this_thread::sleep_for(milliseconds(1));
    largest = std::max(largest.load(), batch.activities.size());
    time_.Advance(microseconds(each_us) * batch.activities.size());
    return Status::Ok();
  });
  Open();
  Activity activity;
  activity.task_id = "t";
  activity.message = std::string(900, 'x');
  const auto settle = [&](int us) {
    each_us = us;
    is_open = false;
    for (int i = 0; i < 500; ++i) EXPECT_OK(storage_->LogActivity(activity, {}));
    largest = 0;
    is_open = true;
    Await([&] { return pending() == 0; });
    return control().Buffer().targets.front().batch_size.size;
  };
  EXPECT_LE(settle(50'000), 2u) << "of which a record by itself takes a half";
  // Up to what the bytes allow, and one step beyond.
  const std::uint32_t grown = settle(1000);
  EXPECT_GE(grown, largest);
  EXPECT_LE(grown, largest * 1.1);
  EXPECT_THAT(largest.load(), ::testing::AllOf(::testing::Ge(18u), Le(23u)));
  EXPECT_LE(settle(10'000), 11u);
  EXPECT_GE(settle(1000), largest);
  Drain();
}

}  // namespace
}  // namespace taskwal::pipeline
