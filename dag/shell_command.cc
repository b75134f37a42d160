#include "dag/shell_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>

#include "base/json_text.h"
#include "base/posix_file.h"
#include "base/status_macros.h"
#include "dag/shell_guard.h"
#include "dag/shell_spawn.h"
#include "dag/text.h"

namespace taskwal::dag {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kOutputBytesKept = 4096;
constexpr std::size_t kTailBytes = kOutputBytesKept + 1;  // one more shows that it was cut
constexpr std::chrono::milliseconds kNoTimeout{-1};
constexpr int kReadsMax = 32;  // of 64 KiB, at a time
constexpr int kSignalExitBase = 128;

Status CannotStart(const char* call, int error) {
  return Status::Unavailable(std::string("cannot start /bin/sh: ") + call + ": " +
                             std::strerror(error));
}

// One started shell, used by one thread.
class Shell {
 public:
  explicit Shell(ShellGuard* guard) : guard_(guard) {}

  Status Start(const std::string& command);
  Result<ShellOutcome> Run(const std::stop_token& stop, std::chrono::milliseconds grace);

 private:
  void AwaitExit() const;
  bool HasExited() const;
  void Wake() const;
  void Watch(std::chrono::milliseconds timeout);
  void ReadOutput();
  void EndGroup(std::chrono::milliseconds grace);
  ShellOutcome Reap();

  ShellGuard* const guard_;
  pid_t pid_ = -1;   // leads the group; both ids stay ours until it is reaped
  UniqueFd output_;  // closed once nobody can write any more
  UniqueFd wake_;    // an eventfd: the shell has exited, or a stop was requested
  std::string tail_;
};

Status Shell::Start(const std::string& command) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return CannotStart("pipe2", errno);
  output_ = UniqueFd(pipe[0]);
  const UniqueFd write_end(pipe[1]);
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
  wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake_.get() < 0) return CannotStart("eventfd", errno);

  const int guard = guard_ == nullptr ? -1 : guard_->socket();
  const std::string introduction = guard < 0 ? std::string() : ShellGuard::Introduction();
  const int error = SpawnShell({introduction + command, -1, write_end.get(), guard}, &pid_);
  return error == 0 ? Status::Ok() : CannotStart("posix_spawn", error);
}

Result<ShellOutcome> Shell::Run(const std::stop_token& stop, std::chrono::milliseconds grace) {
  std::jthread watcher;
  try {
    watcher = std::jthread([this] {
      AwaitExit();
      Wake();
    });
  } catch (const std::system_error& e) {
    ::kill(-pid_, SIGKILL);
    AwaitExit();
    Reap();
    return CannotStart("its watching thread", e.code().value());
  }
  const std::stop_callback on_stop(stop, [this] { Wake(); });
  while (!HasExited() && !stop.stop_requested()) Watch(kNoTimeout);
  const bool stopped = !HasExited();
  if (stopped) EndGroup(grace);
  ReadOutput();
  watcher.join();
  ShellOutcome outcome = Reap();
  outcome.stopped = stopped;
  return outcome;
}

// Does not reap: as long as the leader is there, no signal of ours can hit a stranger's group.
void Shell::AwaitExit() const {
  siginfo_t info;
  while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 &&
         errno == EINTR) {
  }
}

bool Shell::HasExited() const {
  siginfo_t info{};
  const int result = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
  return result != 0 || info.si_pid == pid_;
}

void Shell::Wake() const {
  const std::uint64_t one = 1;
  // It can fail only by overflow, and then it is readable anyhow.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Shell::Watch(std::chrono::milliseconds timeout) {
  std::array<pollfd, 2> polled{{{wake_.get(), POLLIN, 0}, {output_.get(), POLLIN, 0}}};
  ::poll(polled.data(), output_.get() >= 0 ? 2 : 1, static_cast<int>(timeout.count()));
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t drained = ::read(wake_.get(), &count, sizeof count);
  ReadOutput();
}

// Bounded, or a command that never stops printing would keep us from the stop; the bound is above
// what a pipe can hold, so that nothing printed before the exit is missed after it.
void Shell::ReadOutput() {
  std::array<char, 65536> chunk;
  for (int i = 0; i < kReadsMax && output_.get() >= 0; ++i) {
    const ssize_t count = ::read(output_.get(), chunk.data(), chunk.size());
    if (count == 0) output_ = UniqueFd();
    if (count <= 0) return;
    tail_.append(chunk.data(), static_cast<std::size_t>(count));
    if (tail_.size() > kTailBytes) tail_.erase(0, tail_.size() - kTailBytes);
  }
}

void Shell::EndGroup(std::chrono::milliseconds grace) {
  ::kill(-pid_, SIGTERM);
  const auto until = Clock::now() + grace;
  // An open output means that somebody else of the group may still be cleaning up.
  while (!HasExited() || output_.get() >= 0) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    if (left.count() <= 0) break;
    Watch(left);
  }
  ::kill(-pid_, SIGKILL);
  while (!HasExited()) Watch(kNoTimeout);
}

ShellOutcome Shell::Reap() {
  if (guard_ != nullptr) guard_->Forget(pid_);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  ShellOutcome outcome;
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.exit_code = outcome.signal != 0 ? kSignalExitBase + outcome.signal : WEXITSTATUS(status);
  // Cut first, and again because a replaced byte takes three.
  const std::string clean = CleanText(LastCharacters(tail_, kOutputBytesKept));
  outcome.output = LastCharacters(clean, kOutputBytesKept);
  return outcome;
}

}  // namespace

Result<ShellOutcome> RunShell(const std::string& command, const std::stop_token& stop,
                              std::chrono::milliseconds grace, ShellGuard* guard) {
  Shell shell(guard);
  TASKWAL_TRY(shell.Start(command));
  return shell.Run(stop, grace);
}

std::string ShellResultJson(const ShellOutcome& outcome) {
  return "{\"exit_code\":" + std::to_string(outcome.exit_code) +
         ",\"output\":" + JsonQuote(outcome.output) + "}";
}

Status ShellStatus(const ShellOutcome& outcome) {
  if (outcome.signal != 0) {
    return Status::Unavailable("ended by signal " + std::to_string(outcome.signal));
  }
  // Whatever it says after it was told to stop: it was not done.
  if (outcome.exit_code == 0 && outcome.stopped) return Status::Unavailable("stopped, exit code 0");
  if (outcome.exit_code == 0) return {};
  return Status::Unavailable("exit code " + std::to_string(outcome.exit_code));
}

}  // namespace taskwal::dag
