// Level `disk`: group commit. The disk drifts from one second to the next, so the contestants take
// turns in short slices.
#include <filesystem>

#include "base/status_macros.h"
#include "bench/comparison.h"
#include "bench/product_log.h"
#include "bench/reference_writer.h"
#include "bench/rocksdb_peer.h"
#include "bench/workload.h"
#include "bench/yardsticks.h"

namespace taskwal::bench {
namespace {

constexpr int kProducers[] = {1, 2, 4, 8, 16, 64};
constexpr std::uint64_t kOutstanding = 1024;

// The reference over RocksDB as measured elsewhere (1, 16 and 64 producers), less a margin.
double YardstickBound(int producers) {
  constexpr double kMargin = 0.8;
  if (producers == 1) return kMargin * 1.3;
  if (producers == 16) return kMargin * 2.4;
  return producers == 64 ? kMargin * 6.2 : 0;
}

Goal GoalAgainstReference(int producers) {
  if (producers == 1) return {};
  return AtLeast(producers >= 16 ? 0.95 : 1.0);
}

Goal GoalAgainstRocksDb(int producers) {
  if (producers == 16) return AtLeast(2.5);
  return producers == 64 ? AtLeast(5) : Goal{};
}

struct Slices {
  int count;
  std::chrono::milliseconds time;
};

class CommitBench {
 public:
  explicit CommitBench(const Settings& settings)
      : settings_(settings),
        slices_(settings.quick ? Slices{1, std::chrono::milliseconds(20)}
                               : Slices{4, std::chrono::milliseconds(250)}) {}

  Result<Report> Run() {
    const std::string& root = settings_.directory;
    TASKWAL_ASSIGN(product_, ProductLog::Open(root + "/product", Durability::kDisk));
    TASKWAL_ASSIGN(reference_, ReferenceWriter::Open(root + "/reference", true));
    TASKWAL_ASSIGN(raw_, RawOverwrite::Open(root + "/raw"));
    if (HasRocksDb()) {
      TASKWAL_ASSIGN(rocksdb_, OpenRocksDb(root + "/rocksdb", true));
    }
    MakeRows();
    CommitRecords(*product_, 8, slices_.time, nullptr);
    for (int round = 0; round < settings_.rounds; ++round) {
      for (std::size_t i = 0; i < std::size(kProducers); ++i) {
        TASKWAL_TRY(CheckGoesOn(settings_));
        ThroughputRound(i);
      }
      TASKWAL_TRY(CheckGoesOn(settings_));
      TASKWAL_TRY(LatencyRound());
      TASKWAL_TRY(CheckGoesOn(settings_));
      TASKWAL_TRY(OutstandingRound());
      TASKWAL_TRY(product_->health());
      TASKWAL_TRY(reference_->health());
    }
    return Conclude();
  }

 private:
  void MakeRows() {
    const std::string rate = "records/s";
    for (const int producers : kProducers) {
      reference_rows_.push_back(
          {"commit", producers, rate, "reference", GoalAgainstReference(producers), {}, {}});
      rocksdb_rows_.push_back(
          {"commit", producers, rate, "RocksDB, sync", GoalAgainstRocksDb(producers), {}, {}});
      const double bound = YardstickBound(producers);
      yardstick_rows_.push_back({"the reference itself", producers, rate, "RocksDB, sync",
                                 bound > 0 ? AtLeast(bound) : Goal{}, {}, {}});
    }
    latency_ = {"commit latency, p50", 1, "us", "pwrite + fdatasync", AtMost(1.1), {}, {}};
    device_ = {"device writes and flushes per commit", 1, "", "pwrite + fdatasync", {}, {}, {}};
    outstanding_ = {"commit, 1,024 outstanding", 1, rate, "reference", {}, {}, {}};
    batches_ = {"commit, 1,024 outstanding", 1, rate, "RocksDB, synced batches of 100",
                AtLeast(9), {}, {}};
  }

  void ThroughputRound(std::size_t i) {
    const int producers = kProducers[i];
    Rate ours, theirs, peers;
    for (int slice = 0; slice < slices_.count; ++slice) {
      ours += CommitRecords(*product_, producers, slices_.time, nullptr);
      theirs += CommitRecords(*reference_, producers, slices_.time, nullptr);
      if (HasRocksDb()) peers += CommitRecords(*rocksdb_, producers, slices_.time, nullptr);
    }
    reference_rows_[i].Add(ours.per_second(), theirs.per_second());
    rocksdb_rows_[i].Add(ours.per_second(), peers.per_second());
    yardstick_rows_[i].Add(theirs.per_second(), peers.per_second());
    Progress();
  }

  Status LatencyRound() {
    std::vector<double> ours, theirs;
    double our_writes = 0, their_writes = 0;
    for (int slice = 0; slice < slices_.count; ++slice) {
      const auto start = DeviceWrites(settings_.directory).value_or(0);
      CommitRecords(*product_, 1, slices_.time, &ours);
      const auto middle = DeviceWrites(settings_.directory).value_or(0);
      TASKWAL_ASSIGN(const Rate raw, raw_->Run(slices_.time, &theirs));
      static_cast<void>(raw);
      const auto end = DeviceWrites(settings_.directory).value_or(0);
      our_writes += static_cast<double>(middle - start);
      their_writes += static_cast<double>(end - middle);
    }
    device_.Add(our_writes / static_cast<double>(ours.size()),
                their_writes / static_cast<double>(theirs.size()));
    latency_.Add(Percentile(&ours, 0.5), Percentile(&theirs, 0.5));
    Progress();
    return Status::Ok();
  }

  Status OutstandingRound() {
    Rate ours, theirs, peers;
    for (int slice = 0; slice < slices_.count; ++slice) {
      ours += CommitOutstanding(*product_, kOutstanding, slices_.time);
      theirs += CommitOutstanding(*reference_, kOutstanding, slices_.time);
      if (!HasRocksDb()) continue;
      const std::string directory = settings_.directory + "/rocksdb-batches";
      TASKWAL_ASSIGN(const Rate peer, RocksDbSyncedBatches(directory, slices_.time));
      peers += peer;
      std::filesystem::remove_all(directory);
    }
    outstanding_.Add(ours.per_second(), theirs.per_second());
    batches_.Add(ours.per_second(), peers.per_second());
    Progress();
    return Status::Ok();
  }

  void Progress() {
    const std::uint64_t steps = std::size(kProducers) + 2;
    if (settings_.on_progress) {
      settings_.on_progress(++done_, steps * static_cast<std::uint64_t>(settings_.rounds));
    }
  }

  Report Conclude() {
    Report report{"commit", {}};
    const auto add = [&](const std::vector<Comparison>& rows) {
      report.comparisons.insert(report.comparisons.end(), rows.begin(), rows.end());
    };
    report.comparisons.push_back(latency_);
    if (DeviceWrites(settings_.directory)) report.comparisons.push_back(device_);
    add(reference_rows_);
    if (HasRocksDb()) add(rocksdb_rows_);
    if (HasRocksDb()) add(yardstick_rows_);
    report.comparisons.push_back(outstanding_);
    if (HasRocksDb()) report.comparisons.push_back(batches_);
    return report;
  }

  const Settings& settings_;
  const Slices slices_;
  std::unique_ptr<ProductLog> product_;
  std::unique_ptr<ReferenceWriter> reference_;
  std::unique_ptr<RawOverwrite> raw_;
  std::unique_ptr<Writer> rocksdb_;
  std::vector<Comparison> reference_rows_, rocksdb_rows_, yardstick_rows_;
  Comparison latency_, device_, outstanding_, batches_;
  std::uint64_t done_ = 0;
};

}  // namespace

Result<Report> RunCommit(const Settings& settings) { return CommitBench(settings).Run(); }

}  // namespace taskwal::bench
