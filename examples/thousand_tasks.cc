// 1,000 tasks with two calls each, and how few database transactions that took.
#include <chrono>
#include <iostream>
#include <string>

#include "taskwal/open.h"

int main() {
  taskwal::Options options;
  options.wal_dir = "thousand_tasks.wal";
  options.durability = taskwal::Durability::kProcess;
  const taskwal::TaskStorageFactory factory(options);
  auto storage = factory.CreateSqlStorage("sqlite://thousand_tasks.db");
  if (!storage.ok()) return std::cerr << storage.status().ToString() << "\n", 1;

  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    taskwal::Task task;
    task.id = "task-" + std::to_string(i);
    task.dag_id = "thousand";
    taskwal::Activity activity;
    activity.task_id = task.id;
    activity.dag_id = task.dag_id;
    activity.action = "saved";
    const auto saved = (*storage)->SaveTask(task);
    const auto logged = (*storage)->LogActivity(activity);
    if (!saved.ok() || !logged.ok()) return std::cerr << "a call failed\n", 1;
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  const taskwal::Status closed = (*storage)->Close();

  const taskwal::Stats stats = (*storage)->GetStats();
  std::cout << "2,000 calls in " << took.count() << " ms; " << stats.entries_flushed
            << " records in the database with " << stats.flush_operations << " transactions\n";
  return closed.ok() ? 0 : 1;
}
