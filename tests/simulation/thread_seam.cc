// Where threads start, wait and ask for the time or their process: the C library's functions,
// defined once more in this program, in front of the real ones. Inside a simulation they lead to
// SimulatedThreads; outside of it there is only one thread, so locks are free and time is the
// machine's.
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "tests/simulation/simulated_threads.h"

using taskwal::SimulatedThreads;
using Nanoseconds = SimulatedThreads::Nanoseconds;

namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;
// Shorter than this is no record, but one of thousands of draws that place tasks in databases.
constexpr std::size_t kRecordBytesMin = 8;

SimulatedThreads::Mutex* Of(pthread_mutex_t* mutex) {
  return reinterpret_cast<SimulatedThreads::Mutex*>(mutex);
}

bool IsRecursive(const pthread_mutex_t* mutex) {
  return mutex->__data.__kind == PTHREAD_MUTEX_RECURSIVE_NP;
}

Nanoseconds FromTimespec(const timespec& time) {
  return static_cast<Nanoseconds>(time.tv_sec) * kSecond + time.tv_nsec;
}

timespec ToTimespec(Nanoseconds time) { return {time / kSecond, time % kSecond}; }

long RawSyscall(long number, long a, long b, long c, long d, long e, long f) {
  long result = 0;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

int WaitOn(pthread_cond_t* condition, pthread_mutex_t* mutex, Nanoseconds until) {
  SimulatedThreads* const threads = SimulatedThreads::current();
  TASKWAL_CHECK(threads != nullptr);  // there is nobody who could wake
  return threads->WaitOn(condition, Of(mutex), until) ? 0 : ETIMEDOUT;
}

}  // namespace

extern "C" {

int pthread_create(pthread_t* thread, const pthread_attr_t*, void* (*body)(void*),
                   void* argument) {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) return EAGAIN;
  *thread = threads->Start(body, argument);
  return 0;
}

int pthread_join(pthread_t thread, void**) {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads != nullptr) threads->Join(thread);
  return 0;
}

int pthread_detach(pthread_t) { return 0; }

pthread_t pthread_self() noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  return threads == nullptr ? ULONG_MAX : threads->self();
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) {
    ++Of(mutex)->count;
  } else {
    threads->Lock(Of(mutex), IsRecursive(mutex));
  }
  return 0;
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) {
    ++Of(mutex)->count;
    return 0;
  }
  threads->Preempt();
  return threads->TryLock(Of(mutex), IsRecursive(mutex)) ? 0 : EBUSY;
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) {
    --Of(mutex)->count;
  } else {
    threads->Unlock(Of(mutex));
  }
  return 0;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  return WaitOn(condition, mutex, SimulatedThreads::kNever);
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t,
                           const timespec* until) {
  // Beyond what fits into nanoseconds is never.
  const bool is_bounded = until->tv_sec < SimulatedThreads::kNever / kSecond;
  return WaitOn(condition, mutex, is_bounded ? FromTimespec(*until) : SimulatedThreads::kNever);
}

int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) return 0;
  threads->WakeOne(condition);
  threads->Preempt();
  return 0;
}

int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) return 0;
  threads->WakeAll(condition);
  threads->Preempt();
  return 0;
}

int sched_yield() noexcept {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads != nullptr) threads->Yield();
  return 0;
}

int nanosleep(const timespec* duration, timespec*) {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads != nullptr) threads->Sleep(FromTimespec(*duration));
  return 0;
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) {
    return static_cast<int>(
        RawSyscall(SYS_clock_gettime, clock, reinterpret_cast<long>(time), 0, 0, 0, 0));
  }
  *time = ToTimespec(clock == CLOCK_REALTIME ? threads->wall_now() : threads->now());
  return 0;
}

// Its number of digits is part of what a file holds.
pid_t getpid() noexcept {
  const bool is_simulated = SimulatedThreads::current() != nullptr;
  return is_simulated ? 1 : static_cast<pid_t>(RawSyscall(SYS_getpid, 0, 0, 0, 0, 0, 0));
}

ssize_t getrandom(void* into, std::size_t size, unsigned int flags) {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) {
    return RawSyscall(SYS_getrandom, reinterpret_cast<long>(into), static_cast<long>(size), flags,
                      0, 0, 0);
  }
  auto* bytes = static_cast<unsigned char*>(into);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<unsigned char>(threads->entropy().Next());
  }
  return static_cast<ssize_t>(size);
}

// base/futex.cc comes here for a futex, and the C++ library for its semaphores.
long syscall(long number, ...) noexcept {
  std::va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (number != SYS_futex || threads == nullptr) {
    return RawSyscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
  const auto* word = reinterpret_cast<const void*>(a[0]);
  const int operation = static_cast<int>(a[1]) | FUTEX_PRIVATE_FLAG;
  const auto expected = static_cast<std::uint32_t>(a[2]);
  if (operation == FUTEX_WAIT_BITSET_PRIVATE) {
    const auto* until = reinterpret_cast<const timespec*>(a[3]);
    threads->WaitOnWord(word, expected,
                        until == nullptr ? SimulatedThreads::kNever : FromTimespec(*until));
  } else if (operation == FUTEX_WAIT_PRIVATE) {
    TASKWAL_CHECK(a[3] == 0);  // the library waits for no span
    threads->WaitOnWord(word, expected, SimulatedThreads::kNever);
  } else {
    threads->WakeAll(word);
    threads->Preempt();
  }
  return 0;
}

// Between a record's claim and its publication stands its checksum: there a caller may be
// preempted, and killed.
XXH64_hash_t XXH3_64bits_withSeed(const void* bytes, std::size_t size, XXH64_hash_t seed) noexcept {
  static auto* const real = reinterpret_cast<decltype(&XXH3_64bits_withSeed)>(
      ::dlsym(RTLD_NEXT, "XXH3_64bits_withSeed"));
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads != nullptr && size >= kRecordBytesMin) threads->Preempt();
  return real(bytes, size, seed);
}

}  // extern "C"
