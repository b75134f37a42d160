// The kernel's own faults, and those that strace makes of its calls: power cuts, a disk without
// room, pages that cannot be written back, calls that fail, a process that dies in one. What was
// acknowledged must be in the database, once.
//
// scripts/kernel-faults runs it. TASKWAL_KERNEL_CYCLES and TASKWAL_KERNEL_SEED override how often
// and the seed.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>

#include "base/posix_file.h"
#include "tests/kernel/kernel_fixture.h"
#include "tests/support/io_uring_probe.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

class PowerCut : public KernelFaults {
 protected:
  void RunCycles(LoopDisk::Kind kind, std::uint64_t bytes) {
    LoopDisk disk(directory_.path(), kind, bytes);
    ASSERT_NO_FATAL_FAILURE(disk.Make());
    BootIdOverride boot(directory_.File("boot_id"));
    Use(disk.path() + "/wal", disk.path() + "/tasks.db");
    const std::uint64_t cycles = Cycles(25);
    while (cycle_ < cycles && !HasFailure()) RunCycle(disk, boot);
  }

 private:
  void RunCycle(LoopDisk& disk, BootIdOverride& boot) {
    ASSERT_NO_FATAL_FAILURE(StartChild({}, {}));
    // The first life answers at least once: before that there may be no log to recover.
    const std::uint64_t first = cycle_ == 1 ? 1 : 0;
    ASSERT_TRUE(ReadUntil(first + (random_.OneIn(10) ? 0 : random_.Below(400))))
        << child_->errors();
    Dawdle();
    ASSERT_NO_FATAL_FAILURE(KillChild());
    // The recovery of a process that is killed on the same boot, and then loses its power, too.
    ASSERT_NO_FATAL_FAILURE(MaybeKillRecovery());
    ASSERT_NO_FATAL_FAILURE(Cut(disk, boot));
    MaybeKillRecovery();
    if (random_.OneIn(3)) Cut(disk, boot);
    RecoverAndCheck(Durability::kDisk);
  }

  void Cut(LoopDisk& disk, BootIdOverride& boot) {
    ++faults_;
    disk.CutPower();
    boot.Change();
  }
};

TEST_F(PowerCut, Ext4) {
  row_ = "power cut, ext4";
  RunCycles(LoopDisk::Kind::kExt4, 64u << 20);
}

TEST_F(PowerCut, Xfs) {
  if (!HasProgram("mkfs.xfs")) GTEST_SKIP() << "not permitted here: no mkfs.xfs";
  const auto known = taskwal::Run({"sh", "-c", "grep -qw xfs /proc/filesystems || modprobe xfs"});
  if (known.exit.code != 0) GTEST_SKIP() << "not permitted here: the kernel has no xfs";
  row_ = "power cut, xfs";
  RunCycles(LoopDisk::Kind::kXfs, 300u << 20);
}

class DiskFullCycles : public KernelFaults {
 protected:
  void RunCycle(const LoopDisk& disk) {
    ASSERT_NO_FATAL_FAILURE(StartChild({}, {"past-errors"}));
    ASSERT_TRUE(ReadUntil(20)) << child_->errors();
    {
      // While the database takes nothing, the log grows until there is no room.
      SQLite::Database blocker(database_, SQLite::OPEN_READWRITE, 30'000);
      blocker.exec("BEGIN IMMEDIATE");
      if (random_.OneIn(2)) TakeAllRoom(disk.path() + "/ballast");
      while (ledger_.refused() < 5 && !HasFatalFailure()) {
        ASSERT_TRUE(ReadUntil(ledger_.told() + 1)) << child_->errors();
      }
      ++faults_;
      ::unlink((disk.path() + "/ballast").c_str());
    }
    // Every third dies on the full disk; the others go on by themselves.
    const std::uint64_t wanted = ledger_.acknowledged() + 100;
    while (cycle_ % 3 != 0 && ledger_.acknowledged() < wanted && !HasFatalFailure()) {
      ASSERT_TRUE(ReadUntil(ledger_.told() + 1)) << child_->errors();
    }
    ASSERT_NO_FATAL_FAILURE(KillChild());
    RecoverAndCheck(Durability::kProcess);
  }

  static void TakeAllRoom(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string page(4096, 'b');
    while (::write(fd.get(), page.data(), page.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC) << std::strerror(errno);
  }
};

TEST_F(DiskFullCycles, EightMebibytes) {
  row_ = "disk full, 8 MiB ext4";
  LoopDisk disk(directory_.path(), LoopDisk::Kind::kExt4, 8u << 20);
  ASSERT_NO_FATAL_FAILURE(disk.Make());
  Use(disk.path() + "/wal", directory_.File("tasks.db"));
  const std::uint64_t cycles = Cycles(6);
  while (cycle_ < cycles && !HasFailure()) RunCycle(disk);
}

class WritebackErrors : public KernelFaults {
 protected:
  void RunCycle() {
    const TempDir directory;
    LoopDisk disk(directory.path(), LoopDisk::Kind::kExt4, 32u << 20);
    ASSERT_NO_FATAL_FAILURE(disk.Make());
    Use(disk.path() + "/wal", directory.File("tasks.db"));
    ASSERT_NO_FATAL_FAILURE(StartChild({}, {"past-errors", "all-disk"}));
    ASSERT_TRUE(ReadUntil(30 + random_.Below(200))) << child_->errors();
    ASSERT_NO_FATAL_FAILURE(StopChild());
    // Sometimes those of the spare alone: the segment in use is left, the next one is not.
    disk.LoseUnusedBlocks(wal_, random_.OneIn(2) ? "wal-" : "spare-");
    ASSERT_FALSE(HasFatalFailure());
    child_->Kill(SIGCONT);
    ReadUntil(ledger_.told() + 300);
    ASSERT_NO_FATAL_FAILURE(KillChild());
    faults_ += CountOf("event=log_write_failed", child_->errors());
    ASSERT_NO_FATAL_FAILURE(disk.Heal());
    RecoverAndCheck(Durability::kDisk);
  }

  static std::uint64_t CountOf(const std::string& word, const std::string& text) {
    std::uint64_t count = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
      ++count;
    }
    return count;
  }
};

TEST_F(WritebackErrors, LoseNothingAcknowledged) {
  row_ = "writeback errors, ext4";
  // About every second cycle ends before the log comes to the blocks that are gone.
  const std::uint64_t cycles = Cycles(16);
  while ((cycle_ < cycles || (faults_ == 0 && cycle_ < cycles + 40)) && !HasFailure()) {
    ledger_.StartAnew();
    RunCycle();
  }
  EXPECT_GT(faults_, 0u) << "no sync has failed";
}

constexpr char kKill[] = "signal=KILL";

struct Point {
  const char* call;
  std::uint64_t range;    // of the number of the call that it happens to, in each thread
  const char* path = "";  // of the call, below the test's directory; empty: any
  // Where it is made on a full disk alone: the first rename of a thread, STATE's, finds no room.
  bool on_full_disk = false;
};

class InjectedFaults : public KernelFaults {
 protected:
  void SetUp() override {
    // No mounts are needed.
    if (!HasProgram("strace")) GTEST_SKIP() << "not permitted here: no strace";
    const RunOutcome traced = taskwal::Run({"strace", "-o", "/dev/null", "true"});
    if (traced.exit.code != 0) GTEST_SKIP() << "not permitted here: strace: " << traced.err;
    Use(directory_.File("wal"), directory_.File("tasks.db"));
  }

  // strace as a grandchild: so the program itself is the one that is killed and waited for.
  std::vector<std::string> Strace(const Point& point, const std::string& fault) {
    const std::string call = point.call;
    std::vector<std::string> command = {
        "strace", "-D", "-f", "-qq", "-o", trace_, "-e", "trace=" + call, "-e",
        "inject=" + call + ":" + fault + ":when=" + std::to_string(1 + random_.Below(point.range))};
    if (*point.path != '\0') command.insert(command.end(), {"-P", directory_.File(point.path)});
    if (point.on_full_disk) {
      command.insert(command.end(), {"-e", "trace=" + call + ",rename", "-e",
                                     "inject=rename:error=ENOSPC:when=1", "-P",
                                     directory_.File("wal/STATE.tmp")});
    }
    return command;
  }

  void RunPlainLife() {
    ASSERT_NO_FATAL_FAILURE(StartChild({}, {}));
    ASSERT_TRUE(ReadUntil(50)) << child_->errors();
    ASSERT_NO_FATAL_FAILURE(KillChild());
    RecoverAndCheck(Durability::kProcess);
  }

  // One life and one recovery. Whether either has met the fault.
  bool RunLife(const Point& point, const std::string& fault) {
    SCOPED_TRACE(::testing::Message() << fault << " in " << point.call << " " << point.path);
    ::unlink(trace_.c_str());
    StartChild(Strace(point, fault), manner_);
    if (HasFailure()) return false;
    const bool has_ended = !ReadUntil(150);
    Dawdle();
    // Its output ends a moment before it is seen to be dead.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    bool is_met = WasKilled();
    while (has_ended && !is_met && fault == kKill && std::chrono::steady_clock::now() < end) {
      is_met = WasKilled();
    }
    KillChild();
    std::vector<std::string> recovery = Strace(point, fault);
    recovery.insert(recovery.end(), {TASKWAL_TOOL, "recover", "--wal", wal_, "--db", dsn_});
    is_met = HasInjectedError(point.call) || is_met;
    is_met = taskwal::Run(recovery).exit.signal == SIGKILL || is_met;
    is_met = HasInjectedError(point.call) || is_met;
    if (is_met) ++faults_;
    if (!HasFailure()) RecoverAndCheck(Durability::kProcess);
    return is_met;
  }

  bool HasInjectedError(const std::string& call) const {
    std::ifstream in(trace_);
    for (std::string line; std::getline(in, line);) {
      if (line.find("(INJECTED)") == std::string::npos) continue;
      if (line.find(call + "(") != std::string::npos) return true;
      if (line.find(call + " resumed") != std::string::npos) return true;
    }
    return false;
  }

  // Each point in turn, over one directory.
  template <std::size_t N>
  void RunPoints(const Point (&points)[N], const std::string& fault, std::uint64_t lives) {
    RunPlainLife();  // a directory with a log to start from
    for (const Point& point : points) {
      std::uint64_t met = 0;
      // Each is met, sooner or later: where its number is that of a call that is made.
      for (std::uint64_t i = 0; (i < lives || (met == 0 && i < 30)) && !HasFailure(); ++i) {
        if (RunLife(point, fault)) ++met;
      }
      if (HasFailure()) return;
      EXPECT_GT(met, 0u) << "never met: " << point.call << " " << point.path;
    }
  }

  const std::string trace_ = directory_.File("trace");
  std::vector<std::string> manner_ = {"past-errors"};
};

TEST_F(InjectedFaults, CallsThatFailLoseNothing) {
  row_ = "calls that fail (EIO)";
  constexpr Point kCalls[] = {{"pwrite64", 60},
                              {"fdatasync", 40},
                              {"fsync", 6},
                              {"openat", 150},
                              {"openat", 3, "wal/STATE.tmp"},
                              {"rename", 4},
                              {"ftruncate", 4},
                              {"fallocate", 1},
                              {"mmap", 1, "wal/RING.tmp"},
                              {"mmap", 1, "wal/RING"},
                              {"unlink", 1},
                              {"pread64", 20},
                              {"flock", 1},
                              {"mkdir", 3},
                              {"statx", 8},
                              {"statfs", 4},
                              {"getdents64", 6},
                              {"newfstatat", 60},
                              {"close", 60},
                              {"read", 30},
                              {"munmap", 8},
                              {"eventfd2", 1},
                              {"renameat2", 1, "wal/RESERVE", true}};
  RunPoints(kCalls, "error=EIO", Cycles(1));
}

TEST_F(InjectedFaults, CallsThatFailBesideIoUringLoseNothing) {
  SKIP_WITHOUT_IO_URING();
  row_ = "the same, by io_uring";
  manner_.push_back("io-uring");
  constexpr Point kCalls[] = {{"io_uring_enter", 40}, {"io_uring_setup", 2}};
  RunPoints(kCalls, "error=EIO", Cycles(1));
}

TEST_F(InjectedFaults, AKillInAnyCallLosesNothing) {
  row_ = "kill -9 in named calls";
  constexpr Point kPoints[] = {
      {"flock", 1, "wal/LOCK"},           {"pwrite64", 1, "wal/LOCK"},
      {"openat", 2, "wal/STATE.tmp"},     {"ftruncate", 2, "wal/STATE.tmp"},
      {"pwrite64", 2, "wal/STATE.tmp"},   {"fdatasync", 2, "wal/STATE.tmp"},
      {"rename", 2, "wal/STATE.tmp"},     {"fsync", 4, "wal"},
      {"openat", 1, "wal/RING"},          {"mmap", 1, "wal/RING"},
      {"unlink", 1, "wal/RING"},          {"fallocate", 1, "wal/RING.tmp"},
      {"mmap", 2, "wal/RING.tmp"},        {"rename", 1, "wal/RING.tmp"},
      {"rename", 4},                      {"ftruncate", 4},
      {"pwrite64", 100},                  {"fdatasync", 60},
      {"pwrite64", 20, "tasks.db-wal"},   {"fdatasync", 10, "tasks.db-wal"},
  };
  RunPoints(kPoints, kKill, Cycles(1));
}

}  // namespace
}  // namespace taskwal
