// Counts what the calling thread does between construction and Stop(): allocations by operator new
// (which call_counter.cc replaces) and system calls (a seccomp filter of that thread alone traps
// each; it is counted, then made). The filter stays on the thread: make one for it.
#pragma once

#include <cstdint>

// Not under sanitizers, which bring their own operator new and make calls of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define TASKWAL_COUNTS_CALLS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TASKWAL_COUNTS_CALLS 0
#endif
#endif
#ifndef TASKWAL_COUNTS_CALLS
#define TASKWAL_COUNTS_CALLS 1
#endif

namespace taskwal {

struct CallCount {
  std::uint64_t allocations = 0;
  std::uint64_t system_calls = 0;
  int last_system_call = -1;
  bool counts_system_calls = false;  // false: the kernel refused the filter
};

class CallCounter {
 public:
  CallCounter();
  CallCount Stop();

 private:
  bool is_filtering_ = false;
};

}  // namespace taskwal
