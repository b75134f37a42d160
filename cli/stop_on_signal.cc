#include "cli/stop_on_signal.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "cli/command.h"

namespace taskwal::cli {
namespace {

using std::chrono::milliseconds;

// How often it is looked for a second signal, which wakes nobody.
constexpr milliseconds kSlice{50};

}  // namespace

StopOnSignal::StopOnSignal(std::function<void()> on_stop, milliseconds patience)
    : on_stop_(std::move(on_stop)),
      patience_(std::min<milliseconds>(patience, std::chrono::hours(24 * 366))),
      over_(::eventfd(0, EFD_CLOEXEC)) {
  thread_ = std::jthread([this](const std::stop_token& over) { Watch(over); });
}

StopOnSignal::~StopOnSignal() {
  const std::uint64_t one = 1;
  thread_.request_stop();
  if (over_.get() >= 0) TASKWAL_CHECK(::write(over_.get(), &one, sizeof one) == sizeof one);
}

void StopOnSignal::Watch(const std::stop_token& over) {
  const bool can_wait = over_.get() >= 0 && StopSignal::fd() >= 0;
  std::array<pollfd, 2> polled{{{StopSignal::fd(), POLLIN, 0}, {over_.get(), POLLIN, 0}}};
  while (!over.stop_requested() && !StopSignal::requested()) {
    ::poll(polled.data(), polled.size(), can_wait ? -1 : static_cast<int>(kSlice.count()));
  }
  if (!StopSignal::requested()) return;
  {
    MutexLock lock(mutex_);
    stopped_at_ = Clock::Real().Now();
  }
  if (on_stop_) on_stop_();
  source_.request_stop();
  AwaitLate(over);
}

void StopOnSignal::AwaitLate(const std::stop_token& over) {
  pollfd polled{over_.get(), POLLIN, 0};
  for (milliseconds left = patience_left(); left.count() > 0; left = patience_left()) {
    ::poll(&polled, 1, static_cast<int>(std::min(left, kSlice).count()));
    if (over.stop_requested()) return;
    if (StopSignal::insisted()) break;
  }
  late_.request_stop();
}

milliseconds StopOnSignal::patience_left() const {
  MutexLock lock(mutex_);
  if (!stopped_at_) return patience_;
  const auto passed = std::chrono::floor<milliseconds>(Clock::Real().Now() - *stopped_at_);
  return std::max(patience_ - passed, milliseconds(0));
}

}  // namespace taskwal::cli
