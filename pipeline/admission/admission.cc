#include "pipeline/admission/admission.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <stop_token>
#include <thread>

#include "base/logging.h"
#include "base/status_macros.h"

namespace taskwal::pipeline {
namespace {

// How often a caller in front looks up: for its stop token, its deadline, and those above it.
constexpr std::chrono::nanoseconds kSlice = std::chrono::milliseconds(5);
// One behind is woken for all of that, but for the deadline of a clock that is not the machine's.
constexpr std::chrono::nanoseconds kSliceBehind = std::chrono::milliseconds(250);
// Of each rank so many wait inside the log. The others wait behind them, and cost nothing.
constexpr std::size_t kAtLogMax = 32;
// A token that comes sooner is not worth going to sleep for.
constexpr std::chrono::nanoseconds kSpin = std::chrono::microseconds(50);
constexpr auto kYear = std::chrono::hours(24 * 366);
constexpr std::uint64_t kBurstShare = 10;  // of a second

std::uint64_t BurstOf(std::uint64_t rate, std::uint64_t burst) {
  return burst > 0 ? burst : std::max<std::uint64_t>(rate / kBurstShare, 1);
}

}  // namespace

Admission::Admission(const Options& options, Clock& clock, LoadGauge& gauge,
                     std::function<LoadSample()> read_load)
    : options_(options),
      clock_(clock),
      gauge_(gauge),
      read_load_(std::move(read_load)),
      next_look_(clock.Now() + options.monitoring_interval),
      policy_(options.backpressure_strategy),
      sample_one_in_(options.sample_one_in),
      rate_limit_(options.rate_limit),
      rate_burst_(BurstOf(options.rate_limit, options.rate_burst)),
      bucket_(static_cast<double>(options.rate_limit), static_cast<double>(rate_burst_),
              clock.Now()),
      window_(options.rate_window) {
  SetGate(kRate, options.rate_limit > 0);
  SetGate(kBudget, options.max_unflushed_records > 0 || options.max_unflushed_bytes > 0);
  SetGate(kSize, options.max_record_bytes > 0);
  gauge_.WhenSettled([this] {
    if (waiting_.load() > 0) changed_.NotifyAll();
  });
}

// --- a call ------------------------------------------------------------------------------------

Result<wal::Lsn> Admission::Enter(const Call& call, const Append& append) {
  MaybeLook();
  TASKWAL_TRY(CheckCall(call));
  const Monotonic now = clock_.Now();
  Visit visit{call, call.timeout >= kYear ? Monotonic::max() : now + call.timeout};
  Result<wal::Lsn> entered = EnterAndWait(&visit, append);
  Leave(&visit, entered.ok() || entered.status().code() == StatusCode::kInDoubt);
  return entered;
}

// What a call is refused for whether there is room or not.
Status Admission::CheckCall(const Call& call) {
  if (options_.max_record_bytes > 0 && call.bytes > options_.max_record_bytes) {
    IgnoreStatus(Drop(call, DropReason::kTooLarge, ""), "it is the caller's mistake");
    return Status::InvalidArgument("a record of " + std::to_string(call.bytes) +
                                   " bytes, above max_record_bytes=" +
                                   std::to_string(options_.max_record_bytes));
  }
  if (call.rank == kTaskRank) return Status::Ok();
  // Chance is asked once, when the call is meant.
  const bool is_chosen_from = IsThinned(call.rank) || (gates_.load() & kSampling) != 0;
  if (call.only_if_room && is_chosen_from) return Status::Overloaded("not every call is let in");
  if (IsShed(call.rank)) {
    return Drop(call, DropReason::kShed, "an emergency: activities of low priority are shed");
  }
  if ((gates_.load() & kSampling) != 0 && !IsSampled()) {
    return Drop(call, DropReason::kSampled, "pressure: only a sample of activities is kept");
  }
  return Status::Ok();
}

Result<wal::Lsn> Admission::EnterAndWait(Visit* visit, const Append& append) {
  Status refused;  // by the log, which knows why
  const auto explained = [&](Status status) {
    if (status.code() != StatusCode::kOverloaded || refused.ok()) return status;
    return Status::Overloaded(status.message() + " (" + refused.message() + ")");
  };
  for (;;) {
    // A waiting caller waits for room inside the log, which wakes it; but no longer than until it
    // has to look up.
    const Monotonic until = visit->waits ? std::min(visit->deadline, clock_.Now() + kSlice)
                                         : Monotonic::min();
    bool has_waited = false;
    if (TryGate(visit) && MayAskLog(visit)) {
      Result<wal::Lsn> lsn = append({until, visit->call.stop});
      if (lsn.ok() || lsn.status().code() != StatusCode::kOverloaded) return lsn;
      has_waited = clock_.Now() >= until;
      refused = lsn.status();
    }
    if (!visit->waits) {
      TASKWAL_TRY(explained(StartWaiting(visit)));
      continue;
    }
    TASKWAL_TRY(explained(CheckWaiting(*visit)));
    if (!has_waited) Sleep(visit);
  }
}

// --- the gate ----------------------------------------------------------------------------------

// True when the call holds its token and budget.
bool Admission::TryGate(Visit* visit) {
  if (visit->holds) return true;
  MutexLock lock(mutex_);
  if (is_closed_ || visit->gave_way || !IsNext(*visit)) return false;
  if (!TakeGate(visit, clock_.Now())) return false;
  visit->holds = true;
  if (visit->waits) {
    const auto rank = static_cast<std::size_t>(visit->call.rank);
    at_log_[rank].splice(at_log_[rank].end(), at_gate_[rank], visit->place);
    WakeFront();
  }
  return true;
}

bool Admission::IsNext(const Visit& visit) const {
  if (HasAbove(at_gate_, visit.call.rank)) return false;
  const auto& peers = at_gate_[static_cast<std::size_t>(visit.call.rank)];
  return peers.empty() || peers.front() == &visit;
}

bool Admission::TakeGate(Visit* visit, Monotonic now) {
  if (!HasBudget(visit->call)) return false;
  if (rate_limit_ > 0) {
    if (options_.rate_window.count() > 0 && window_.Count(now) >= WindowMax()) return false;
    if (!bucket_.TryTake(now)) return false;
    visit->counted = window_.Add(now);
  }
  ++admitted_records_;
  admitted_bytes_ += visit->call.bytes;
  return true;
}

// Rounded up: a window that is shorter than the pause between two calls lets in one.
std::uint64_t Admission::WindowMax() const {
  constexpr std::uint64_t kSecond = 1000;
  const auto window = static_cast<std::uint64_t>(options_.rate_window.count());
  if (rate_limit_ > (UINT64_MAX - kSecond) / window) return UINT64_MAX;
  return (rate_limit_ * window + kSecond - 1) / kSecond;
}

void Admission::GiveBackGate(const Visit& visit) {
  // SettleDrift may have come in between.
  admitted_records_ -= std::min<std::uint64_t>(admitted_records_, 1);
  admitted_bytes_ -= std::min<std::uint64_t>(admitted_bytes_, visit.call.bytes);
  if (rate_limit_ == 0) return;
  bucket_.GiveBack();
  window_.TakeBack(visit.counted);
}

// One record always fits.
bool Admission::HasBudget(const Call& call) const {
  const std::uint64_t records_max = options_.max_unflushed_records;
  const std::uint64_t bytes_max = options_.max_unflushed_bytes;
  if (records_max == 0 && bytes_max == 0) return true;
  const std::uint64_t settled = gauge_.settled_records();
  if (admitted_records_ <= settled) return true;
  const std::uint64_t records = admitted_records_ - settled;
  const std::uint64_t bytes = admitted_bytes_ - std::min(gauge_.settled_bytes(), admitted_bytes_);
  const bool has_records = records_max == 0 || records < records_max;
  return has_records && (bytes_max == 0 || bytes + call.bytes <= bytes_max);
}

// --- waiting -----------------------------------------------------------------------------------

bool Admission::HasAbove(const Ranks& ranks, std::int32_t rank) {
  return std::any_of(ranks.begin() + rank + 1, ranks.end(),
                     [](const auto& visits) { return !visits.empty(); });
}

bool Admission::MayAskLog(Visit* visit) {
  if (waiting_.load() == 0) return true;
  MutexLock lock(mutex_);
  if (HasAbove(at_gate_, visit->call.rank)) {
    StepBack(visit);
    return false;
  }
  return !HasAbove(at_log_, visit->call.rank) && IsInFront(*visit);
}

// Nobody has to leave before this one may try.
bool Admission::IsInFront(const Visit& visit) const {
  if (!visit.holds) return IsNext(visit);
  const auto& peers = at_log_[static_cast<std::size_t>(visit.call.rank)];
  if (peers.size() < kAtLogMax) return true;
  const auto end = std::next(peers.begin(), kAtLogMax);
  return visit.waits && std::find(peers.begin(), end, &visit) != end;
}

// Those in front look up, those who have just come there among them.
void Admission::WakeFront() {
  changed_.NotifyAll();
  const auto highest = [](const Ranks& ranks) {
    return std::find_if(ranks.rbegin(), ranks.rend(), [](const auto& v) { return !v.empty(); });
  };
  const auto gate = highest(at_gate_);
  if (gate != at_gate_.rend()) gate->front()->wake.NotifyOne();
  const auto log = highest(at_log_);
  if (log == at_log_.rend()) return;
  std::size_t left = kAtLogMax;
  for (auto visit = log->begin(); visit != log->end() && left > 0; ++visit, --left) {
    (*visit)->wake.NotifyOne();
  }
}

// Who ranks above waits for a token or a budget: it must not wait for those of one that waits
// itself.
void Admission::StepBack(Visit* visit) {
  GiveBackGate(*visit);
  visit->holds = false;
  if (visit->waits) {
    const auto rank = static_cast<std::size_t>(visit->call.rank);
    auto& peers = at_gate_[rank];
    const auto behind = std::find_if(peers.begin(), peers.end(), [&](const Visit* other) {
      return other->number > visit->number;
    });
    peers.splice(behind, at_log_[rank], visit->place);
  }
  WakeFront();
}

// There is no room at once: whether this call may wait for it.
Status Admission::StartWaiting(Visit* visit) {
  const Call& call = visit->call;
  MutexLock lock(mutex_);
  if (is_closed_) return Status::Closed("the storage is closed");
  if (call.only_if_room) return Status::Overloaded("there is no room at once");
  const bool is_activity = call.rank != kTaskRank;
  if (is_activity && policy_ == Overflow::kDropNewest) {
    return Drop(call, DropReason::kNewest, "no room, and backpressure_strategy is drop_newest");
  }
  // Under pressure it was sampled before.
  if (is_activity && policy_ == Overflow::kSample && (gates_.load() & kSampling) == 0 &&
      sampled_++ % sample_one_in_ != 0) {
    return Drop(call, DropReason::kSampled, "no room, and only a sample of activities is kept");
  }
  if (call.timeout.count() <= 0) return Drop(call, DropReason::kTimeout, "no room");
  if (is_activity && policy_ == Overflow::kDropOldest && !MakeWaitingRoom(*visit)) {
    return Drop(call, DropReason::kOldest, "the waiting room is full of higher priorities");
  }
  visit->waits = true;
  visit->number = ++visits_;
  auto& queue = (visit->holds ? at_log_ : at_gate_)[static_cast<std::size_t>(call.rank)];
  visit->place = queue.insert(queue.end(), visit);
  waiting_.fetch_add(1);
  SetGate(kWaiting, true);
  return Status::Ok();
}

// The oldest waiting activity of the lowest priority gives way; false when that is the new one.
bool Admission::MakeWaitingRoom(const Visit& visit) {
  if (WaitingActivities() < options_.waiting_room) return true;
  for (std::int32_t rank = 1; rank <= visit.call.rank && rank < kTaskRank; ++rank) {
    Visit* oldest = nullptr;
    for (Ranks* ranks : {&at_gate_, &at_log_}) {
      for (Visit* waiting : (*ranks)[static_cast<std::size_t>(rank)]) {
        if (waiting->gave_way) continue;
        if (oldest == nullptr || waiting->number < oldest->number) oldest = waiting;
        break;
      }
    }
    if (oldest == nullptr) continue;
    oldest->gave_way = true;
    changed_.NotifyAll();
    oldest->wake.NotifyOne();
    return true;
  }
  return false;
}

// Those that have given way are on their way out.
std::size_t Admission::WaitingActivities() const {
  std::size_t count = 0;
  for (const Ranks* ranks : {&at_gate_, &at_log_}) {
    for (std::size_t rank = 1; rank < kTaskRank; ++rank) {
      count += static_cast<std::size_t>(
          std::count_if((*ranks)[rank].begin(), (*ranks)[rank].end(),
                        [](const Visit* visit) { return !visit->gave_way; }));
    }
  }
  return count;
}

Status Admission::CheckWaiting(const Visit& visit) {
  const Call& call = visit.call;
  MutexLock lock(mutex_);
  if (is_closed_) return Status::Closed("the storage is closed");
  if (visit.gave_way) {
    return Drop(call, DropReason::kOldest, "it gave way in the waiting room");
  }
  if (call.stop.stop_requested()) return Drop(call, DropReason::kTimeout, "told to stop");
  if (clock_.Now() < visit.deadline) return Status::Ok();
  return Drop(call, DropReason::kTimeout, "no room in time");
}

// Until something has changed, the next token comes, or it is time to look up.
void Admission::Sleep(Visit* visit) {
  // Outlives the lock: its end waits for a notice under way, which takes the mutex.
  const std::stop_callback told(visit->call.stop, [this, visit] {
    MutexLock lock(mutex_);
    visit->wake.NotifyOne();
  });
  {
    MutexLock lock(mutex_);
    if (visit->call.stop.stop_requested() || visit->gave_way || is_closed_) return;
    const Monotonic now = clock_.Now();
    const std::chrono::nanoseconds left = visit->deadline - now;
    if (!IsInFront(*visit)) {
      if (left.count() > 0) visit->wake.WaitFor(mutex_, std::min(left, kSliceBehind));
      return;
    }
    std::chrono::nanoseconds longest = std::min(left, kSlice);
    // While a budget or the window is what keeps it out, a token that is there is no use.
    const std::chrono::nanoseconds token = bucket_.NextIn(now);
    if (!visit->holds && rate_limit_ > 0 && token.count() > 0) longest = std::min(longest, token);
    if (longest > kSpin) {
      changed_.WaitFor(mutex_, longest);
      return;
    }
  }
  std::this_thread::yield();
}

void Admission::Leave(Visit* visit, bool has_entered) {
  if (!visit->waits && (has_entered || !visit->holds)) return;
  MutexLock lock(mutex_);
  const bool frees = visit->holds && !has_entered;
  if (frees) GiveBackGate(*visit);
  const bool makes_way = visit->waits && IsInFront(*visit);
  if (visit->waits) {
    Ranks& ranks = visit->holds ? at_log_ : at_gate_;
    ranks[static_cast<std::size_t>(visit->call.rank)].erase(visit->place);
    waiting_.fetch_sub(1);
    SetGate(kWaiting, Waiting() > 0);
  }
  if (frees || makes_way) WakeFront();
}

std::size_t Admission::Waiting() const {
  std::size_t count = 0;
  for (const Ranks* ranks : {&at_gate_, &at_log_}) {
    for (const auto& visits : *ranks) count += visits.size();
  }
  return count;
}

void Admission::Close() {
  MutexLock lock(mutex_);
  is_closed_ = true;
  SetGate(kClosed, true);
  changed_.NotifyAll();
  for (const Ranks* ranks : {&at_gate_, &at_log_}) {
    for (const auto& visits : *ranks) {
      for (Visit* visit : visits) visit->wake.NotifyOne();
    }
  }
}

// --- shedding ----------------------------------------------------------------------------------

bool Admission::IsThinned(std::int32_t rank) const {
  return (gates_.load() & kShedding) != 0 && rank <= gauge_.shed_up_to();
}

// By a running share, so that of any ten calls of one priority the same number goes.
bool Admission::IsShed(std::int32_t rank) {
  if (!IsThinned(rank)) return false;
  MutexLock lock(mutex_);
  double& credit = shed_credit_[static_cast<std::size_t>(rank)];
  credit += options_.emergency_throttle;
  if (credit < 1) return false;
  credit -= 1;
  return true;
}

bool Admission::IsSampled() {
  MutexLock lock(mutex_);
  return sampled_++ % sample_one_in_ == 0;
}

Status Admission::Drop(const Call& call, DropReason reason, const char* why) {
  const std::size_t priority = call.rank == kTaskRank ? 0 : static_cast<std::size_t>(call.rank);
  drops_[static_cast<std::size_t>(reason)][priority].fetch_add(1, std::memory_order_relaxed);
  return Status::Overloaded(std::string(why) + "; nothing was kept");
}

void Admission::SetGate(Gate gate, bool is_shut) {
  if (is_shut) {
    gates_.fetch_or(gate);
  } else {
    gates_.fetch_and(~static_cast<std::uint32_t>(gate));
  }
}

// --- the monitor -------------------------------------------------------------------------------

void Admission::MaybeLook() {
  const Monotonic now = clock_.Now();
  Monotonic due = next_look_.load();
  if (now < due) return;
  // Whoever moves it on looks.
  if (next_look_.compare_exchange_strong(due, now + options_.monitoring_interval)) Look(now);
}

void Admission::Look(Monotonic now) {
  std::uint64_t admitted = 0;
  {
    MutexLock lock(mutex_);
    admitted = admitted_records_;
  }
  const LoadSample sample = read_load_();
  {
    MutexLock lock(mutex_);
    const auto event = gauge_.Look(sample, now);
    if (event) untold_.push_back(*event);
    if (event && wake_) wake_();
    SetGate(kShedding, gauge_.shed_up_to() > 0);
    SetGate(kSampling, policy_ == Overflow::kSample && gauge_.state() != Pressure::kNormal);
  }
  if (sample.pending == 0) SettleDrift(admitted);
}

void Admission::WhenChanged(std::function<void()> wake) {
  MutexLock lock(mutex_);
  wake_ = std::move(wake);
}

void Admission::TellChanges() {
  std::vector<PressureEvent> events;
  {
    MutexLock lock(mutex_);
    events.swap(untold_);
  }
  for (const PressureEvent& event : events) {
    Logger().warn("admission event=pressure from={} to={} signal={} score={:.2f}",
                  PressureName(event.from), PressureName(event.to), event.signal, event.score);
    if (!options_.on_pressure) continue;
    try {
      options_.on_pressure(event);
    } catch (...) {
      Logger().error("admission event=on_pressure_threw");
    }
  }
}

// What was lost, or found to be in the database at the first contact, was never counted as settled:
// where nothing is pending, and nothing was `admitted` meanwhile, nothing is unflushed. A call that
// has just been let in and has no LSN yet is missed, until the next look.
void Admission::SettleDrift(std::uint64_t admitted) {
  MutexLock lock(mutex_);
  if (admitted_records_ != admitted) return;
  admitted_records_ = gauge_.settled_records();
  admitted_bytes_ = gauge_.settled_bytes();
}

// --- control -----------------------------------------------------------------------------------

void Admission::CountBacklog(std::uint64_t records, std::uint64_t bytes) {
  if (records == 0) return;  // a segment without records has bytes, too
  MutexLock lock(mutex_);
  admitted_records_ += records;
  admitted_bytes_ += bytes;
}

void Admission::SetRate(std::uint64_t per_second, std::uint64_t burst) {
  MutexLock lock(mutex_);
  rate_limit_ = per_second;
  rate_burst_ = BurstOf(per_second, burst);
  bucket_.SetRate(static_cast<double>(rate_limit_), static_cast<double>(rate_burst_),
                  clock_.Now());
  // What came before was admitted under another rate.
  window_.Clear();
  SetGate(kRate, per_second > 0);
  changed_.NotifyAll();
}

void Admission::SetPolicy(Overflow policy, std::uint32_t sample_one_in) {
  MutexLock lock(mutex_);
  policy_ = policy;
  sample_one_in_ = std::max(sample_one_in, 1u);
  SetGate(kSampling, policy == Overflow::kSample && gauge_.state() != Pressure::kNormal);
  changed_.NotifyAll();
}

DropCounts Admission::drops() const {
  DropCounts drops;
  for (std::size_t reason = 0; reason < drops_.size(); ++reason) {
    for (std::size_t priority = 0; priority < drops_[reason].size(); ++priority) {
      drops.counts[reason][priority] = drops_[reason][priority].load(std::memory_order_relaxed);
    }
  }
  return drops;
}

FlowControlSnapshot Admission::Snapshot() {
  FlowControlSnapshot snapshot;
  snapshot.drops = drops();
  snapshot.max_unflushed_records = options_.max_unflushed_records;
  snapshot.max_unflushed_bytes = options_.max_unflushed_bytes;
  const Monotonic now = clock_.Now();
  const std::chrono::duration<double> window = options_.rate_window;
  MutexLock lock(mutex_);
  snapshot.policy = policy_;
  snapshot.sample_one_in = sample_one_in_;
  snapshot.rate_limit = rate_limit_;
  snapshot.waiting = Waiting();
  if (rate_limit_ > 0) {
    snapshot.rate_burst = rate_burst_;
    snapshot.tokens = bucket_.tokens(now);
    if (window.count() > 0) {
      snapshot.rate = static_cast<double>(window_.Count(now)) / window.count();
    }
  }
  if ((gates_.load() & kBudget) != 0) {
    const std::uint64_t records = gauge_.settled_records();
    const std::uint64_t bytes = gauge_.settled_bytes();
    snapshot.unflushed_records = admitted_records_ - std::min(records, admitted_records_);
    snapshot.unflushed_bytes = admitted_bytes_ - std::min(bytes, admitted_bytes_);
  }
  return snapshot;
}

}  // namespace taskwal::pipeline
