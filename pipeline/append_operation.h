// Operations as values into a storage: for those who read them from a line or a request.
#pragma once

#include <string>

#include "storage/operation.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

struct AppendedOperation {
  std::uint64_t lsn = 0;  // 0: an activity below Options::min_activity_level, not kept
  std::string id;         // of the task, the DAG or the activity, made ones too; empty for many
};

// The call of TaskStorage that the operation stands for, with its errors. A save or update that
// does not protect what has ended (storage::SaveTaskOp) is a reset.
Result<AppendedOperation> AppendOperation(TaskStorage& storage,
                                          const storage::OperationBody& operation,
                                          const WriteOptions& options);

}  // namespace taskwal::pipeline
