#include "pipeline/targets/target_set.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "base/threads.h"
#include "pipeline/adoption.h"
#include "pipeline/targets/task_mover.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;

// How long one target is waited for before the others are looked at again.
constexpr auto kWaitSlice = std::chrono::milliseconds(100);
constexpr auto kRestPause = std::chrono::seconds(1);

std::vector<TargetShare> SharesOf(const std::vector<std::unique_ptr<Target>>& targets) {
  std::vector<TargetShare> shares;
  for (const auto& target : targets) shares.push_back({target->number, target->weight});
  return shares;
}

std::vector<std::unique_ptr<Target>> NumberTargets(std::vector<TargetSetup> list,
                                                   const wal::LogState& state) {
  std::vector<std::unique_ptr<Target>> targets;
  for (TargetSetup& one : list) {
    auto target = std::make_unique<Target>();
    target->number = NumberOf(state, one.name);
    target->name = std::move(one.name);
    target->weight = one.weight;
    target->backend = std::move(one.backend);
    targets.push_back(std::move(target));
  }
  return targets;
}

// Behind a clean end: exactly those taken. Behind a kill its records count as turns, whatever they
// are: a cycle that a kill has cut is no full one, and none of the targets is always the first. So
// it is where STATE does not count them.
std::uint64_t TurnsTaken(const wal::LogState& state, Lsn end) {
  return state.turns + (end > state.turns_lsn ? end - state.turns_lsn : 0);
}

// The flusher's memory is one bound for all.
Options ShareOf(const Options& options, std::size_t targets) {
  Options share = options;
  share.memory_bytes /= targets;
  return share;
}

Status Named(const std::string& name, const Status& status) {
  return {status.code(), "target " + name + ": " + status.message()};
}

}  // namespace

Result<std::vector<TargetSetup>> MakeTargets(const std::vector<TargetOptions>& targets,
                                             const storage::BackendOptions& options) {
  std::vector<TargetSetup> list;
  for (const TargetOptions& target : targets) {
    TASKWAL_ASSIGN(auto backend, storage::MakeBackend(target.dsn, options));
    list.push_back({target.name, target.weight, std::move(backend)});
  }
  return list;
}

// --- life --------------------------------------------------------------------------------------

Result<std::unique_ptr<TargetSet>> TargetSet::Make(const Parties& parties, const Options& options,
                                                   std::vector<TargetSetup> list) {
  std::vector<NamedWeight> weights;
  for (const TargetSetup& one : list) weights.push_back({one.name, one.weight});
  TASKWAL_TRY(CheckTargetList(weights));
  const wal::LogState state = parties.log.state();
  TASKWAL_ASSIGN(auto planned,
                 PlanTargets(state, parties.log.end_lsn(), weights, options.wal_dir));
  if (planned != state.targets) {
    TASKWAL_TRY(parties.log.SetState(
        [&](wal::LogState* next) { RecordTargets(std::move(planned), next); }));
  }
  return std::unique_ptr<TargetSet>(
      new TargetSet(parties, options, std::move(list), parties.log.state()));
}

TargetSet::TargetSet(const Parties& parties, const Options& options, std::vector<TargetSetup> list,
                     const wal::LogState& state)
    : parties_(parties),
      directory_(options.wal_dir),
      health_check_interval_(options.health_check_interval),
      is_single_(state.targets.empty()),
      end_at_open_(parties.log.end_lsn()),
      targets_(NumberTargets(std::move(list), state)),
      cycle_(SharesOf(targets_), TurnsTaken(state, end_at_open_)),
      health_(targets_.size()),
      contacted_(targets_.size()) {
  tables_.push_back(std::make_unique<HomeTable>(TaskShares(state, state.rebalancing)));
  homes_.store(tables_.back().get());
  if (state.rebalancing) {
    tables_.push_back(std::make_unique<HomeTable>(TaskShares(state, false)));
    former_.store(tables_.back().get());
  }
  MakeFlushers(ShareOf(options, targets_.size()));
}

TargetSet::~TargetSet() { Stop(); }

void TargetSet::MakeFlushers(const Options& options) {
  for (const auto& target : targets_) {
    FlushTarget which;
    which.number = target->number;
    which.gauge = parties_.gauge;
    if (!is_single_) {
      which.keep_share = [this, number = target->number](storage::OperationBody* body) {
        KeepShare(number, body);
      };
      which.is_home = [this, number = target->number](std::uint64_t key) {
        return HomeOf(key) == number;
      };
      which.is_last = [this](wal::Lsn lsn) { return IsLast(lsn); };
      which.may_take_identity = [this] { return MayTakeIdentity(); };
      which.databases = Names();
    }
    target->flusher =
        std::make_unique<Flusher>(parties_.log, *target->backend, parties_.letters, parties_.clock,
                                  options, parties_.fs, std::move(which));
    target->starts_behind = target->flusher->flushed_lsn();
    target->calls = std::make_unique<DatabaseCalls>(
        *target->backend, ConnectionLimitsOf(options, FlushConnections(*target->backend, options)));
  }
}

void TargetSet::Stop() {
  StopBy({});
  threads_.clear();
  for (const auto& target : targets_) target->flusher->Stop();
}

bool TargetSet::StopBy(std::chrono::steady_clock::time_point until) {
  // All are told before any is waited for.
  for (std::jthread& thread : threads_) thread.request_stop();
  for (const auto& target : targets_) target->flusher->StopBy({});
  bool are_over = true;
  {
    MutexLock lock(mutex_);
    ends_ = true;
    if (may_start_ == Go::kUndecided) may_start_ = Go::kNo;
    changed_.NotifyAll();
    bool in_time = true;
    while (running_ > 0 && in_time) in_time = changed_.WaitUntil(mutex_, until);
    are_over = running_ == 0;
  }
  for (const auto& target : targets_) {
    are_over = target->flusher->StopBy(until) && are_over;
    are_over = target->calls->AwaitAll(until) && are_over;
  }
  return are_over;
}

bool TargetSet::IsInCall() const {
  return health_calls_.load() > 0 ||
         std::any_of(targets_.begin(), targets_.end(), [](const auto& target) {
           return target->flusher->IsInCall() || target->calls->IsUnderway();
         });
}

Status TargetSet::Spawn(std::function<void(const std::stop_token&)> body) {
  MutexLock lock(mutex_);
  TASKWAL_ASSIGN(std::jthread thread, StartThread<std::jthread>([this, body = std::move(body)](
                                          const std::stop_token& stop) {
                   body(stop);
                   MutexLock over(mutex_);
                   --running_;
                   changed_.NotifyAll();
                 }));
  ++running_;
  threads_.push_back(std::move(thread));
  return Status::Ok();
}

// --- where records go --------------------------------------------------------------------------

void TargetSet::CountAppended(std::uint16_t target) {
  if (is_single_) return;
  for (const auto& one : targets_) {
    if (one->number != target && target != wal::kEveryTarget) continue;
    one->appended.fetch_add(1, std::memory_order_relaxed);
  }
}

bool TargetSet::IsLast(Lsn lsn) {
  const auto has_it = [&](const auto& target) { return target->starts_behind < lsn; };
  const auto all = static_cast<std::size_t>(
      std::count_if(targets_.begin(), targets_.end(), has_it));
  MutexLock lock(mutex_);
  const auto left = shared_.try_emplace(lsn, all).first;
  if (left->second-- > 1) return false;
  shared_.erase(left);
  return true;
}

void TargetSet::KeepShare(std::uint16_t target, storage::OperationBody* body) const {
  auto* batch = std::get_if<storage::SaveTasksOp>(body);
  if (batch == nullptr) return;
  std::erase_if(batch->tasks, [&](const Task& task) {
    return HomeOf(storage::KeyOf(task.id)) != target;
  });
}

const Target& TargetSet::Of(std::uint16_t number) const {
  const auto found = std::find_if(targets_.begin(), targets_.end(),
                                  [&](const auto& target) { return target->number == number; });
  TASKWAL_CHECK(found != targets_.end());  // PlanTargets lets no home be missing
  return **found;
}

ReadOverlay::Home TargetSet::ReadHome(std::uint64_t key) const {
  // In this order: Rebalance stores former_ first, so whoever sees the new homes sees it, too.
  const Target& home = Of(HomeOf(key));
  const HomeTable* former = former_.load(std::memory_order_acquire);
  ReadOverlay::Home read{home.flusher.get(), home.calls.get(), nullptr};
  if (former == nullptr) return read;
  const Target& before = Of(former->Of(key));
  if (&before != &home) read.former = before.calls.get();
  return read;
}

// --- contact -----------------------------------------------------------------------------------

Status TargetSet::StartContact() {
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    TASKWAL_TRY(Spawn([this, i](const std::stop_token&) { RunContact(i); }));
  }
  return Status::Ok();
}

void TargetSet::RunContact(std::size_t index) {
  Status contact;
  try {
    contact = targets_[index]->flusher->Contact();
  } catch (const std::exception& error) {
    contact = Status::Unavailable(error.what());
    Logger().error("first_contact exception=\"{}\"", error.what());
  }
  {
    MutexLock lock(mutex_);
    health_[index].answers = contact.ok();
    contacted_[index] = is_single_ ? contact : Named(targets_[index]->name, contact);
    Publish();
    changed_.NotifyAll();
    while (may_start_ == Go::kUndecided) changed_.Wait(mutex_);
    if (may_start_ == Go::kNo || ends_) return;
  }
  if (former_.load() == nullptr) StartFlusher(*targets_[index]);
}

// What is acknowledged waits in the log until the system has threads for it.
void TargetSet::StartFlusher(const Target& target) {
  for (;;) {
    const Status started = target.flusher->Start();
    if (started.ok()) return;
    Logger().error("flusher target={} event=not_started error=\"{}\"", target.name,
                   started.message());
    if (!Pause(kRestPause)) return;
  }
}

Status TargetSet::AwaitContact(std::chrono::steady_clock::time_point until,
                               const std::stop_token& stop) {
  const std::stop_callback wake(stop, [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  });
  MutexLock lock(mutex_);
  const auto is_missing = [](const std::optional<Status>& contact) { return !contact; };
  bool in_time = true;
  while (in_time && !stop.stop_requested() &&
         std::any_of(contacted_.begin(), contacted_.end(), is_missing)) {
    in_time = changed_.WaitUntil(mutex_, until);
  }
  Status worst;
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    const Status contact = contacted_[i].value_or(
        Named(targets_[i]->name, Status::Unavailable("the database has not answered yet")));
    if (!contacted_[i]) health_[i].answers = false;
    if (contact.code() == StatusCode::kFenced) return contact;
    if (worst.ok()) worst = contact;
  }
  Publish();
  return worst;
}

BacklogCount TargetSet::TakeStock(bool exact) {
  is_backlog_read_ = exact || !is_single_;
  std::map<std::uint16_t, Lsn> settled;
  for (const auto& target : targets_) {
    target->starts_behind = target->flusher->FixStart(is_backlog_read_);
    settled[target->number] = target->starts_behind;
  }
  BacklogCount count;
  if (is_backlog_read_) {
    auto counted = CountBacklog(parties_.log, settled, end_at_open_);
    if (counted.ok()) {
      count = std::move(counted).value();
      lost_at_open_ = count.lost;
      count.records += count.lost;
      for (const auto& target : targets_) target->backlog = count.by_target[target->number];
      return count;
    }
    Logger().error("targets event=backlog_unreadable error=\"{}\"", counted.status().message());
    is_backlog_read_ = false;
  }
  Lsn first = end_at_open_;
  for (const auto& target : targets_) first = std::min(first, target->starts_behind);
  count.records = end_at_open_ - first;
  if (count.records > 0) count.bytes = parties_.log.GetStats().unflushed_bytes;
  if (is_single_) {
    targets_.front()->backlog = count.records;
    return count;
  }
  // Whose they are is known of each once it can be read: accepted by this process then.
  for (const auto& target : targets_) target->flusher->StartBooksAt(end_at_open_);
  return count;
}

Status TargetSet::Release(bool may_start) {
  if (may_start && targets_.size() > 1) {
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      TASKWAL_TRY(Spawn([this, i](const std::stop_token&) { RunHealth(i); }));
    }
  }
  if (may_start && former_.load() != nullptr) {
    TASKWAL_TRY(Spawn([this](const std::stop_token& stop) {
      while (!stop.stop_requested() && !FinishRest(stop)) Pause(kRestPause);
    }));
  }
  MutexLock lock(mutex_);
  may_start_ = may_start ? Go::kYes : Go::kNo;
  changed_.NotifyAll();
  return Status::Ok();
}

// The directory is a copy: what its original has brought must not be brought again under another
// name, wherever it was.
Status TargetSet::MayTakeIdentity() {
  const wal::LogState state = parties_.log.state();
  for (const auto& target : targets_) {
    TASKWAL_ASSIGN(const auto session, target->backend->Connect());
    TASKWAL_ASSIGN(const storage::LogRow row, session->ReadLog(state.wal_id));
    if (row.watermarks.empty()) continue;
    const Relation relation =
        RelationOf(wal::StateOfTarget(state, target->number), row, target->backend->db_id(),
                   parties_.log.end_lsn());
    return Status::Fenced(directory_ + " is a copy of a log that " + target->backend->name() +
                          " already knows: settle it with " +
                          AdoptCommands(relation, directory_, Names()));
  }
  return Status::Ok();
}

// --- flushing ----------------------------------------------------------------------------------

Lsn TargetSet::flushed_lsn() const {
  Lsn lowest = UINT64_MAX;
  for (const auto& target : targets_) lowest = std::min(lowest, target->flusher->flushed_lsn());
  return lowest;
}

Status TargetSet::WaitFlushed(Lsn lsn, const wal::Deadline& deadline) {
  if (targets_.size() == 1 && former_.load() == nullptr) {
    return targets_.front()->flusher->WaitFlushed(lsn, deadline);
  }
  for (;;) {
    Status late;
    bool may_come = false;
    for (const auto& target : targets_) {
      if (target->flusher->flushed_lsn() >= lsn) continue;
      const Monotonic until = std::min(deadline.at, parties_.clock.Now() + kWaitSlice);
      const Status flushed = target->flusher->WaitFlushed(lsn, {until, deadline.stop});
      if (flushed.ok()) continue;
      may_come = may_come || flushed.code() == StatusCode::kUnavailable;
      if (late.ok()) late = Named(target->name, flushed);
    }
    if (late.ok()) return late;
    MutexLock lock(mutex_);
    if (!rest_alarm_.empty()) late = Status::Unavailable(rest_alarm_);
    const bool is_over = parties_.clock.Now() >= deadline.at || deadline.stop.stop_requested();
    if (is_over || ends_ || !may_come) return late;
  }
}

Status TargetSet::WaitFlushedIn(std::uint16_t target, Lsn lsn, const wal::Deadline& deadline) {
  if (target == wal::kEveryTarget) return WaitFlushed(lsn, deadline);
  return Of(target).flusher->WaitFlushed(lsn, deadline);
}

// --- health ------------------------------------------------------------------------------------

void TargetSet::Publish() {
  // Where none answers, all that are in service take their share: it waits in the log either way.
  for (const bool needs_answer : {true, false}) {
    std::vector<TargetShare> shares;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const bool is_meant = health_[i].in_service && (health_[i].answers || !needs_answer);
      if (is_meant && targets_[i]->weight > 0) {
        shares.push_back({targets_[i]->number, targets_[i]->weight});
      }
    }
    if (shares.empty()) continue;
    cycle_.Publish(shares);
    return;
  }
  cycle_.Publish(SharesOf(targets_));
}

void TargetSet::CheckHealth(std::size_t index) {
  const Target& target = *targets_[index];
  const Status ping = target.calls->Ping();
  const FlusherStats flush = target.flusher->GetStats();
  const bool is_met = flush.start_lsn > 0 && target.flusher->health().ok();
  const bool answers = ping.ok() && is_met && flush.breaker_state != "open";
  MutexLock lock(mutex_);
  if (health_[index].answers == answers) return;
  health_[index].answers = answers;
  Logger().warn("target event={} name={} error=\"{}\"", answers ? "healthy" : "unhealthy",
                target.name, ping.ok() ? "" : ping.message());
  Publish();
}

Status TargetSet::SetHealth(std::string_view name, bool in_service) {
  MutexLock lock(mutex_);
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    if (targets_[i]->name != name) continue;
    health_[i].in_service = in_service;
    Publish();
    return Status::Ok();
  }
  return Status::NotFound("there is no target " + std::string(name));
}

void TargetSet::RunHealth(std::size_t index) {
  while (Pause(health_check_interval_)) {
    ++health_calls_;
    try {
      CheckHealth(index);
    } catch (const std::exception& error) {
      Logger().error("health_check exception=\"{}\"", error.what());
    }
    --health_calls_;
  }
}

// False when all is to end.
bool TargetSet::Pause(std::chrono::milliseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  MutexLock lock(mutex_);
  bool in_time = true;
  while (!ends_ && in_time) in_time = changed_.WaitUntil(mutex_, until);
  return !ends_;
}

// --- rebalance ---------------------------------------------------------------------------------

// Two plans at once would leave tasks where neither has them at home.
Status TargetSet::AwaitRest(const wal::Deadline& deadline) {
  while (former_.load(std::memory_order_acquire) != nullptr) {
    const bool is_over = parties_.clock.Now() >= deadline.at || deadline.stop.stop_requested();
    if (!is_over && Pause(kWaitSlice)) continue;
    MutexLock lock(mutex_);
    return Status::Unavailable(rest_alarm_.empty() ? "an unfinished rebalance is under way"
                                                   : rest_alarm_);
  }
  return Status::Ok();
}

Status TargetSet::MeetAgain(Target& target, const wal::Deadline& deadline) {
  Status met = target.flusher->MeetAgain();
  while (met.code() == StatusCode::kUnavailable && parties_.clock.Now() < deadline.at &&
         Pause(kWaitSlice)) {
    met = target.flusher->Contact();
  }
  return met.ok() ? met : Named(target.name, met);
}

Status TargetSet::CatchUp(const wal::Deadline& deadline) {
  if (is_single_) return Status::Ok();
  for (;;) {
    for (const auto& target : targets_) TASKWAL_TRY(MeetAgain(*target, deadline));
    const Lsn end = parties_.log.end_lsn();
    if (flushed_lsn() >= end) return Status::Ok();
    TASKWAL_TRY(WaitFlushed(end, deadline));
  }
}

Status TargetSet::Rebalance(const wal::Deadline& deadline, const MoveProgress& on_progress) {
  if (is_single_) return Status::Ok();
  TASKWAL_TRY(AwaitRest(deadline));
  std::vector<NamedWeight> weights;
  for (const auto& target : targets_) weights.push_back({target->name, target->weight});
  // Crash behind it: the next open finds the plan and finishes it.
  TASKWAL_TRY(parties_.log.SetState([&](wal::LogState* state) { PlanRebalance(weights, state); }));
  tables_.push_back(std::make_unique<HomeTable>(TaskShares(parties_.log.state(), true)));
  former_.store(homes_.load(), std::memory_order_release);
  homes_.store(tables_.back().get(), std::memory_order_release);
  TASKWAL_TRY(MoveRest({}, on_progress));
  // One that has met its database meanwhile has left it at that.
  for (const auto& target : targets_) TASKWAL_TRY(target->flusher->Start());
  return Status::Ok();
}

Status TargetSet::MoveRest(const std::stop_token& stop, const MoveProgress& on_progress) {
  MoveOrder order{{}, *former_.load(), *homes_.load(), stop, on_progress};
  for (const auto& target : targets_) {
    TASKWAL_TRY(target->flusher->Contact());
    order.databases[target->number] = target->calls.get();
  }
  TASKWAL_TRY(MoveTasks(order));
  TASKWAL_TRY(parties_.log.SetState([](wal::LogState* state) { RecordRebalanced(state); }));
  former_.store(nullptr, std::memory_order_release);
  return Status::Ok();
}

// What an earlier rebalance left undone, before anything is flushed: records behind it may be of
// tasks that are still on their way. True when flushing has begun.
bool TargetSet::FinishRest(const std::stop_token& stop) {
  Status moved;
  try {
    moved = MoveRest(stop, {});
  } catch (const std::exception& error) {
    moved = Status::Unavailable(error.what());
  }
  {
    MutexLock lock(mutex_);
    const std::string alarm =
        moved.ok() ? "" : "an unfinished rebalance waits: " + moved.message();
    if (alarm != rest_alarm_) Logger().warn("targets event=rebalance alarm=\"{}\"", alarm);
    rest_alarm_ = alarm;
  }
  if (!moved.ok()) return false;
  for (const auto& target : targets_) StartFlusher(*target);
  return true;
}

}  // namespace taskwal::pipeline
