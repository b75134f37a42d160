// worker_pool.*, connection_pool.*: who brings batches, and by which connections.
#include <gtest/gtest.h>

#include <set>

#include "storage/operation.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/config/key_effect.h"
#include "wal/record.h"

namespace taskwal::config {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kPartitions = 16;  // of a new log

std::string TaskIn(std::uint32_t partition) {
  for (int i = 0;; ++i) {
    std::string id = "task-" + std::to_string(i);
    if (wal::PartitionOf(storage::KeyOf(id), kPartitions) == partition) return id;
  }
}

// In every partition; none gets through.
void BlockAllPartitions(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  for (std::uint32_t p = 0; p < kPartitions; ++p) EXPECT_OK(world.Log(TaskIn(p)));
}

bool FourBatchesAreUnderWay(EffectWorld& world) {
  BlockAllPartitions(world);
  return world.Comes([&] { return world.apply_gate().waiting() == 4; });
}

bool OneBatchIsUnderWay(EffectWorld& world) {
  BlockAllPartitions(world);
  return world.StaysAway([&] { return world.apply_gate().waiting() == 2; });
}

bool APartitionIsFull(EffectWorld& world) {
  world.apply_gate().Shut();
  world.Open();
  for (int i = 0; i < 20; ++i) EXPECT_OK(world.Log("t", 3, 10'000));
  return world.Comes([&] { return world.flow().queue_utilization >= 1; });
}

bool GivesBackWhatItDoesNotBringIn(EffectWorld& world) {
  world.OnApply(&FailTransiently);
  world.Open();
  EXPECT_OK(world.Log());
  return world.Comes([&] {
    std::uint64_t timeouts = 0;
    for (const WorkerSnapshot& worker : world.flow().workers) timeouts += worker.timeouts;
    return timeouts > 0;
  });
}

// Of two workers one has the even partitions, the other the odd ones.
bool AnIdleWorkerTakesWhatABusyOneHasNotBegun(EffectWorld& world) {
  const std::string begun = TaskIn(0);
  const std::string waiting = TaskIn(2);
  const std::string others = TaskIn(1);
  Gate busy;
  busy.Shut();
  Mutex mutex;
  std::set<std::string> met;
  const auto has_met = [&](const std::string& task) {
    MutexLock lock(mutex);
    return met.contains(task);
  };
  world.OnApply([&](const storage::Batch& batch) {
    bool has_begun = false;
    {
      MutexLock lock(mutex);
      for (const auto& row : batch.activities) {
        met.insert(row.activity.task_id);
        has_begun = has_begun || row.activity.task_id == begun;
      }
    }
    if (has_begun) busy.Pass();
    return Status::Ok();
  });
  world.Open();
  EXPECT_OK(world.Log(begun));
  EffectWorld::Expect([&] { return busy.waiting() == 1; });
  EXPECT_OK(world.Log(waiting));
  EXPECT_OK(world.Log(others));
  EffectWorld::Expect([&] { return has_met(others); });
  // It takes records in the order of the log.
  const bool is_taken = has_met(waiting);
  busy.Open();
  world.Leave();
  return is_taken;
}

bool QueriesKeepNoConnection(EffectWorld& world) {
  world.Open();
  const std::uint64_t before = world.database().connects();
  for (int i = 0; i < 3; ++i) EXPECT_OK(world.storage().Ping());
  return world.database().connects() == before + 3;
}

bool AnOldConnectionIsReplaced(EffectWorld& world) {
  world.Open();
  EXPECT_OK(world.storage().Ping());
  const std::uint64_t before = world.database().connects();
  Clock::Real().SleepFor(milliseconds(5));
  EXPECT_OK(world.storage().Ping());
  return world.database().connects() > before;
}

constexpr std::string_view kTriesOften =
    "retry.initial_backoff=0 circuit_breaker.failure_threshold=1000000";

}  // namespace

std::vector<KeyEffect> WorkerEffects() {
  return {
      {"worker_pool.num_workers", "4", "", &FourBatchesAreUnderWay},
      {"worker_pool.queue_size", "1MiB", "", &APartitionIsFull},
      {"worker_pool.job_timeout", "1ms", kTriesOften, &GivesBackWhatItDoesNotBringIn},
      {"worker_pool.work_stealing", "true", "", &AnIdleWorkerTakesWhatABusyOneHasNotBegun},
      {"connection_pool.max_open_conns", "2", "", &OneBatchIsUnderWay},
      {"connection_pool.max_idle_conns", "0", "", &QueriesKeepNoConnection},
      {"connection_pool.conn_max_lifetime", "1ms", "", &AnOldConnectionIsReplaced},
  };
}

}  // namespace taskwal::config
