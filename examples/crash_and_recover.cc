// A process is killed with calls acknowledged and not yet in the database; the next open brings
// them.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iostream>

#include "taskwal/open.h"

namespace {

constexpr int kTasks = 500;

taskwal::Options MakeOptions() {
  taskwal::Options options;
  options.wal_dir = "crash_and_recover.wal";
  options.durability = taskwal::Durability::kProcess;  // survives a kill, waits for no disk
  return options;
}

// Saves tasks and dies without closing anything.
[[noreturn]] void SaveAndDie(const char* dsn) {
  const auto storage = taskwal::OpenTaskStorage(dsn, MakeOptions());
  if (!storage.ok()) ::_exit(1);
  for (int i = 0; i < kTasks; ++i) {
    taskwal::Task task;
    task.id = "task-" + std::to_string(i);
    if (!(*storage)->SaveTask(task).ok()) ::_exit(1);
  }
  ::kill(::getpid(), SIGKILL);
  ::_exit(1);
}

}  // namespace

int main() {
  const char* dsn = "sqlite://crash_and_recover.db";
  std::filesystem::remove_all(MakeOptions().wal_dir);
  for (const char* suffix : {"", "-wal", "-shm"}) {
    std::filesystem::remove(std::string("crash_and_recover.db") + suffix);
  }
  const pid_t child = ::fork();
  if (child == 0) SaveAndDie(dsn);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) return std::cerr << "the child was not killed\n", 1;

  // Nothing to repair by hand: opening is enough.
  taskwal::Options options = MakeOptions();
  options.on_recovery = [](const taskwal::RecoveryEvent& event) {
    std::cout << "acknowledged by the dead process and not in the database: "
              << event.last_pending + 1 - event.first_pending << "\n";
  };
  auto storage = taskwal::OpenTaskStorage(dsn, options);
  if (!storage.ok()) return std::cerr << storage.status().ToString() << "\n", 1;
  if (!(*storage)->Flush(std::chrono::seconds(30)).ok()) return 1;
  const auto stored = (*storage)->Count();
  if (!stored.ok()) return 1;
  std::cout << "acknowledged " << kTasks << ", in the database " << stored->tasks << "\n";
  return (*storage)->Close().ok() && stored->tasks == kTasks ? 0 : 1;
}
