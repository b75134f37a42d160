// For N = 1, 2, 3 …: the N-th file system call of a log's life fails, or is its process's or
// machine's last, until a life ends untouched. Then nothing acknowledged may be missing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "tests/fault/log_workload.h"

namespace taskwal {
namespace {

// Calls of one life in which nothing fails; also shows that such a life loses nothing.
std::uint64_t CallsOfOneLife() {
  SimulatedFileSystem fs;
  LogLedger ledger;
  LogWorkload workload(fs, ledger);
  workload.Run();
  const std::uint64_t calls = fs.calls();
  fs.Kill();
  workload.ReopenAndCheck(Durability::kProcess);
  EXPECT_GT(ledger.last_acknowledged(), 40u);
  return calls;
}

void FailNthCall(std::uint64_t n, bool sticky) {
  SCOPED_TRACE(::testing::Message() << (sticky ? "all fail from call " : "fails: call ") << n);
  SimulatedFileSystem fs(n);
  LogLedger ledger;
  LogWorkload workload(fs, ledger);
  fs.FailNth(n, {{}, {}, sticky});
  workload.Run();
  fs.ClearFaults();
  fs.Kill();
  workload.ReopenAndCheck(Durability::kProcess);
}

TEST(NthIo, OneFailedCallLosesNothing) {
  // Failures lead to further calls, so some lives are longer than the untouched one.
  const std::uint64_t calls = CallsOfOneLife() + 20;
  for (std::uint64_t n = 1; n <= calls && !HasFailure(); ++n) FailNthCall(n, false);
}

TEST(NthIo, AllCallsFailingFromTheNthOnLoseNothing) {
  const std::uint64_t calls = CallsOfOneLife();
  for (std::uint64_t n = 1; n <= calls && !HasFailure(); ++n) FailNthCall(n, true);
}

TEST(NthIo, AKillAfterAnyCallLosesNothingAcknowledgedAtLevelProcess) {
  const std::uint64_t calls = CallsOfOneLife();
  for (std::uint64_t n = 1; n <= calls && !HasFailure(); ++n) {
    SCOPED_TRACE(::testing::Message() << "killed in call " << n);
    SimulatedFileSystem fs(n);
    LogLedger ledger;
    LogWorkload workload(fs, ledger);
    fs.CrashAfter(n);
    workload.Run();
    fs.Kill();
    workload.ReopenAndCheck(Durability::kProcess);
  }
}

TEST(NthIo, APowerCutAfterAnyCallLosesNothingAcknowledgedAtLevelDisk) {
  const std::uint64_t calls = CallsOfOneLife();
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    for (std::uint64_t n = 1; n <= calls && !HasFailure(); ++n) {
      SCOPED_TRACE(::testing::Message() << "power cut in call " << n << ", seed " << seed);
      SimulatedFileSystem fs(seed * 10'000 + n);
      LogLedger ledger;
      LogWorkload workload(fs, ledger);
      fs.CrashAfter(n);
      workload.Run();
      Random random(seed * 20'000 + n);
      fs.PowerLoss(random);
      workload.ReopenAndCheck(Durability::kDisk);
    }
  }
}

}  // namespace
}  // namespace taskwal
