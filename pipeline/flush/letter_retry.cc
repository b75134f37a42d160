#include "pipeline/flush/letter_retry.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/byte_codec.h"
#include "base/status_macros.h"
#include "pipeline/flush/letter_file.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationBody;
using storage::OperationType;

constexpr std::uint8_t kBodyVersion = 1;
constexpr std::size_t kHeadBytes = 1 + 1 + 2 * kLetterKeyBytes + 2 * 8 + 2 * 4;

// The task whose row decides; null where none does.
const std::string* TaskOf(const OperationBody& body) {
  if (const auto* save = std::get_if<storage::SaveTaskOp>(&body)) return &save->task.id;
  if (const auto* update = std::get_if<storage::UpdateStatusOp>(&body)) return &update->task_id;
  if (const auto* gone = std::get_if<storage::DeleteTaskOp>(&body)) return &gone->task_id;
  return nullptr;
}

}  // namespace

OperationType RetryTypeOf(OperationType type) {
  return storage::IsBarrier(type) ? OperationType::kRetryBarrier : OperationType::kRetry;
}

std::uint64_t RetryKeyOf(const DeadLetter& letter) {
  const auto body = storage::Decode(letter.type, letter.body);
  if (!body.ok()) return storage::KeyOf(letter.task_id);
  if (const std::string* task = TaskOf(*body)) return storage::KeyOf(*task);
  if (const auto* logged = std::get_if<storage::LogActivityOp>(&*body)) {
    const Activity& activity = logged->activity;
    return storage::KeyOf(activity.task_id.empty() ? activity.dag_id : activity.task_id);
  }
  if (const auto* batch = std::get_if<storage::SaveTasksOp>(&*body)) {
    return storage::KeyOf(batch->tasks.empty() ? std::string() : batch->tasks.front().id);
  }
  return storage::KeyOf(std::get<storage::DeleteDagOp>(*body).dag_id);
}

std::vector<std::byte> EncodeRetry(const DeadLetter& letter) {
  std::vector<std::byte> bytes(kHeadBytes + sizeof(std::uint32_t) + letter.body.size());
  ByteWriter out(bytes);
  const LetterOrigin origin = letter.origin();
  out.Put(kBodyVersion);
  out.Put(static_cast<std::uint8_t>(letter.type));
  PutLetterKey(out, letter.key());
  PutLetterKey(out, origin.key);
  out.Put(origin.stamp);
  out.Put(std::int64_t{letter.first_failed.time_since_epoch().count()});
  out.Put(letter.attempts);
  out.Put(letter.retries + 1);
  out.PutText({reinterpret_cast<const char*>(letter.body.data()), letter.body.size()});
  bytes.resize(out.used());
  return bytes;
}

std::optional<RetryRecord> DecodeRetry(std::span<const std::byte> body) {
  ByteReader in(body);
  RetryRecord retry;
  const bool is_known = in.Get<std::uint8_t>() == kBodyVersion;
  retry.type = static_cast<OperationType>(in.Get<std::uint8_t>());
  retry.letter = GetLetterKey(in);
  retry.origin.key = GetLetterKey(in);
  retry.origin.stamp = in.Get<std::uint64_t>();
  retry.first_failed = Time(std::chrono::microseconds(in.Get<std::int64_t>()));
  retry.attempts = in.Get<std::uint32_t>();
  retry.retries = in.Get<std::uint32_t>();
  const std::string_view text = in.GetText();
  const auto raw = std::as_bytes(std::span(text));
  retry.body.assign(raw.begin(), raw.end());
  if (!is_known || !in.ok() || in.left() > 0) return std::nullopt;
  return retry;
}

Result<RetryComposer::Taken> RetryComposer::Take(wal::Lsn lsn, const RetryRecord& retry,
                                                 std::vector<storage::Operation>* operations) {
  const auto standing = letters_.StandingOf(retry.letter);
  const bool is_open = standing && standing->outcome == LetterOutcome::kOpen;
  const bool is_ours = standing && standing->by == lsn;
  // Where the store does not know the letter any more, the record still has all of it.
  if (standing && !is_open && !is_ours) return Taken::kNothing;
  if (is_ours && standing->outcome == LetterOutcome::kSuperseded) return Taken::kNothing;
  // Another retry of it stands before this one in the same batch.
  const auto is_same = [&](const LetterResolution& claim) { return claim.key == retry.letter; };
  if (std::any_of(claims_.begin(), claims_.end(), is_same)) return Taken::kNothing;
  auto body = storage::Decode(retry.type, retry.body);
  bool is_superseded = false;
  if (body.ok()) {
    if (keep_share_) keep_share_(&*body);
    TASKWAL_ASSIGN(is_superseded, Trim(lsn, retry, &*body));
  }
  const auto outcome = is_superseded ? LetterOutcome::kSuperseded : LetterOutcome::kRetried;
  if (is_open) claims_.push_back({retry.letter, {outcome, lsn}});
  if (!body.ok()) return body.status();
  if (is_superseded) return Taken::kNothing;
  const auto* update = std::get_if<storage::UpdateStatusOp>(&*body);
  if (update != nullptr && letters_.HoldsSaveOf(update->task_id, lsn)) return Taken::kFollows;
  TASKWAL_TRY(Note(lsn, retry, *body));
  operations->push_back({retry.origin.key.lsn, retry.origin.stamp, std::move(body).value()});
  return Taken::kAdded;
}

Status RetryComposer::Claim() { return letters_.Resolve(claims_); }

Result<bool> RetryComposer::IsSuperseded(const std::string& task_id, wal::Lsn lsn,
                                         const RetryRecord& retry) {
  // A deleted row tells nothing; the store remembers what went past a lettered save.
  if (letters_.WasClearedSince(task_id, retry.origin.key.lsn, lsn)) return true;
  auto row = rows_.find(task_id);
  if (row == rows_.end()) {
    auto stored = session_.GetTask(task_id);
    if (!stored.ok() && stored.status().code() != StatusCode::kNotFound) return stored.status();
    row = rows_.emplace(task_id, std::nullopt).first;
    if (stored.ok()) row->second = Row{stored->wal_id, stored->origin};
  }
  if (!row->second) return false;
  const auto& [wal_id, origin] = *row->second;
  if (wal_id == wal_id_) return origin.lsn > retry.origin.key.lsn;
  return std::tie(origin.stamp, wal_id) > std::tie(retry.origin.stamp, wal_id_);
}

Result<bool> RetryComposer::Trim(wal::Lsn lsn, const RetryRecord& retry, OperationBody* body) {
  if (auto* batch = std::get_if<storage::SaveTasksOp>(body)) {
    std::vector<Task> wanted;
    for (Task& task : batch->tasks) {
      TASKWAL_ASSIGN(const bool is_superseded, IsSuperseded(task.id, lsn, retry));
      if (!is_superseded) wanted.push_back(std::move(task));
    }
    batch->tasks = std::move(wanted);
    return batch->tasks.empty();
  }
  const std::string* task = TaskOf(*body);
  if (task == nullptr) return false;
  return IsSuperseded(*task, lsn, retry);
}

// What comes behind it is compared with it, and does not follow the letter any more.
Status RetryComposer::Note(wal::Lsn lsn, const RetryRecord& retry, const OperationBody& body) {
  const wal::Lsn origin = retry.origin.key.lsn;
  const Row row{wal_id_, {origin, retry.origin.stamp}};
  if (const auto* batch = std::get_if<storage::SaveTasksOp>(&body)) {
    for (const Task& task : batch->tasks) {
      rows_[task.id] = row;
      TASKWAL_TRY(letters_.ClearTask(task.id, lsn, origin));
    }
  } else if (const auto* dag = std::get_if<storage::DeleteDagOp>(&body)) {
    return letters_.ClearDag(dag->dag_id, lsn, origin);
  } else if (const std::string* task = TaskOf(body)) {
    rows_[*task] = row;
    const bool is_whole = !std::holds_alternative<storage::UpdateStatusOp>(body);
    if (is_whole) return letters_.ClearTask(*task, lsn, origin);
  }
  return Status::Ok();
}

}  // namespace taskwal::pipeline
