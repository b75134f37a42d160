// One line of ingest NDJSON -> an operation's parts, by the contract: unknown fields, wrong types
// and unknown ops are refused; payload and data keep the bytes as they stand in the line.
#pragma once

#include <string_view>

#include "storage/operation.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// {"op":"save_task","task":{…}} | {"op":"update_status","task_id":…,"status":…,"error":…} |
// {"op":"delete_task","task_id":…} | {"op":"log_activity","activity":{…}} |
// {"op":"save_tasks","tasks":[{…},…]} | {"op":"delete_dag","dag_id":…}. The first two may have
// "reset":true (WriteOptions::reset), else protects_terminal is set. Checked as the calls check;
// kInvalidArgument names the field. Times and ids that are absent stay absent.
Result<OperationBody> ParseIngestLine(std::string_view line);

}  // namespace taskwal::storage
