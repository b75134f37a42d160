#include "tests/simulation/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>
#include <utility>

#include "pipeline/flush/dead_letters.h"
#include "pipeline/option_fields.h"
#include "pipeline/targets/target_plan.h"
#include "recovery/scanner.h"
#include "wal/log_directory.h"
#include "wal/state_file.h"

namespace taskwal {

using pipeline::DeadLetter;

namespace {

constexpr char kDirectory[] = "/wal";
constexpr std::uint64_t kLivesMax = 60;
// So long has a machine one database that will have several.
constexpr std::uint64_t kLivesWithOne = 4;

// Of a copy that goes by a name of its own, or of a program without a log: not the ledger's.
bool IsOfOthers(const storage::Batch& batch) {
  const auto is_other = [](const std::string& text) { return text.starts_with("other-"); };
  return (!batch.activities.empty() && is_other(batch.activities.front().activity.message)) ||
         (!batch.tasks.empty() && is_other(batch.tasks.front().id)) ||
         (!batch.dag_deletes.empty() && is_other(batch.dag_deletes.front().dag_id));
}

}  // namespace

World::World(std::uint64_t seed, bool is_traced)
    : is_traced_(is_traced),
      seed_(seed),
      random_(SeedOf(Concern::kMachine)),
      threads_(SeedOf(Concern::kThreads)),
      disk_(SeedOf(Concern::kDisk), &Clock::Real()),
      fs_(disk_, SeedOf(Concern::kFiles), coverage_),
      ledger_(coverage_),
      partitions_(OneOf<std::uint32_t>({1, 2, 4, 16})),
      has_rough_disk_(random_.OneIn(3)),
      has_rough_database_(!random_.OneIn(3)),
      has_replica_(random_.OneIn(5)),
      is_rotten_(random_.OneIn(12)),
      poison_one_in_(OneOf<std::uint64_t>({400, 1000, 1'000'000})),
      has_several_targets_(random_.OneIn(10)),
      begins_with_one_(has_several_targets_ && Random(SeedOf(Concern::kMore)).OneIn(3)),
      is_protecting_(Random(SeedOf(Concern::kMore, 1)).OneIn(10)) {
  MakeDatabases();
  // What comes after the first failure says nothing more.
  ledger_.OnFailure([this] {
    Trace("FAILED: " + ledger_.failure());
    if (SimulatedThreads::current() != nullptr) threads_.Die();
  });
}

void World::MakeDatabases() {
  const std::uint64_t count = has_several_targets_ ? 2 + random_.Below(2) : 1;
  for (std::uint64_t i = 0; i < count; ++i) {
    auto database = std::make_unique<SimulatedDatabase>(SeedOf(Concern::kDatabase, i), coverage_);
    database->OnCommit([this](const storage::Batch& batch) {
      if (is_traced_) TraceBatch(batch);
      if (!IsOfOthers(batch)) return ledger_.Committed(batch);
      for (const auto& row : batch.activities) of_others_.push_back(row.activity.id);
    });
    database->OnRepeat([this](const storage::Batch::ActivityRow& row) { ledger_.Repeated(row); });
    // What stands in the midst of it, and in which home, is in no log.
    database->MayFailOver([this] { return !is_moving_; });
    database->OnFailover([this, i](std::span<const storage::Batch> undone, bool is_behind_move) {
      WentBack(i, undone, is_behind_move);
    });
    databases_.push_back(std::move(database));
  }
  returned_.resize(databases_.size());
  went_behind_move_.resize(databases_.size());
}

std::string World::TargetName(std::size_t index) const {
  if (index == 0 && begins_with_one_) return std::string(pipeline::kDefaultTarget);
  return std::string(1, static_cast<char>('a' + index));
}

// What the directory has met before, it has to be given again.
bool World::HasSeveralNow() const {
  if (!has_several_targets_) return false;
  return !begins_with_one_ || lives_ > kLivesWithOne;
}

// The databases as a process has them: the only one, or targets of some weight.
void World::SetUp(std::span<const std::uint32_t> weights, pipeline::WalStorageSetup* setup) {
  setup->fs = &fs_;
  if (!HasSeveralNow()) {
    setup->backend = databases_.front()->Open();
    return;
  }
  for (std::size_t i = 0; i < databases_.size(); ++i) {
    setup->targets.push_back({TargetName(i), weights[i], databases_[i]->Open()});
  }
}

std::uint64_t World::SeedOf(Concern concern, std::uint64_t number) const {
  std::uint64_t seed = seed_;
  for (const std::uint64_t part : {lives_, static_cast<std::uint64_t>(concern), number}) {
    seed = Random(seed).Next() + part;
  }
  return seed;
}

void World::BeginLife() {
  ++lives_;
  stop_ = std::stop_source();  // who waited for the one before is dead
  random_ = Random(SeedOf(Concern::kPlan));
  threads_.Reseed(SeedOf(Concern::kThreads));
  disk_.Reseed(SeedOf(Concern::kDisk));
  fs_.Reseed(SeedOf(Concern::kFiles));
  for (std::size_t i = 0; i < databases_.size(); ++i) {
    databases_[i]->Reseed(SeedOf(Concern::kDatabase, i));
  }
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
  while (!has_failed() && !is_refused_ && lives_ < kLivesMax &&
         (ledger_.records() < kRecordsWanted || crashes_ < kCrashesWanted)) {
    BeginLife();
    Live(Draw(false));
    if (!has_failed()) BetweenLives();
  }
  BeginLife();
  if (!has_failed() && !is_refused_) Live(Draw(true));
  if (!has_failed() && std::exchange(needs_adoption_, false)) {
    AdoptAsMoved();
    BeginLife();
    Live(Draw(true));
  }
  if (!has_failed()) CheckAll(!is_refused_);
  if (!has_failed() && !is_refused_ && Random(SeedOf(Concern::kMore)).OneIn(8)) KeepHouse();
  NoteFates();
  return {ledger_.failure(), coverage_, ledger_.records(), crashes_, lives_,
          threads_.steps(), threads_.fingerprint()};
}

void World::NoteFates() {
  const DiskFates fates = disk_.fates();
  coverage_.Note(Seen::kSectorKept, fates.sectors_kept);
  coverage_.Note(Seen::kSectorLost, fates.sectors_lost);
  coverage_.Note(Seen::kSectorStale, fates.sectors_stale);
  coverage_.Note(Seen::kSectorGarbage, fates.sectors_garbage);
  coverage_.Note(Seen::kNameKept, fates.names_kept);
  coverage_.Note(Seen::kNameLost, fates.names_lost);
  coverage_.Note(Seen::kSizeAhead, fates.sizes_ahead);
  coverage_.Note(Seen::kShortWrite, fates.short_writes);
  coverage_.Note(Seen::kShortRead, fates.short_reads);
}

World::Plan World::Draw(bool is_last) {
  Plan plan;
  plan.is_last = is_last;
  plan.options = DrawOptions();
  plan.options.protect_terminal_status = is_protecting_;
  disk_.ClearFaults();
  disk_.SetCapacity(1ull << 40);
  for (const auto& database : databases_) database->SetOdds({});
  fs_.SetOdds({});
  plan.odds.switch_one_in = OneOf<std::uint64_t>({2, 8, 8, 32});
  if (is_last) {
    plan.calls = 0;
    plan.odds.kill_after = 5'000'000;
    plan.close_timeout = std::chrono::minutes(10);
    plan.weights = DrawWeights();
    return plan;
  }
  plan.callers = 1 + static_cast<std::uint32_t>(random_.Below(4));
  plan.calls = (40 + static_cast<std::uint32_t>(random_.Below(400))) / plan.callers;
  plan.salvage = random_.OneIn(is_rotten_ ? 3 : 20);
  plan.mode = OneOf<ShutdownMode>(
      {ShutdownMode::kGraceful, ShutdownMode::kFlushPending, ShutdownMode::kImmediate});
  // Most die; some early, in the midst of opening, too.
  if (random_.OneIn(6)) {
    plan.odds.kill_after = 1'000'000;
  } else {
    plan.odds.kill_after =
        random_.OneIn(6) ? 1 + random_.Below(1500) : 1000 + random_.Below(60'000);
  }
  if (random_.OneIn(4)) disk_.CrashAfter(1 + random_.Below(1 + random_.Below(600)));
  for (const auto& database : databases_) database->SetOdds(DrawDatabaseOdds());
  fs_.SetOdds({OneOf<std::uint64_t>({4, 16, 64}), random_.OneIn(6) ? 200u : 0u});
  ArmDiskFaults(&plan);
  if (random_.OneIn(40)) {
    const auto space = disk_.Space("/");
    const std::uint64_t used = space.ok() ? space->total - space->available : 0;
    disk_.SetCapacity(used + random_.Below(300u << 10));
    plan.is_full_disk = true;
    disk_was_full_ = true;
  }
  plan.weights = DrawWeights();
  if (random_.OneIn(8)) AddCallbacks(&plan.options);
  if (random_.OneIn(8)) plan.options = Retold(plan.options);
  plan.has_handlers = random_.OneIn(8);
  DrawMore(&plan);
  return plan;
}

void World::Live(const Plan& plan) {
  is_drained_ = false;
  protects_now_ = plan.options.protect_terminal_status;
  body_bytes_max_ = plan.body_bytes_max;
  takes_letters_ = plan.options.dead_letter_enabled;
  const Status checked = pipeline::CheckOptions(plan.options);
  if (!checked.ok()) return ledger_.Fail("options: " + checked.ToString());
  const std::uint64_t opens = ledger_.opens();
  latest_ = Time::min();
  const SimulatedThreads::End end = threads_.Run([&] { Process(plan); }, plan.odds);
  if (ledger_.opens() > opens && HasUnreadableFiles()) ledger_.FilesWereUnreadable();
  const auto age = plan.options.dead_letter_age_max;
  if (age.count() > 0) ledger_.LettersExpire(std::max(latest_, WallNow()) - age);
  random_ = Random(SeedOf(Concern::kEnd));
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

// What a failed sync may have taken is read back, and nothing is given up before so many failures.
bool World::HasUnreadableFiles() const {
  constexpr std::uint64_t kReadTries = 4;
  std::uint64_t failed = 0;
  using enum SimulatedCall;
  for (const SimulatedCall call : {kOpenReadable, kSize, kRead}) failed += disk_.failed(call);
  return failed >= kReadTries;
}

void World::Crash(bool was_killed) {
  if (was_killed) ++crashes_;
  // The operator may have died in the midst of a retry.
  for (const auto& database : databases_) database->set_takes_poison(false);
  ledger_.PoisonIsRefused();
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
  const bool lands = random_.OneIn(2);
  const bool fails_over = has_replica_ && random_.OneIn(6);
  if (lands) {
    threads_.Run(
        [&] {
          for (const auto& database : databases_) database->LandLateCommits();
        },
        {});
  }
  if (fails_over) databases_[random_.Below(databases_.size())]->FailOver();
  if (std::exchange(needs_adoption_, false)) AdoptAsMoved();
  if (is_contacted_ && random_.OneIn(60)) Move();
  if (is_rotten_ && random_.OneIn(20)) FlipInState();
  Random aside(SeedOf(Concern::kAside));
  if (is_rotten_ && aside.OneIn(8)) HaveAccident(aside);
  if (aside.OneIn(100)) TryNewerFormat();
  // What a replica may lack is nobody's to look for behind it.
  if (!has_replica_ && aside.OneIn(80)) WriteDirectly();
  if (!letters_.empty() && aside.OneIn(100)) PurgeBetween();
}

// What is flushed is not known again before the database has been met.
void World::WentBack(std::size_t index, std::span<const storage::Batch> undone,
                     bool is_behind_move) {
  Trace(fmt::format("database {} fails over and lacks {} batches{}", index, undone.size(),
                    is_behind_move ? ", and a move" : ""));
  ++failovers_;
  has_met_ = undone.empty() && has_met_;
  if (undone.empty()) return;
  flushed_ = 0;
  std::vector<storage::Batch> own;
  std::copy_if(undone.begin(), undone.end(), std::back_inserter(own),
               [](const storage::Batch& batch) { return !IsOfOthers(batch); });
  ledger_.Undone(own);
  if (!is_behind_move) return;
  ledger_.WentBehindMove();
  went_behind_move_[index] = true;
}

void World::NoteMoving(bool is_moving) {
  if (is_moving_ && !is_moving) {
    for (const auto& database : databases_) database->NoteMoved();
  }
  is_moving_ = is_moving;
}

// Where a database went back behind a move, rows are in it once more that have their home
// elsewhere, and what it is brought again from before the move goes to them. Nothing counts them,
// unless a later rebalance has the task at home there.
bool World::IsAstray(const std::string& id, std::size_t index, const wal::LogState& state,
                     const pipeline::HomeTable& homes) {
  const std::uint16_t number = pipeline::NumberOf(state, TargetName(index));
  const bool is_home = homes.Of(storage::KeyOf(id)) == number;
  if (!is_home) {
    returned_[index].insert(id);
  } else if (returned_[index].contains(id)) {
    ledger_.GoesAstray(id);
  }
  return !is_home;
}

void World::CheckAll(bool is_all) {
  Ledger::Database found;
  const auto state = wal::ReadState(disk_, kDirectory);
  if (state.ok()) found.first_kept = state->first_lsn;
  found.is_all = is_all;
  found.flushed = flushed_;
  found.lost = lost_;
  FindLetters(&found);
  found.letters = letters_;
  FindTasks(&found);
  ledger_.Check(found);
}

void World::FindLetters(Ledger::Database* found) {
  std::vector<std::string> damage;
  auto letters = pipeline::DeadLetters::Open(disk_, kDirectory, /*read_only=*/true, &damage);
  for (const std::string& what : damage) Trace("dead letters: " + what);
  // A file that is begun on a full disk tells nothing of how far the one before it counts; a write
  // that fails leaves part of an entry.
  const bool may_be_damaged = ledger_.may_rot() || disk_was_rough_ || disk_was_full_;
  if (!damage.empty() && !may_be_damaged) ledger_.Fail("dead letters: " + damage.front());
  if (!letters.ok()) {
    Trace("dead letters: " + letters.status().ToString());
    if (!may_be_damaged) ledger_.Fail("dead letters: " + letters.status().ToString());
    return;
  }
  found->open_letters.emplace();
  const Status read = (*letters)->ForEach([&](const DeadLetter& letter) {
    NoteLetter(letter, found);
    return true;
  });
  if (!read.ok()) ledger_.Fail("dead letters: " + read.ToString());
}

void World::NoteLetter(const DeadLetter& letter, Ledger::Database* found) {
  if (is_traced_) {
    Trace(fmt::format("letter of LSN {} to {}: {}", letter.lsns.from, letter.lsns.to,
                      letter.error));
  }
  if (letter.kind == DeadLetter::Kind::kLoss) {
    found->lost.push_back(letter.lsns);
    lost_.push_back(letter.lsns);
    coverage_.Note(Seen::kDeclaredLoss);
    return;
  }
  const wal::Lsn lsn = letter.origin().key.lsn;
  const bool is_new = letters_.insert(lsn).second;
  coverage_.Note(Seen::kLetter);
  const bool is_second = !found->open_letters->insert({lsn, letter.target}).second;
  if (is_second && !ledger_.may_rot()) {
    ledger_.Fail(fmt::format("LSN {} has two open dead letters of one target", lsn));
  }
  // What follows a letter from before goes to it; a bit may have hidden one until now.
  const bool is_refused = letter.attempts > 0 && !letter.retried_from;
  if (is_new && is_refused && !takes_letters_ && !ledger_.may_rot()) {
    ledger_.Fail(fmt::format("LSN {} became a letter where there are to be none",
                             letter.lsns.from));
  }
}

// A task is in one database; in two, the same, while it is being moved.
void World::FindTasks(Ledger::Database* found) {
  const auto state = wal::ReadState(disk_, kDirectory);
  std::optional<pipeline::HomeTable> homes;
  if (ledger_.is_behind_move() && state.ok() && !state->targets.empty()) {
    homes.emplace(pipeline::TaskShares(*state, state->rebalancing));
  }
  std::uint64_t copies = 0, astray = 0, rows = 0;
  for (std::size_t i = 0; i < databases_.size(); ++i) {
    auto session = databases_[i]->data().Connect();
    rows += (*session)->Count()->tasks;
    for (const std::string& id : ledger_.tasks()) {
      const auto row = (*session)->GetTask(id);
      if (!row.ok()) continue;
      if (homes && went_behind_move_[i] && IsAstray(id, i, *state, *homes)) {
        --rows;
        if (state->rebalancing) found->unsure.insert(id);
        continue;
      }
      const auto [known, is_new] = found->tasks.emplace(id, Ledger::RowOf(row->task));
      copies += is_new ? 0 : 1;
      if (!is_new && ledger_.is_astray(id)) {
        ++astray;
        continue;
      }
      if (known->second != Ledger::RowOf(row->task)) {
        ledger_.Fail(id + " is in two databases, and not the same");
      }
    }
  }
  if (rows != found->tasks.size() + copies) {
    ledger_.Fail("the databases have tasks that nobody saved");
  }
  const bool is_moving = state.ok() ? state->rebalancing : is_moving_;  // a bit may have flipped
  if (copies > astray && !is_moving) {
    ledger_.Fail(fmt::format("{} tasks are in two databases, and none is being moved",
                             copies - astray));
  }
}

}  // namespace taskwal
