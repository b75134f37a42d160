// A record of 256 bytes as it stands in the log.
#pragma once

#include <string>

#include "taskwal/task.h"

namespace taskwal {

inline Activity SomeActivity() {
  Activity activity;
  activity.id = "01K9ZQ4T7XAC00000000000001";
  activity.task_id = "01K9ZQ4T7XTA00000000000001";
  activity.dag_id = "nightly-report-2026-11-21";
  activity.node_id = "node-00001";
  activity.action = "node.progress";
  activity.message = std::string(60, 'm');
  activity.data = R"({"rows": 4096, "bytes": 1048576})";
  activity.created_at = Time(std::chrono::seconds(1'790'000'000));
  return activity;
}

}  // namespace taskwal
