// What a worker does with records that the database refuses for good, and with what follows them.
#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/flush/flush_worker.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationBody;
using storage::OperationType;

constexpr std::string_view kFollowsItsSave = "follows the save of its task, which was refused";

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

std::optional<RetryRecord> FlushWorker::RetryIn(const QueuedRecord& record) {
  if (!storage::IsRetry(static_cast<OperationType>(record.type))) return std::nullopt;
  return DecodeRetry(record.body);
}

Status FlushWorker::TakeRetry(QueuedRecord& record, const RetryRecord& retry,
                              RetryComposer* retries, std::vector<storage::Operation>* operations) {
  const auto taken = retries->Take(record.lsn, retry, operations);
  const bool is_unreadable = taken.status().code() == StatusCode::kCorruption;
  if (!taken.ok() && !is_unreadable) return taken.status();
  if (taken.ok() && *taken != RetryComposer::Taken::kFollows) return Status::Ok();
  // The letter it comes from goes first: never are there two.
  TASKWAL_TRY(retries->Claim());
  if (is_unreadable) return LetterRefused(record, taken.status(), 1);
  return AddLetter(record, std::string(kFollowsItsSave), 0);
}

// A partial operation on a task whose save was lettered follows it; a save or delete ends that.
// Durably so before it is applied: else a restart would send what comes after it to the dead
// letters too.
Result<bool> FlushWorker::GoesToLetters(QueuedRecord& record, const OperationBody& body) {
  DeadLetters& letters = setting_.letters;
  if (const auto* batch = std::get_if<storage::SaveTasksOp>(&body)) {
    for (const Task& task : batch->tasks) TASKWAL_TRY(letters.ClearTask(task.id, record.lsn));
    return false;
  }
  if (const auto* dag = std::get_if<storage::DeleteDagOp>(&body)) {
    TASKWAL_TRY(letters.ClearDag(dag->dag_id, record.lsn));
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
  TASKWAL_TRY(AddLetter(record, std::string(kFollowsItsSave), 0));
  return true;
}

Status FlushWorker::LetterRefused(QueuedRecord& record, const Status& why, std::uint32_t attempts) {
  // One that is refused again says nothing new of the schema, and takes no more room.
  if (RetryIn(record)) return AddLetter(record, why.message(), attempts);
  const auto type = static_cast<OperationType>(record.type);
  TASKWAL_TRY(setting_.guard.Letter(
      type, record.lsn, batch_records_, why.message(),
      [&](const std::string& mark) { return AddLetter(record, why.message(), attempts, mark); }));
  Logger().warn("flusher event=dead_lettered lsn={} error=\"{}\"", record.lsn, why.message());
  return Status::Ok();
}

// What follows a letter that is there has no other place to go.
Status FlushWorker::CheckRoom(bool is_refused) const {
  if (is_refused && !setting_.options.dead_letter_enabled) {
    return Status::Overloaded("dead letters are off (dead_letter_enabled=false)");
  }
  return setting_.letters.CheckRoom({setting_.options.dead_letter_count_max,
                                     setting_.options.dead_letter_bytes_max});
}

Status FlushWorker::AddLetter(QueuedRecord& record, const std::string& error,
                              std::uint32_t attempts, const std::string& guard_mark) {
  DeadLetter letter;
  letter.wal_id = identity_.OwnerOf(record.lsn);
  letter.lsns = {record.lsn, record.lsn};
  letter.target = setting_.target;
  letter.stamp = record.stamp;
  letter.last_failed = setting_.clock.WallNow();
  letter.first_failed = letter.last_failed;
  letter.attempts = attempts;
  if (const auto retry = RetryIn(record)) {
    letter.type = retry->type;
    letter.body = retry->body;
    letter.retried_from = retry->origin;
    letter.retries = retry->retries;
    letter.attempts += retry->attempts;
    letter.first_failed = retry->first_failed;
  } else {
    const Status room = CheckRoom(attempts > 0);
    if (!room.ok()) return Status::Overloaded(room.message() + ", the log waits: " + error);
    letter.type = static_cast<OperationType>(record.type);
    letter.body = record.body;
    if (attempts > 0 && first_refused_) letter.first_failed = *first_refused_;
  }
  const auto body = storage::Decode(letter.type, letter.body);
  if (body.ok()) letter.task_id = TaskIdOf(*body);
  letter.error = error;
  letter.sql_code = SqlCodeIn(error);
  letter.backend = setting_.backend.name();
  letter.metadata = {{"epoch", std::to_string(identity_.epoch)},
                     {"worker", std::to_string(index_)}};
  if (!guard_mark.empty()) letter.metadata[kGuardMark] = guard_mark;
  const Status added = setting_.letters.Add(letter);
  // No descriptor is left: the store is not full.
  if (added.code() == StatusCode::kOverloaded) return Status::Unavailable(added.message());
  TASKWAL_TRY(added);
  record.is_lettered = true;
  return Status::Ok();
}

}  // namespace taskwal::pipeline
