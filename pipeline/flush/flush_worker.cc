#include "pipeline/flush/flush_worker.h"

#include <algorithm>
#include <exception>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/error_hook.h"
#include "pipeline/flush/batch.h"

namespace taskwal::pipeline {
namespace {

using storage::ApplyResult;
using storage::OperationType;
using storage::WatermarkMove;
using wal::Lsn;

// For others to take what a worker has given back.
constexpr std::chrono::milliseconds kHandOverTime{10};
constexpr double kNearlyAll = 0.8;
// Batches that gave way, in a row.
constexpr std::uint32_t kConflictsForAlarm = 10;
constexpr auto kNothingToDo = std::chrono::hours(1);

void LogFlushingAgain(const storage::Backend& backend) {
  Logger().info("flusher event=flushing_again db={}", backend.name());
}

}  // namespace

FlushWorker::FlushWorker(FlushSetting& setting, std::uint32_t index, std::uint64_t seed)
    : setting_(setting), index_(index), retry_(setting.options), random_(seed) {}

FlushWorker::~FlushWorker() = default;

void FlushWorker::Begin(const LogIdentity& identity, std::unique_ptr<storage::Session> session) {
  identity_ = identity;
  session_ = std::move(session);
  if (session_) HasOpened();
  looked_at_ = setting_.clock.Now();
  connected_at_ = looked_at_;
  batch_.clear();
  parts_.clear();
  asides_.clear();
  attempt_.clear();
  failures_ = 0;
  rests_until_ = {};
  EndAlarm();  // the database answers, and may have had what it failed with
}

FlushWorker::Turn FlushWorker::Step() {
  // Whatever a driver throws, this worker goes on: what became of the attempt is asked of the
  // database.
  try {
    return Work();
  } catch (const std::exception& e) {
    return Threw(e.what());
  } catch (...) {
    return Threw("an exception of unknown type");
  }
}

FlushWorker::Turn FlushWorker::Threw(const std::string& what) {
  setting_.counters.UpdateWorker(index_, [](WorkerSnapshot& worker) { ++worker.exceptions; });
  may_land_ = may_land_ || !attempt_.empty();
  TellError(setting_.options, {"worker", setting_.backend.name(), index_, what});
  return Failed(Status::Unavailable(setting_.backend.name() + ": " + what));
}

bool FlushWorker::Retire() {
  if (!batch_.empty()) return false;
  for (const Aside& aside : asides_) setting_.queues.TakeUp(*aside.records.front());
  asides_.clear();
  CountInHand();
  setting_.queues.Release(index_);
  Disconnect();
  // Whoever comes to what it could not bring raises an own one.
  setting_.counters.ClearAlarm(FlushCounters::kFirstWorker + index_);
  return true;
}

FlushWorker::Turn FlushWorker::Work() {
  if (!fenced_.ok()) return Turn::kFenced;
  const Monotonic now = setting_.clock.Now();
  if (HasOldConnection(now)) Disconnect();
  ShareConnection();
  if (IsOverdue(now)) GiveBack(now);
  if (batch_.empty() && now < rests_until_) return Turn::kPaused;
  if (batch_.empty() && !TakeUp(now) && !TakeBatch(now)) {
    return now < LookAt(now) ? Turn::kIdle : Look(now);
  }
  if (now < PausedUntil()) return Turn::kPaused;
  if (now < ConnectsAt()) {
    AskForConnection();
    return Turn::kPaused;
  }
  const bool is_urgent = setting_.queues.awaited_lsn() > 0;
  if (!setting_.breaker.Allow(now, is_urgent, &allowed_in_)) return Turn::kPaused;
  if (!session_ || !attempt_.empty()) {
    const Turn turn = session_ ? Compare() : Connect();
    if (turn != Turn::kProgress || batch_.empty()) return turn;
    const Monotonic connected_at = setting_.clock.Now();
    if (IsOverdue(connected_at)) {
      setting_.breaker.OnSuccess(connected_at, allowed_in_);
      if (is_cut_) failures_ = 0;  // it answers; only the batch was too large for its time
      GiveBack(connected_at);
      return Turn::kProgress;
    }
  }
  return ApplyPart();
}

bool FlushWorker::TakeBatch(Monotonic now) {
  const auto due = setting_.queues.DueAt(index_, now);
  if (!due || *due > now) return false;
  batch_ = setting_.queues.Take(index_, &is_full_);
  if (batch_.empty()) return false;
  batch_records_ = batch_.size();
  parts_ = PartsOfBatch();
  idempotent_ = batch_.front()->lsn <= identity_.replayed_until;
  refusals_ = 0;
  first_refused_.reset();
  begun_at_ = now;
  is_cut_ = may_land_ = false;
  CountInHand();
  return true;
}

// What was set aside and has rested: the refused record by itself, then the rest.
bool FlushWorker::TakeUp(Monotonic now) {
  const auto due = std::find_if(asides_.begin(), asides_.end(),
                                [&](const Aside& aside) { return DueAt(aside) <= now; });
  if (due == asides_.end()) return false;
  batch_ = std::move(due->records);
  refusals_ = due->refusals;
  first_refused_ = due->first_refused;
  idempotent_ = due->idempotent;
  batch_records_ = due->batch_records;
  is_full_ = false;
  asides_.erase(due);
  setting_.queues.TakeUp(*batch_.front());
  parts_ = PartsOfBatch();
  Part& next = parts_.back();
  if (next.end - next.begin > 1) {
    next.begin = 1;
    parts_.push_back({0, 1});
  }
  begun_at_ = now;
  is_cut_ = may_land_ = false;
  return true;
}

// The next part's only record was refused: it rests, and what is behind it in its partition with
// it. Everything else of the batch stays in hand; the parts before it are settled.
void FlushWorker::SetAside(std::chrono::milliseconds pause) {
  const std::size_t first = parts_.back().begin;
  const QueuedRecord& refused = *batch_[first];
  Aside aside{{}, refusals_, first_refused_, setting_.clock.Now(), pause, idempotent_,
              batch_records_};
  std::vector<QueuedRecord*> others;
  for (std::size_t i = first; i < batch_.size(); ++i) {
    const bool goes_along = batch_[i]->partition == refused.partition;
    (goes_along ? aside.records : others).push_back(batch_[i]);
  }
  asides_.push_back(std::move(aside));
  setting_.queues.SetAside(refused);
  batch_ = std::move(others);
  parts_ = PartsOfBatch();
  refusals_ = 0;
  if (batch_.empty()) setting_.queues.Release(index_);
}

Monotonic FlushWorker::DueAt(const Aside& aside) const {
  const bool is_urgent = setting_.queues.awaited_lsn() > 0;
  return aside.refused_at + (is_urgent ? std::min(aside.pause, kUrgentRetry) : aside.pause);
}

void FlushWorker::CountInHand() {
  std::uint64_t records = batch_.size();
  for (const Aside& aside : asides_) records += aside.records.size();
  setting_.counters.UpdateWorker(index_, [&](WorkerSnapshot& w) { w.in_hand = records; });
}

// An attempt in doubt has to be settled first: whoever takes its records must know. Where the
// commit was sent, that it is not there yet settles nothing: it may still land, and then only the
// same records again are known for it.
bool FlushWorker::IsOverdue(Monotonic now) const {
  const auto longest = setting_.options.batch_timeout;
  if (longest.count() == 0 || batch_.empty() || !attempt_.empty() || may_land_) return false;
  return is_cut_ || now - begun_at_ >= longest;
}

// To the batch in hand, for its next transaction; 0: there is no limit. A record by itself cannot
// be made less, nor can what may still land.
std::chrono::milliseconds FlushWorker::TimeLeft(Monotonic now) const {
  const auto longest = setting_.options.batch_timeout;
  const Part& part = parts_.back();
  if (longest.count() == 0 || part.end - part.begin == 1 || may_land_) return {};
  const auto left = std::chrono::floor<std::chrono::milliseconds>(begun_at_ + longest - now);
  return std::max(left, std::chrono::milliseconds(1));
}

// Without a rest this worker would have it again before any other wakes.
void FlushWorker::GiveBack(Monotonic now) {
  rests_until_ = std::max(PausedUntil(), now + kHandOverTime);
  batch_.clear();
  parts_.clear();
  // Counted before another can bring it.
  setting_.counters.UpdateWorker(index_, [](WorkerSnapshot& worker) { ++worker.timeouts; });
  CountInHand();
  setting_.connections.Withdraw(index_);
  setting_.queues.Release(index_, true);
}

// Retries are brought apart from what is newer than they are: they are compared with the rows.
std::vector<FlushWorker::Part> FlushWorker::PartsOfBatch() const {
  const auto is_retry = [&](std::size_t i) {
    return storage::IsRetry(static_cast<OperationType>(batch_[i]->type));
  };
  std::vector<Part> parts;
  for (std::size_t end = batch_.size(); end > 0;) {
    std::size_t begin = end - 1;
    while (begin > 0 && is_retry(begin - 1) == is_retry(end - 1)) --begin;
    parts.push_back({begin, end});
    end = begin;
  }
  return parts;
}

// --- how the database fares -------------------------------------------------------------------

void FlushWorker::Recovered() {
  failures_ = 0;
  looked_at_ = setting_.clock.Now();
  setting_.breaker.OnSuccess(looked_at_, allowed_in_);
  EndAlarm();
}

void FlushWorker::EndAlarm() const {
  if (setting_.counters.ClearAlarm(FlushCounters::kFirstWorker + index_)) {
    LogFlushingAgain(setting_.backend);
  }
}

FlushWorker::Turn FlushWorker::Fence(const std::string& why) {
  Disconnect();
  setting_.breaker.OnSuccess(setting_.clock.Now(), allowed_in_);
  fenced_ = Status::Fenced(setting_.backend.name() + ": " + why);
  return Turn::kFenced;
}

// --- one part ----------------------------------------------------------------------------------

FlushWorker::Turn FlushWorker::ApplyPart() {
  const Part part = parts_.back();
  std::uint64_t duplicates = 0;
  started_at_ = setting_.clock.Now();
  auto batch = Compose(part, &duplicates);
  if (!batch.ok()) {
    // What must not be lettered holds back no more than what comes behind it.
    if (batch.status().code() != StatusCode::kOverloaded || !Split()) return Failed(batch.status());
    setting_.breaker.OnSuccess(setting_.clock.Now(), allowed_in_);
    return Turn::kProgress;
  }
  attempt_ = batch->moves;
  attempt_rows_ = batch->dag_deletes.size() + batch->tasks.size() + batch->activities.size();
  const Monotonic applied_at = setting_.clock.Now();
  batch->time_max = TimeLeft(applied_at);
  // From here on until there is an answer, the attempt is in doubt.
  const auto result = session_->Apply(*batch);
  const std::chrono::duration<double> spent = setting_.clock.Now() - started_at_;
  setting_.counters.UpdateWorker(index_, [&](WorkerSnapshot& worker) {
    worker.busy_seconds += spent.count();
  });
  if (!result.ok()) {
    const Status& why = result.status();
    if (why.code() == StatusCode::kRejected) return Refused(why);
    if (why.code() == StatusCode::kFenced) return Fence(why.message());
    if (why.code() == StatusCode::kUnavailable && session_->HasGivenWay()) return GaveWay(why);
    may_land_ = may_land_ || why.code() == StatusCode::kInDoubt;
    // Servers give up a little before the time is over. What had little time tells nothing.
    const auto time = batch->time_max;
    is_cut_ = 2 * time >= setting_.options.batch_timeout && time.count() > 0 &&
              setting_.clock.Now() - applied_at >= kNearlyAll * time;
    if (is_cut_ && setting_.sizer != nullptr) setting_.sizer->OnCut(part.end - part.begin);
    return Failed(why);
  }
  switch (result->outcome) {
    case ApplyResult::Outcome::kApplied:
      Settle(duplicates + result->duplicates);
      return Turn::kProgress;
    case ApplyResult::Outcome::kRepeatIdempotent:
      if (idempotent_) break;
      setting_.breaker.OnSuccess(setting_.clock.Now(), allowed_in_);
      attempt_.clear();
      idempotent_ = true;
      return Turn::kProgress;
    case ApplyResult::Outcome::kWatermarkMoved:
      break;
  }
  return Failed(Status::Unavailable(setting_.backend.name() + ": a batch was turned away"));
}

Result<storage::Batch> FlushWorker::Compose(const Part& part, std::uint64_t* duplicates) {
  storage::Batch batch;
  batch.wal_id = identity_.wal_id;
  batch.epoch = identity_.epoch;
  batch.moves = MovesOf(part);
  batch.idempotent = idempotent_;
  std::vector<storage::Operation> operations;
  operations.reserve(part.end - part.begin);
  RetryComposer retries(setting_.letters, *session_, identity_.wal_id, setting_.keep_share);
  for (std::size_t i = part.begin; i < part.end; ++i) {
    QueuedRecord& record = *batch_[i];
    if (setting_.letters.Contains({identity_.OwnerOf(record.lsn), record.lsn, setting_.target})) {
      record.is_lettered = true;
    }
    if (record.is_lettered) continue;
    if (const auto retry = RetryIn(record)) {
      batch.idempotent = true;  // an activity may have come in by itself meanwhile
      TASKWAL_TRY(TakeRetry(record, *retry, &retries, &operations));
      continue;
    }
    auto body = storage::Decode(static_cast<OperationType>(record.type), record.body);
    if (!body.ok()) {
      TASKWAL_TRY(LetterRefused(record, body.status(), 1));
      continue;
    }
    if (setting_.keep_share) setting_.keep_share(&*body);
    TASKWAL_ASSIGN(const bool is_lettered, GoesToLetters(record, *body));
    if (!is_lettered) operations.emplace_back(record.lsn, record.stamp, std::move(*body));
  }
  TASKWAL_TRY(retries.Claim());
  ComposedRows rows = pipeline::Compose(std::move(operations), batch.wal_id);
  batch.dag_deletes = std::move(rows.dag_deletes);
  batch.tasks = std::move(rows.tasks);
  batch.activities = std::move(rows.activities);
  *duplicates = rows.duplicates;
  return batch;
}

std::vector<WatermarkMove> FlushWorker::MovesOf(const Part& part) const {
  const std::vector<Lsn> stored = setting_.queues.stored();
  std::vector<Lsn> to(stored.size(), 0);
  for (std::size_t i = part.begin; i < part.end; ++i) {
    const QueuedRecord& record = *batch_[i];
    if (storage::IsBarrier(static_cast<OperationType>(record.type))) {
      to.assign(stored.size(), record.lsn);
    } else {
      to[record.partition] = record.lsn;
    }
  }
  std::vector<WatermarkMove> moves;
  for (std::uint32_t p = 0; p < to.size(); ++p) {
    if (to[p] > 0) moves.push_back({p, stored[p], to[p]});
  }
  return moves;
}

void FlushWorker::Settle(std::uint64_t duplicates) {
  const FlushEvent event = EventOf(parts_.back(), Status::Ok());
  CountSettled(event, duplicates);
  const Part& part = parts_.back();
  setting_.guard.OnSettled(std::span(batch_).subspan(part.begin, part.end - part.begin));
  // Before Settle, as the counters: whoever waits for it finds no alarm of what is over.
  Recovered();
  setting_.queues.Settle(index_, attempt_, setting_.clock.Now());
  parts_.pop_back();
  attempt_.clear();
  refusals_ = 0;
  begun_at_ = looked_at_;
  is_cut_ = may_land_ = false;
  if (parts_.empty()) {
    batch_.clear();
    setting_.queues.Release(index_);
  }
  Tell(event);
}

// A callback that throws must not look like a failure of the database.
void FlushWorker::Tell(const FlushEvent& event) const {
  if (!setting_.options.on_flush) return;
  try {
    setting_.options.on_flush(event);
  } catch (...) {
    Logger().error("flusher event=on_flush_threw first_lsn={}", event.first_lsn);
    setting_.counters.UpdateWorker(index_, [](WorkerSnapshot& worker) { ++worker.exceptions; });
    TellError(setting_.options, {"callback", setting_.backend.name(), index_, "on_flush threw"});
  }
}

void FlushWorker::CountSettled(const FlushEvent& event, std::uint64_t duplicates) {
  const Time now = setting_.clock.WallNow();
  const Part& part = parts_.back();
  std::uint64_t bytes = 0;
  for (std::size_t i = part.begin; i < part.end; ++i) bytes += batch_[i]->body.size();
  PartitionQueues::Settled settled;
  bool is_over = false;
  setting_.counters.Transfer([&] {
    settled = setting_.queues.Count(attempt_);
    // Who sees that nothing is pending finds no alarm of what others gave up.
    for (const std::uint32_t worker : settled.relieved) {
      is_over = setting_.counters.ClearAlarm(FlushCounters::kFirstWorker + worker) || is_over;
    }
    setting_.counters.Update([&](FlusherStats& stats) {
      stats.applied += settled.applied;
      stats.dead_lettered += settled.lettered;
      stats.duplicates += duplicates;
      stats.rows_written += attempt_rows_;
      stats.bytes_flushed += bytes;
      ++stats.flush_operations;
      stats.last_flush_time = now;
      stats.database_available = true;
    });
  });
  if (is_over) LogFlushingAgain(setting_.backend);
  setting_.counters.UpdateWorker(index_, [&](WorkerSnapshot& worker) {
    ++worker.batches;
    worker.records += event.records;
    worker.in_hand -= std::min(worker.in_hand, event.records);
  });
  setting_.counters.RecordFlush(index_, event.duration);
  if (setting_.gauge != nullptr) {
    setting_.gauge->OnCommitted(event.duration);
    const std::uint64_t records = settled.applied + settled.lettered;
    if (records > 0 && !IsDueElsewhere()) setting_.gauge->OnSettled(records, settled.bytes);
  }
  if (setting_.sizer != nullptr) {
    const bool is_full = is_full_ && event.records == batch_records_;
    setting_.sizer->OnCommitted(event.records, is_full, event.duration, setting_.clock.Now());
    setting_.queues.SetBatchRecords(setting_.sizer->size());
  }
}

// A barrier, which comes alone, that another target has still to bring.
bool FlushWorker::IsDueElsewhere() const {
  const QueuedRecord& first = *batch_[parts_.back().begin];
  const bool is_barrier = storage::IsBarrier(static_cast<OperationType>(first.type));
  return is_barrier && setting_.is_last && !setting_.is_last(first.lsn);
}

FlushEvent FlushWorker::EventOf(const Part& part, const Status& status) const {
  FlushEvent event;
  event.status = status;
  event.records = part.end - part.begin;
  event.first_lsn = batch_[part.begin]->lsn;
  event.last_lsn = batch_[part.end - 1]->lsn;
  event.duration =
      std::chrono::duration_cast<std::chrono::microseconds>(setting_.clock.Now() - started_at_);
  return event;
}

// --- what goes wrong ---------------------------------------------------------------------------

FlushWorker::Turn FlushWorker::Refused(const Status& why) {
  const Part part = parts_.back();
  const FlushEvent event = EventOf(part, why);
  attempt_.clear();
  may_land_ = false;  // its transaction has had the watermark
  setting_.breaker.OnSuccess(setting_.clock.Now(), allowed_in_);  // it answers
  CountError(why, true);
  // What is left of it is brought in parts, each with a time of its own.
  begun_at_ = setting_.clock.Now();
  if (!first_refused_) first_refused_ = setting_.clock.WallNow();
  if (!Split()) {
    const Status lettered = RefusedAlone(why);
    if (!lettered.ok()) return Failed(lettered);
  }
  Tell(event);
  return Turn::kProgress;
}

// Without a pause it is tried again at once.
Status FlushWorker::RefusedAlone(const Status& why) {
  if (++refusals_ > setting_.options.max_flush_retries) {
    return LetterRefused(*batch_[parts_.back().begin], why, refusals_);
  }
  const std::chrono::milliseconds pause = retry_.Delay(refusals_, random_);
  if (pause.count() > 0) SetAside(pause);
  return Status::Ok();
}

void FlushWorker::CountError(const Status& why, bool answers) {
  const Time now = setting_.clock.WallNow();
  setting_.counters.Update([&](FlusherStats& stats) {
    stats.CountError(why.message(), now);
    if (!answers) stats.database_available = false;
  });
}

// By LSN: each half is a prefix of what is left, and so can carry its watermarks. False for one
// record.
bool FlushWorker::Split() {
  const Part part = parts_.back();
  if (part.end - part.begin < 2) return false;
  const std::size_t middle = part.begin + (part.end - part.begin) / 2;
  parts_.back() = {middle, part.end};
  parts_.push_back({part.begin, middle});
  return true;
}

FlushWorker::Turn FlushWorker::Failed(const Status& why) {
  const Monotonic now = setting_.clock.Now();
  const bool is_database = why.code() != StatusCode::kOverloaded;
  Disconnect();
  pause_ = retry_.Delay(++failures_, random_);
  failed_at_ = now;
  if (is_database) {
    setting_.breaker.OnFailure(now, allowed_in_);
  } else {
    setting_.breaker.Trip(now);
  }
  CountError(why, !is_database);
  setting_.counters.UpdateWorker(index_, [](WorkerSnapshot& worker) { ++worker.failures; });
  // Without a batch it was a look, and no transaction.
  if (setting_.gauge != nullptr && !batch_.empty()) setting_.gauge->OnFailed();
  if (setting_.sizer != nullptr && !batch_.empty()) {
    setting_.sizer->OnFailed(now);
    setting_.queues.SetBatchRecords(setting_.sizer->size());
  }
  if (setting_.counters.RaiseAlarm(FlushCounters::kFirstWorker + index_, why.message())) {
    Logger().warn("flusher event=flush_failed db={} error=\"{}\"", setting_.backend.name(),
                  why.ToString());
  }
  if (!parts_.empty()) Tell(EventOf(parts_.back(), why));
  return Turn::kPaused;
}

// It waits as after a failure, but the database is as well as ever: to the breaker and to the load
// that is no failure, and an alarm only when it goes on and on.
FlushWorker::Turn FlushWorker::GaveWay(const Status& why) {
  const Monotonic now = setting_.clock.Now();
  attempt_.clear();
  pause_ = retry_.Delay(++failures_, random_);
  failed_at_ = now;
  setting_.breaker.OnSuccess(now, allowed_in_);
  CountError(why, true);
  setting_.counters.UpdateWorker(index_, [](WorkerSnapshot& worker) { ++worker.failures; });
  if (setting_.sizer != nullptr) {
    setting_.sizer->OnFailed(now);
    setting_.queues.SetBatchRecords(setting_.sizer->size());
  }
  if (failures_ >= kConflictsForAlarm &&
      setting_.counters.RaiseAlarm(FlushCounters::kFirstWorker + index_, why.message())) {
    Logger().warn("flusher event=gives_way db={} times={} error=\"{}\"", setting_.backend.name(),
                  failures_, why.ToString());
  }
  Tell(EventOf(parts_.back(), why));
  return Turn::kPaused;
}

Monotonic FlushWorker::PausedUntil() const {
  if (failures_ == 0) return Monotonic::min();
  const bool is_urgent = setting_.queues.awaited_lsn() > 0;
  return failed_at_ + (is_urgent ? std::min(pause_, kUrgentRetry) : pause_);
}

std::chrono::nanoseconds FlushWorker::NextTurnIn() const {
  const Monotonic now = setting_.clock.Now();
  if (batch_.empty()) {
    Monotonic due = setting_.queues.DueAt(index_, now).value_or(Monotonic::max());
    for (const Aside& aside : asides_) due = std::min(due, DueAt(aside));
    const Monotonic takes_at = std::max(due, rests_until_);
    const Monotonic next = std::min(takes_at, LookAt(now));
    return std::min<std::chrono::nanoseconds>(next - now, kNothingToDo);
  }
  const bool is_urgent = setting_.queues.awaited_lsn() > 0;
  const Monotonic trial = setting_.breaker.next_trial(now, is_urgent);
  return std::max({PausedUntil(), ConnectsAt(), trial}) - now;
}

}  // namespace taskwal::pipeline
