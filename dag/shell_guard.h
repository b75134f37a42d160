// Ends the commands that a killed process would leave running: a process of its own knows their
// groups, and kills what is left of them once this process is gone, however it went.
//
//   this process ══ socket ══▶ guard        "+ group", told by each command before it begins
//     commands ════════┘                    "- group", told for those that have ended
//
// The guard sees the end of the socket when nobody has it open for writing any more; a command has
// it open until it has told its group. So none slips through, whenever the kill comes.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/mutex.h"
#include "base/posix_file.h"

namespace taskwal::dag {

// Any thread. Outlives the commands that it guards; when it goes, they are left alone.
class ShellGuard {
 public:
  ShellGuard() = default;
  ~ShellGuard();
  ShellGuard(const ShellGuard&) = delete;
  ShellGuard& operator=(const ShellGuard&) = delete;

  // For the command's descriptor 3. Starts the guard at the first call; -1 where that failed: a
  // command then runs unguarded.
  int socket() EXCLUDES(mutex_);
  // What a guarded command does first.
  static std::string Introduction();
  // The command has ended and is not reaped yet, so that its group cannot be somebody else's.
  void Forget(pid_t group) EXCLUDES(mutex_);

 private:
  void Start() REQUIRES(mutex_);
  void Tell(const std::string& line) REQUIRES(mutex_);

  Mutex mutex_;
  bool is_started_ GUARDED_BY(mutex_) = false;
  UniqueFd socket_ GUARDED_BY(mutex_);
  pid_t pid_ GUARDED_BY(mutex_) = -1;
};

}  // namespace taskwal::dag
