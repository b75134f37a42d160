// Child processes for tests of the tool and of crashes. One thread per Child. Every wait has a
// deadline; a child that is still alive when its object goes is killed and reaped.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/posix_file.h"
#include "taskwal/status.h"

namespace taskwal {

struct ChildOptions {
  std::vector<std::string> environment{};  // "NAME=value", on top of this process's own
  std::string directory{};                 // to start in; empty: this process's
};

struct ChildExit {
  int code = -1;           // -1 when a signal ended it
  int signal = 0;          // that signal
  bool timed_out = false;  // it was killed at the deadline
};

class Child {
 public:
  using Duration = std::chrono::milliseconds;

  static Result<std::unique_ptr<Child>> Start(const std::vector<std::string>& command,
                                              const ChildOptions& options = {});
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }

  // To its stdin; what it prints meanwhile is kept. False when it no longer reads, and at the
  // deadline.
  bool Write(std::string_view text, Duration timeout = std::chrono::seconds(60));
  bool WriteLine(std::string_view line) { return Write(std::string(line) + "\n"); }
  void CloseInput() { input_ = UniqueFd(); }
  // The next line of its stdout, without newline; nothing at the end and at the deadline. A last
  // line without newline counts.
  std::optional<std::string> ReadLine(Duration timeout = std::chrono::seconds(60));
  // As if the reader of its stdout had gone.
  void CloseOutput() { output_ = UniqueFd(); }

  void Kill(int signal = 9) const;
  // Until it ends; its stdout is read on. SIGKILL at the deadline. Closes its stdin first.
  ChildExit Wait(Duration timeout = std::chrono::seconds(120));
  // What it printed that ReadLine has not given out.
  [[nodiscard]] const std::string& pending_output() const { return buffer_; }
  // All of its stderr so far.
  [[nodiscard]] std::string errors() const;

 private:
  Child() = default;
  // Waits until stdin takes bytes (where `writing`), stdout has some, or the child ends; reads
  // stdout. False at the deadline.
  bool Pump(bool writing, std::chrono::steady_clock::time_point until);
  bool ReadSome();

  pid_t pid_ = -1;
  UniqueFd process_;  // pidfd: readable once the child has ended
  UniqueFd input_, output_, errors_;
  std::string buffer_;
  bool input_ready_ = false;
  bool ended_ = false;
  std::optional<ChildExit> exit_;
};

struct RunOutcome {
  ChildExit exit;
  std::string out;
  std::string err;
};

// Runs a command to its end with `input` as its stdin. A command that cannot be started has exit
// code -1 and its reason in err. (A TEST writes taskwal::Run: every fixture has a Run of its own.)
RunOutcome Run(const std::vector<std::string>& command, std::string_view input = {},
               const ChildOptions& options = {},
               std::chrono::milliseconds timeout = std::chrono::seconds(120));

}  // namespace taskwal
