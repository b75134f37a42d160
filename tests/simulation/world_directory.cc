// What becomes of the directory between two lives: it is copied, moved, given a word by the
// operator, read by `verify`. What damages it is in world_damage.cc.
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <utility>

#include "base/checksum.h"
#include "base/status_macros.h"
#include "pipeline/direct_task_storage.h"
#include "pipeline/identity.h"
#include "pipeline/letter_desk.h"
#include "pipeline/targets/target_plan.h"
#include "recovery/scanner.h"
#include "tests/simulation/world.h"
#include "wal/format.h"
#include "wal/log_directory.h"
#include "wal/state_file.h"

namespace taskwal {

using std::chrono::milliseconds;

namespace {

constexpr char kDirectory[] = "/wal";
constexpr char kCopy[] = "/copy";
constexpr char kMovedTo[] = "/moved";
constexpr std::uint64_t kAsideMax = 5'000'000;  // points of preemption, as for the last life

// There is nothing to turn, to tend or to measure.
bool HasNoLog(TaskStorage& direct) {
  return direct.GetControl() == nullptr && direct.GetDeadLetters() == nullptr &&
         direct.GetMetrics() == nullptr && !direct.IsShutdown() &&
         direct.OnShutdown("none", [] {}).ok() && !direct.SetTargetHealth("none", true).ok();
}

}  // namespace

// Beside nobody, on a machine that is well. What is left of it at the end is killed.
void World::RunAside(const std::function<void()>& process) {
  disk_.ClearFaults();
  disk_.SetCapacity(1ull << 40);
  fs_.SetOdds({});
  for (const auto& database : databases_) database->SetOdds({});
  const SimulatedThreads::End end = threads_.Run(process, {.kill_after = kAsideMax});
  if (end == SimulatedThreads::End::kStuck) {
    ledger_.Fail("between two lives, all threads wait for ever:\n" + threads_.Describe());
  }
  if (end == SimulatedThreads::End::kKilled) {
    ledger_.Fail("what is done between two lives does not come to an end");
  }
  disk_.Kill();
}

pipeline::WalStorageSetup World::SetupOfCopy() {
  pipeline::WalStorageSetup setup;
  setup.options.wal_dir = kCopy;
  setup.options.partitions = partitions_;
  setup.options.ring_bytes = 16u << 10;
  setup.options.segment_bytes = 16u << 10;
  setup.options.recovery_timeout = milliseconds(100);
  SetUp(std::vector<std::uint32_t>(databases_.size(), 1), &setup);
  return setup;
}

// A copy of the directory, opened beside a database that knows the original, is refused.
void World::TryCopy() {
  has_copy_ = true;
  disk_.CopyTree(kDirectory, kCopy);
  RunAside([&] {
    const auto storage = pipeline::WalTaskStorage::Open(SetupOfCopy());
    const bool is_lost = is_state_damaged_ && storage.status().code() == StatusCode::kCorruption;
    if (storage.status().code() == StatusCode::kFenced || is_lost) {
      coverage_.Note(Seen::kCopyRefused);
    } else {
      ledger_.Fail("a copy of the directory was opened: " + storage.status().ToString());
    }
  });
  const auto state = wal::ReadState(disk_, kDirectory);
  // After a power cut the log's next end tells what is left.
  const bool is_known = state.ok() && !state->rebalancing && !after_power_cut_;
  if (is_known && !has_failed() && !ledger_.may_lose()) {
    Random random(SeedOf(Concern::kAside, 1));
    const bool is_other_database = random.OneIn(2) && !HasSeveralNow();
    is_other_database ? Restore(random) : Relabel(random);
  }
  disk_.RemoveTree(kCopy);
}

// While its databases are away it takes calls: whether it may is for them to say.
std::uint64_t World::LiveOnAsCopy(Random& random) {
  const std::uint64_t activities = 1 + random.Below(20);
  const bool is_killed = random.OneIn(2);
  for (const auto& database : databases_) database->set_away(true);
  RunAside([&] {
    auto storage = pipeline::WalTaskStorage::Open(SetupOfCopy());
    if (!storage.ok()) return ledger_.Fail("without a database: " + storage.status().ToString());
    for (std::uint64_t i = 0; i < activities; ++i) {
      Activity activity;
      activity.id = fmt::format("other-{}-{}", lives_, i);
      activity.message = "other-copy";
      const auto logged = (*storage)->LogActivity(activity, {});
      if (!logged.ok()) ledger_.Fail("a copy without a database: " + logged.status().ToString());
    }
    if (is_killed) {
      static_cast<void>(storage->release());
    } else {
      IgnoreStatus((*storage)->Shutdown(ShutdownMode::kImmediate, milliseconds(1000)), "no drain");
    }
  });
  for (const auto& database : databases_) database->set_away(false);
  return activities;
}

// What it logged since then it brings under a name of its own, and what it held before does not
// come twice. The operator's word holds, killed wherever it is.
void World::Relabel(Random& random) {
  const std::uint64_t activities = LiveOnAsCopy(random);
  if (has_failed()) return;
  const auto adopt = [&](pipeline::Adoption word) {
    Status adopted;
    RunAside([&] { adopted = AdoptIn(kCopy, word).status(); });
    return adopted;
  };
  const Status wrong = adopt(pipeline::Adoption::kNewDatabase);
  if (wrong.code() != StatusCode::kInvalidArgument) {
    return ledger_.Fail("adopt --new-db in the database of the original: " + wrong.ToString());
  }
  for (const auto& database : databases_) database->set_away(true);
  const Status away = adopt(pipeline::Adoption::kRelabel);
  for (const auto& database : databases_) database->set_away(false);
  if (away.code() != StatusCode::kUnavailable) {
    return ledger_.Fail("adopt without the database: " + away.ToString());
  }
  const auto say = [&] {
    IgnoreStatus(AdoptIn(kCopy, pipeline::Adoption::kRelabel).status(), "said again");
  };
  threads_.Run(say, {.kill_after = 1 + random.Below(3000)});
  disk_.Kill();
  const Status adopted = adopt(pipeline::Adoption::kRelabel);
  const auto state = wal::ReadState(disk_, kCopy);
  const bool had_its_way = adopted.code() == StatusCode::kInvalidArgument && state.ok() &&
                           !state->copied && !state->former.empty();
  if (!adopted.ok() && !had_its_way) {
    return ledger_.Fail("adopt --relabel: " + adopted.ToString());
  }
  coverage_.Note(Seen::kRelabelled);
  BringCopy(activities);
}

void World::BringCopy(std::uint64_t activities) {
  of_others_.clear();
  RunAside([&] {
    auto storage = pipeline::WalTaskStorage::Open(SetupOfCopy());
    if (!storage.ok()) return ledger_.Fail("a copy of its own: " + storage.status().ToString());
    const Status flushed = (*storage)->Flush(std::chrono::minutes(10));
    if (!flushed.ok()) ledger_.Fail("a copy of its own does not drain: " + flushed.ToString());
    IgnoreStatus((*storage)->Close(), "it is drained");
  });
  if (of_others_.size() != activities) {
    ledger_.Fail(fmt::format("a copy logged {} activities and brought {}", activities,
                             of_others_.size()));
  }
}

// A backup for another database: that gets all that is kept.
void World::Restore(Random& random) {
  SimulatedDatabase other(SeedOf(Concern::kAside, 2), coverage_);
  std::map<std::string, wal::Lsn> brought;
  other.OnCommit([&](const storage::Batch& batch) {
    for (const auto& row : batch.activities) {
      if (brought.emplace(row.activity.message, row.lsn).second) continue;
      ledger_.Fail("restored twice: " + row.activity.id);
    }
  });
  const auto state = wal::ReadState(disk_, kCopy);
  const bool is_told = random.OneIn(2);
  RunAside([&] {
    const auto backend = other.Open();
    const pipeline::AdoptDatabase fed{std::string(pipeline::kDefaultTarget), backend.get()};
    if (is_told) {
      const auto adopted = pipeline::Adopt(fs_, Clock::Real(), kCopy, std::span(&fed, 1),
                                           pipeline::Adoption::kNewDatabase);
      if (!adopted.ok()) ledger_.Fail("adopt --new-db: " + adopted.status().ToString());
    }
    pipeline::WalStorageSetup setup = SetupOfCopy();
    setup.backend = other.Open();
    auto storage = pipeline::WalTaskStorage::Open(std::move(setup));
    if (!storage.ok()) return ledger_.Fail("a restored copy: " + storage.status().ToString());
    const Status flushed = (*storage)->Flush(std::chrono::minutes(10));
    if (!flushed.ok()) ledger_.Fail("a restored copy does not drain: " + flushed.ToString());
    IgnoreStatus((*storage)->Close(), "it is drained");
  });
  coverage_.Note(Seen::kRestored);
  if (state.ok()) ledger_.CheckRestored(brought, state->first_lsn, lost_);
}

// The directory stands at another place, and the operator says that it is the original.
void World::Move() {
  disk_.SetCapacity(1ull << 40);
  disk_.CopyTree(kDirectory, kMovedTo);
  disk_.RemoveTree(kDirectory);
  disk_.CopyTree(kMovedTo, kDirectory);
  disk_.RemoveTree(kMovedTo);
  AdoptAsMoved();
}

Result<pipeline::AdoptReport> World::AdoptIn(const std::string& directory,
                                             pipeline::Adoption word) {
  const auto state = wal::ReadState(disk_, directory);
  const bool has_one = state.ok() ? state->targets.empty()
                                  : !disk_.Exists(wal::JoinPath(directory, "TARGETS"));
  std::vector<std::unique_ptr<storage::Backend>> backends;
  std::vector<pipeline::AdoptDatabase> fed;
  for (std::size_t i = 0; i < (has_one ? 1 : databases_.size()); ++i) {
    backends.push_back(databases_[i]->Open());
    const bool has_name = has_several_targets_ && !has_one;
    fed.push_back({has_name ? TargetName(i) : std::string(pipeline::kDefaultTarget),
                   backends.back().get()});
  }
  return pipeline::Adopt(fs_, Clock::Real(), directory, fed, word);
}

void World::AdoptAsMoved() {
  RunAside([&] {
    const auto adopted = AdoptIn(kDirectory, pipeline::Adoption::kMoved);
    Trace("adopt --moved: " + adopted.status().ToString());
    coverage_.Note(Seen::kMoved);
    if (!adopted.ok()) return ledger_.Fail("a moved log: " + adopted.status().ToString());
    // Of what the operator is told that nobody knows it, only what was destroyed may be missing.
    for (const pipeline::MissingRecords& unknown : adopted->unknown) {
      for (const wal::LsnRange& gone : destroyed_) {
        const wal::LsnRange both{std::max(unknown.lsns.from, gone.from),
                                 std::min(unknown.lsns.to, gone.to)};
        if (both.empty()) continue;
        coverage_.Note(Seen::kDestroyedUnknown);
        ledger_.MayBeGone(both);
      }
    }
  });
}

// A program of a later format went on with it: it is not opened, and nothing is changed.
void World::TryNewerFormat() {
  const auto segments = wal::ListSegments(disk_, kDirectory);
  if (!segments.ok() || segments->empty() || ledger_.may_rot()) return;
  const std::string path = wal::JoinPath(kDirectory, wal::SegmentName(segments->back()));
  const std::string content = disk_.Content(path);
  wal::SegmentHeader header{};
  if (content.size() < sizeof header) return;
  std::memcpy(&header, content.data(), sizeof header);
  const auto checked = std::as_bytes(std::span(&header, 1)).first(sizeof header - 8);
  if (header.checksum != Checksum(checked)) return;  // of a segment that is being made
  const auto put = [&] {
    const auto file = disk_.OpenWritable(path, false);
    const bool is_put =
        file.ok() && (*file)->WriteAndSync(0, std::as_bytes(std::span(&header, 1))).ok();
    if (!is_put) ledger_.Fail("the header of a segment cannot be changed");
  };
  const wal::SegmentHeader before = header;
  ++header.version;
  header.checksum = Checksum(checked);
  put();
  coverage_.Note(Seen::kNewerFormat);
  RunAside([&] {
    pipeline::WalStorageSetup setup = SetupOfCopy();
    setup.options.wal_dir = kDirectory;
    const auto storage = pipeline::WalTaskStorage::Open(std::move(setup));
    if (storage.status().code() == StatusCode::kCorruption) return;
    ledger_.Fail("a log of a later format: " + storage.status().ToString());
  });
  header = before;
  put();
}

// A program without a log, beside whom the log's next opener goes on.
void World::WriteDirectly() {
  coverage_.Note(Seen::kDirect);
  RunAside([&] {
    Options options;
    options.min_activity_level = Level::kInfo;
    auto opened = pipeline::DirectTaskStorage::Open(databases_.front()->Open(), Clock::Real(),
                                                    options);
    if (!opened.ok()) return ledger_.Fail("past the log: " + opened.status().ToString());
    TaskStorage& direct = **opened;
    const std::string id = "other-" + std::to_string(lives_);
    const auto is = [&](TaskStatus status) {
      const auto task = direct.GetTask(id);
      if (task.ok() && task->status == status) return;
      ledger_.Fail("past the log, a task is not as its caller left it");
    };
    const auto must = [&](const Status& status) {
      if (!status.ok()) ledger_.Fail("past the log: " + status.ToString());
    };
    Task task;
    task.id = id;
    task.dag_id = "other-dag";
    task.status = TaskStatus::kRunning;
    must(direct.SaveTask(task).status());
    is(TaskStatus::kRunning);
    const auto updated = direct.UpdateTaskStatus(id, TaskStatus::kFailed, "why");
    must(updated.status());
    is(TaskStatus::kFailed);
    if (updated.ok()) must(direct.Wait(updated->lsn, WaitFor::kApplied, Durability::kDisk, {}));
    Task second = task;
    second.id += "-second";
    must(direct.SaveTasks(std::vector<Task>{task, second}).status());
    Activity activity;
    activity.task_id = id;
    activity.message = "other-direct";
    must(direct.LogActivity(activity).status());
    activity.level = Level::kDebug;
    must(direct.LogActivity(activity).status());
    const auto rows = direct.TasksByDag("other-dag");
    const auto logged = direct.ActivitiesByTask(id);
    if (!rows.ok() || rows->tasks.size() != 2 || !logged.ok() || logged->activities.size() != 1) {
      ledger_.Fail("past the log, rows are missing or too many");
    }
    must(direct.TasksByStatus(TaskStatus::kRunning).status());
    must(direct.PendingTasks().status());
    must(direct.ActivitiesByDag("other-dag").status());
    must(direct.ResumableTasks().status());
    if (!HasNoLog(direct)) ledger_.Fail("past the log, there is something of a log");
    must(direct.Count().status());
    must(direct.CleanupOldTasks(Time()).status());
    must(direct.CleanupOldActivityLogs(Time()).status());
    must(direct.DeleteTask(second.id).status());
    must(direct.DeleteTasksByDag("other-dag").status());
    must(direct.Ping());
    must(direct.Flush({}));
    if (direct.GetTask(id).status().code() != StatusCode::kNotFound) {
      ledger_.Fail("past the log, a task outlives the delete of its DAG");
    }
    const Stats stats = direct.GetStats();
    if (stats.accepted != stats.applied || stats.filtered != 1) {
      ledger_.Fail("past the log, the counts are wrong");
    }
    must(direct.Close());
    if (direct.SaveTask(task).status().code() != StatusCode::kClosed) {
      ledger_.Fail("past the log, a closed storage takes calls");
    }
  });
}

// `dlq purge` of some, while no process is there.
void World::PurgeBetween() {
  if (!disk_.Exists(wal::JoinPath(kDirectory, "STATE"))) return;
  coverage_.Note(Seen::kLetterPurged);
  ledger_.LettersMayGo(letters_);
  RunAside([&] {
    DeadLetterSelection which;
    which.lsns.assign(letters_.begin(), letters_.end());
    const auto purged = pipeline::PurgeOffline(fs_, kDirectory, which);
    if (purged.ok() || ledger_.may_rot()) return;
    ledger_.Fail("dlq purge: " + purged.status().ToString());
  });
}

std::map<std::string, Ledger::Row> World::RowsThatGoOn(TaskStorage& storage) {
  std::map<std::string, Ledger::Row> rows;
  for (const std::string& id : ledger_.tasks()) {
    const auto task = storage.GetTask(id);
    if (!task.ok()) continue;
    const bool goes_on =
        task->status == TaskStatus::kPending || task->status == TaskStatus::kRunning;
    if (goes_on) rows.emplace(id, Ledger::RowOf(*task));
  }
  return rows;
}

// At the very end what is old goes: of tasks those that have ended, of activities all.
void World::KeepHouse() {
  constexpr Time kEndOfTime{std::chrono::hours(24 * 365 * 200)};
  coverage_.Note(Seen::kHouseKept);
  RunAside([&] {
    pipeline::WalStorageSetup setup = SetupOfCopy();
    setup.options.wal_dir = kDirectory;
    auto storage = pipeline::WalTaskStorage::Open(std::move(setup));
    if (!storage.ok()) return ledger_.Fail("to keep house: " + storage.status().ToString());
    const auto before = (*storage)->Count();
    const auto rows = RowsThatGoOn(**storage);
    const auto tasks = (*storage)->CleanupOldTasks(kEndOfTime, {});
    const auto activities = (*storage)->CleanupOldActivityLogs(kEndOfTime);
    const auto left = (*storage)->Count();
    if (!tasks.ok() || !activities.ok() || !before.ok() || !left.ok()) {
      return ledger_.Fail("clean-up: " + tasks.status().ToString() + ", " +
                          activities.status().ToString());
    }
    if (left->activities > 0) ledger_.Fail("activities outlive the clean-up");
    if (*activities != before->activities || *tasks != before->tasks - left->tasks) {
      ledger_.Fail("the clean-up says that more went, or less");
    }
    if (RowsThatGoOn(**storage) != rows) {
      ledger_.Fail("the clean-up took tasks that have not ended, or changed them");
    }
    for (const auto& [status, count] : left->tasks_by_status) {
      const bool has_ended = status != TaskStatus::kPending && status != TaskStatus::kRunning;
      if (has_ended && count > 0) ledger_.Fail("ended tasks outlive the clean-up");
    }
    IgnoreStatus((*storage)->Close(), "nothing is pending");
  });
}

void World::Verify() {
  coverage_.Note(Seen::kVerify);
  const auto report = recovery::Scan(disk_, kDirectory);
  if (!report.ok()) {
    // A machine may have lost its power before the directory was there.
    if (report.status().code() == StatusCode::kNotFound && flushed_ == 0) return;
    if (!ledger_.may_rot()) ledger_.Fail("verify: " + report.status().ToString());
    return;
  }
  if (report->damaged() && !ledger_.may_rot()) {
    const auto& finding = report->findings.empty() ? recovery::Finding() : report->findings.front();
    ledger_.Fail(fmt::format("verify reports damage, and there is none: {} at {}: {}", finding.file,
                             finding.offset, finding.detail));
  }
  ExpectUnknownTail(*report);
}

}  // namespace taskwal
