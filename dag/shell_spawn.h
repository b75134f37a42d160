// Starts /bin/sh in a process group of its own, with signals as at login.
#pragma once

#include <sys/types.h>

#include <string>

namespace taskwal::dag {

inline constexpr int kShellExtraFd = 3;

struct ShellSpawn {
  std::string command;
  int input = -1;   // its stdin; -1: /dev/null
  int output = -1;  // its stdout and stderr; -1: /dev/null
  int extra = -1;   // its descriptor 3; -1: none
};

// 0 or an errno. The child gets no other descriptor of ours: a background process must not keep the
// lock of a log, nor another node's pipe, open.
int SpawnShell(const ShellSpawn& spawn, pid_t* pid);

}  // namespace taskwal::dag
