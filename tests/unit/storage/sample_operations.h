// A task and an activity with every field set, and short forms for the tests of this folder.
#pragma once

#include <chrono>
#include <string>

#include "taskwal/task.h"

namespace taskwal::storage {

inline Time At(std::int64_t micros) { return Time(std::chrono::microseconds(micros)); }

inline Task FullTask() {
  Task task;
  task.id = "run-1/extract";
  task.dag_id = "run-1";
  task.node_id = "extract";
  task.current_node_id = "extract.2";
  task.sub_dag_path = "/nightly/extract";
  task.processing_state = "second try";
  task.status = TaskStatus::kFailed;
  task.payload = "{ \"b\" : 1,\"a\":[ ] }";
  task.error = "exit 3: \"no such table\"";
  task.retry_count = 2;
  task.max_retries = -1;
  task.priority = 2147483647;
  task.created_at = At(1795240800123456);
  task.updated_at = At(1795240801000000);
  task.started_at = At(1795240800500000);
  task.completed_at = At(1795240800999999);
  return task;
}

inline Activity FullActivity() {
  Activity activity;
  activity.id = "01K0ABCDEF";
  activity.task_id = "run-1/extract";
  activity.dag_id = "run-1";
  activity.node_id = "extract";
  activity.action = "retry";
  activity.message = "waits 5 s ⏳";
  activity.data = "[1, 2]";
  activity.level = Level::kError;
  activity.created_at = At(1795240800123456);
  activity.priority = 5;
  return activity;
}

}  // namespace taskwal::storage
