#include "tests/support/private_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "base/check.h"
#include "base/posix_file.h"

namespace taskwal {
namespace {

// Below the usual net.ipv4.ip_local_port_range.
constexpr int kPortMin = 12000;
constexpr int kPortMax = 32000;

bool IsFree(std::uint16_t port) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

std::vector<std::string> Unprivileged(const std::string& user, std::vector<std::string> command) {
  std::vector<std::string> whole = {"setpriv", "--pdeathsig", "SIGKILL"};
  if (::geteuid() == 0) {
    whole.insert(whole.end(), {"--reuid=" + user, "--regid=" + user, "--init-groups"});
  }
  whole.emplace_back("--");
  whole.insert(whole.end(), command.begin(), command.end());
  return whole;
}

std::uint16_t FreePort() {
  std::random_device random;
  for (int tries = 0; tries < 1000; ++tries) {
    const auto port = static_cast<std::uint16_t>(
        std::uniform_int_distribution<int>(kPortMin, kPortMax)(random));
    if (IsFree(port)) return port;
  }
  TASKWAL_CHECK(!"no free port");
  return 0;
}

bool HasEnded(pid_t child) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == child;
}

}  // namespace taskwal
