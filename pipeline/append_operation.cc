#include "pipeline/append_operation.h"

#include <utility>
#include <variant>

namespace taskwal::pipeline {
namespace {

Result<AppendedOperation> Named(const Result<Ack>& ack, std::string id) {
  if (!ack.ok()) return ack.status();
  return AppendedOperation{ack->lsn, std::move(id)};
}

struct Append {
  TaskStorage& storage;
  const WriteOptions& options;

  template <typename Op>
  [[nodiscard]] WriteOptions OptionsOf(const Op& op) const {
    WriteOptions with = options;
    with.reset = !op.protects_terminal;
    return with;
  }
  Result<AppendedOperation> operator()(const storage::SaveTaskOp& op) const {
    return Named(storage.SaveTask(op.task, OptionsOf(op)), op.task.id);
  }
  Result<AppendedOperation> operator()(const storage::UpdateStatusOp& op) const {
    return Named(storage.UpdateTaskStatus(op.task_id, op.status, op.error, OptionsOf(op)),
                 op.task_id);
  }
  Result<AppendedOperation> operator()(const storage::DeleteTaskOp& op) const {
    return Named(storage.DeleteTask(op.task_id, options), op.task_id);
  }
  Result<AppendedOperation> operator()(const storage::DeleteDagOp& op) const {
    return Named(storage.DeleteTasksByDag(op.dag_id, options), op.dag_id);
  }
  Result<AppendedOperation> operator()(const storage::SaveTasksOp& op) const {
    return Named(storage.SaveTasks(op.tasks, options), {});
  }
  Result<AppendedOperation> operator()(const storage::LogActivityOp& op) const {
    auto logged = storage.LogActivity(op.activity, options);
    if (!logged.ok()) return logged.status();
    return AppendedOperation{logged->lsn,
                             logged->id.empty() ? op.activity.id : std::move(logged->id)};
  }
};

}  // namespace

Result<AppendedOperation> AppendOperation(TaskStorage& storage,
                                          const storage::OperationBody& operation,
                                          const WriteOptions& options) {
  return std::visit(Append{storage, options}, operation);
}

}  // namespace taskwal::pipeline
