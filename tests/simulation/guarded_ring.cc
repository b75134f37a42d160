#include "tests/simulation/guarded_ring.h"

#include <sys/mman.h>

#include <csignal>
#include <utility>

#include "base/check.h"
#include "tests/simulation/simulated_threads.h"

namespace taskwal {
namespace {

GuardedRing* g_last = nullptr;
bool g_is_armed = false;
struct sigaction g_before = {};

}  // namespace

// A ring of a process that died stays as it is: nobody stores into it any more.
GuardedRing::GuardedRing(std::unique_ptr<RingFile> ring, Coverage& coverage)
    : ring_(std::move(ring)), coverage_(coverage) {
  static const bool is_installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = &Meet;
    // Whoever goes on is not behind the handler's end.
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    return ::sigaction(SIGSEGV, &action, &g_before) == 0;
  }();
  TASKWAL_CHECK(is_installed);
  g_last = this;
  g_is_armed = false;
}

GuardedRing::~GuardedRing() {
  if (g_last != this) return;
  g_last = nullptr;
  g_is_armed = false;
}

void GuardedRing::Arm() {
  if (g_last == nullptr || g_is_armed) return;
  g_last->Protect(PROT_READ);
  g_is_armed = true;
}

void GuardedRing::Protect(int protection) {
  TASKWAL_CHECK(::mprotect(ring(), 2 * ring_bytes(), protection) == 0);
}

void GuardedRing::Meet(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  const bool is_meant = g_is_armed && at >= g_last->ring() &&
                        at < g_last->ring() + 2 * g_last->ring_bytes();
  if (!is_meant) {  // a fault indeed: it comes again
    static_cast<void>(::sigaction(SIGSEGV, &g_before, nullptr));
    return;
  }
  g_is_armed = false;
  g_last->Protect(PROT_READ | PROT_WRITE);
  g_last->coverage_.Note(Seen::kStoreMet);
  if (SimulatedThreads::current() != nullptr) SimulatedThreads::current()->StepAside();
}

}  // namespace taskwal
