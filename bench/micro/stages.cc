// The stages of the pipeline one by one, per record: what each adds to a record's way into the
// database.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/file_system.h"
#include "bench/micro/sample_activity.h"
#include "dag/worker_pool.h"
#include "pipeline/flush/circuit_breaker.h"
#include "pipeline/flush/partition_queues.h"
#include "storage/operation.h"
#include "taskwal/open.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal {
namespace {

constexpr std::uint32_t kPartitions = 16;

// A log of its own; with `dsn` empty its database is away.
class Storage {
 public:
  explicit Storage(Durability durability, std::string dsn = {}) {
    root_ = std::filesystem::temp_directory_path() / "taskwal-micro-XXXXXX";
    TASKWAL_CHECK(::mkdtemp(root_.data()) != nullptr);
    Options options;
    options.wal_dir = directory();
    options.durability = durability;
    if (dsn.empty()) {
      dsn = "sqlite://" + root_ + "/none/x.db";
      options.recovery_timeout = options.shutdown_timeout = std::chrono::milliseconds(0);
    }
    auto opened = OpenTaskStorage(dsn, options);
    TASKWAL_CHECK(opened.ok());
    storage_ = std::move(opened).value();
  }
  ~Storage() {
    storage_.reset();
    std::filesystem::remove_all(root_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  [[nodiscard]] std::string directory() const { return root_ + "/wal"; }
  TaskStorage& operator*() const { return *storage_; }
  TaskStorage* operator->() const { return storage_.get(); }

 private:
  std::string root_;
  std::unique_ptr<TaskStorage> storage_;
};

// A flush worker takes a batch of records out of the queues and settles it.
void Dequeue(benchmark::State& state) {
  constexpr wal::Lsn kBatch = 5000;
  const std::vector<std::byte> body(256);
  pipeline::PartitionQueues queues({.partitions = kPartitions});
  queues.Reset(std::vector<wal::Lsn>(kPartitions), std::vector<wal::Lsn>(kPartitions));
  const Monotonic now = Clock::Real().Now();
  wal::RecordView record;
  record.header.type = static_cast<std::uint8_t>(storage::OperationType::kActivityLog);
  record.body = body;
  wal::Lsn last = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const wal::Lsn before = last;
    while (last < before + kBatch) {
      record.lsn = ++last;
      record.header.key = last;
      queues.Offer(record, now);
    }
    queues.AdvanceTo(last + 1);
    state.ResumeTiming();
    TASKWAL_CHECK(queues.Take(0).size() == kBatch);
    std::vector<storage::WatermarkMove> moves;
    for (std::uint32_t i = 0; i < kPartitions; ++i) moves.push_back({i, before, last});
    benchmark::DoNotOptimize(queues.Count(moves));
    queues.Settle(0, moves, now);
    queues.Release(0);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(Dequeue);

// One caller at level `disk`: each call returns after its sync.
void WalWrite(benchmark::State& state) {
  const Storage storage(Durability::kDisk);
  const Activity activity = SomeActivity();
  for (auto _ : state) TASKWAL_CHECK(storage->LogActivity(activity).ok());
}
BENCHMARK(WalWrite)->UseRealTime();

// Records read back from segment files and checked, one after the other.
void WalRead(benchmark::State& state) {
  constexpr wal::Lsn kRecords = 200'000;
  const Storage storage(Durability::kProcess);
  const Activity activity = SomeActivity();
  for (wal::Lsn i = 0; i < kRecords; ++i) TASKWAL_CHECK(storage->LogActivity(activity).ok());
  TASKWAL_CHECK(!storage->Shutdown(ShutdownMode::kImmediate, {}).ok());  // not drained
  const auto log = wal::ReadState(FileSystem::Real(), storage.directory());
  TASKWAL_CHECK(log.ok());
  std::int64_t read = 0;
  for (auto _ : state) {
    wal::TailReader reader(FileSystem::Real(),
                           {storage.directory(), wal::IdentitiesOf(*log), 1, {}}, 1);
    wal::Frame frame;
    for (;;) {
      const auto event = reader.Next(kRecords, &frame);
      TASKWAL_CHECK(event.ok());
      if (event->kind != wal::TailEvent::Kind::kFrame) break;
      wal::FrameRecords records(frame.header, frame.raw);
      for (wal::RecordView record; records.Next(&record);) ++read;
    }
  }
  TASKWAL_CHECK(read == state.iterations() * static_cast<std::int64_t>(kRecords));
  state.SetItemsProcessed(read);
}
BENCHMARK(WalRead);

// A job handed to the engine's pool.
void PoolSubmit(benchmark::State& state) {
  auto pool = dag::WorkerPool::Start(2);
  TASKWAL_CHECK(pool.ok());
  for (auto _ : state) (*pool)->Submit(0, [] {});
}
BENCHMARK(PoolSubmit)->Iterations(200'000);

// From the call to the row, in memory: each stage there is, but no disk and no server.
void Processing(benchmark::State& state) {
  const Storage storage(Durability::kProcess, "memory:");
  Activity activity = SomeActivity();
  activity.id.clear();
  for (auto _ : state) TASKWAL_CHECK(storage->LogActivity(activity).ok());
  TASKWAL_CHECK(storage->Flush(std::chrono::minutes(1)).ok());
}
BENCHMARK(Processing)->Iterations(500'000)->UseRealTime();

// A call let through and its success told.
void Breaker(benchmark::State& state) {
  pipeline::CircuitBreaker breaker(pipeline::BreakerLimitsOf(Options()));
  const Monotonic now = Clock::Real().Now();
  for (auto _ : state) {
    benchmark::DoNotOptimize(breaker.Allow(now, false));
    breaker.OnSuccess(now);
  }
}
BENCHMARK(Breaker);

// The end of a storage whose last hundred records are still to be brought in.
void ShutDown(benchmark::State& state) {
  const Activity activity = SomeActivity();
  for (auto _ : state) {
    state.PauseTiming();
    {
      const Storage storage(Durability::kProcess, "memory:");
      for (int i = 0; i < 100; ++i) TASKWAL_CHECK(storage->LogActivity(activity).ok());
      state.ResumeTiming();
      TASKWAL_CHECK(storage->Shutdown(ShutdownMode::kGraceful, std::chrono::seconds(30)).ok());
      state.PauseTiming();
    }
    state.ResumeTiming();
  }
}
BENCHMARK(ShutDown)->Iterations(50)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace taskwal
