// Operations as values, and their binary body in the log (versioned, length-prefixed;
// docs/FORMAT.md "Bodies"). storage/ owns this encoding; wal/ sees only type, key and bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::storage {

// Record types (>= wal::kFirstUserType). Never renumbered.
enum class OperationType : std::uint8_t {
  kTaskUpdate = 16,    // SaveTask
  kStatusUpdate = 17,
  kTaskDelete = 18,
  kDagDelete = 19,     // barrier
  kActivityLog = 20,
  kBatchUpdate = 21,   // SaveTasks; barrier
  kRetry = 22,         // of a dead letter (pipeline/flush/letter_retry.h)
  kRetryBarrier = 23,  // of a dead letter that was a barrier
};

// "task_update", "status_update", "task_delete", "dag_delete", "activity_log", "batch_update",
// "retry", "retry_barrier".
std::string_view OperationTypeName(OperationType type);
std::optional<OperationType> ParseOperationType(std::string_view name);
constexpr bool IsBarrier(OperationType t) {
  return t == OperationType::kDagDelete || t == OperationType::kBatchUpdate ||
         t == OperationType::kRetryBarrier;
}
constexpr bool IsRetry(OperationType t) {
  return t == OperationType::kRetry || t == OperationType::kRetryBarrier;
}

// `time` is when the call was made: the default of created_at and updated_at, and what a status
// update writes into started_at, completed_at and updated_at. `protects_terminal`
// (Options::protect_terminal_status, and no explicit reset): a task that has ended is not reopened
// by it, but stays as it is; decided when the call is made, so that a replay comes to the same.
struct SaveTaskOp { Task task; Time time{}; bool protects_terminal = false; };
struct UpdateStatusOp {
  std::string task_id;
  TaskStatus status{};
  std::string error;
  Time time{};
  bool protects_terminal = false;
};
struct DeleteTaskOp { std::string task_id; Time time{}; };
struct DeleteDagOp { std::string dag_id; Time time{}; };
struct LogActivityOp { Activity activity; };   // id and created_at are set
struct SaveTasksOp { std::vector<Task> tasks; Time time{}; bool protects_terminal = false; };

using OperationBody =
    std::variant<SaveTaskOp, UpdateStatusOp, DeleteTaskOp, DeleteDagOp, LogActivityOp, SaveTasksOp>;

// An operation as it came out of the log.
struct Operation {
  std::uint64_t lsn = 0;
  std::uint64_t stamp = 0;
  OperationBody body;
  [[nodiscard]] OperationType type() const;
};

// Key of a task in the log: activities use that of their task_id (else dag_id), dag_delete that of
// the dag_id.
std::uint64_t KeyOf(std::string_view task_id);
// What a dag_delete is indexed under: never the key of a task that happens to be named like the
// DAG.
std::uint64_t DagKeyOf(std::string_view dag_id);

// --- encoding: exact size first, then into a span of that size; no allocation
std::size_t EncodedBytes(const Task& task);
void Encode(const Task& task, Time time, std::span<std::byte> into, bool protects_terminal = false);
std::size_t EncodedStatusUpdateBytes(std::string_view task_id, std::string_view error);
struct NewStatus {
  NewStatus(TaskStatus to_in, bool protects = false) : to(to_in), protects_terminal(protects) {}
  TaskStatus to;
  bool protects_terminal;
};
void EncodeStatusUpdate(std::string_view task_id, NewStatus status, std::string_view error,
                        Time time, std::span<std::byte> into);
std::size_t EncodedNameBytes(std::string_view name);  // task_delete and dag_delete
void EncodeName(std::string_view name, Time time, std::span<std::byte> into);
// `id` and `created_at` stand in for what the activity leaves empty.
std::size_t EncodedBytes(const Activity& activity, std::string_view id);
void Encode(const Activity& activity, std::string_view id, Time created_at,
            std::span<std::byte> into);
std::size_t EncodedBytes(std::span<const Task> tasks);
void Encode(std::span<const Task> tasks, Time time, std::span<std::byte> into,
            bool protects_terminal = false);

// kCorruption for a body that is not what its type says (of a newer version, or a bug: checksums
// passed). Retries are no operations of their own: theirs is in the body.
Result<OperationBody> Decode(OperationType type, std::span<const std::byte> body);
// Only the keys, without decoding the rest: for the log's index. One task's operations have the
// record's `key`, a batch_update that of each task, a dag_delete DagKeyOf its DAG; activities have
// none.
void IndexKeys(OperationType type, std::uint64_t key, std::span<const std::byte> body,
               std::vector<std::uint64_t>* keys);

// --- checks made at the call, alike for every database (kInvalidArgument names the field)
Status CheckTask(const Task& task);
Status CheckActivity(const Activity& activity);
Status CheckStatusUpdate(std::string_view task_id, std::string_view error,
                         TaskStatus status = TaskStatus::kPending);
Status CheckId(std::string_view field, std::string_view id, bool required);

// One line of NDJSON, as `dump`, `dlq export` and `query --json` print it, members in contract
// order, what is absent left out. Line breaks between the tokens of a payload are printed as
// spaces.
std::string TaskToJson(const Task& task);
std::string ActivityToJson(const Activity& activity);
// {"op":"save_task","task":{…}} and so on: what `ingest` takes.
std::string OperationToJson(const OperationBody& body);

}  // namespace taskwal::storage
