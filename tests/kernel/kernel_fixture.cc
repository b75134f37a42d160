#include "tests/kernel/kernel_fixture.h"

#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <utility>

#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

std::uint64_t NumberFromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::uint64_t Seed() {
  static const std::uint64_t seed =
      NumberFromEnvironment("TASKWAL_KERNEL_SEED", std::random_device()());
  return seed;
}

}  // namespace

KernelFaults::KernelFaults() : random_(Seed()) {
  std::cout << "TASKWAL_KERNEL_SEED=" << Seed() << std::endl;
}

std::uint64_t KernelFaults::Cycles(std::uint64_t otherwise) {
  return NumberFromEnvironment("TASKWAL_KERNEL_CYCLES", otherwise);
}

void KernelFaults::SetUp() {
  if (!WhyNoMounts().empty()) GTEST_SKIP() << "not permitted here: " << WhyNoMounts();
}

void KernelFaults::TearDown() {
  if (row_.empty() || IsSkipped()) return;
  std::cout << "row|" << row_ << "|" << cycle_ << "|" << faults_ << "|" << ledger_.acknowledged()
            << "|" << ledger_.taken() << "|" << ledger_.lost() << "|" << ledger_.doubled()
            << std::endl;
}

void KernelFaults::Use(std::string wal, std::string database) {
  wal_ = std::move(wal);
  database_ = std::move(database);
  dsn_ = "sqlite://" + database_;
}

void KernelFaults::StartChild(const std::vector<std::string>& wrapper,
                              const std::vector<std::string>& manner) {
  bool is_all_disk = false;
  std::vector<std::string> command = wrapper;
  ++cycle_;
  command.insert(command.end(), {TASKWAL_CRASH_CHILD, wal_, dsn_, std::to_string(cycle_)});
  for (const std::string& word : manner) {
    command.push_back(word);
    is_all_disk = is_all_disk || word == "all-disk";
  }
  ledger_.StartLife(cycle_, is_all_disk);
  auto child = Child::Start(command);
  ASSERT_OK(child);
  child_ = std::move(child).value();
}

bool KernelFaults::ReadUntil(std::uint64_t answers) {
  while (ledger_.told() < answers && !HasFatalFailure()) {
    const auto line = child_->ReadLine(std::chrono::seconds(30));
    if (!line || *line == "end") return false;
    ledger_.Told(*line);
  }
  return true;
}

void KernelFaults::Dawdle() {
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::microseconds(random_.Below(3000));
  while (std::chrono::steady_clock::now() < end) {
  }
}

void KernelFaults::KillChild() {
  child_->Kill();
  while (const auto line = child_->ReadLine()) ledger_.Told(*line);
  ASSERT_FALSE(child_->Wait().timed_out);
}

void KernelFaults::StopChild() {
  child_->Kill(SIGSTOP);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child_->pid()), &info, WSTOPPED | WEXITED | WNOWAIT),
            0);
  ASSERT_EQ(info.si_code, CLD_STOPPED) << child_->errors();
}

bool KernelFaults::WasKilled() {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(child_->pid()), &info, WEXITED | WNOHANG | WNOWAIT) ==
             0 &&
         info.si_pid != 0 && info.si_code == CLD_KILLED && info.si_status == SIGKILL;
}

void KernelFaults::RecoverAndCheck(Durability survived) {
  const RunOutcome recovered = taskwal::Run({TASKWAL_TOOL, "recover", "--wal", wal_, "--db", dsn_});
  ASSERT_EQ(recovered.exit.code, 0) << recovered.out << recovered.err << child_->errors();
  const RunOutcome verified = taskwal::Run({TASKWAL_TOOL, "verify", wal_});
  ASSERT_EQ(verified.exit.code, 0) << verified.out << verified.err << child_->errors();
  ledger_.Check(database_, survived);
}

void KernelFaults::MaybeKillRecovery() {
  if (!random_.OneIn(3)) return;
  auto recovery = Child::Start({TASKWAL_TOOL, "recover", "--wal", wal_, "--db", dsn_});
  ASSERT_OK(recovery);
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::microseconds(random_.Below(40'000));
  while (std::chrono::steady_clock::now() < end) {
  }
  (*recovery)->Kill();
  const ChildExit exit = (*recovery)->Wait();
  ASSERT_TRUE(exit.signal == 9 || exit.code == 0) << (*recovery)->errors();
}

}  // namespace taskwal
