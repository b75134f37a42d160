#include <iostream>

#include "taskwal/open.h"

int main() {
  taskwal::Options options;
  options.wal_dir = "quickstart.wal";
  auto storage = taskwal::OpenTaskStorage("sqlite://quickstart.db", options);
  if (!storage.ok()) return std::cerr << storage.status().ToString() << "\n", 1;

  taskwal::Task task;
  task.id = "t1";
  task.payload = R"({"n": 1})";
  if (!(*storage)->SaveTask(task).ok()) return 1;  // OK: it survives a power cut from here on
  if (!(*storage)->UpdateTaskStatus("t1", taskwal::TaskStatus::kRunning).ok()) return 1;

  auto read = (*storage)->GetTask("t1");  // sees both calls at once
  if (read.ok()) std::cout << read->id << " is " << TaskStatusName(read->status) << "\n";
  return (*storage)->Close().ok() ? 0 : 1;  // brings what is left into the database
}
