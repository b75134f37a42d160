#include "cli/stop_on_signal.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "cli/command.h"

namespace taskwal::cli {

StopOnSignal::StopOnSignal(std::function<void()> on_stop)
    : on_stop_(std::move(on_stop)), over_(::eventfd(0, EFD_CLOEXEC)) {
  TASKWAL_CHECK(over_.get() >= 0);
  thread_ = std::jthread([this] { Watch(); });
}

StopOnSignal::~StopOnSignal() {
  const std::uint64_t one = 1;
  TASKWAL_CHECK(::write(over_.get(), &one, sizeof one) == sizeof one);
}

void StopOnSignal::Watch() {
  std::array<pollfd, 2> polled{{{StopSignal::fd(), POLLIN, 0}, {over_.get(), POLLIN, 0}}};
  while (::poll(polled.data(), polled.size(), -1) < 0) {
  }
  if (!StopSignal::requested()) return;
  if (on_stop_) on_stop_();
  source_.request_stop();
}

}  // namespace taskwal::cli
