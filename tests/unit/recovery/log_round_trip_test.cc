// The log's own writer and recovery against each other, on a simulated disk: whatever is killed,
// cut off from power or failing, no acknowledged record is lost, nothing sound is called damaged,
// and the repaired log is clean. Every run prints its seed when it fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/logging.h"
#include "base/status_macros.h"
#include "recovery/prepare_log.h"
#include "recovery/salvage.h"
#include "tests/support/fake_clock.h"
#include "tests/unit/recovery/log_fixture.h"
#include "wal/log.h"

namespace taskwal::recovery {
namespace {

using wal::Log;
using wal::Lsn;

std::string BodyOf(std::uint64_t seed, std::uint64_t number) {
  Random random(seed * 1000003 + number);
  std::string body = "record " + std::to_string(number) + " ";
  return body.append(random.OneIn(20) ? random.Below(9000) : random.Below(300), 'x');
}

// Segments are made of spares, and a file keeps the name that it was opened by.
constexpr char kSegmentPath[] = "spare-";

// One log over several lives, and what was promised of it.
class Machine {
 public:
  explicit Machine(std::uint64_t seed) : seed_(seed), fs_(seed, &clock_), random_(seed) {}

  Status Open() {
    PrepareOptions options;
    options.directory = kDirectory;
    report_ = {};
    Result<wal::LogStart> start = PrepareLog(fs_, options, &report_);
    if (!start.ok()) return start.status();
    wal::LogOptions how;
    how.directory = kDirectory;
    how.ring_bytes = 64u << 10;
    how.segment_bytes = 32u << 10;
    how.frame_bytes = 4u << 10;
    how.compression = random_.OneIn(2);
    how.sync_lanes = 2;
    how.start_threads = false;
    Result<std::unique_ptr<Log>> log = Log::Open(fs_, clock_, how, std::move(start).value());
    if (!log.ok()) return log.status();
    log_ = std::move(log).value();
    return Status::Ok();
  }

  // Something a process does; errors are what the simulated disk makes of it.
  void Act() {
    const std::uint64_t what = random_.Below(10);
    if (what < 6) return Append();
    if (what < 8) return Sync();
    if (what == 8) {
      log_->WriterStep();
    } else {
      log_->MaintenanceStep();
    }
    clock_.Advance(std::chrono::milliseconds(7));
  }

  void Append() {
    const std::string body = BodyOf(seed_, ++appended_);
    const bool disk = random_.OneIn(2);
    const auto lsn = log_->Append(
        {20, 0, appended_, appended_}, body.size(), disk ? Durability::kDisk : Durability::kProcess,
        {clock_.Now(), {}},
        [&](std::span<std::byte> into) { std::memcpy(into.data(), body.data(), body.size()); });
    if (!lsn.ok()) return;
    bodies_[*lsn] = body;
    if (!disk) in_process_ = std::max(in_process_, *lsn);
  }
  // Of frames: a spare is ready, should one be needed.
  void FailTheNextSync() {
    while (log_->MaintenanceStep()) {
    }
    Append();
    fs_.FailNth(1, {.call = SimulatedCall::kSync, .path_part = kSegmentPath});
    Sync();
    fs_.ClearFaults();
  }
  void Sync() {
    const Lsn end = log_->end_lsn();
    if (log_->WaitDurable(end, {clock_.Now(), {}}).ok()) on_disk_ = std::max(on_disk_, end);
  }
  // Long enough for the writer to name what was synced last.
  void Rest() {
    clock_.Advance(std::chrono::milliseconds(20));
    log_->WriterStep();
  }
  Status Close() {
    const Status closed = log_->Close();
    if (closed.ok()) on_disk_ = std::max(on_disk_, log_->end_lsn());
    log_.reset();
    return closed;
  }
  void Kill() {
    log_.reset();
    fs_.Kill();
  }
  void PowerLoss() {
    log_.reset();
    fs_.PowerLoss(random_);
    // Only what had reached the disk is promised to be there; the rest may be, or may be given
    // anew.
    in_process_ = 0;
    std::erase_if(bodies_, [&](const auto& record) { return record.first > on_disk_; });
  }

  ScanReport MustScan() {
    auto report = Scan(fs_, kDirectory);
    EXPECT_OK(report);
    return report.ok() ? std::move(report).value() : ScanReport{};
  }

  // Everything promised is there, as it was given.
  void CheckRecords() {
    wal::TailReader reader = log_->Tail(1);
    const Lsn promised = std::max(on_disk_, in_process_);
    ASSERT_OK(log_->WaitDurable(log_->end_lsn(), {}));
    ASSERT_LE(promised, log_->durable_lsn());
    std::map<Lsn, std::string> found;
    wal::Frame frame;
    while (true) {
      ASSERT_OK_AND_ASSIGN(const wal::TailEvent event, reader.Next(log_->durable_lsn(), &frame));
      if (event.kind == wal::TailEvent::Kind::kEnd) break;
      ASSERT_EQ(event.kind, wal::TailEvent::Kind::kFrame) << event.loss.from << event.detail;
      wal::FrameRecords records(frame.header, frame.raw);
      for (wal::RecordView record; records.Next(&record);) {
        if (record.lsn < event.from || record.lsn > event.to) continue;
        found[record.lsn].assign(reinterpret_cast<const char*>(record.body.data()),
                                 record.body.size());
      }
    }
    for (const auto& [lsn, body] : bodies_) {
      if (lsn <= promised) {
        ASSERT_EQ(found[lsn], body) << lsn;
      }
    }
    for (auto& [lsn, body] : found) bodies_[lsn] = body;
    on_disk_ = log_->durable_lsn();
  }

  // Beyond what retention keeps by time.
  void Age() { clock_.Advance(std::chrono::hours(48)); }
  [[nodiscard]] std::uint64_t appended() const { return appended_; }
  SimulatedFileSystem& fs() { return fs_; }
  Random& random() { return random_; }
  Log& log() { return *log_; }
  [[nodiscard]] const PrepareReport& report() const { return report_; }

 private:
  const std::uint64_t seed_;
  FakeClock clock_;
  SimulatedFileSystem fs_;
  Random random_;
  std::unique_ptr<Log> log_;
  PrepareReport report_;
  std::uint64_t appended_ = 0;
  std::map<Lsn, std::string> bodies_;
  Lsn on_disk_ = 0;
  Lsn in_process_ = 0;
};

void LiveOneLife(Machine& machine, bool with_power_loss) {
  ASSERT_OK(machine.Open());
  EXPECT_FALSE(std::any_of(machine.report().findings.begin(), machine.report().findings.end(),
                           [](const Finding& f) { return IsDamage(f.verdict); }))
      << Describe(machine.report().findings);
  machine.CheckRecords();
  if (::testing::Test::HasFailure()) return;
  machine.fs().CrashAfter(1 + machine.random().Below(120));
  for (int i = 0; i < 120 && !machine.fs().crashed(); ++i) machine.Act();
  if (!machine.fs().crashed() && machine.random().OneIn(3)) {
    IgnoreStatus(machine.Close(), "it may die while closing");
  }
  if (with_power_loss && machine.random().OneIn(2)) {
    machine.PowerLoss();
  } else {
    machine.Kill();
  }
  const ScanReport scan = machine.MustScan();
  EXPECT_FALSE(scan.damaged()) << Describe(scan.findings);
}

// The seeds of a run: the usual ones, or TASKWAL_SEED alone, or TASKWAL_SEEDS of them.
std::vector<std::uint64_t> Seeds(std::uint64_t usual) {
  if (const char* seed = std::getenv("TASKWAL_SEED")) return {std::stoull(seed)};
  const char* count = std::getenv("TASKWAL_SEEDS");
  std::vector<std::uint64_t> seeds(count != nullptr ? std::stoull(count) : usual);
  std::iota(seeds.begin(), seeds.end(), std::uint64_t{1});
  return seeds;
}

// The log says loudly what the simulated disk does to it.
class Quiet {
 public:
  Quiet() : level_(Logger().level()) { Logger().set_level(spdlog::level::off); }
  ~Quiet() { Logger().set_level(level_); }

 private:
  const spdlog::level::level_enum level_;
};

class LogCrashes : public ::testing::TestWithParam<bool> {
  Quiet quiet_;
};

TEST_P(LogCrashes, LoseNothingThatWasAcknowledged) {
  for (const std::uint64_t seed : Seeds(60)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Machine machine(seed);
    for (int life = 0; life < 6 && !HasFailure(); ++life) LiveOneLife(machine, GetParam());
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(By, LogCrashes, ::testing::Bool(), [](const auto& name) {
  return std::string(name.param ? "PowerLoss" : "Kill");
});

TEST(LogRoundTrip, ACleanEndLeavesNothingToRepairAndNothingUncovered) {
  Machine machine(7);
  ASSERT_OK(machine.Open());
  for (int i = 0; i < 150; ++i) machine.Act();
  ASSERT_OK(machine.Close());
  machine.Kill();
  const ScanReport scan = machine.MustScan();
  EXPECT_EQ(Describe(scan.findings), "");
  EXPECT_GT(scan.segments.size(), 1u);
  for (const SegmentSummary& segment : scan.segments) {
    EXPECT_TRUE(segment.sealed);
    const std::string path = PathOf(segment.number);
    for (std::uint64_t at = 0; at < segment.file_bytes; at += 211) {
      machine.fs().Corrupt(path, at, 0x10);
      EXPECT_TRUE(machine.MustScan().damaged()) << path << " at " << at;
      machine.fs().Corrupt(path, at, 0x10);
    }
  }
}

// The footer of a segment must not reach the disk before the idle frame in front of it.
TEST(LogRoundTrip, ALossOfPowerWhileSealingBehindAnIdleFrameIsNoDamage) {
  const Quiet quiet;
  for (const std::uint64_t seed : Seeds(640)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Machine machine(seed);
    ASSERT_OK(machine.Open());
    machine.Append();
    machine.Sync();
    machine.Rest();
    machine.fs().CrashAfter(1 + seed % 16);
    IgnoreStatus(machine.Close(), "it may die while closing");
    machine.PowerLoss();
    const ScanReport scan = machine.MustScan();
    ASSERT_FALSE(scan.damaged()) << Describe(scan.findings);
  }
}

std::vector<std::uint64_t> UnsealedOf(FileSystem& fs) {
  const auto state = wal::ReadState(fs, kDirectory);
  EXPECT_OK(state);
  return state.ok() ? state->unsealed : std::vector<std::uint64_t>();
}

TEST(LogRoundTrip, AFailedSyncLeavesNoDamageBehind) {
  const Quiet quiet;
  std::uint64_t closed = 0;
  std::uint64_t given_up = 0;
  for (const std::uint64_t seed : Seeds(40)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Machine machine(seed);
    ASSERT_OK(machine.Open());
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 30; ++i) machine.Act();
      machine.FailTheNextSync();
    }
    for (int i = 0; i < 30; ++i) machine.Act();
    if (seed % 2 == 0 && machine.log().health().ok()) {
      ASSERT_OK(machine.Close());
      ++closed;
      given_up += UnsealedOf(machine.fs()).size();
    }
    machine.Kill();
    const ScanReport scan = machine.MustScan();
    ASSERT_FALSE(scan.damaged()) << Describe(scan.findings);
    ASSERT_OK(machine.Open());
    machine.CheckRecords();
    ASSERT_OK(machine.Close());
    machine.Kill();
    const ScanReport again = machine.MustScan();
    ASSERT_FALSE(again.damaged()) << Describe(again.findings);
    if (HasFailure()) return;
  }
  // Not those where the failure met the making of a segment: then the log is read-only.
  if (closed > 5) {
    EXPECT_GT(given_up, closed);
  }
}

// Whatever makes a segment end without a footer, STATE names it for as long as it stays so.
TEST(LogRoundTrip, ASegmentThatCannotBeSealedIsNamed) {
  const Quiet quiet;
  for (const bool is_sync : {true, false}) {
    Machine machine(3);
    ASSERT_OK(machine.fs().MakeDirectories(kDirectory));
    // Of no size that a segment is made with.
    WriteFile(machine.fs(), wal::JoinPath(kDirectory, "spare-00000001"),
              std::vector<std::byte>((32u << 10) + 512));
    ASSERT_OK(machine.Open());
    machine.Append();
    machine.Sync();
    if (is_sync) {
      machine.FailTheNextSync();
    } else {
      machine.fs().FailNth(1, {.call = SimulatedCall::kTruncate, .path_part = kSegmentPath});
    }
    for (int i = 0; i < 400 && UnsealedOf(machine.fs()).empty(); ++i) machine.Act();
    machine.fs().ClearFaults();
    EXPECT_EQ(UnsealedOf(machine.fs()), (std::vector<std::uint64_t>{1}));
    for (int i = 0; i < 200; ++i) machine.Act();  // later ones are sealed
    machine.Kill();
    EXPECT_FALSE(machine.MustScan().damaged()) << Describe(machine.MustScan().findings);
    ASSERT_OK(machine.Open());
    machine.CheckRecords();
    ASSERT_OK(machine.Close());
    EXPECT_EQ(UnsealedOf(machine.fs()), (std::vector<std::uint64_t>{1}));
    EXPECT_FALSE(machine.MustScan().damaged()) << Describe(machine.MustScan().findings);
  }
}

// What the buffer has given back stands in the condemned file alone, until it stands as a whole in
// the fresh one.
TEST(LogRoundTrip, AKillWhileAFailedSyncIsMadeUpForLosesNothing) {
  const Quiet quiet;
  bool finished = false;
  for (std::uint64_t n = 1; !finished; ++n) {
    Machine machine(n);
    ASSERT_OK(machine.Open());
    for (int i = 0; i < 40; ++i) machine.Append();
    while (machine.log().WriterStep()) {
    }
    machine.fs().FailNth(1, {.call = SimulatedCall::kSync, .path_part = kSegmentPath});
    machine.fs().CrashAfter(n);
    machine.Sync();
    finished = !machine.fs().crashed();
    machine.fs().ClearFaults();
    machine.Kill();
    ASSERT_OK(machine.Open());
    EXPECT_FALSE(machine.MustScan().damaged()) << n << Describe(machine.MustScan().findings);
    machine.CheckRecords();
    if (HasFailure()) return;
  }
}

TEST(LogRoundTrip, WhatStandsInASegmentThatCouldNotBeReadOnceIsFound) {
  const Quiet quiet;
  Machine machine(5);
  ASSERT_OK(machine.Open());
  for (int i = 0; i < 400; ++i) machine.Act();
  machine.Sync();
  const Lsn end = machine.log().end_lsn();
  machine.Kill();
  ASSERT_OK(machine.Open());
  ASSERT_GT(machine.log().GetStats().segments, 3u);
  // Those of the last process are looked at, a few at a time.
  machine.fs().FailNth(1, {.call = SimulatedCall::kRead, .path_part = "wal-", .sticky = true});
  machine.log().MaintenanceStep();
  machine.fs().ClearFaults();
  std::set<Lsn> found;
  for (std::uint64_t key = 1; key <= machine.appended(); ++key) {
    ASSERT_OK(machine.log().Lookup(key, 1, [&](const wal::RecordView& record) {
      found.insert(record.lsn);
      return true;
    }));
  }
  EXPECT_EQ(found.size(), end);
}

// One that is retired goes with the next open at the latest: until then nobody takes it for
// damaged.
TEST(LogRoundTrip, ASegmentWithoutAFooterIsNamedUntilItIsGone) {
  const Quiet quiet;
  Machine machine(3);
  ASSERT_OK(machine.Open());
  machine.Append();
  machine.Sync();
  machine.FailTheNextSync();
  for (int i = 0; i < 600; ++i) machine.Act();
  machine.Sync();
  const std::vector<std::uint64_t> unsealed = UnsealedOf(machine.fs());
  ASSERT_FALSE(unsealed.empty());
  const std::string path = PathOf(unsealed.front());
  machine.Age();
  for (const auto call : {SimulatedCall::kRename, SimulatedCall::kRemove}) {
    machine.fs().FailNth(1, {.call = call, .path_part = path});
  }
  const auto retire = [&](Lsn flushed) {
    return machine.log().Retire(flushed, std::vector<Lsn>(16, flushed));
  };
  EXPECT_THAT(retire(machine.log().durable_lsn() / 2), StatusIs(StatusCode::kIoError));
  machine.fs().ClearFaults();
  ASSERT_OK(retire(machine.log().durable_lsn() / 4 * 3));  // a sealed one is left
  ASSERT_TRUE(machine.fs().Exists(path));
  EXPECT_FALSE(machine.MustScan().damaged()) << Describe(machine.MustScan().findings);
  machine.Kill();
  ASSERT_OK(machine.Open());
  EXPECT_FALSE(machine.MustScan().damaged()) << Describe(machine.MustScan().findings);
}

TEST(LogRoundTrip, WhatTheNextOpenSealsIsNamedNoMore) {
  const Quiet quiet;
  Machine machine(3);
  ASSERT_OK(machine.Open());
  machine.Append();
  machine.fs().FailNth(1, {.call = SimulatedCall::kTruncate, .path_part = kSegmentPath});
  ASSERT_OK(machine.Close());
  machine.fs().ClearFaults();
  EXPECT_EQ(UnsealedOf(machine.fs()), (std::vector<std::uint64_t>{1}));
  EXPECT_FALSE(machine.MustScan().damaged()) << Describe(machine.MustScan().findings);
  ASSERT_OK(machine.Open());
  ASSERT_OK(machine.Close());
  EXPECT_TRUE(UnsealedOf(machine.fs()).empty());
  machine.fs().TruncateFile(PathOf(1), machine.fs().Content(PathOf(1)).size() - 512);
  EXPECT_TRUE(machine.MustScan().damaged());
}

}  // namespace
}  // namespace taskwal::recovery
