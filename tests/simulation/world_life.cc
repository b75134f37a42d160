// Inside a process: it opens the log, callers write and read, an operator looks and turns knobs.
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <utility>

#include "base/status_macros.h"
#include "pipeline/append_operation.h"
#include "pipeline/targets/target_plan.h"
#include "recovery/scanner.h"
#include "taskwal/context.h"
#include "taskwal/control.h"
#include "taskwal/metrics.h"
#include "tests/simulation/world.h"
#include "wal/state_file.h"

namespace taskwal {

using pipeline::WalTaskStorage;
using std::chrono::milliseconds;
using Kind = PlannedOperation::Kind;

namespace {

constexpr std::uint32_t kTasksOfACaller = 7;
constexpr SimulatedThreads::Nanoseconds kToCloseMax = 100'000'000;

std::uint32_t CallerOf(const std::string& task_id) {
  return static_cast<std::uint32_t>(task_id[5] - '0');
}

Task TaskOf(const PlannedOperation& operation, const std::string& id) {
  Task task;
  task.id = id;
  task.dag_id = World::DagOf(CallerOf(id));
  task.processing_state = operation.version + "/" + id;
  task.status = operation.status;
  task.error = operation.error;
  if (operation.is_poison) task.node_id = "poison";
  task.created_at = operation.created_at;
  return task;
}

}  // namespace

std::string World::TaskId(std::uint32_t caller, std::uint64_t number) {
  return fmt::format("task-{}-{}", caller, number);
}

std::string World::DagOf(std::uint32_t caller) { return fmt::format("dag-{}", caller); }

std::string World::TextOf(const std::vector<recovery::Finding>& findings) {
  std::string text;
  for (const recovery::Finding& finding : findings) {
    text += fmt::format("{} at {}: {} ({}), LSN {} to {}; ", finding.file, finding.offset,
                        recovery::VerdictName(finding.verdict), finding.detail, finding.lsns.from,
                        finding.lsns.to);
  }
  return text;
}

void World::Pause(Random& random, std::uint64_t milliseconds_max) {
  std::this_thread::sleep_for(std::chrono::microseconds(random.Below(milliseconds_max * 1000)));
}

void World::Process(const Plan& plan) {
  // Never freed: a process that dies frees nothing.
  WalTaskStorage* const storage = Open(plan);
  if (storage == nullptr) return;
  callers_are_done_ = false;
  if (plan.has_handlers) AddHandlers(*storage);
  std::vector<std::thread> callers;
  for (std::uint32_t caller = 0; caller < plan.callers; ++caller) {
    callers.emplace_back([=, this] { Call(*storage, caller, plan.calls); });
  }
  std::thread operating([=, this] { Operate(*storage); });
  for (std::thread& caller : callers) caller.join();
  callers_are_done_ = true;
  operating.join();
  Close(plan, *storage);
  delete storage;
}

WalTaskStorage* World::Open(const Plan& plan) {
  pipeline::WalStorageSetup setup;
  setup.options = plan.options;
  SetUp(plan.weights, &setup);
  setup.salvage = plan.salvage;
  setup.needs_database = plan.needs_database;
  setup.stop = stop_.get_token();
  if (plan.has_wrong_list) TryWrongList(plan);
  pipeline::OpenReport report;
  const std::uint64_t failovers = failovers_;
  auto storage = WalTaskStorage::Open(std::move(setup), &report);
  if (storage.ok()) {
    if (report.contact.ok() && failovers == failovers_) has_met_ = true;
    NoteOpened(plan, report, **storage);
    return storage->release();
  }
  coverage_.Note(Seen::kOpenRefused);
  Trace("open: " + storage.status().ToString());
  if (IsOfDamagedState(storage.status())) return nullptr;
  if (storage.status().code() == StatusCode::kRejected && !plan.options.enable_recovery) {
    coverage_.Note(Seen::kRecoveryOff);
    return nullptr;
  }
  is_refused_ = storage.status().code() == StatusCode::kFenced && IsBehindItsDatabase();
  if (is_refused_) {
    coverage_.Note(Seen::kBehindDatabase);
  } else if (!plan.has_disk_faults && !plan.is_full_disk) {
    ledger_.Fail("the log did not open: " + storage.status().ToString());
  }
  return nullptr;
}

// None of these lists is taken, and none changes anything.
void World::TryWrongList(const Plan& plan) {
  coverage_.Note(Seen::kWrongList);
  Random random(SeedOf(Concern::kMore, 2));
  pipeline::WalStorageSetup setup;
  setup.options = plan.options;
  SetUp(plan.weights, &setup);
  if (setup.targets.empty()) return;
  const auto told = pipeline::ParseTarget(setup.targets.front().name + "*7=simulated:");
  if (!told.ok() || told->name != setup.targets.front().name || told->weight != 7 ||
      pipeline::ParseTarget("a*1001=simulated:").ok()) {
    ledger_.Fail("a target is not read as it was told");
  }
  switch (random.Below(4)) {
    case 0: setup.targets.back().name = setup.targets.front().name; break;
    case 1: setup.targets.front().name = "no name"; break;
    case 2: setup.targets.front().weight = 1001; break;
    default:
      for (auto& target : setup.targets) target.weight = 0;
  }
  const auto storage = WalTaskStorage::Open(std::move(setup));
  if (storage.ok()) ledger_.Fail("a wrong list of targets was taken");
}

// Rebuilt from what the segments say, and the operator's word is asked for; without any segment
// there is nothing to go on with.
bool World::IsOfDamagedState(const Status& refused) {
  if (!is_state_damaged_) return false;
  needs_adoption_ = refused.code() == StatusCode::kFenced;
  is_refused_ = refused.code() == StatusCode::kCorruption;
  if (needs_adoption_) is_state_damaged_ = false;
  return needs_adoption_ || is_refused_;
}

// A bit that flips in the frames of the last sync before a power cut, which nothing names yet,
// leaves a torn tail: what the database has of it shows that the log had more, and it is refused.
bool World::IsBehindItsDatabase() {
  if (!ledger_.may_rot()) return false;
  disk_.ClearFaults();
  const auto report = recovery::Scan(disk_, "/wal");
  const auto state = wal::ReadState(disk_, "/wal");
  if (!report.ok() || !state.ok() || !ledger_.MayEndAt(report->lsns.to)) return false;
  return std::any_of(databases_.begin(), databases_.end(), [&](const auto& database) {
    const auto row = (*database->data().Connect())->ReadLog(state->wal_id);
    return row.ok() && std::any_of(row->watermarks.begin(), row->watermarks.end(),
                                   [&](wal::Lsn stored) { return stored > report->lsns.to; });
  });
}

void World::NoteOpened(const Plan& plan, const pipeline::OpenReport& report,
                       WalTaskStorage& storage) {
  const wal::Lsn end = storage.log().end_lsn();
  ledger_.Opened(end, after_power_cut_);
  after_power_cut_ = false;
  if (report.contact.ok()) {
    is_contacted_ = true;
    is_state_damaged_ = false;  // who the log is has been settled
  }
  if (plan.salvage) coverage_.Note(Seen::kSalvage);
  ExpectDeclared(report.salvaged, storage.log().state());
  if (storage.log().state().rebalancing) coverage_.Note(Seen::kRebalanceFinished);
  coverage_.Note(Seen::kRescued, report.rescued);
  if (report.prepared.torn_bytes > 0) coverage_.Note(Seen::kTornTail);
  if (!report.prepared.unknown.empty()) coverage_.Note(Seen::kUnknownTail);
  for (const wal::LsnRange& range : storage.log().state().lost) lost_.push_back(range);
  for (const wal::LsnRange& range : report.lost) lost_.push_back(range);
  // Losses are the ledger's to judge.
  const auto& findings = report.prepared.findings;
  const bool is_damaged = report.damaged > report.lost.size();
  if (is_damaged && !ledger_.may_rot()) {
    ledger_.Fail("damage was reported, and there is none: " + TextOf(findings));
  }
  NoteFlushed(storage);
  Trace(fmt::format("open: end {} flushed {} rescued {} torn bytes {}", end, flushed_,
                    report.rescued, report.prepared.torn_bytes));
}

void World::NoteFlushed(WalTaskStorage& storage) {
  NoteMoving(storage.log().state().rebalancing);
  const wal::Lsn flushed = storage.flushed_lsn();
  // Without its STATE a log only guesses, until the database is met or the operator has spoken.
  if (has_met_ && !is_state_damaged_) {
    flushed_ = std::max(flushed_, flushed);
    ledger_.Flushed(flushed_);
  }
  ledger_.Durable(flushed);
}

// Run while the storage still takes calls; one takes longer than it is given.
void World::AddHandlers(WalTaskStorage& storage) {
  const auto add = [&](const char* name, milliseconds takes, bool throws) {
    IgnoreStatus(storage.OnShutdown(
                     name,
                     [this, takes, throws] {
                       coverage_.Note(Seen::kHandler);
                       std::this_thread::sleep_for(takes);
                       if (throws) throw std::runtime_error("simulated: the handler threw");
                     },
                     milliseconds(100)),
                 "too late");
  };
  add("quick", milliseconds(1), false);
  add("throws", milliseconds(10), true);
  add("slow", milliseconds(300), false);
}

// --- callers -----------------------------------------------------------------------------------

void World::Call(WalTaskStorage& storage, std::uint32_t caller, std::uint32_t calls) {
  Random random(SeedOf(Concern::kCaller, caller));
  Random more(SeedOf(Concern::kMoreOfCaller, caller));
  for (std::uint32_t i = 0; i < calls; ++i) {
    if (!CallOnce(storage, {caller, i, random, more})) Pause(random, 50);
    if (random.OneIn(10)) Pause(random, 20);
  }
}

PlannedOperation World::DrawOperation(const Turn& turn) const {
  const auto& [caller, number, random, more] = turn;
  PlannedOperation operation;
  operation.version = fmt::format("v{}-{}-{}", lives_, caller, number);
  operation.is_poison = random.OneIn(poison_one_in_) && !is_protecting_;
  operation.protects = protects_now_ && !more.OneIn(4);
  operation.status = static_cast<TaskStatus>(random.Below(5));
  operation.tasks = {TaskId(caller, random.Below(kTasksOfACaller))};
  if (number % 3 == 0) {
    const auto life = static_cast<std::int64_t>(lives_ * 16 + caller);
    operation.created_at = Time(std::chrono::microseconds(life * 1'000'000) +
                                std::chrono::microseconds(number));
  }
  const std::uint64_t choice = random.Below(100);
  if (choice < 40) {
    operation.kind = Kind::kActivity;
    operation.tasks.clear();
    operation.activity_id = "activity-" + operation.version;
    if (operation.is_poison) operation.version += " poison";
    // Some are large, a few larger than what goes through the ring.
    if (random.OneIn(12)) operation.version.append(random.Below(3000), 'x');
    if (body_bytes_max_ > 0 && more.OneIn(8)) {
      operation.version.append(more.Below(body_bytes_max_), 'y');
    }
    // Letters so large that a few of them, once gone, are worth a cleaning of their files.
    if (operation.is_poison && more.OneIn(2)) {
      operation.version.append((300u << 10) + more.Below(400u << 10), 'z');
    }
    if (more.OneIn(16)) operation.activity_id.clear();
  } else if (choice < 65) {
    operation.kind = Kind::kSave;
  } else if (choice < 90) {
    operation.kind = Kind::kStatus;
    operation.error = operation.is_poison ? "poison" : operation.version;
  } else if (choice < 95) {
    operation.kind = Kind::kDelete;
    operation.is_poison = false;
  } else if (choice < 98) {
    operation.kind = Kind::kBatch;
    for (std::uint64_t i = 0; i < kTasksOfACaller; ++i) {
      if (random.OneIn(3) && TaskId(caller, i) != operation.tasks.front()) {
        operation.tasks.push_back(TaskId(caller, i));
      }
    }
  } else {
    operation.kind = Kind::kDagDelete;
    operation.is_poison = false;
    operation.tasks.clear();
    for (std::uint64_t i = 0; i < kTasksOfACaller; ++i) {
      operation.tasks.push_back(TaskId(caller, i));
    }
  }
  return operation;
}

Result<wal::Lsn> World::Send(WalTaskStorage& storage, const PlannedOperation& operation,
                             const WriteOptions& options, const Turn& turn) {
  const auto lsn_of = [](const auto& ack) -> Result<wal::Lsn> {
    if (!ack.ok()) return ack.status();
    return wal::Lsn{ack->lsn};
  };
  // As `ingest` and the daemon do.
  if (operation.kind != Kind::kActivity && turn.more.OneIn(4)) {
    return lsn_of(pipeline::AppendOperation(storage, BodyOf(operation), options));
  }
  switch (operation.kind) {
    case Kind::kSave:
      return lsn_of(storage.SaveTask(TaskOf(operation, operation.tasks.front()), options));
    case Kind::kBatch: {
      std::vector<Task> tasks;
      for (const std::string& id : operation.tasks) tasks.push_back(TaskOf(operation, id));
      return lsn_of(storage.SaveTasks(tasks, options));
    }
    case Kind::kStatus:
      return lsn_of(storage.UpdateTaskStatus(operation.tasks.front(), operation.status,
                                             operation.error, options));
    case Kind::kDelete:
      return lsn_of(storage.DeleteTask(operation.tasks.front(), options));
    case Kind::kDagDelete:
      return lsn_of(storage.DeleteTasksByDag(DagOf(CallerOf(operation.tasks.front())), options));
    case Kind::kActivity:
      return SendActivity(storage, operation, options, turn);
  }
  return Status::InvalidArgument("no such operation");
}

storage::OperationBody World::BodyOf(const PlannedOperation& operation) {
  const std::string& id = operation.tasks.front();
  switch (operation.kind) {
    case Kind::kStatus:
      return storage::UpdateStatusOp{id, operation.status, operation.error, {}, operation.protects};
    case Kind::kDelete:
      return storage::DeleteTaskOp{id, {}};
    case Kind::kDagDelete:
      return storage::DeleteDagOp{DagOf(CallerOf(id)), {}};
    case Kind::kBatch: {
      storage::SaveTasksOp batch;
      for (const std::string& task : operation.tasks) {
        batch.tasks.push_back(TaskOf(operation, task));
      }
      batch.protects_terminal = operation.protects;
      return batch;
    }
    default:
      return storage::SaveTaskOp{TaskOf(operation, id), {}, operation.protects};
  }
}

// One below the level that is kept has no LSN.
Result<wal::Lsn> World::SendActivity(WalTaskStorage& storage, const PlannedOperation& operation,
                                     const WriteOptions& options, const Turn& turn) {
  const auto& [caller, number, random, more] = turn;
  Activity activity;
  activity.id = operation.activity_id;
  activity.message = operation.version;
  activity.task_id = TaskId(0, random.Below(40));
  activity.priority = static_cast<std::int32_t>(1 + random.Below(5));
  activity.level = static_cast<Level>(more.Below(5));
  const auto log = [&]() -> Result<wal::Lsn> {
    const auto ack = storage.LogActivity(activity, options);
    if (!ack.ok()) return ack.status();
    if (ack->lsn != 0 && activity.id.empty() == ack->id.empty()) {
      ledger_.Fail("an activity has an id of its own, and one was made, or neither");
    }
    return wal::Lsn{ack->lsn};
  };
  if (!random.OneIn(16)) return log();
  coverage_.Note(Seen::kContext);
  activity.data = more.OneIn(4) ? "[1]" : "{\"rows\":1}";
  const ContextScope trace({{"trace_id", operation.version.substr(0, 40)}});
  const ContextScope again(ContextScope::Capture());
  return log();
}

void World::Heard(Ledger::Number number, const Result<wal::Lsn>& answer,
                  const WriteOptions& options) {
  if (answer.ok() && *answer == 0) return ledger_.Refuse(number);
  if (answer.ok()) {
    ledger_.Acknowledge(number, *answer);
    const bool is_synced =
        options.wait == WaitFor::kApplied ||
        (options.wait == WaitFor::kAcknowledged && *options.durability == Durability::kDisk);
    if (is_synced) ledger_.Awaited(*answer);
    return;
  }
  const Status& status = answer.status();
  // What the buffer keeps until it is on the disk is not lost by a failed sync.
  const bool is_lost = status.message().find(" is lost: ") != std::string::npos;
  if (is_lost && options.durability == Durability::kDisk && !ledger_.may_rot()) {
    ledger_.Fail("a call of level disk was told: " + status.message());
  }
  if (status.code() == StatusCode::kInDoubt) return ledger_.Doubt(number, status.lsn());
  if (status.code() == StatusCode::kOverloaded) coverage_.Note(Seen::kOverloaded);
  if (status.code() == StatusCode::kIoError) coverage_.Note(Seen::kReadOnly);
  ledger_.Refuse(number);
}

void World::TraceCall(const PlannedOperation& operation, const Result<wal::Lsn>& answer) const {
  constexpr std::string_view kKinds[] = {"save", "batch", "status", "delete", "dag delete",
                                         "activity"};
  std::string text(kKinds[static_cast<std::size_t>(operation.kind)]);
  for (const std::string& id : operation.tasks) text += " " + id;
  text += fmt::format(" {}{}: ", operation.version.substr(0, 20),
                      operation.is_poison ? " (poison)" : "");
  Trace(text + (answer.ok() ? fmt::format("LSN {}", *answer)
                            : answer.status().ToString().substr(0, 100) +
                                  fmt::format(" ({})", answer.status().lsn())));
}

bool World::CallOnce(WalTaskStorage& storage, const Turn& turn) {
  Random& random = turn.random;
  PlannedOperation operation = DrawOperation(turn);
  WriteOptions options;
  options.durability = random.OneIn(2) ? Durability::kDisk : Durability::kProcess;
  operation.is_of_disk = options.durability == Durability::kDisk;
  if (random.OneIn(16)) options.wait = WaitFor::kAppended;
  if (random.OneIn(32)) options.wait = WaitFor::kApplied;
  if (random.OneIn(8)) options.timeout = milliseconds(random.Below(50));
  const bool syncs_later = random.OneIn(2);
  const bool reads = random.OneIn(6);
  if (turn.more.OneIn(8)) options.stop = stop_.get_token();
  options.only_if_room = turn.more.OneIn(32);
  options.reset = protects_now_ && !operation.protects;
  const Ledger::Number number = ledger_.Begin(operation, WallNow());
  const Result<wal::Lsn> answer = Send(storage, operation, options, turn);
  Heard(number, answer, options);
  if (is_traced_) TraceCall(operation, answer);
  if (answer.ok() && *answer != 0 && options.wait == WaitFor::kAppended && syncs_later) {
    const Status synced =
        storage.Wait(*answer, WaitFor::kAcknowledged, Durability::kDisk, milliseconds(100));
    if (synced.ok()) ledger_.Awaited(*answer);
  }
  if (!operation.tasks.empty() && reads) ReadOwn(storage, operation.tasks.front());
  return answer.ok();
}

void World::ReadOwn(WalTaskStorage& storage, const std::string& task_id) {
  const auto asked_at = threads_.now();
  const auto task = storage.GetTask(task_id);
  if (!task.ok() && task.status().code() != StatusCode::kNotFound) return;
  const auto readable = ledger_.Readable(task_id);
  // A log that is read-only answers from what stands in its files.
  if (!readable || HasUnreadableFiles() || !storage.log().health().ok()) return;
  coverage_.Note(Seen::kOwnReads);
  const Ledger::Row found = task.ok() ? Ledger::RowOf(*task) : Ledger::Row();
  bool is_known = false;
  for (Ledger::Row row : *readable) {
    row.is_held = false;
    row.held_created_at.reset();
    // While the database is away nobody knows what it has: then it reads as the time of the call.
    if (!found.created_at) row.created_at.reset();
    is_known = is_known || row == found;
  }
  if (is_known) return;
  ledger_.Fail(fmt::format("{}, asked for at {:.6f}, reads as {}, not as its caller left it",
                           task_id, static_cast<double>(asked_at) / 1e9, Ledger::Text(found)));
}

// --- the end -----------------------------------------------------------------------------------

void World::Close(const Plan& plan, WalTaskStorage& storage) {
  if (plan.is_last) {
    const Status flushed = storage.Flush(std::chrono::minutes(10));
    if (!flushed.ok()) ledger_.Fail("it does not drain: " + flushed.ToString());
    CheckFigures(storage);
    CheckPages(storage);
  }
  const auto asked_at = threads_.now();
  const Status closed = storage.Shutdown(plan.mode, plan.close_timeout);
  // Nothing hangs, and all is in the database: every wait of the process counts here.
  if (plan.is_last && threads_.now() - asked_at > kToCloseMax) {
    ledger_.Fail(fmt::format("nothing hangs, and its end takes {:.3f} s",
                             static_cast<double>(threads_.now() - asked_at) / 1e9));
  }
  NoteFlushed(storage);
  is_drained_ = closed.ok() && has_met_;
  coverage_.Note(Seen::kCleanEnd);
  Trace("close: " + closed.ToString());
  if (plan.is_last && !closed.ok()) ledger_.Fail("it does not close: " + closed.ToString());
  if (storage.Close().code() != closed.code()) ledger_.Fail("closed twice, with two answers");
  CheckClosed(storage);
}

}  // namespace taskwal
