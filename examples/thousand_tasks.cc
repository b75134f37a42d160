// 1,000 tasks with two calls each, and how few database transactions that took.
#include <chrono>
#include <iostream>

#include "taskwal/open.h"

int main() {
  taskwal::Options options;
  options.wal_dir = "thousand_tasks.wal";
  options.durability = taskwal::Durability::kProcess;
  auto storage = taskwal::TaskStorageFactory(options).CreateSqlStorage("sqlite://thousand_tasks.db");
  if (!storage.ok()) return std::cerr << storage.status().ToString() << "\n", 1;

  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    const std::string id = "task-" + std::to_string(i);
    const auto saved = (*storage)->SaveTask({.id = id, .dag_id = "thousand", .node_id = "n"});
    const auto logged = (*storage)->LogActivity({.task_id = id, .dag_id = "thousand",
                                                 .action = "task_saved", .message = "Task saved"});
    if (!saved.ok() || !logged.ok()) return std::cerr << "a call failed\n", 1;
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  const taskwal::Status closed = (*storage)->Close();

  const taskwal::Stats stats = (*storage)->GetStats();
  std::cout << "2,000 calls in " << took.count() << " ms; " << stats.entries_flushed
            << " records in the database with " << stats.flush_operations << " transactions\n";
  return closed.ok() ? 0 : 1;
}
