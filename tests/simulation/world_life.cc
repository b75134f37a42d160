// Inside a process: it opens the log, callers write and read, an operator looks and turns knobs.
#include <fmt/format.h>

#include <thread>
#include <utility>

#include "base/status_macros.h"
#include "tests/simulation/world.h"

namespace taskwal {

using pipeline::WalTaskStorage;
using std::chrono::milliseconds;
using Kind = PlannedOperation::Kind;

namespace {

constexpr std::uint32_t kTasksOfACaller = 7;

std::string TaskId(std::uint32_t caller, std::uint64_t number) {
  return fmt::format("task-{}-{}", caller, number);
}

std::string DagOf(std::uint32_t caller) { return fmt::format("dag-{}", caller); }

std::uint32_t CallerOf(const std::string& task_id) {
  return static_cast<std::uint32_t>(task_id[5] - '0');
}

Task TaskOf(const PlannedOperation& operation, const std::string& id) {
  Task task;
  task.id = id;
  task.dag_id = DagOf(CallerOf(id));
  task.processing_state = operation.version + "/" + id;
  task.status = operation.status;
  task.error = operation.error;
  if (operation.is_poison) task.node_id = "poison";
  return task;
}

void Pause(Random& random, std::uint64_t milliseconds_max) {
  std::this_thread::sleep_for(std::chrono::microseconds(random.Below(milliseconds_max * 1000)));
}

}  // namespace

void World::Process(const Plan& plan) {
  // Never freed: a process that dies frees nothing.
  WalTaskStorage* const storage = Open(plan);
  if (storage == nullptr) return;
  callers_are_done_ = false;
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
  setup.backend = database_.Open();
  setup.fs = &fs_;
  setup.salvage = plan.salvage;
  pipeline::OpenReport report;
  auto storage = WalTaskStorage::Open(std::move(setup), &report);
  if (storage.ok()) {
    NoteOpened(plan, report, **storage);
    return storage->release();
  }
  coverage_.Note(Seen::kOpenRefused);
  Trace("open: " + storage.status().ToString());
  if (!plan.has_disk_faults && !plan.is_full_disk) {
    ledger_.Fail("the log did not open: " + storage.status().ToString());
  }
  return nullptr;
}

void World::NoteOpened(const Plan& plan, const pipeline::OpenReport& report,
                       WalTaskStorage& storage) {
  const wal::Lsn end = storage.log().end_lsn();
  ledger_.Opened(end, after_power_cut_);
  after_power_cut_ = false;
  if (report.contact.ok()) is_contacted_ = true;
  if (plan.salvage) coverage_.Note(Seen::kSalvage);
  coverage_.Note(Seen::kRescued, report.rescued);
  if (report.prepared.torn_bytes > 0) coverage_.Note(Seen::kTornTail);
  if (!report.prepared.unknown.empty()) coverage_.Note(Seen::kUnknownTail);
  for (const wal::LsnRange& range : storage.log().state().lost) lost_.push_back(range);
  for (const wal::LsnRange& range : report.lost) lost_.push_back(range);
  if (report.damaged > 0 && !ledger_.may_lose() && !disk_was_rough_) {
    ledger_.Fail(fmt::format("damage was reported, and there is none: {}",
                             report.prepared.findings.empty()
                                 ? std::string("losses")
                                 : report.prepared.findings.front().detail));
  }
  NoteFlushed(storage);
  Trace(fmt::format("open: end {} flushed {} rescued {} torn bytes {}", end, flushed_,
                    report.rescued, report.prepared.torn_bytes));
}

void World::NoteFlushed(WalTaskStorage& storage) {
  const wal::Lsn flushed = storage.flushed_lsn();
  flushed_ = std::max(flushed_, flushed);
  ledger_.Durable(flushed);
}

// --- callers -----------------------------------------------------------------------------------

void World::Call(WalTaskStorage& storage, std::uint32_t caller, std::uint32_t calls) {
  for (std::uint32_t i = 0; i < calls; ++i) {
    if (!CallOnce(storage, caller)) Pause(random_, 50);
    if (random_.OneIn(10)) Pause(random_, 20);
  }
}

PlannedOperation World::DrawOperation(std::uint32_t caller) {
  PlannedOperation operation;
  operation.version = fmt::format("v{}", ++versions_);
  operation.is_poison = random_.OneIn(poison_one_in_);
  operation.status = static_cast<TaskStatus>(random_.Below(5));
  operation.tasks = {TaskId(caller, random_.Below(kTasksOfACaller))};
  const std::uint64_t choice = random_.Below(100);
  if (choice < 40) {
    operation.kind = Kind::kActivity;
    operation.tasks.clear();
    operation.activity_id = fmt::format("activity-{}", versions_);
    if (operation.is_poison) operation.version += " poison";
    // Some are large, a few larger than what goes through the ring.
    if (random_.OneIn(12)) operation.version.append(random_.Below(3000), 'x');
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
      if (random_.OneIn(3) && TaskId(caller, i) != operation.tasks.front()) {
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
                             const WriteOptions& options) {
  const auto lsn_of = [](const auto& ack) -> Result<wal::Lsn> {
    if (!ack.ok()) return ack.status();
    return wal::Lsn{ack->lsn};
  };
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
    case Kind::kActivity: {
      Activity activity;
      activity.id = operation.activity_id;
      activity.message = operation.version;
      activity.task_id = TaskId(0, random_.Below(40));
      activity.priority = static_cast<std::int32_t>(1 + random_.Below(5));
      return lsn_of(storage.LogActivity(activity, options));
    }
  }
  return Status::InvalidArgument("no such operation");
}

void World::Heard(Ledger::Number number, const Result<wal::Lsn>& answer,
                  const WriteOptions& options) {
  if (answer.ok()) {
    ledger_.Acknowledge(number, *answer);
    const bool is_synced =
        options.wait == WaitFor::kApplied ||
        (options.wait == WaitFor::kAcknowledged && *options.durability == Durability::kDisk);
    if (is_synced) ledger_.Durable(*answer);
    return;
  }
  const Status& status = answer.status();
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

bool World::CallOnce(WalTaskStorage& storage, std::uint32_t caller) {
  const PlannedOperation operation = DrawOperation(caller);
  WriteOptions options;
  options.durability = random_.OneIn(2) ? Durability::kDisk : Durability::kProcess;
  if (random_.OneIn(16)) options.wait = WaitFor::kAppended;
  if (random_.OneIn(32)) options.wait = WaitFor::kApplied;
  if (random_.OneIn(8)) options.timeout = milliseconds(random_.Below(50));
  const Ledger::Number number = ledger_.Begin(operation);
  const Result<wal::Lsn> answer = Send(storage, operation, options);
  Heard(number, answer, options);
  if (is_traced_) TraceCall(operation, answer);
  if (answer.ok() && options.wait == WaitFor::kAppended && random_.OneIn(2)) {
    const Status synced =
        storage.Wait(*answer, WaitFor::kAcknowledged, Durability::kDisk, milliseconds(100));
    if (synced.ok()) ledger_.Durable(*answer);
  }
  if (!operation.tasks.empty() && random_.OneIn(6)) ReadOwn(storage, operation.tasks.front());
  return answer.ok();
}

void World::ReadOwn(WalTaskStorage& storage, const std::string& task_id) {
  const auto asked_at = threads_.now();
  const auto task = storage.GetTask(task_id);
  if (!task.ok() && task.status().code() != StatusCode::kNotFound) return;
  const auto readable = ledger_.Readable(task_id);
  // A log that is read-only answers from what stands in its files.
  if (!readable || !storage.log().health().ok()) return;
  coverage_.Note(Seen::kOwnReads);
  const Ledger::Row found = task.ok() ? Ledger::RowOf(*task) : Ledger::Row();
  bool is_known = false;
  for (Ledger::Row row : *readable) {
    row.is_held = false;
    is_known = is_known || row == found;
  }
  if (is_known) return;
  ledger_.Fail(fmt::format("{}, asked for at {:.6f}, reads as {}, not as its caller left it",
                           task_id, static_cast<double>(asked_at) / 1e9, Ledger::Text(found)));
}

// --- the operator ------------------------------------------------------------------------------

void World::Operate(WalTaskStorage& storage) {
  while (!callers_are_done_) {
    Pause(random_, 100);
    OperateOnce(storage);
    NoteFlushed(storage);
  }
}

void World::OperateOnce(WalTaskStorage& storage) {
  Control& control = *storage.GetControl();
  switch (random_.Below(12)) {
    case 0:
      coverage_.Note(Seen::kWorkersChanged);
      IgnoreStatus(control.SetWorkerCount(1 + static_cast<std::uint32_t>(random_.Below(4))),
                   "as many as there may be");
      break;
    case 1:
      IgnoreStatus(control.SetBatchSize(1 + static_cast<std::uint32_t>(random_.Below(100))), "any");
      break;
    case 2:
      IgnoreStatus(control.ResetBreaker(""), "any");
      break;
    case 3:
      IgnoreStatus(storage.Flush(milliseconds(random_.Below(300))), "the last life looks at it");
      break;
    case 4:
      if (random_.OneIn(4)) TendLetters(storage);
      break;
    case 5:
      coverage_.Note(Seen::kWallClockStep);
      threads_.StepWallClock(static_cast<std::int64_t>(random_.Below(20'000'000'000)) -
                             10'000'000'000);
      break;
    default:
      CheckFigures(storage);
  }
}

void World::CheckFigures(WalTaskStorage& storage) {
  const Stats stats = storage.GetStats();
  const std::uint64_t sum = stats.applied + stats.dead_lettered + stats.lost + stats.pending;
  if (stats.accepted != sum) {
    ledger_.Fail(fmt::format("accepted {} != applied {} + dead letters {} + lost {} + pending {}",
                             stats.accepted, stats.applied, stats.dead_lettered, stats.lost,
                             stats.pending));
  }
  if (stats.dropped > 0) coverage_.Note(Seen::kDropped);
  if (stats.breaker_state == "open") coverage_.Note(Seen::kBreakerOpened);
  if (storage.GetControl()->Backpressure().state != Pressure::kNormal) {
    coverage_.Note(Seen::kPressure);
  }
  for (const TargetFlow& flow : storage.GetControl()->Buffer().targets) {
    if (flow.queued_bytes <= 1u << 20) continue;
    ledger_.Fail(fmt::format("{} bytes are queued, above the bound", flow.queued_bytes));
  }
}

void World::TendLetters(WalTaskStorage& storage) {
  const auto limit = static_cast<std::uint32_t>(1 + random_.Below(10));
  const auto letters = storage.GetDeadLetters()->List(limit);
  if (!letters.ok() || letters->empty()) return;
  DeadLetterSelection which;
  for (const DeadLetterInfo& letter : *letters) {
    if (letter.is_loss) continue;
    which.ids.push_back(letter.id);
    letters_.insert(letter.from_lsn);
  }
  if (which.ids.empty()) return;
  ledger_.LettersAreRetried();
  if (random_.OneIn(4)) {
    coverage_.Note(Seen::kLetterPurged);
    IgnoreStatus(storage.GetDeadLetters()->Purge(which).status(), "it may be gone by now");
    return;
  }
  coverage_.Note(Seen::kLetterRetried);
  database_.set_takes_poison(random_.OneIn(2));
  IgnoreStatus(storage.GetDeadLetters()->Retry(which, milliseconds(200)).status(),
               "what is pending comes later");
  database_.set_takes_poison(false);
}

// --- the end -----------------------------------------------------------------------------------

void World::Close(const Plan& plan, WalTaskStorage& storage) {
  if (plan.is_last) {
    const Status flushed = storage.Flush(std::chrono::minutes(10));
    if (!flushed.ok()) ledger_.Fail("it does not drain: " + flushed.ToString());
    CheckFigures(storage);
  }
  const Status closed = storage.Shutdown(plan.mode, plan.close_timeout);
  NoteFlushed(storage);
  is_drained_ = closed.ok();
  coverage_.Note(Seen::kCleanEnd);
  Trace("close: " + closed.ToString());
  if (plan.is_last && !closed.ok()) ledger_.Fail("it does not close: " + closed.ToString());
}

}  // namespace taskwal
