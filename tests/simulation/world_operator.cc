// The operator of a running process: looks, turns knobs, asks, tends dead letters and targets.
#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "base/status_macros.h"
#include "pipeline/letter_desk.h"
#include "pipeline/query_text.h"
#include "recovery/scanner.h"
#include "taskwal/control.h"
#include "taskwal/metrics.h"
#include "tests/simulation/world.h"

namespace taskwal {

using pipeline::WalTaskStorage;
using std::chrono::milliseconds;

void World::Operate(WalTaskStorage& storage) {
  Random random(SeedOf(Concern::kOperator));
  Random more(SeedOf(Concern::kMoreOfOperator));
  while (!callers_are_done_) {
    Pause(random, 100);
    OperateOnce(storage, random);
    if (more.OneIn(3)) OperateMore(storage, more);
    NoteFlushed(storage);
  }
}

void World::OperateOnce(WalTaskStorage& storage, Random& random) {
  Control& control = *storage.GetControl();
  switch (random.Below(12)) {
    case 0:
      coverage_.Note(Seen::kWorkersChanged);
      IgnoreStatus(control.SetWorkerCount(1 + static_cast<std::uint32_t>(random.Below(4))),
                   "as many as there may be");
      break;
    case 1:
      IgnoreStatus(control.SetBatchSize(1 + static_cast<std::uint32_t>(random.Below(100))), "any");
      break;
    case 2:
      IgnoreStatus(control.ResetBreaker(""), "any");
      break;
    case 3:
      IgnoreStatus(storage.Flush(milliseconds(random.Below(300))), "the last life looks at it");
      break;
    case 4:
      if (random.OneIn(4)) TendLetters(storage, random);
      break;
    case 5:
      coverage_.Note(Seen::kWallClockStep);
      latest_ = std::max(latest_, WallNow());
      threads_.StepWallClock(static_cast<std::int64_t>(random.Below(20'000'000'000)) -
                             10'000'000'000);
      ledger_.WallClockIs(WallNow());
      break;
    case 6:
      if (random.OneIn(8)) VerifyBeside();
      break;
    case 7:
      TurnFlow(control, random);
      break;
    case 8:
      AskAround(storage, random);
      break;
    default:
      CheckFigures(storage);
      if (HasSeveralNow()) TurnTargets(storage, random);
  }
}

void World::TurnTargets(WalTaskStorage& storage, Random& random) {
  const std::uint64_t choice = random.Below(12);
  if (choice < 2) {
    coverage_.Note(Seen::kServiceTurned);
    IgnoreStatus(storage.SetTargetHealth(TargetName(random.Below(2)), choice == 0), "either way");
  } else if (choice == 2) {
    if (has_replica_) coverage_.Note(Seen::kRebalancedWithReplica);
    is_moving_ = true;
    const Status moved = storage.Rebalance(milliseconds(random.Below(1000)), {});
    coverage_.Note(moved.ok() ? Seen::kRebalanced : Seen::kRebalanceCut);
    NoteMoving(storage.log().state().rebalancing);
    Trace("rebalance: " + moved.ToString());
  }
}

void World::TurnFlow(Control& control, Random& random) {
  coverage_.Note(Seen::kFlowTurned);
  const std::uint64_t rate = random.OneIn(2) ? 0 : 100 + random.Below(2000);
  const std::uint64_t burst = 1 + random.Below(200);
  const auto policy = static_cast<Overflow>(random.Below(4));
  const auto sample = static_cast<std::uint32_t>(1 + random.Below(10));
  if (random.OneIn(2)) {
    IgnoreStatus(control.SetRate(rate, burst), "any");
  } else {
    IgnoreStatus(control.SetPolicy(policy, sample), "any");
  }
}

void World::OperateMore(WalTaskStorage& storage, Random& random) {
  Control& control = *storage.GetControl();
  switch (random.Below(8)) {
    case 7:
      return AskInText(storage, random);
    case 0:
      coverage_.Note(Seen::kStopped);
      stop_.request_stop();
      stop_ = std::stop_source();
      break;
    case 1:
      IgnoreStatus(control.SetBatchSize(std::nullopt), "any");
      break;
    case 2:
      if (random.OneIn(4)) TendChosenLetters(storage, random);
      break;
    case 3:
      if (random.OneIn(8)) storage.GetMetrics()->Reset();
      break;
    case 4:
      if (random.OneIn(8)) static_cast<void>(storage.GetMetrics()->Prometheus());
      break;
    default:
      CallWrongly(storage, random);
  }
}

// As the daemon and `query` are asked.
void World::AskInText(WalTaskStorage& storage, Random& random) {
  pipeline::QueryText text;
  text.from = random.OneIn(2) ? "2026-01-01T00:00:00Z" : "24h";
  text.until = random.OneIn(4) ? "yesterday" : "";
  const bool is_activity = random.OneIn(2);
  const bool is_wrong = random.OneIn(4);
  if (is_activity) {
    text.level = is_wrong ? "loud" : "debug";
  } else {
    text.statuses = {is_wrong ? "gone" : "running"};
  }
  const bool may_be_asked = text.until.empty() && !is_wrong;
  Status parsed, answered;
  if (is_activity) {
    const auto query = pipeline::ParseActivityQuery(text);
    parsed = query.status();
    if (query.ok()) answered = storage.QueryActivities(*query).status();
  } else {
    const auto query = pipeline::ParseTaskQuery(text);
    parsed = query.status();
    if (query.ok()) answered = storage.QueryTasks(*query).status();
  }
  IgnoreStatus(answered, "the database may be away");
  if (parsed.ok() != may_be_asked) ledger_.Fail("a question in text: " + parsed.ToString());
}

void World::ExpectInvalid(const char* what, const Status& status) {
  if (status.code() == StatusCode::kInvalidArgument) return;
  ledger_.Fail(fmt::format("{}: {}", what, status.ToString()));
}

// Each is refused, whatever goes on, and nothing of it is kept.
void World::CallWrongly(WalTaskStorage& storage, Random& random) {
  coverage_.Note(Seen::kWrongCall);
  TaskStorage& calls = storage;
  Paging paging;
  paging.after = "no page";
  Activity activity;
  activity.message = "other-wrong";
  activity.level = Level::kFatal;
  switch (random.Below(9)) {
    case 0: return ExpectInvalid("a task without id", calls.SaveTask({}).status());
    case 1: return ExpectInvalid("no tasks", calls.SaveTasks({}).status());
    case 2:
      return ExpectInvalid("an id that is no UTF-8", calls.DeleteTask("\xff").status());
    case 3:
      activity.data = "{";
      return ExpectInvalid("data that is no JSON", calls.LogActivity(activity).status());
    case 4:
      return ExpectInvalid("an LSN that nobody was given",
                           storage.Wait(1ull << 40, WaitFor::kApplied, Durability::kDisk,
                                        milliseconds(1)));
    case 5: {
      const auto page = calls.TasksByDag(DagOf(0), paging);
      if (page.status().code() == StatusCode::kUnavailable) return;  // it is the database's word
      return ExpectInvalid("a page", page.status());
    }
    case 6:
      return ExpectInvalid("clean-up of what has not ended",
                           calls.CleanupOldTasks(Time(), {TaskStatus::kRunning}).status());
    case 7:
      if (storage.SetTargetHealth("nobody", true).code() == StatusCode::kNotFound) return;
      return ledger_.Fail("a target of no name");
    default:
      if (storage.GetControl()->ResetBreaker("nobody").code() == StatusCode::kNotFound) return;
      return ledger_.Fail("the breaker of no target");
  }
}

void World::TendChosenLetters(WalTaskStorage& storage, Random& random) {
  DeadLetterControl& desk = *storage.GetDeadLetters();
  const auto first = desk.List(1);
  if (!first.ok() || first->empty()) return;
  const auto behind = desk.List(5, first->front().id);
  // Retried before and refused again meanwhile, it is a new one at the end.
  if (behind.ok() && !behind->empty() && behind->front().id == first->front().id &&
      behind->front().last_failed == first->front().last_failed) {
    ledger_.Fail("a page of letters begins with the one it was to be behind");
  }
  // All are looked through, and a disk in trouble may refuse that.
  const StatusCode none = desk.Get("no letter").status().code();
  if (none != StatusCode::kNotFound && none != StatusCode::kIoError) {
    ledger_.Fail("a letter of no name");
  }
  DeadLetterSelection which;
  switch (random.Below(4)) {
    case 0: which.all = true; break;
    case 1: which.lsns = {first->front().from_lsn}; break;
    case 2: which.task_id = first->front().task_id; break;
    default: which.failed_before = first->front().last_failed;
  }
  const Status noted = NoteLetters(storage);
  if (!noted.ok()) return;
  // One that comes meanwhile may be among them.
  ledger_.LettersMayGo(which.lsns.empty() ? letters_ : std::set<wal::Lsn>{which.lsns.front()});
  if (which.lsns.empty()) ledger_.PoisonMayBeTaken(letters_);
  if (random.OneIn(2)) {
    coverage_.Note(Seen::kLetterPurged);
    IgnoreStatus(desk.Purge(which).status(), "they may be gone by now");
    return ledger_.PoisonIsRefused();
  }
  coverage_.Note(Seen::kLetterRetried);
  const auto outcomes = desk.Retry(which, milliseconds(200));
  ledger_.PoisonIsRefused();
  for (std::size_t i = 0; outcomes.ok() && i < outcomes->size(); ++i) {
    static_cast<void>(RetryResultName((*outcomes)[i].result));
  }
}

// Those that are open now: they may be gone before the next look at the files.
Status World::NoteLetters(WalTaskStorage& storage) {
  const auto letters = storage.GetDeadLetters()->List(1000);
  if (!letters.ok()) return letters.status();
  for (const DeadLetterInfo& letter : *letters) {
    if (!letter.is_loss) letters_.insert(letter.from_lsn);
  }
  return Status::Ok();
}

// Pages put together are what the databases hold, each row once and in order.
void World::CheckPages(WalTaskStorage& storage) {
  if (storage.log().state().rebalancing || ledger_.is_behind_move()) return;
  coverage_.Note(Seen::kPages);
  Random random(SeedOf(Concern::kMoreOfOperator, 1));
  TaskQuery query;
  query.paging.newest_first = random.OneIn(2);
  query.paging.limit = static_cast<std::uint32_t>(1 + random.Below(20));
  query.paging.consistency = Consistency::kFlushed;
  std::set<std::string> ids;
  do {
    const auto page = storage.QueryTasks(query);
    if (!page.ok()) return ledger_.Fail("a page of tasks: " + page.status().ToString());
    for (const Task& task : page->tasks) {
      if (!ids.insert(task.id).second) ledger_.Fail(task.id + " is on two pages");
    }
    query.paging.after = page->next_page;
  } while (!query.paging.after.empty());
  ActivityQuery all;
  all.paging.newest_first = random.OneIn(2);
  all.paging.limit = static_cast<std::uint32_t>(50 + random.Below(1000));
  std::uint64_t activities = 0;
  do {
    const auto page = storage.QueryActivities(all);
    if (!page.ok()) return ledger_.Fail("a page of activities: " + page.status().ToString());
    activities += page->activities.size();
    all.paging.after = page->next_page;
  } while (!all.paging.after.empty());
  const auto counts = storage.Count();
  if (!counts.ok()) return ledger_.Fail("counts: " + counts.status().ToString());
  if (counts->tasks != ids.size() || counts->activities != activities) {
    ledger_.Fail(fmt::format("{} tasks and {} activities on pages, {} and {} by the counts",
                             ids.size(), activities, counts->tasks, counts->activities));
  }
  for (const std::string& id : ledger_.tasks()) {
    if (storage.GetTask(id).ok() == ids.contains(id)) continue;
    ledger_.Fail(id + " is read, and on no page, or the other way round");
  }
}

void World::CheckClosed(WalTaskStorage& storage) {
  const Status answers[] = {storage.DeleteTask(TaskId(0, 0), {}).status(),
                            storage.GetTask(TaskId(0, 0)).status(), storage.Flush({}),
                            storage.Count().status()};
  for (const Status& answer : answers) {
    if (answer.code() != StatusCode::kClosed) {
      ledger_.Fail("a closed storage answers " + answer.ToString());
    }
  }
  if (!storage.IsShutdown()) ledger_.Fail("a closed storage says that it is open");
}

// Questions change nothing, and none holds up or harms what goes on beside it.
void World::AskAround(WalTaskStorage& storage, Random& random) {
  coverage_.Note(Seen::kQuestions);
  Paging paging;
  paging.limit = static_cast<std::uint32_t>(1 + random.Below(20));
  paging.newest_first = random.OneIn(2);
  if (random.OneIn(4)) paging.consistency = Consistency::kFlushed;
  switch (random.Below(8)) {
    case 0:
      return IgnoreStatus(storage.TasksByDag(DagOf(0), paging).status(), "it may be away");
    case 1:
      return IgnoreStatus(storage.ResumableTasks(paging).status(), "it may be away");
    case 2:
      return IgnoreStatus(storage.ActivitiesByTask(TaskId(0, 1), paging).status(), "the same");
    case 3:
      return IgnoreStatus(storage.Count().status(), "it may be away");
    case 4:
      return IgnoreStatus(storage.Ping(), "it may be away");
    case 5:
      static_cast<void>(storage.GetControl()->FlowControl());
      return;
    case 6:
      if (random.OneIn(4)) static_cast<void>(storage.GetMetrics()->Json());
      return;
    default:
      // Before all that was ever written: nothing goes.
      IgnoreStatus(storage.CleanupOldTasks(Time(), {}).status(), "it may be away");
      IgnoreStatus(storage.CleanupOldActivityLogs(Time()).status(), "it may be away");
  }
}

// As `verify` does: nothing that is under way is damage.
void World::VerifyBeside() {
  const auto report = recovery::Scan(fs_, "/wal");
  if (!report.ok() || ledger_.may_rot()) return;
  coverage_.Note(Seen::kVerifyBeside);
  if (!report->damaged()) return;
  ledger_.Fail("verify beside the process reports damage, and there is none: " +
               TextOf(report->findings));
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

void World::TendLetters(WalTaskStorage& storage, Random& random) {
  const auto limit = static_cast<std::uint32_t>(1 + random.Below(10));
  const auto letters = storage.GetDeadLetters()->List(limit);
  if (!letters.ok() || letters->empty()) return;
  DeadLetterSelection which;
  std::set<wal::Lsn> chosen;
  for (const DeadLetterInfo& letter : *letters) {
    if (letter.is_loss) continue;
    which.ids.push_back(letter.id);
    chosen.insert(letter.from_lsn);
    letters_.insert(letter.from_lsn);
    coverage_.Note(Seen::kLetterShown);
    IgnoreStatus(storage.GetDeadLetters()->Get(letter.id).status(), "it may be gone by now");
    static_cast<void>(pipeline::LetterJson(letter, true) + pipeline::LetterExportJson(letter));
  }
  if (which.ids.empty()) return;
  ledger_.LettersMayGo(chosen);
  if (random.OneIn(4)) {
    coverage_.Note(Seen::kLetterPurged);
    IgnoreStatus(storage.GetDeadLetters()->Purge(which).status(), "it may be gone by now");
    return;
  }
  coverage_.Note(Seen::kLetterRetried);
  const bool takes_poison = random.OneIn(2);
  if (takes_poison) ledger_.PoisonMayBeTaken(letters_);
  for (const auto& database : databases_) database->set_takes_poison(takes_poison);
  IgnoreStatus(storage.GetDeadLetters()->Retry(which, milliseconds(200)).status(),
               "what is pending comes later");
  for (const auto& database : databases_) database->set_takes_poison(false);
  ledger_.PoisonIsRefused();
}

}  // namespace taskwal
