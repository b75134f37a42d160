#include "pipeline/flush/flush_worker.h"

#include <algorithm>
#include <exception>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/flush/batch.h"

namespace taskwal::pipeline {
namespace {

using storage::ApplyResult;
using storage::OperationBody;
using storage::OperationType;
using storage::WatermarkMove;
using wal::Lsn;

constexpr auto kNothingToDo = std::chrono::hours(1);

// Empty where the operation is not on one task.
std::string TaskIdOf(const OperationBody& body) {
  if (const auto* save = std::get_if<storage::SaveTaskOp>(&body)) return save->task.id;
  if (const auto* update = std::get_if<storage::UpdateStatusOp>(&body)) return update->task_id;
  if (const auto* gone = std::get_if<storage::DeleteTaskOp>(&body)) return gone->task_id;
  if (const auto* logged = std::get_if<storage::LogActivityOp>(&body)) {
    return logged->activity.task_id;
  }
  return {};
}

// The code that ends a backend's message: "… (SQLite 1299)". For people to read; nothing depends on
// it.
std::string SqlCodeIn(const std::string& message) {
  const std::size_t open = message.rfind('(');
  if (open == std::string::npos || !message.ends_with(')')) return {};
  return message.substr(open + 1, message.size() - open - 2);
}

}  // namespace

FlushWorker::FlushWorker(FlushSetting& setting, std::uint32_t index, std::uint64_t seed)
    : setting_(setting), index_(index), retry_(setting.options), random_(seed) {}

FlushWorker::~FlushWorker() = default;

void FlushWorker::Begin(const LogIdentity& identity, std::unique_ptr<storage::Session> session) {
  identity_ = identity;
  session_ = std::move(session);
  batch_.clear();
  parts_.clear();
  attempt_.clear();
  failures_ = 0;
}

FlushWorker::Turn FlushWorker::Step() {
  // Whatever a driver throws, this worker goes on: what became of the attempt is asked of the
  // database.
  try {
    return Work();
  } catch (const std::exception& e) {
    return Failed(Status::Unavailable(setting_.backend.name() + ": " + e.what()));
  } catch (...) {
    return Failed(Status::Unavailable(setting_.backend.name() + ": an exception of unknown type"));
  }
}

FlushWorker::Turn FlushWorker::Work() {
  if (!fenced_.ok()) return Turn::kFenced;
  const Monotonic now = setting_.clock.Now();
  if (batch_.empty() && !TakeBatch(now)) return Turn::kIdle;
  if (now < PausedUntil()) return Turn::kPaused;
  if (!setting_.breaker.Allow(now, setting_.queues.awaited_lsn() > 0)) return Turn::kPaused;
  if (!session_) {
    const Turn connected = Connect();
    if (connected != Turn::kProgress || batch_.empty()) return connected;
  }
  return ApplyPart();
}

bool FlushWorker::TakeBatch(Monotonic now) {
  const auto due = setting_.queues.DueAt(index_, now);
  if (!due || *due > now) return false;
  batch_ = setting_.queues.Take(index_);
  if (batch_.empty()) return false;
  parts_ = {{0, batch_.size()}};
  guard_.StartBatch(batch_.size());
  idempotent_ = batch_.front()->lsn <= identity_.replayed_until;
  refusals_ = 0;
  first_refused_.reset();
  return true;
}

// --- the connection ----------------------------------------------------------------------------

FlushWorker::Turn FlushWorker::Connect() {
  storage::Backend& backend = setting_.backend;
  // Before the question: what others commit meanwhile may only be found further on.
  const std::vector<Lsn> known = setting_.queues.stored();
  auto session = backend.Connect();
  if (!session.ok()) return Failed(session.status());
  const auto stamp = (*session)->HighestStamp();
  if (!stamp.ok()) return Failed(stamp.status());
  setting_.raise_stamp(*stamp);
  const auto row = (*session)->ReadLog(identity_.wal_id);
  if (!row.ok()) return Failed(row.status());
  const bool is_another = !backend.is_volatile() && backend.db_id() != identity_.db_id;
  const Standing standing =
      is_another ? Standing::kMeetAgain : Recheck(identity_.epoch, known, attempt_, *row);
  switch (standing) {
    case Standing::kMeetAgain:
      setting_.breaker.OnSuccess();
      return Turn::kMeetAgain;
    case Standing::kFenced:
      return Fence("log " + identity_.wal_id.ToString() + " was moved on by somebody else");
    case Standing::kCommitted:
      Settle(0);
      break;
    case Standing::kUnchanged:
      attempt_.clear();
  }
  session_ = std::move(session).value();
  return Turn::kProgress;
}

FlushWorker::Turn FlushWorker::Fence(const std::string& why) {
  session_.reset();
  setting_.breaker.OnSuccess();
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
    setting_.breaker.OnSuccess();
    return Turn::kProgress;
  }
  attempt_ = batch->moves;
  attempt_rows_ = batch->dag_deletes.size() + batch->tasks.size() + batch->activities.size();
  // From here on until there is an answer, the attempt is in doubt.
  const auto result = session_->Apply(*batch);
  if (!result.ok()) {
    const Status& why = result.status();
    if (why.code() == StatusCode::kRejected) return Refused(why);
    if (why.code() == StatusCode::kFenced) return Fence(why.message());
    return Failed(why);
  }
  switch (result->outcome) {
    case ApplyResult::Outcome::kApplied:
      Settle(duplicates + result->duplicates);
      return Turn::kProgress;
    case ApplyResult::Outcome::kRepeatIdempotent:
      if (idempotent_) break;
      setting_.breaker.OnSuccess();
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
  for (std::size_t i = part.begin; i < part.end; ++i) {
    QueuedRecord& record = *batch_[i];
    if (setting_.letters.Contains(identity_.OwnerOf(record.lsn), record.lsn)) {
      record.is_lettered = true;
    }
    if (record.is_lettered) continue;
    auto body = storage::Decode(static_cast<OperationType>(record.type), record.body);
    if (!body.ok()) {
      TASKWAL_TRY(LetterRefused(record, body.status(), 1));
      continue;
    }
    TASKWAL_ASSIGN(const bool is_lettered, GoesToLetters(record, *body));
    if (!is_lettered) operations.push_back({record.lsn, record.stamp, std::move(*body)});
  }
  ComposedRows rows = pipeline::Compose(std::move(operations));
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
  setting_.queues.Settle(index_, attempt_, setting_.clock.Now());
  parts_.pop_back();
  attempt_.clear();
  refusals_ = 0;
  failures_ = 0;
  if (parts_.empty()) {
    batch_.clear();
    guard_.EndBatch();
  }
  setting_.breaker.OnSuccess();
  if (setting_.counters.ClearAlarm(FlushCounters::kFirstWorker + index_)) {
    Logger().info("flusher event=flushing_again db={}", setting_.backend.name());
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
  }
}

void FlushWorker::CountSettled(const FlushEvent& event, std::uint64_t duplicates) {
  const auto settled = setting_.queues.Count(attempt_);
  const Time now = setting_.clock.WallNow();
  setting_.counters.Update([&](FlusherStats& stats) {
    stats.applied += settled.applied;
    stats.dead_lettered += settled.lettered;
    stats.duplicates += duplicates;
    stats.rows_written += attempt_rows_;
    ++stats.flush_operations;
    stats.last_flush_time = now;
    stats.database_available = true;
  });
  setting_.counters.RecordFlush(event.duration);
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
  setting_.breaker.OnSuccess();  // it answers
  setting_.counters.Update([](FlusherStats& stats) { ++stats.flush_errors; });
  if (!first_refused_) first_refused_ = setting_.clock.WallNow();
  if (!Split() && ++refusals_ > setting_.options.max_flush_retries) {
    const Status lettered = LetterRefused(*batch_[part.begin], why, refusals_);
    if (!lettered.ok()) return Failed(lettered);
  }
  Tell(event);
  return Turn::kProgress;
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
  session_.reset();
  pause_ = retry_.Delay(++failures_, random_);
  failed_at_ = now;
  if (is_database) {
    setting_.breaker.OnFailure(now);
  } else {
    setting_.breaker.Trip(now);
  }
  setting_.counters.Update([&](FlusherStats& stats) {
    ++stats.flush_errors;
    if (is_database) stats.database_available = false;
  });
  if (setting_.counters.RaiseAlarm(FlushCounters::kFirstWorker + index_, why.message())) {
    Logger().warn("flusher event=flush_failed db={} error=\"{}\"", setting_.backend.name(),
                  why.ToString());
  }
  if (!parts_.empty()) Tell(EventOf(parts_.back(), why));
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
    const auto due = setting_.queues.DueAt(index_, now);
    return due ? *due - now : std::chrono::nanoseconds(kNothingToDo);
  }
  const bool is_urgent = setting_.queues.awaited_lsn() > 0;
  return std::max(PausedUntil(), setting_.breaker.next_trial(now, is_urgent)) - now;
}

// --- dead letters ------------------------------------------------------------------------------

// A partial operation on a task whose save was lettered follows it; a save or delete ends that.
// Durably so before it is applied: else a restart would send what comes after it to the dead
// letters too.
Result<bool> FlushWorker::GoesToLetters(QueuedRecord& record, const OperationBody& body) {
  DeadLetters& letters = setting_.letters;
  if (const auto* batch = std::get_if<storage::SaveTasksOp>(&body)) {
    for (const Task& task : batch->tasks) TASKWAL_TRY(letters.ClearTask(task.id, record.lsn));
    return false;
  }
  const bool is_whole = std::holds_alternative<storage::SaveTaskOp>(body) ||
                        std::holds_alternative<storage::DeleteTaskOp>(body);
  if (is_whole) {
    TASKWAL_TRY(letters.ClearTask(TaskIdOf(body), record.lsn));
    return false;
  }
  const auto* update = std::get_if<storage::UpdateStatusOp>(&body);
  if (update == nullptr || !letters.HoldsSaveOf(update->task_id, record.lsn)) return false;
  TASKWAL_TRY(AddLetter(record, "follows the save of its task, which was refused", 0));
  return true;
}

Status FlushWorker::LetterRefused(QueuedRecord& record, const Status& why, std::uint32_t attempts) {
  if (!guard_.MayLetter()) {
    return Status::Overloaded("too many rows are refused for poison: nothing more is dead-lettered "
                              "and the log waits: " + why.message());
  }
  TASKWAL_TRY(AddLetter(record, why.message(), attempts));
  guard_.OnLettered();
  Logger().warn("flusher event=dead_lettered lsn={} error=\"{}\"", record.lsn, why.message());
  return Status::Ok();
}

Status FlushWorker::AddLetter(QueuedRecord& record, const std::string& error,
                              std::uint32_t attempts) {
  if (setting_.letters.count() >= setting_.options.dead_letter_count_max) {
    return Status::Overloaded("the dead letters are full (dead_letter_count_max=" +
                              std::to_string(setting_.options.dead_letter_count_max) +
                              "), the log waits: " + error);
  }
  DeadLetter letter;
  letter.wal_id = identity_.OwnerOf(record.lsn);
  letter.lsns = {record.lsn, record.lsn};
  letter.stamp = record.stamp;
  letter.type = static_cast<OperationType>(record.type);
  letter.body = record.body;
  const auto body = storage::Decode(letter.type, letter.body);
  if (body.ok()) letter.task_id = TaskIdOf(*body);
  letter.error = error;
  letter.sql_code = SqlCodeIn(error);
  letter.attempts = attempts;
  letter.last_failed = setting_.clock.WallNow();
  letter.first_failed = letter.last_failed;
  if (attempts > 0 && first_refused_) letter.first_failed = *first_refused_;
  letter.backend = setting_.backend.name();
  TASKWAL_TRY(setting_.letters.Add(letter));
  record.is_lettered = true;
  return Status::Ok();
}

}  // namespace taskwal::pipeline
