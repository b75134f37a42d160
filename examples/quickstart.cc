#include <iostream>

#include "taskwal/open.h"

int main() {
  taskwal::Options options;
  options.wal_dir = "quickstart.wal";
  auto storage = taskwal::OpenTaskStorage("sqlite://quickstart.db", options);
  if (!storage.ok()) return std::cerr << storage.status().ToString() << "\n", 1;

  auto saved = (*storage)->SaveTask({.id = "t1", .dag_id = "d1", .payload = R"({"n": 1})"});
  auto logged = (*storage)->LogActivity({.task_id = "t1", .action = "created", .message = "hello"});
  auto updated = (*storage)->UpdateTaskStatus("t1", taskwal::TaskStatus::kCompleted);
  if (!saved.ok() || !logged.ok() || !updated.ok()) return 1;  // else: on disk, power loss or not

  auto task = (*storage)->GetTask("t1");  // sees the calls above at once
  if (task.ok()) std::cout << task->id << " is " << taskwal::TaskStatusName(task->status) << "\n";
  return (*storage)->Close().ok() ? 0 : 1;  // brings what is left into the database
}
