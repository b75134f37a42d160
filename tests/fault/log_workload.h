// One short life of a log, made of everything that touches the disk (open, append, roll, retire
// and recycle, kill, rescue, clean end), and a ledger of what it was told. For fault tests: the
// workload runs over a file system that fails or crashes, then the ledger is held against what a
// fault-free open finds.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "taskwal/options.h"
#include "tests/support/simulated_file_system.h"
#include "wal/log.h"

namespace taskwal {

// What was given to the log and what the log answered.
class LogLedger {
 public:
  void Tried(wal::Lsn lsn, const std::string& body) { tried_[lsn].push_back(body); }
  // kProcess: this record. kDisk: it and all before it.
  void Acknowledged(wal::Lsn lsn, Durability level);
  void Settled(wal::Lsn flushed) { flushed_ = flushed; }

  // Holds the whole content of the log against what was acknowledged at `level` or above; failures
  // are reported to GoogleTest.
  void Check(wal::Log& log, Durability level) const;
  // Forgets what an outage below `level` may have taken.
  void Survived(Durability level);
  [[nodiscard]] wal::Lsn last_acknowledged() const;

 private:
  void CheckRecord(const wal::RecordView& record) const;

  std::map<wal::Lsn, std::vector<std::string>> tried_;  // several where it was given out again
  std::map<wal::Lsn, Durability> acknowledged_;
  wal::Lsn flushed_ = 0;
};

// Single-threaded, but where it says otherwise: the log's background work is driven between calls.
class LogWorkload {
 public:
  LogWorkload(SimulatedFileSystem& fs, LogLedger& ledger) : fs_(fs), ledger_(ledger) {}

  // Everything, going on past failures as an engine would; ends early when the process has died.
  void Run();
  // Opens without faults, checks, appends some more, ends cleanly, checks once more.
  void ReopenAndCheck(Durability level);

  // For a full disk, with the log's threads: opens and appends until that is refused, and how.
  Status AppendUntilRefused();
  // On the same log, waiting for room.
  Status AppendOnceMore();
  // That log's process dies.
  void KillOpenLog() { Kill(std::move(log_)); }
  // Opens and checks, nothing more.
  void CheckOnly(Durability level);

 private:
  std::unique_ptr<wal::Log> Open(bool start_threads = false);
  Status Append(wal::Log& log, Durability level, const wal::Deadline& deadline);
  void AppendSome(wal::Log& log, int count);
  void Retire(wal::Log& log);
  // The objects of a killed process go without a trace on disk.
  void Kill(std::unique_ptr<wal::Log> log);

  SimulatedFileSystem& fs_;
  LogLedger& ledger_;
  std::unique_ptr<wal::Log> log_;
  int made_ = 0;
};

}  // namespace taskwal
