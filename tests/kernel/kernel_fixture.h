// Lives of crash_child on a file system of the kernel's own, held against a CrashLedger, and the
// row of figures that each kind of fault ends with.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/kernel/crash_ledger.h"
#include "tests/kernel/loop_disk.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {

class KernelFaults : public ::testing::Test {
 protected:
  KernelFaults();
  void SetUp() override;  // skips where no mounts are permitted
  // Prints the row; a cycle that failed ended the test before it.
  void TearDown() override;

  // TASKWAL_KERNEL_CYCLES, or as many as a bounded run has time for.
  static std::uint64_t Cycles(std::uint64_t otherwise);
  // The directory and database of the lives to come.
  void Use(std::string wal, std::string database);
  // A life begins: crash_child behind `wrapper` (strace, say).
  void StartChild(const std::vector<std::string>& wrapper, const std::vector<std::string>& manner);
  // Until so many calls were answered, or the child ended or said that it is at its end. False:
  // the latter two, or nothing came for a while.
  bool ReadUntil(std::uint64_t answers);
  // A few more microseconds, so that a kill falls anywhere.
  void Dawdle();
  void KillChild();
  // Until SIGCONT; none of its threads is in a call any more.
  void StopChild();
  // Whether it has died by itself, of SIGKILL.
  bool WasKilled();
  // `taskwal recover` and `verify`, both fine, then the ledger.
  void RecoverAndCheck(Durability survived);
  // Kills a recovery somewhere, now and then.
  void MaybeKillRecovery();

  TempDir directory_;
  Random random_;
  std::string wal_, database_, dsn_;
  CrashLedger ledger_;
  std::unique_ptr<Child> child_;
  std::string row_;  // what the row is called; empty: none is printed
  std::uint64_t cycle_ = 0, faults_ = 0;
};

}  // namespace taskwal
