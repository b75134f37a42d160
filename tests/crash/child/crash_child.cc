// The process that the kill -9 test kills: crash_child WAL_DIR DSN CYCLE. Producers write
// operations through the storage and report each acknowledgement, "PRODUCER NUMBER LSN" a line,
// by one write(2). It ends only by being killed, or with exit code 1 on an error.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "taskwal/open.h"
#include "tests/crash/crash_operations.h"

namespace {

using namespace taskwal;  // NOLINT: one small program

[[noreturn]] void Die(const Status& status) {
  std::cerr << "crash_child: " << status.ToString() << std::endl;
  std::_Exit(1);
}

Result<std::uint64_t> LsnOf(const Result<Ack>& ack) {
  if (!ack.ok()) return ack.status();
  return ack->lsn;
}

Result<std::uint64_t> Do(TaskStorage& storage, const CrashOperation& operation,
                         const WriteOptions& options) {
  using Kind = CrashOperation::Kind;
  switch (operation.kind) {
    case Kind::kSave: {
      Task task;
      task.id = operation.task_id;
      task.error = operation.tag;
      // Bodies of many sizes, so that kills fall into copies, frames and rolls.
      task.payload = "\"" + std::string(operation.tag.back() * 97 % 3000, 'x') + "\"";
      return LsnOf(storage.SaveTask(task, options));
    }
    case Kind::kUpdate:
      return LsnOf(storage.UpdateTaskStatus(operation.task_id, operation.status, operation.tag,
                                            options));
    case Kind::kDelete:
      return LsnOf(storage.DeleteTask(operation.task_id, options));
    case Kind::kLog:
      break;
  }
  Activity activity;
  activity.id = operation.tag;
  activity.task_id = operation.task_id;
  const auto ack = storage.LogActivity(activity, options);
  if (!ack.ok()) return ack.status();
  return ack->lsn;
}

void Produce(TaskStorage& storage, std::uint64_t cycle, std::uint32_t producer) {
  WriteOptions options;
  for (std::uint64_t number = 0;; ++number) {
    // One producer waits for the disk each time; the others now and then.
    const bool disk = producer == 0 || number % 50 == 49;
    options.durability = disk ? Durability::kDisk : Durability::kProcess;
    const auto lsn = Do(storage, MakeCrashOperation(cycle, producer, number), options);
    if (!lsn.ok()) Die(lsn.status());
    const std::string line = std::to_string(producer) + " " + std::to_string(number) + " " +
                             std::to_string(*lsn) + "\n";
    if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  Options options;
  options.wal_dir = argv[1];
  options.ring_bytes = 256u << 10;      // it wraps within a cycle
  options.segment_bytes = 256u << 10;   // and segments roll
  options.retention_bytes = 1u << 20;   // and are recycled
  options.flush_interval = std::chrono::milliseconds(20);
  auto storage = OpenTaskStorage(argv[2], options);
  if (!storage.ok()) Die(storage.status());
  const std::uint64_t cycle = std::strtoull(argv[3], nullptr, 10);
  std::vector<std::jthread> producers;
  for (std::uint32_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] { Produce(**storage, cycle, producer); });
  }
  producers.clear();  // joins: they never end
  return 0;
}
