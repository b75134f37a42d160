#include "tests/support/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace taskwal {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Pipe {
  UniqueFd reader, writer;
};

Pipe MakePipe() {
  int fds[2];
  TASKWAL_CHECK(::pipe2(fds, O_CLOEXEC) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void SetNonBlocking(const UniqueFd& fd) {
  TASKWAL_CHECK(::fcntl(fd.get(), F_SETFL, O_NONBLOCK) == 0);
}

// glibc 2.36 declares pidfd_open without C linkage.
UniqueFd OpenPidFd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const ChildOptions& options) {
  std::vector<std::string> variables = options.environment;
  const auto is_replaced = [&](std::string_view variable) {
    const std::string_view name = variable.substr(0, variable.find('=') + 1);
    for (const std::string& own : options.environment) {
      if (own.starts_with(name)) return true;
    }
    return false;
  };
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!is_replaced(*variable)) variables.emplace_back(*variable);
  }
  return variables;
}

// posix_spawn's attributes and actions.
class Spawn {
 public:
  Spawn() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    // This process ignores SIGPIPE; the child must meet it as a shell would have it.
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGPIPE);
    ::posix_spawnattr_setsigdefault(&attributes_, &defaults);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGDEF);
  }
  ~Spawn() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  Spawn(const Spawn&) = delete;
  Spawn& operator=(const Spawn&) = delete;

  void Give(const UniqueFd& fd, int as) {
    ::posix_spawn_file_actions_adddup2(&actions_, fd.get(), as);
  }
  void StartIn(const std::string& directory) {
    ::posix_spawn_file_actions_addchdir_np(&actions_, directory.c_str());
  }
  Result<pid_t> Go(std::vector<std::string> command, const ChildOptions& options) {
    std::vector<std::string> variables = Environment(options);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, command[0].c_str(), &actions_, &attributes_,
                                     Pointers(command).data(), Pointers(variables).data());
    if (error != 0) return ErrnoStatus("start " + command[0], error);
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

Result<std::unique_ptr<Child>> Child::Start(const std::vector<std::string>& command,
                                            const ChildOptions& options) {
  TASKWAL_CHECK(!command.empty());
  ::signal(SIGPIPE, SIG_IGN);  // a child that ends early is an outcome here, not a death
  Pipe input = MakePipe();
  Pipe output = MakePipe();
  // Not a pipe: nobody needs to read it for the child to go on.
  UniqueFd errors(::memfd_create("stderr of a child", MFD_CLOEXEC));
  TASKWAL_CHECK(errors.get() >= 0 && ::fcntl(errors.get(), F_SETFL, O_APPEND) == 0);

  Spawn spawn;
  spawn.Give(input.reader, STDIN_FILENO);
  spawn.Give(output.writer, STDOUT_FILENO);
  spawn.Give(errors, STDERR_FILENO);
  if (!options.directory.empty()) spawn.StartIn(options.directory);
  TASKWAL_ASSIGN(const pid_t pid, spawn.Go(command, options));

  std::unique_ptr<Child> child(new Child);
  child->pid_ = pid;
  child->process_ = OpenPidFd(pid);
  TASKWAL_CHECK(child->process_.get() >= 0);
  child->input_ = std::move(input.writer);
  child->output_ = std::move(output.reader);
  child->errors_ = std::move(errors);
  SetNonBlocking(child->input_);
  SetNonBlocking(child->output_);
  return child;
}

Child::~Child() {
  if (exit_) return;
  Kill(SIGKILL);
  Wait();
}

void Child::Kill(int signal) const {
  if (!exit_) ::kill(pid_, signal);
}

// False when stdout has ended, or holds nothing for now.
bool Child::ReadSome() {
  std::array<char, 65536> bytes;
  const ssize_t count = ::read(output_.get(), bytes.data(), bytes.size());
  if (count > 0) {
    buffer_.append(bytes.data(), static_cast<std::size_t>(count));
    return true;
  }
  if (count == 0) output_ = UniqueFd();
  return count < 0 && errno == EINTR;
}

bool Child::Pump(bool writing, SteadyClock::time_point until) {
  const auto left = std::chrono::duration_cast<Duration>(until - SteadyClock::now());
  if (left.count() <= 0) return false;
  // poll passes over negative descriptors.
  pollfd fds[] = {{writing ? input_.get() : -1, POLLOUT, 0},
                  {output_.get(), POLLIN, 0},
                  {ended_ ? -1 : process_.get(), POLLIN, 0}};
  const int count = ::poll(fds, std::size(fds), static_cast<int>(left.count()));
  if (count < 0) return errno == EINTR;
  input_ready_ = fds[0].revents != 0;
  if (fds[2].revents != 0) ended_ = true;
  if (fds[1].revents != 0) ReadSome();
  return count > 0;
}

bool Child::Write(std::string_view text, Duration timeout) {
  const auto until = SteadyClock::now() + timeout;
  while (!text.empty()) {
    if (input_.get() < 0 || !Pump(/*writing=*/true, until)) return false;
    if (!input_ready_) continue;
    const ssize_t count = ::write(input_.get(), text.data(), text.size());
    if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
    if (count < 0 && errno != EAGAIN && errno != EINTR) return false;
  }
  return true;
}

std::optional<std::string> Child::ReadLine(Duration timeout) {
  const auto until = SteadyClock::now() + timeout;
  std::size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos && output_.get() >= 0) {
    // A child that has ended may have left a process that holds its stdout: read what is there.
    const bool more = ended_ ? ReadSome() : Pump(/*writing=*/false, until);
    if (!more && (ended_ || SteadyClock::now() >= until)) break;
  }
  if (end == std::string::npos && (buffer_.empty() || (output_.get() >= 0 && !ended_))) {
    return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end == std::string::npos ? end : end + 1);
  return line;
}

ChildExit Child::Wait(Duration timeout) {
  if (exit_) return *exit_;
  CloseInput();
  ChildExit outcome;
  const auto until = SteadyClock::now() + timeout;
  while (!ended_ && Pump(/*writing=*/false, until)) {
  }
  if (!ended_) {
    outcome.timed_out = true;
    ::kill(pid_, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  ended_ = true;
  while (output_.get() >= 0 && ReadSome()) {
  }
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  exit_ = outcome;
  return outcome;
}

std::string Child::errors() const {
  struct stat found {};
  TASKWAL_CHECK(::fstat(errors_.get(), &found) == 0);
  std::string text(static_cast<std::size_t>(found.st_size), '\0');
  const auto count = ReadFully(errors_.get(), "stderr", 0, std::as_writable_bytes(std::span(text)));
  TASKWAL_CHECK(count.ok());
  text.resize(*count);
  return text;
}

RunOutcome Run(const std::vector<std::string>& command, std::string_view input,
               const ChildOptions& options, std::chrono::milliseconds timeout) {
  RunOutcome outcome;
  const auto child = Child::Start(command, options);
  if (!child.ok()) {
    outcome.err = child.status().ToString();
    return outcome;
  }
  (*child)->Write(input, timeout);
  outcome.exit = (*child)->Wait(timeout);
  outcome.out = (*child)->pending_output();
  outcome.err = (*child)->errors();
  return outcome;
}

}  // namespace taskwal
