// Micro-benchmarks: where the nanoseconds go. Here the parts of an append; the stages behind it in
// stages.cc.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/checksum.h"
#include "base/file_system.h"
#include "base/logging.h"
#include "bench/micro/sample_activity.h"
#include "metrics/stage_times.h"
#include "pipeline/admission/admission.h"
#include "storage/operation.h"
#include "taskwal/open.h"
#include "wal/frame.h"
#include "wal/ring_buffer.h"

namespace taskwal {
namespace {

constexpr std::size_t kBodyBytes = 232;
constexpr std::uint64_t kRingBytes = 16u << 20;

void ChecksumOfARecord(benchmark::State& state) {
  const std::vector<std::byte> body(kBodyBytes, std::byte{'x'});
  for (auto _ : state) benchmark::DoNotOptimize(Checksum(body, 1));
}
BENCHMARK(ChecksumOfARecord);

void KeyOfATask(benchmark::State& state) {
  const Activity activity = SomeActivity();
  for (auto _ : state) benchmark::DoNotOptimize(storage::KeyOf(activity.task_id));
}
BENCHMARK(KeyOfATask);

void EncodeAnActivity(benchmark::State& state) {
  const Activity activity = SomeActivity();
  std::vector<std::byte> into(storage::EncodedBytes(activity, activity.id));
  for (auto _ : state) {
    benchmark::DoNotOptimize(storage::EncodedBytes(activity, activity.id));
    storage::Encode(activity, activity.id, *activity.created_at, into);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(EncodeAnActivity);

// Claim, copy, checksum, publish; zeroing and release included, by the same thread.
void Enqueue(benchmark::State& state) {
  std::string directory = std::filesystem::temp_directory_path() / "taskwal-micro-XXXXXX";
  TASKWAL_CHECK(::mkdtemp(directory.data()) != nullptr);
  auto ring = wal::RingBuffer::Create(FileSystem::Real(), directory + "/RING", kRingBytes,
                                      Uuid::Make(), 1, 1);
  TASKWAL_CHECK(ring.ok());
  const std::vector<std::byte> body(kBodyBytes, std::byte{'x'});
  wal::RingPosition end = (*ring)->released();
  for (auto _ : state) {
    auto claim = (*ring)->TryClaim({}, body.size(), 0);
    if (claim.slot == nullptr) {  // full
      (*ring)->Release(end);
      claim = (*ring)->TryClaim({}, body.size(), 0);
    }
    std::memcpy(wal::RingBuffer::BodyOf(claim.slot, body.size()).data(), body.data(), body.size());
    (*ring)->Publish(claim.slot, claim.lsn, body.size());
    end = {end.bytes + wal::RingBuffer::SlotBytes(body.size()), claim.lsn + 1};
  }
  std::filesystem::remove_all(directory);
}
BENCHMARK(Enqueue);

// --- admission ---------------------------------------------------------------------------------

struct Door {
  explicit Door(const Options& options)
      : gauge(options), admission(options, Clock::Real(), gauge, [] {
          return pipeline::LoadSample{};
        }) {}
  pipeline::LoadGauge gauge;
  pipeline::Admission admission;
};

// What every call pays while nothing is limited.
void PassAnOpenDoor(benchmark::State& state) {
  static Door door{Options()};
  for (auto _ : state) benchmark::DoNotOptimize(door.admission.is_open());
}
BENCHMARK(PassAnOpenDoor)->Threads(1)->Threads(2);

// What it pays under a rate that is never reached, and under budgets that never run out.
void PassALimit(benchmark::State& state) {
  static Door door{[] {
    Options options;
    options.rate_limit = 1'000'000'000;
    options.max_unflushed_records = 1'000'000'000'000;
    return options;
  }()};
  const pipeline::Admission::Append append = [](const wal::Deadline&) -> Result<wal::Lsn> {
    return 1;
  };
  for (auto _ : state) {
    benchmark::DoNotOptimize(door.admission.Enter({3, kBodyBytes, {}, {}, false}, append).ok());
  }
}
BENCHMARK(PassALimit)->Threads(1)->Threads(2);

// --- metrics -----------------------------------------------------------------------------------

// What an append pays for its latency being told: mostly a look at a counter of its thread.
void TimeAnAppend(benchmark::State& state) {
  Histogram times;
  for (auto _ : state) {
    const StageTimer timer(IsSampled() ? &times : nullptr, Clock::Real());
  }
}
BENCHMARK(TimeAnAppend);

// The whole call at level `process`, with metrics (1) and without (0); the database is away.
void LogAnActivity(benchmark::State& state) {
  std::string directory = std::filesystem::temp_directory_path() / "taskwal-micro-XXXXXX";
  TASKWAL_CHECK(::mkdtemp(directory.data()) != nullptr);
  {
    Options options;
    options.wal_dir = directory + "/wal";
    options.enable_metrics = state.range(0) != 0;
    options.durability = Durability::kProcess;
    options.recovery_timeout = options.shutdown_timeout = std::chrono::milliseconds(0);
    const auto storage = OpenTaskStorage("sqlite://" + directory + "/none/x.db", options);
    TASKWAL_CHECK(storage.ok());
    const Activity activity = SomeActivity();
    for (auto _ : state) TASKWAL_CHECK((*storage)->LogActivity(activity).ok());
  }
  std::filesystem::remove_all(directory);
}
BENCHMARK(LogAnActivity)->Arg(0)->Arg(1)->Iterations(500'000);

// A frame of 1,024 records of 256 bytes, checksummed.
void BuildAFrame(benchmark::State& state) {
  const std::vector<std::byte> body(kBodyBytes, std::byte{'x'});
  wal::FrameBuilder builder;
  constexpr int kRecords = 1024;
  for (auto _ : state) {
    builder.Reset(1);
    for (int i = 0; i < kRecords; ++i) builder.Add({}, body);
    benchmark::DoNotOptimize(builder.Finish({}).data());
  }
  state.SetItemsProcessed(state.iterations() * kRecords);
}
BENCHMARK(BuildAFrame);

}  // namespace
}  // namespace taskwal

int main(int argc, char** argv) {
  taskwal::Logger().set_level(spdlog::level::off);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
