#include "pipeline/read_overlay.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "base/status_macros.h"

namespace taskwal::pipeline {
namespace {

using storage::DeleteDagOp;
using storage::DeleteTaskOp;
using storage::Operation;
using storage::OperationType;
using storage::SaveTaskOp;
using storage::SaveTasksOp;
using storage::UpdateStatusOp;

// Shared by all deletes of DAGs, so that they are found without reading the log. A task whose id
// has this hash loses nothing but a little time.
constexpr std::uint64_t kDagDeletesKey = 0x6461675f64656c73;  // "dag_dels"

Result<Operation> DecodeRecord(const wal::RecordView& record) {
  TASKWAL_ASSIGN(storage::OperationBody body,
                 storage::Decode(static_cast<OperationType>(record.header.type), record.body));
  return Operation{record.lsn, record.header.stamp, std::move(body)};
}

// The parts of an operation that concern the task: none, itself, or each of its saves in a batch.
void TakeConcerning(std::string_view id, Operation&& operation, std::vector<Operation>* into) {
  const auto is_meant = [id](const std::string& other) { return other == id; };
  if (auto* save = std::get_if<SaveTaskOp>(&operation.body); save && is_meant(save->task.id)) {
    into->push_back(std::move(operation));
  } else if (auto* update = std::get_if<UpdateStatusOp>(&operation.body);
             update && is_meant(update->task_id)) {
    into->push_back(std::move(operation));
  } else if (auto* gone = std::get_if<DeleteTaskOp>(&operation.body);
             gone && is_meant(gone->task_id)) {
    into->push_back(std::move(operation));
  } else if (auto* batch = std::get_if<SaveTasksOp>(&operation.body)) {
    for (auto task = batch->tasks.rbegin(); task != batch->tasks.rend(); ++task) {
      if (!is_meant(task->id)) continue;
      into->push_back({operation.lsn, operation.stamp,
                       SaveTaskOp{std::move(*task), batch->time, batch->protects_terminal}});
    }
  }
}

// Whether it is without effect on a task that has ended.
template <typename Op>
bool IsOpenOnly(const Op& op, TaskStatus status) {
  return op.protects_terminal && !IsTerminal(status);
}

// A save that takes effect whatever was before it.
const SaveTaskOp* SureSave(const Operation& operation) {
  const auto* save = std::get_if<SaveTaskOp>(&operation.body);
  return save == nullptr || IsOpenOnly(*save, save->task.status) ? nullptr : save;
}

// Nothing before it matters.
bool IsComplete(const Operation& operation) {
  if (std::holds_alternative<DeleteTaskOp>(operation.body)) return true;
  const SaveTaskOp* save = SureSave(operation);
  return save != nullptr && save->task.created_at.has_value();
}

struct Apply {
  std::optional<Task>* task;

  void operator()(const SaveTaskOp& save) const {
    if (*task && IsTerminal((*task)->status) && IsOpenOnly(save, save.task.status)) return;
    const Time created = *task ? (*task)->created_at.value_or(save.time) : save.time;
    *task = save.task;
    if (!(*task)->created_at) (*task)->created_at = created;
    if (!(*task)->updated_at) (*task)->updated_at = save.time;
  }
  void operator()(const UpdateStatusOp& update) const {
    if (!*task) return;
    if (IsTerminal((*task)->status) && IsOpenOnly(update, update.status)) return;
    (*task)->status = update.status;
    (*task)->error = update.error;
    (*task)->updated_at = update.time;
    if (IsTerminal(update.status)) {
      (*task)->completed_at = update.time;
      return;
    }
    (*task)->completed_at.reset();
    (*task)->started_at.reset();
    if (update.status == TaskStatus::kRunning) (*task)->started_at = update.time;
  }
  void operator()(const DeleteTaskOp&) const { task->reset(); }
  void operator()(const DeleteDagOp& gone) const {
    if (*task && (*task)->dag_id == gone.dag_id) task->reset();
  }
  void operator()(const storage::LogActivityOp&) const {}
  void operator()(const SaveTasksOp&) const {}  // taken apart before
};

bool IsNewer(const Operation& operation, const Uuid& wal_id,
             const storage::Session::StoredTask& row) {
  if (row.wal_id == wal_id) return operation.lsn > row.origin.lsn;
  return std::tie(operation.stamp, wal_id) > std::tie(row.origin.stamp, row.wal_id);
}

// A save that comes too late for the row: it hands its created_at in (storage/created_rank.h).
void HandIn(const Operation& operation, const Uuid& wal_id, storage::Session::StoredTask* row) {
  const auto* save = std::get_if<SaveTaskOp>(&operation.body);
  if (save == nullptr) return;
  if (IsTerminal(row->task.status) && IsOpenOnly(*save, save->task.status)) return;
  std::string rank = storage::MakeCreatedRank(save->task.created_at.has_value(),
                                              {operation.stamp, wal_id, operation.lsn});
  if (!storage::HandsInCreatedAt(rank, row->created_rank, wal_id == row->wal_id)) return;
  row->task.created_at = save->task.created_at.value_or(save->time);
  row->created_rank = std::move(rank);
}

// Takes out what the row knows already, or has no more room for.
void TakeIn(std::vector<Operation>* operations, const Uuid& wal_id,
            storage::Session::StoredTask* row) {
  std::erase_if(*operations, [&](const Operation& operation) {
    if (IsNewer(operation, wal_id, *row)) return false;
    HandIn(operation, wal_id, row);
    return true;
  });
}

// Moving writes into the new place before it deletes from the old: what is in neither was moved
// between the two looks, or is nowhere.
Result<storage::Session::StoredTask> GetRow(const ReadOverlay::Home& home, std::string_view id,
                                            const DatabaseCalls::End& end) {
  const auto is_missing = [](const auto& row) {
    return row.status().code() == StatusCode::kNotFound;
  };
  auto row = home.database->GetTask(id, end);
  if (home.former == nullptr || !is_missing(row)) return row;
  row = home.former->GetTask(id, end);
  if (!is_missing(row)) return row;
  return home.database->GetTask(id, end);
}

Result<Task> FoundOrNot(std::optional<Task> task, std::string_view id) {
  if (!task) return Status::NotFound("no task has the id " + std::string(id));
  return *std::move(task);
}

}  // namespace

void IndexOperation(const wal::RecordView& record, std::vector<std::uint64_t>* keys) {
  const auto type = static_cast<OperationType>(record.header.type);
  storage::IndexKeys(type, record.header.key, record.body, keys);
  if (type == OperationType::kDagDelete) keys->push_back(kDagDeletesKey);
}

ReadOverlay::ReadOverlay(wal::Log& log, FindHome find_home)
    : log_(log),
      find_home_(std::move(find_home)),
      partitions_(log.state().partitions),
      dag_deletes_until_(log.end_lsn()) {}

void ReadOverlay::NoteDagDelete(wal::Lsn lsn) {
  wal::Lsn known = dag_deletes_until_.load();
  while (known < lsn && !dag_deletes_until_.compare_exchange_weak(known, lsn)) {
  }
}

Status ReadOverlay::CollectDagDeletes(wal::Lsn from, std::vector<Operation>* into,
                                      const DatabaseCalls::End& end) {
  Status decoded;
  const auto take = [&](const wal::RecordView& record) {
    if (record.header.type != static_cast<std::uint8_t>(OperationType::kDagDelete)) return true;
    Result<Operation> operation = DecodeRecord(record);
    decoded = operation.status();
    if (decoded.ok()) into->push_back(std::move(operation).value());
    return decoded.ok();
  };
  TASKWAL_TRY(log_.Lookup(kDagDeletesKey, from, take, end));
  return decoded;
}

// What the log holds behind the flushed position, in LSN order, back to the last operation before
// which nothing matters.
Result<std::vector<Operation>> ReadOverlay::Collect(const Home& home, std::string_view id,
                                                    const DatabaseCalls::End& end) {
  const std::uint64_t key = storage::KeyOf(id);
  for (;;) {
    const wal::Lsn kept = log_.first_lsn();
    const wal::Lsn from = home.flusher->flushed_lsn(wal::PartitionOf(key, partitions_)) + 1;
    auto operations = CollectFrom(from, id, end);
    // What was flushed and retired while this was looking may be missing between what it has found.
    if (!operations.ok() || log_.first_lsn() <= std::max(kept, from)) return operations;
  }
}

Result<std::vector<Operation>> ReadOverlay::CollectFrom(wal::Lsn from, std::string_view id,
                                                        const DatabaseCalls::End& end) {
  const std::uint64_t key = storage::KeyOf(id);
  std::vector<Operation> operations;
  Status decoded;
  const auto take = [&](const wal::RecordView& record) {
    Result<Operation> operation = DecodeRecord(record);
    decoded = operation.status();
    if (!decoded.ok()) return false;
    const std::size_t before = operations.size();
    TakeConcerning(id, std::move(operation).value(), &operations);
    return std::none_of(operations.begin() + static_cast<std::ptrdiff_t>(before), operations.end(),
                        IsComplete);
  };
  TASKWAL_TRY(log_.Lookup(key, from, take, end));
  TASKWAL_TRY(decoded);
  std::reverse(operations.begin(), operations.end());
  if (from > dag_deletes_until_.load()) return operations;
  const wal::Lsn oldest =
      !operations.empty() && IsComplete(operations.front()) ? operations.front().lsn : from;
  std::vector<Operation> deletes;
  TASKWAL_TRY(CollectDagDeletes(oldest, &deletes, end));
  std::vector<Operation> merged;
  std::merge(std::make_move_iterator(operations.begin()), std::make_move_iterator(operations.end()),
             std::make_move_iterator(deletes.rbegin()), std::make_move_iterator(deletes.rend()),
             std::back_inserter(merged),
             [](const Operation& a, const Operation& b) { return a.lsn < b.lsn; });
  return merged;
}

Result<Task> ReadOverlay::GetTask(std::string_view id, const DatabaseCalls::End& end) {
  const std::uint64_t key = storage::KeyOf(id);
  for (;;) {
    const Home home = find_home_(key);
    Result<Task> task = GetTaskIn(home, id, end);
    // Not where it lived when the look began; it may have been moved since.
    if (task.status().code() != StatusCode::kNotFound || find_home_(key) == home) return task;
  }
}

Result<Task> ReadOverlay::GetTaskIn(const Home& home, std::string_view id,
                                    const DatabaseCalls::End& end) {
  TASKWAL_ASSIGN(std::vector<Operation> operations, Collect(home, id, end));
  if (!operations.empty() && IsComplete(operations.front())) {
    return FoundOrNot(Fold(std::nullopt, operations), id);
  }
  auto row = GetRow(home, id, end);
  if (row.ok()) {
    log_.RaiseStamp(row->origin.stamp);
    if (!operations.empty()) TakeIn(&operations, log_.state().wal_id, &row.value());
    return FoundOrNot(Fold(std::move(row->task), operations), id);
  }
  if (row.status().code() != StatusCode::kNotFound) {
    // Nobody knows the row, nor what becomes of changes that depend on it.
    const auto first = std::find_if(operations.begin(), operations.end(), SureSave);
    if (first == operations.end()) return row.status();
    operations.erase(operations.begin(), first);
  }
  return FoundOrNot(Fold(std::nullopt, operations), id);
}

Result<bool> ReadOverlay::HasUnflushed(std::string_view id, const DatabaseCalls::End& end) {
  const std::uint64_t key = storage::KeyOf(id);
  const Flusher& flusher = *find_home_(key).flusher;
  const wal::Lsn from = flusher.flushed_lsn(wal::PartitionOf(key, partitions_)) + 1;
  bool found = false;
  const auto note = [&](const wal::RecordView&) {
    found = true;
    return false;
  };
  TASKWAL_TRY(log_.Lookup(key, from, note, end));
  return found;
}

std::optional<Task> Fold(std::optional<Task> task, const std::vector<Operation>& operations) {
  for (const Operation& operation : operations) std::visit(Apply{&task}, operation.body);
  return task;
}

}  // namespace taskwal::pipeline
