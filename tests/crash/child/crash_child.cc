// The process that tests of crashes kill: crash_child WAL_DIR DSN CYCLE [MANNER...].
// Producers write operations through the storage and report each acknowledgement, "PRODUCER NUMBER
// LSN" a line, by one write(2). It ends only by being killed, or with exit code 1 on an error.
// `past-errors`: a call that fails is reported as "PRODUCER NUMBER LSN CODE" (LSN 0: it has none)
// and the next one made, until the log takes nothing any more: then "end". `all-disk`: every call
// waits for the disk. `io-uring`: by io_uring, where the kernel has it.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
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

struct Manner {
  bool past_errors = false;
  bool all_disk = false;
  bool io_uring = false;
};

// Whether the next call may fare better.
bool MayGoOn(const Status& failed) {
  return failed.code() == StatusCode::kOverloaded || failed.code() == StatusCode::kInDoubt ||
         failed.code() == StatusCode::kUnavailable;
}

void Produce(TaskStorage& storage, std::uint64_t cycle, std::uint32_t producer,
             const Manner& manner) {
  WriteOptions options;
  for (std::uint64_t number = 0;; ++number) {
    options.durability = CrashDurability(producer, number, manner.all_disk);
    const auto lsn = Do(storage, MakeCrashOperation(cycle, producer, number), options);
    if (!lsn.ok() && !manner.past_errors) Die(lsn.status());
    std::string line = std::to_string(producer) + " " + std::to_string(number) + " " +
                       std::to_string(lsn.ok() ? *lsn : lsn.status().lsn());
    if (!lsn.ok()) line += " " + std::string(StatusCodeName(lsn.status().code()));
    line += "\n";
    if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(1);
    if (!lsn.ok() && !MayGoOn(lsn.status())) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 64;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Manner manner;
  for (int i = 4; i < argc; ++i) {
    if (argv[i] == std::string_view("past-errors")) manner.past_errors = true;
    if (argv[i] == std::string_view("all-disk")) manner.all_disk = true;
    if (argv[i] == std::string_view("io-uring")) manner.io_uring = true;
  }
  Options options;
  options.wal_dir = argv[1];
  options.ring_bytes = 256u << 10;      // it wraps within a cycle
  options.segment_bytes = 256u << 10;   // and segments roll
  options.retention_bytes = 1u << 20;   // and are recycled
  options.flush_interval = std::chrono::milliseconds(20);
  options.io_uring = manner.io_uring;
  if (manner.past_errors) options.block_timeout = std::chrono::milliseconds(100);
  auto storage = OpenTaskStorage(argv[2], options);
  if (!storage.ok()) Die(storage.status());
  const std::uint64_t cycle = std::strtoull(argv[3], nullptr, 10);
  std::vector<std::jthread> producers;
  for (std::uint32_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] { Produce(**storage, cycle, producer, manner); });
  }
  producers.clear();  // joins: they end only where the log takes nothing any more
  std::cout << "end" << std::endl;
  ::pause();
  return 0;
}
