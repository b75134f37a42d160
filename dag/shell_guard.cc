#include "dag/shell_guard.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>

#include "dag/shell_spawn.h"

namespace taskwal::dag {
namespace {

// A shell is enough for it, and much smaller than a fork of this process.
constexpr const char* kGuardScript = R"(trap '' HUP INT QUIT TERM
groups=' '
while read -r word group; do
  case $word in
    +) groups="$groups$group " ;;
    -) case $groups in
         *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
       esac ;;
    .) exit ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
)";

}  // namespace

ShellGuard::~ShellGuard() {
  MutexLock lock(mutex_);
  if (pid_ < 0) return;
  Tell(". 0\n");
  socket_ = UniqueFd();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

int ShellGuard::socket() {
  MutexLock lock(mutex_);
  if (!is_started_) Start();
  return socket_.get();
}

// Were the guard gone, telling it must neither end the command nor show in its output.
std::string ShellGuard::Introduction() {
  return "trap '' PIPE; echo \"+ $$\" 2>/dev/null >&3; trap - PIPE; exec 3>&-; ";
}

void ShellGuard::Forget(pid_t group) {
  MutexLock lock(mutex_);
  Tell("- " + std::to_string(group) + "\n");
}

void ShellGuard::Start() {
  is_started_ = true;
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) return;
  UniqueFd ours(pair[0]);
  const UniqueFd its(pair[1]);
  ::shutdown(ours.get(), SHUT_RD);
  if (SpawnShell({kGuardScript, its.get()}, &pid_) != 0) {
    pid_ = -1;
    return;
  }
  socket_ = std::move(ours);
}

void ShellGuard::Tell(const std::string& line) {
  if (socket_.get() < 0) return;
  // It fails where somebody has killed the guard: commands go on unguarded.
  [[maybe_unused]] const ssize_t sent =
      ::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
}

}  // namespace taskwal::dag
