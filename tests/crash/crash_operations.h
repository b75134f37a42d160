// What the child of the crash tests does, as a function of (cycle, producer, number): so the
// parent knows every operation without being told.
#pragma once

#include <cstdint>
#include <string>

#include "taskwal/options.h"
#include "taskwal/task.h"

namespace taskwal {

inline constexpr std::uint32_t kProducers = 3;
inline constexpr std::uint64_t kTasksPerProducer = 5;

struct CrashOperation {
  enum class Kind : std::uint8_t { kSave, kUpdate, kDelete, kLog } kind = Kind::kSave;
  std::string task_id;
  std::string tag;  // names this operation: activity id, or the task's `error` after it
  TaskStatus status = TaskStatus::kPending;
};

// Each producer has tasks of its own, the same ones in every cycle: their history crosses kills.
inline CrashOperation MakeCrashOperation(std::uint64_t cycle, std::uint32_t producer,
                                         std::uint64_t number) {
  using Kind = CrashOperation::Kind;
  constexpr Kind kKinds[] = {Kind::kSave,   Kind::kLog, Kind::kUpdate, Kind::kLog,
                             Kind::kUpdate, Kind::kLog, Kind::kUpdate, Kind::kLog,
                             Kind::kLog,    Kind::kDelete};
  constexpr TaskStatus kStatuses[] = {TaskStatus::kRunning, TaskStatus::kFailed,
                                      TaskStatus::kCompleted};
  CrashOperation operation;
  operation.kind = kKinds[number % 10];
  // A delete now and then only: most tasks live on.
  if (operation.kind == Kind::kDelete && number % 70 != 9) operation.kind = Kind::kUpdate;
  operation.task_id =
      "p" + std::to_string(producer) + "-t" + std::to_string((number / 10) % kTasksPerProducer);
  operation.tag =
      std::to_string(cycle) + "." + std::to_string(producer) + "." + std::to_string(number);
  if (operation.kind == Kind::kUpdate) operation.status = kStatuses[number % 3];
  return operation;
}

// One producer waits for the disk each time; the others now and then.
inline Durability CrashDurability(std::uint32_t producer, std::uint64_t number, bool all_disk) {
  const bool disk = all_disk || producer == 0 || number % 50 == 49;
  return disk ? Durability::kDisk : Durability::kProcess;
}

}  // namespace taskwal
