// A command run by /bin/sh in a process group of its own.
#pragma once

#include <chrono>
#include <stop_token>
#include <string>

#include "taskwal/status.h"

namespace taskwal::dag {

class ShellGuard;

struct ShellOutcome {
  int exit_code = 0;   // as the shell counts: 128 + signal for a killed one
  int signal = 0;      // that ended it; 0: it exited
  bool stopped = false;
  std::string output;  // the last 4 KiB of stdout and stderr, clean text
};

// Between SIGTERM and SIGKILL.
inline constexpr std::chrono::milliseconds kShellGrace{200};

// Blocks until the shell has ended. stdin is /dev/null; what it leaves running in the background
// lives on. On `stop` the whole group gets SIGTERM, and SIGKILL what is left of it after the grace.
// kUnavailable: it could not be started. With a guard, it does not outlive this process. Any
// thread, several at a time.
Result<ShellOutcome> RunShell(const std::string& command, const std::stop_token& stop,
                              std::chrono::milliseconds grace = kShellGrace,
                              ShellGuard* guard = nullptr);

// {"exit_code":…,"output":"…"}
std::string ShellResultJson(const ShellOutcome& outcome);
// OK for exit code 0.
Status ShellStatus(const ShellOutcome& outcome);

}  // namespace taskwal::dag
