#include "tests/support/io_uring_probe.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace taskwal {

// By the system call itself, so that a product that never tries is not taken for a kernel that
// refuses.
bool KernelTakesIoUring() {
  static const bool takes = [] {
    io_uring_params params{};
    const long queue = ::syscall(SYS_io_uring_setup, 2, &params);
    if (queue >= 0) ::close(static_cast<int>(queue));
    return queue >= 0;
  }();
  return takes;
}

int OpenIoUringQueues() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone);
    if (target.string().find("[io_uring]") != std::string::npos) ++count;
  }
  return count;
}

}  // namespace taskwal
