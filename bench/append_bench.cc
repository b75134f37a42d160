// Level `process`: what an append costs its caller while the log writes behind.
#include <filesystem>

#include "base/status_macros.h"
#include "bench/comparison.h"
#include "bench/product_log.h"
#include "bench/quill_peer.h"
#include "bench/reference_writer.h"
#include "bench/rocksdb_peer.h"
#include "bench/spdlog_peer.h"
#include "bench/workload.h"

namespace taskwal::bench {
namespace {

constexpr int kProducers[] = {1, 2, 4, 8};
constexpr int kPacedProducers[] = {1, 4};
constexpr double kPacedRate = 50'000;

// The reference measured against RocksDB elsewhere: a slower yardstick would flatter us.
constexpr double kReferenceOverRocksDb[] = {27.8, 26.0, 24.4, 30.0};
constexpr double kYardstickMargin = 0.8;

struct Sizes {
  std::uint64_t warm_up, records, peer_records, quill_records;
  std::chrono::milliseconds paced;
};

Sizes SizesFor(const Settings& settings) {
  if (settings.quick) return {1'000, 4'000, 1'000, 1'000, std::chrono::milliseconds(20)};
  // More for quill, whose queues (one per producer) would hold a good part of fewer.
  return {1'500'000, 4'000'000, 200'000, 1'000'000, std::chrono::milliseconds(2'000)};
}

struct Rows {
  Comparison reference, rocksdb, yardstick, spdlog, quill, collapse;
};

Rows RowsFor(std::size_t index) {
  const int producers = kProducers[index];
  const std::string scenario = "append process";
  Rows rows;
  rows.reference = {
      scenario, producers, "records/s", "reference", AtLeast(producers == 1 ? 0.6 : 0.8), {}, {}};
  rows.rocksdb = {scenario, producers, "records/s", "RocksDB WAL, unsynced",
                  producers == 1 ? AtLeast(16) : Goal{}, {}, {}};
  rows.yardstick = {"the reference itself", producers, "records/s", "RocksDB WAL, unsynced",
                    AtLeast(kYardstickMargin * kReferenceOverRocksDb[index]), {}, {}};
  rows.spdlog = {scenario, producers, "records/s", "spdlog asynchronous, blocking", {}, {}, {}};
  rows.quill = {scenario, producers, "records/s", "quill, blocking",
                producers == 1 ? AtLeast(2) : Goal{}, {}, {}};
  rows.collapse = {scenario, producers, "records/s", "ours with 1 producer",
                   producers == 8 ? AtLeast(0.6) : Goal{}, {}, {}};
  return rows;
}

class AppendBench {
 public:
  explicit AppendBench(const Settings& settings)
      : settings_(settings), sizes_(SizesFor(settings)) {}

  Result<Report> Run() {
    TASKWAL_ASSIGN(product_,
                   ProductLog::Open(settings_.directory + "/product", Durability::kProcess));
    TASKWAL_ASSIGN(reference_, ReferenceWriter::Open(settings_.directory + "/reference", false));
    AppendRecords(*product_, 1, sizes_.warm_up);
    AppendRecords(*reference_, 1, sizes_.warm_up / 4);
    for (std::size_t i = 0; i < std::size(kProducers); ++i) rows_.push_back(RowsFor(i));
    for (int round = 0; round < settings_.rounds; ++round) {
      TASKWAL_TRY(ThroughputRound(round));
      TASKWAL_TRY(CheckGoesOn(settings_));
      TASKWAL_TRY(PacedRound(round));
      TASKWAL_TRY(product_->health());
      TASKWAL_TRY(reference_->health());
    }
    return Conclude();
  }

 private:
  Status ThroughputRound(int round) {
    double alone = 0;
    for (std::size_t i = 0; i < std::size(kProducers); ++i) {
      TASKWAL_TRY(CheckGoesOn(settings_));
      const int producers = kProducers[i];
      Rate ours, theirs;
      // Who goes first changes, so that neither always finds the machine as the other left it.
      if (round % 2 == 0) ours = AppendRecords(*product_, producers, sizes_.records);
      theirs = AppendRecords(*reference_, producers, sizes_.records);
      if (round % 2 != 0) ours = AppendRecords(*product_, producers, sizes_.records);
      if (i == 0) alone = ours.per_second();
      rows_[i].reference.Add(ours.per_second(), theirs.per_second());
      rows_[i].collapse.Add(ours.per_second(), alone);
      TASKWAL_ASSIGN(const Rate logger, SpdlogRate(producers));
      rows_[i].spdlog.Add(ours.per_second(), logger.per_second());
      if (HasQuill()) {
        TASKWAL_ASSIGN(const Rate peer, QuillRate(producers));
        rows_[i].quill.Add(ours.per_second(), peer.per_second());
      }
      if (HasRocksDb()) {
        TASKWAL_ASSIGN(const Rate peer, RocksDbRate(producers));
        rows_[i].rocksdb.Add(ours.per_second(), peer.per_second());
        rows_[i].yardstick.Add(theirs.per_second(), peer.per_second());
      }
      Progress();
    }
    return Status::Ok();
  }

  Result<Rate> SpdlogRate(int producers) {
    const std::string path = settings_.directory + "/spdlog";
    Rate rate;
    {
      TASKWAL_ASSIGN(const auto peer, OpenSpdlog(path));
      rate = AppendRecords(*peer, producers, sizes_.peer_records);
      TASKWAL_TRY(peer->health());
    }
    std::filesystem::remove(path);
    return rate;
  }

  Result<Rate> QuillRate(int producers) {
    const std::string path = settings_.directory + "/quill";
    Rate rate;
    {
      TASKWAL_ASSIGN(const auto peer, OpenQuill(path));
      rate = AppendRecords(*peer, producers, sizes_.quill_records);
      TASKWAL_TRY(peer->health());
    }
    std::filesystem::remove(path);
    return rate;
  }

  Result<Rate> RocksDbRate(int producers) {
    const std::string directory = settings_.directory + "/rocksdb";
    Rate rate;
    {
      TASKWAL_ASSIGN(const auto peer, OpenRocksDb(directory, false));
      rate = AppendRecords(*peer, producers, sizes_.peer_records);
      TASKWAL_TRY(peer->health());
    }
    std::filesystem::remove_all(directory);
    return rate;
  }

  Status PacedRound(int round) {
    constexpr double kFractions[] = {0.5, 0.99, 0.999};
    constexpr const char* kNames[] = {"p50", "p99", "p999"};
    std::size_t row = 0;
    for (const int producers : kPacedProducers) {
      std::vector<double> theirs, ours;
      if (round % 2 == 0) ours = PacedLatencies(*product_, producers, kPacedRate, sizes_.paced);
      theirs = PacedLatencies(*reference_, producers, kPacedRate, sizes_.paced);
      if (round % 2 != 0) ours = PacedLatencies(*product_, producers, kPacedRate, sizes_.paced);
      for (std::size_t i = 0; i < std::size(kFractions); ++i, ++row) {
        if (round == 0) {
          const std::string scenario = std::string("append at 50,000/s, ") + kNames[i];
          paced_.push_back({scenario, producers, "ns", "reference", {}, {}, {}});
          const double bound = i == 0 ? 150 : 1'000;
          const bool has_goal = producers == 1 && i < 2;
          paced_alone_.push_back(
              {scenario, producers, "ns", "", has_goal ? AtMost(bound) : Goal{}, {}, {}});
        }
        const double our = Percentile(&ours, kFractions[i]);
        paced_[row].Add(our, Percentile(&theirs, kFractions[i]));
        paced_alone_[row].Add(our);
      }
      if (HasQuill()) TASKWAL_TRY(AddTailBesideQuill(round, producers, &ours));
      Progress();
    }
    return Status::Ok();
  }

  // The tail alone: there a lock shows.
  Status AddTailBesideQuill(int round, int producers, std::vector<double>* ours) {
    const std::string path = settings_.directory + "/quill";
    std::vector<double> theirs;
    {
      TASKWAL_ASSIGN(const auto peer, OpenQuill(path));
      theirs = PacedLatencies(*peer, producers, kPacedRate, sizes_.paced);
      TASKWAL_TRY(peer->health());
    }
    std::filesystem::remove(path);
    if (round == 0) {
      paced_quill_.push_back(
          {"append at 50,000/s, p999", producers, "ns", "quill, blocking", {}, {}, {}});
    }
    for (Comparison& row : paced_quill_) {
      if (row.producers == producers) row.Add(Percentile(ours, 0.999), Percentile(&theirs, 0.999));
    }
    return Status::Ok();
  }

  void Progress() {
    const std::uint64_t steps = std::size(kProducers) + std::size(kPacedProducers);
    if (settings_.on_progress) {
      settings_.on_progress(++done_, steps * static_cast<std::uint64_t>(settings_.rounds));
    }
  }

  Report Conclude() {
    Report report{"append", {}};
    for (const Rows& rows : rows_) report.comparisons.push_back(rows.reference);
    for (const Rows& rows : rows_) {
      if (rows.collapse.producers > 1) report.comparisons.push_back(rows.collapse);
    }
    for (const Rows& rows : rows_) report.comparisons.push_back(rows.spdlog);
    for (const Rows& rows : rows_) {
      if (HasQuill()) report.comparisons.push_back(rows.quill);
    }
    for (const Rows& rows : rows_) {
      if (HasRocksDb()) report.comparisons.push_back(rows.rocksdb);
    }
    for (const Rows& rows : rows_) {
      if (HasRocksDb()) report.comparisons.push_back(rows.yardstick);
    }
    for (std::size_t i = 0; i < paced_.size(); ++i) {
      if (paced_alone_[i].goal.kind != Goal::Kind::kNone) {
        report.comparisons.push_back(paced_alone_[i]);
      }
      report.comparisons.push_back(paced_[i]);
    }
    for (const Comparison& row : paced_quill_) report.comparisons.push_back(row);
    return report;
  }

  const Settings& settings_;
  const Sizes sizes_;
  std::unique_ptr<ProductLog> product_;
  std::unique_ptr<ReferenceWriter> reference_;
  std::vector<Rows> rows_;
  std::vector<Comparison> paced_, paced_alone_, paced_quill_;
  std::uint64_t done_ = 0;
};

}  // namespace

Result<Report> RunAppend(const Settings& settings) { return AppendBench(settings).Run(); }

}  // namespace taskwal::bench
