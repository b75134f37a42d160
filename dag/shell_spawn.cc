#include "dag/shell_spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <array>

namespace taskwal::dag {
namespace {

// posix_spawn's arguments; frees what they hold.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  int Describe(const ShellSpawn& spawn) {
    Give(spawn.input, STDIN_FILENO, O_RDONLY);
    Give(spawn.output, STDOUT_FILENO, O_WRONLY);
    ::posix_spawn_file_actions_adddup2(&actions_, STDOUT_FILENO, STDERR_FILENO);
    const bool has_extra = spawn.extra >= 0;
    if (has_extra) ::posix_spawn_file_actions_adddup2(&actions_, spawn.extra, kShellExtraFd);
    const int first_closed = has_extra ? kShellExtraFd + 1 : kShellExtraFd;
    const int error = ::posix_spawn_file_actions_addclosefrom_np(&actions_, first_closed);
    if (error != 0) return error;
    sigset_t all;
    sigset_t none;
    ::sigfillset(&all);
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    return ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  int Spawn(const std::string& command, pid_t* pid) {
    std::array<std::string, 3> words{"sh", "-c", command};
    std::array<char*, 4> arguments{words[0].data(), words[1].data(), words[2].data(), nullptr};
    return ::posix_spawn(pid, "/bin/sh", &actions_, &attributes_, arguments.data(), environ);
  }

 private:
  void Give(int from, int to, int null_mode) {
    if (from >= 0) {
      ::posix_spawn_file_actions_adddup2(&actions_, from, to);
    } else {
      ::posix_spawn_file_actions_addopen(&actions_, to, "/dev/null", null_mode, 0);
    }
  }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace

int SpawnShell(const ShellSpawn& spawn, pid_t* pid) {
  SpawnPlan plan;
  const int error = plan.Describe(spawn);
  return error == 0 ? plan.Spawn(spawn.command, pid) : error;
}

}  // namespace taskwal::dag
