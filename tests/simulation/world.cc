#include "tests/simulation/world.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "pipeline/flush/dead_letters.h"
#include "pipeline/option_fields.h"
#include "recovery/scanner.h"
#include "wal/log_directory.h"

namespace taskwal {

using pipeline::DeadLetter;

namespace {

constexpr char kDirectory[] = "/wal";
constexpr char kCopy[] = "/copy";
constexpr std::uint64_t kRecordsWanted = 1000;
constexpr std::uint64_t kCrashesWanted = 5;
constexpr std::uint64_t kLivesMax = 60;

}  // namespace

World::World(std::uint64_t seed, bool is_traced)
    : is_traced_(is_traced),
      random_(seed),
      threads_(random_.Next()),
      disk_(random_.Next(), &Clock::Real()),
      fs_(disk_, random_.Next(), coverage_),
      database_(random_.Next(), coverage_),
      ledger_(coverage_),
      partitions_(OneOf<std::uint32_t>({1, 2, 4, 16})),
      has_rough_disk_(random_.OneIn(3)),
      has_rough_database_(!random_.OneIn(3)),
      is_rotten_(random_.OneIn(12)),
      poison_one_in_(OneOf<std::uint64_t>({400, 1000, 1'000'000})) {
  database_.OnCommit([this](const storage::Batch& batch) {
    if (is_traced_) TraceBatch(batch);
    ledger_.Committed(batch);
  });
  // What comes after the first failure says nothing more.
  ledger_.OnFailure([this] {
    Trace("FAILED: " + ledger_.failure());
    if (SimulatedThreads::current() != nullptr) threads_.Die();
  });
}

void World::Trace(const std::string& what) const {
  if (!is_traced_) return;
  std::fprintf(stderr, "%12.6f life %llu: %s\n", static_cast<double>(threads_.now()) / 1e9,
               static_cast<unsigned long long>(lives_), what.c_str());
}

void World::TraceBatch(const storage::Batch& batch) const {
  std::string text = fmt::format("commit in epoch {}{}:", batch.epoch,
                                 batch.idempotent ? ", idempotent" : "");
  for (const auto& move : batch.moves) {
    text += fmt::format(" {}:{}-{}", move.partition, move.expected, move.to);
  }
  for (const auto& gone : batch.dag_deletes) {
    text += fmt::format(" {} deleted at {}", gone.dag_id, gone.origin.lsn);
  }
  for (const auto& change : batch.tasks) {
    text += fmt::format(" {} kind {} at {}", change.id, static_cast<int>(change.kind),
                        change.origin.lsn);
  }
  Trace(text + fmt::format(" and {} activities", batch.activities.size()));
}

SeedOutcome World::Run() {
  while (!has_failed() && lives_ < kLivesMax &&
         (ledger_.operations() < kRecordsWanted || crashes_ < kCrashesWanted)) {
    Live(Draw(false));
    if (!has_failed()) BetweenLives();
  }
  if (!has_failed()) Live(Draw(true));
  if (!has_failed()) CheckAll(true);
  return {ledger_.failure(), coverage_, ledger_.operations(), crashes_, lives_,
          threads_.steps(), threads_.fingerprint()};
}

World::Plan World::Draw(bool is_last) {
  Plan plan;
  plan.is_last = is_last;
  plan.options = DrawOptions();
  disk_.ClearFaults();
  disk_.SetCapacity(1ull << 40);
  database_.SetOdds({});
  fs_.SetOdds({});
  plan.odds.switch_one_in = OneOf<std::uint64_t>({2, 8, 8, 32});
  if (is_last) {
    plan.calls = 0;
    plan.odds.kill_after = 5'000'000;
    plan.close_timeout = std::chrono::minutes(10);
    return plan;
  }
  plan.callers = 1 + static_cast<std::uint32_t>(random_.Below(4));
  plan.calls = (40 + static_cast<std::uint32_t>(random_.Below(400))) / plan.callers;
  plan.salvage = is_rotten_ && random_.OneIn(3);
  plan.mode = OneOf<ShutdownMode>(
      {ShutdownMode::kGraceful, ShutdownMode::kFlushPending, ShutdownMode::kImmediate});
  // Most die; some early, in the midst of opening, too.
  if (random_.OneIn(6)) {
    plan.odds.kill_after = 1'000'000;
  } else {
    plan.odds.kill_after =
        random_.OneIn(6) ? 1 + random_.Below(1500) : 1000 + random_.Below(25'000);
  }
  if (random_.OneIn(4)) disk_.CrashAfter(1 + random_.Below(1 + random_.Below(600)));
  database_.SetOdds(DrawDatabaseOdds());
  fs_.SetOdds({OneOf<std::uint64_t>({4, 16, 64}), random_.OneIn(6) ? 200u : 0u});
  ArmDiskFaults(&plan);
  if (random_.OneIn(40)) {
    const auto space = disk_.Space("/");
    const std::uint64_t used = space.ok() ? space->total - space->available : 0;
    disk_.SetCapacity(used + random_.Below(300u << 10));
    plan.is_full_disk = true;
  }
  return plan;
}

void World::Live(const Plan& plan) {
  ++lives_;
  is_drained_ = false;
  const Status checked = pipeline::CheckOptions(plan.options);
  if (!checked.ok()) return ledger_.Fail("options: " + checked.ToString());
  const SimulatedThreads::End end = threads_.Run([&] { Process(plan); }, plan.odds);
  Trace(end == SimulatedThreads::End::kKilled ? "killed" : "ended");
  if (end == SimulatedThreads::End::kStuck) {
    return ledger_.Fail("all threads wait for ever:\n" + threads_.Describe());
  }
  if (plan.is_last && end == SimulatedThreads::End::kKilled) {
    return ledger_.Fail("it does not come to an end");
  }
  if (end == SimulatedThreads::End::kKilled) {
    coverage_.Note(disk_.crashed() ? Seen::kKillInCall : Seen::kKill);
  }
  Crash(end == SimulatedThreads::End::kKilled);
}

void World::Crash(bool was_killed) {
  if (was_killed) ++crashes_;
  // The power may go at any time, behind an orderly end, too.
  if (random_.OneIn(was_killed ? 2 : 8)) {
    coverage_.Note(Seen::kPowerCut);
    PowerLossOdds odds;
    odds.kept = OneOf<double>({0.0, 0.2, 0.5, 0.9});
    odds.garbage = OneOf<double>({0.0, 0.05, 0.5});
    disk_.PowerLoss(random_, odds);
    after_power_cut_ = true;
    Trace("power cut");
  } else {
    disk_.Kill();
  }
}

void World::BetweenLives() {
  disk_.ClearFaults();
  CheckAll(is_drained_);
  if (is_rotten_ && random_.OneIn(4)) FlipABit();
  if (random_.OneIn(8)) Verify();
  if (!has_copy_ && is_contacted_ && random_.OneIn(40)) TryCopy();
  if (random_.OneIn(2)) {
    threads_.Run([&] { database_.LandLateCommits(); }, {});
  }
}

// A copy of the directory, opened beside a database that knows the original, is refused.
void World::TryCopy() {
  has_copy_ = true;
  disk_.SetCapacity(1ull << 40);
  disk_.CopyTree(kDirectory, kCopy);
  database_.SetOdds({});
  threads_.Run(
      [&] {
        pipeline::WalStorageSetup setup;
        setup.options.wal_dir = kCopy;
        setup.options.partitions = partitions_;
        setup.options.ring_bytes = 16u << 10;
        setup.options.segment_bytes = 16u << 10;
        setup.backend = database_.Open();
        setup.fs = &fs_;
        const auto storage = pipeline::WalTaskStorage::Open(std::move(setup));
        if (storage.status().code() == StatusCode::kFenced) {
          coverage_.Note(Seen::kCopyRefused);
        } else {
          ledger_.Fail("a copy of the directory was opened: " + storage.status().ToString());
        }
      },
      {});
  disk_.Kill();
}

void World::FlipABit() {
  const auto segments = wal::ListSegments(disk_, kDirectory);
  if (!segments.ok() || segments->empty()) return;
  const std::string path = wal::JoinPath(
      kDirectory, wal::SegmentName((*segments)[random_.Below(segments->size())]));
  const auto found = disk_.Stat(path);
  if (!found.ok() || found->size == 0) return;
  coverage_.Note(Seen::kFlippedBit);
  ledger_.DataMayRot();
  const std::uint64_t offset = random_.Below(random_.OneIn(2) ? found->size : 4096) % found->size;
  disk_.Corrupt(path, offset, static_cast<std::uint8_t>(1u << random_.Below(8)));
  Trace(fmt::format("a bit flips in {} at {}", path, offset));
}

void World::Verify() {
  coverage_.Note(Seen::kVerify);
  const auto report = recovery::Scan(disk_, kDirectory);
  if (!report.ok()) {
    // A machine may have lost its power before the directory was there.
    if (report.status().code() == StatusCode::kNotFound && flushed_ == 0) return;
    if (!ledger_.may_lose()) ledger_.Fail("verify: " + report.status().ToString());
    return;
  }
  if (report->damaged() && !ledger_.may_lose() && !disk_was_rough_) {
    const auto& finding = report->findings.empty() ? recovery::Finding() : report->findings.front();
    ledger_.Fail(fmt::format("verify reports damage, and there is none: {} at {}: {}", finding.file,
                             finding.offset, finding.detail));
  }
}

void World::CheckAll(bool is_all) {
  Ledger::Database found;
  found.is_all = is_all;
  found.flushed = flushed_;
  found.lost = lost_;
  std::vector<std::string> damage;
  auto letters = pipeline::DeadLetters::Open(disk_, kDirectory, /*read_only=*/true, &damage);
  for (const std::string& what : damage) Trace("dead letters: " + what);
  if (!letters.ok()) {
    Trace("dead letters: " + letters.status().ToString());
  } else {
    const Status read = (*letters)->ForEach([&](const DeadLetter& letter) {
      if (letter.kind == DeadLetter::Kind::kLoss) {
        found.lost.push_back(letter.lsns);
        lost_.push_back(letter.lsns);
        coverage_.Note(Seen::kDeclaredLoss);
      } else {
        letters_.insert(letter.origin().key.lsn);
        coverage_.Note(Seen::kLetter);
      }
      return true;
    });
    if (!read.ok()) ledger_.Fail("dead letters: " + read.ToString());
  }
  found.letters = letters_;
  auto session = database_.data().Connect();
  for (const std::string& id : ledger_.tasks()) {
    const auto row = (*session)->GetTask(id);
    if (row.ok()) found.tasks[id] = Ledger::RowOf(row->task);
  }
  if ((*session)->Count()->tasks != found.tasks.size()) {
    ledger_.Fail("the database has tasks that nobody saved");
  }
  ledger_.Check(found);
}

}  // namespace taskwal
