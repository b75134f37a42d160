// A large log: reading it all, opening it, and draining it in bounded memory.
#include <filesystem>

#include "base/file_system.h"
#include "base/status_macros.h"
#include "bench/backlog.h"
#include "bench/comparison.h"
#include "bench/rocksdb_peer.h"
#include "bench/sqlite_yardstick.h"
#include "bench/workload.h"
#include "bench/yardsticks.h"
#include "recovery/scanner.h"
#include "taskwal/open.h"

namespace taskwal::bench {
namespace {

constexpr auto kFlushTimeout = std::chrono::minutes(10);
constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr std::uint64_t kTasks = 1'000;

struct Sizes {
  std::uint64_t scanned;       // records
  std::uint64_t drained;
  std::uint64_t peer_records;
};

Sizes SizesFor(const Settings& settings) {
  if (settings.quick) return {2'000, 2'000, 500};
  return {1u << 20, 4u << 20, 200'000};  // 256 MiB, 1 GiB
}

class RecoveryBench {
 public:
  explicit RecoveryBench(const Settings& settings)
      : settings_(settings), sizes_(SizesFor(settings)) {}

  Result<Report> Run() {
    scan_ = {"recovery scan", 0, "records/s", "plain checksum scan", AtLeast(0.5), {}, {}};
    replay_ = {"recovery scan", 0, "records/s", "RocksDB replay", AtLeast(12), {}, {}};
    open_ = {"open with a backlog", 0, "ms", "50 ms and one segment's scan", AtMost(1), {}, {}};
    memory_ = {"memory growth, draining into memory", 0, "MiB", "", AtMost(64), {}, {}};
    drain_ = {"drain into memory", 0, "records/s", "", {}, {}, {}};
    TASKWAL_TRY(MakeActivityLog(Path("scanned"), sizes_.scanned));
    TASKWAL_TRY(PlainScan(Path("scanned")).status());  // into the page cache
    TASKWAL_TRY(CheckGoesOn(settings_));
    TASKWAL_TRY(MakeActivityLog(Path("opened"), sizes_.scanned));
    for (int round = 0; round < settings_.rounds; ++round) {
      TASKWAL_TRY(CheckGoesOn(settings_));
      TASKWAL_TRY(ScanRound());
      TASKWAL_TRY(OpenRound());
      Progress();
    }
    TASKWAL_TRY(CheckGoesOn(settings_));
    // Once: it takes long, and memory does not drift.
    TASKWAL_TRY(DrainOnce());
    Progress();
    Report report{"recover", {scan_}};
    if (HasRocksDb()) report.comparisons.push_back(replay_);
    report.comparisons.insert(report.comparisons.end(), {open_, memory_, drain_});
    return report;
  }

 private:
  std::string Path(const std::string& name) const { return settings_.directory + "/" + name; }

  Status ScanRound() {
    const Stopwatch plain_watch;
    TASKWAL_ASSIGN(const std::uint64_t plain, PlainScan(Path("scanned")));
    const Rate theirs{plain, plain_watch.seconds()};
    const Stopwatch watch;
    TASKWAL_ASSIGN(const recovery::ScanReport report,
                   recovery::Scan(FileSystem::Real(), Path("scanned")));
    const Rate ours{report.scanned, watch.seconds()};
    if (plain != sizes_.scanned || report.scanned != plain || report.damaged()) {
      return Status::Corruption("the scans found " + std::to_string(plain) + " and " +
                                std::to_string(report.scanned) + " records of " +
                                std::to_string(sizes_.scanned));
    }
    scan_.Add(ours.per_second(), theirs.per_second());
    largest_segment_share_ = LargestShare(report);
    scan_seconds_ = ours.seconds;
    if (HasRocksDb()) {
      TASKWAL_ASSIGN(const Rate peer, RocksDbReplay(Path("rocksdb"), sizes_.peer_records));
      replay_.Add(ours.per_second(), peer.per_second());
      std::filesystem::remove_all(Path("rocksdb"));
    }
    return Status::Ok();
  }

  static double LargestShare(const recovery::ScanReport& report) {
    std::uint64_t largest = 0, all = 0;
    for (const recovery::SegmentSummary& segment : report.segments) {
      largest = std::max(largest, segment.records);
      all += segment.records;
    }
    return all > 0 ? static_cast<double>(largest) / static_cast<double>(all) : 0;
  }

  // Until the first call is acknowledged. The database is away, so that each round finds the whole
  // backlog.
  Status OpenRound() {
    Options options;
    options.wal_dir = Path("opened");
    options.enable_metrics = false;
    WriteOptions how;
    how.durability = Durability::kProcess;
    const Stopwatch watch;
    TASKWAL_ASSIGN(const auto storage,
                   OpenTaskStorage(SqliteDsn(Path("missing/tasks.db")), options));
    TASKWAL_TRY(storage->SaveTask(MakeTask(0), how).status());
    const double milliseconds = watch.seconds() * 1e3;
    open_.Add(milliseconds, 50 + 1e3 * scan_seconds_ * largest_segment_share_);
    const Status left = storage->Shutdown(ShutdownMode::kImmediate, kFlushTimeout);
    return left.code() == StatusCode::kUnavailable ? Status::Ok() : left;
  }

  Status DrainOnce() {
    std::filesystem::remove_all(Path("scanned"));
    std::filesystem::remove_all(Path("opened"));
    TASKWAL_TRY(MakeTaskLog(Path("drained"), {sizes_.drained, kTasks, 1}));
    Options options;
    options.wal_dir = Path("drained");
    options.enable_metrics = false;
    const std::uint64_t before = MemoryNow();
    ResetPeakMemory();
    const Stopwatch watch;
    TASKWAL_ASSIGN(const auto storage, OpenTaskStorage("memory:", options));
    TASKWAL_TRY(storage->Flush(kFlushTimeout));
    const Rate rate{sizes_.drained, watch.seconds()};
    const std::uint64_t peak = PeakMemory();
    drain_.Add(rate.per_second());
    memory_.Add(static_cast<double>(peak - std::min(peak, before)) / kMebibyte);
    return storage->Close();
  }

  void Progress() {
    if (settings_.on_progress) {
      settings_.on_progress(++done_, static_cast<std::uint64_t>(settings_.rounds) + 1);
    }
  }

  const Settings& settings_;
  const Sizes sizes_;
  Comparison scan_, replay_, open_, memory_, drain_;
  double largest_segment_share_ = 0;
  double scan_seconds_ = 0;
  std::uint64_t done_ = 0;
};

}  // namespace

Result<Report> RunRecover(const Settings& settings) { return RecoveryBench(settings).Run(); }

}  // namespace taskwal::bench
