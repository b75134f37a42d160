#include "tests/support/call_counter.h"

#if TASKWAL_COUNTS_CALLS

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <new>

namespace taskwal {
namespace {

thread_local CallCount thread_count;
thread_local bool thread_is_counting = false;

// The one instruction that the filter lets through.
extern "C" long taskwal_untrapped_call(long number, long a, long b, long c, long d, long e, long f);
extern "C" const char taskwal_untrapped_call_end[];
asm(R"(
.text
.globl taskwal_untrapped_call
.type taskwal_untrapped_call, @function
taskwal_untrapped_call:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %r10
  mov %r9, %r8
  mov 8(%rsp), %r9
  syscall
.globl taskwal_untrapped_call_end
taskwal_untrapped_call_end:
  ret
.size taskwal_untrapped_call, . - taskwal_untrapped_call
)");

void OnTrap(int, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (thread_is_counting) {
    ++thread_count.system_calls;
    thread_count.last_system_call = info->si_syscall;
  }
  registers[REG_RAX] = taskwal_untrapped_call(info->si_syscall, registers[REG_RDI],
                                              registers[REG_RSI], registers[REG_RDX],
                                              registers[REG_R10], registers[REG_R8],
                                              registers[REG_R9]);
}

// Traps every call of this thread but the handler's own and its return.
bool InstallFilter() {
  struct sigaction action {};
  action.sa_sigaction = OnTrap;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return false;
  const auto allowed = reinterpret_cast<std::uintptr_t>(taskwal_untrapped_call_end);
  constexpr std::uint32_t kNumber = offsetof(seccomp_data, nr);
  constexpr std::uint32_t kAddress = offsetof(seccomp_data, instruction_pointer);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 4, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAddress),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(allowed), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAddress + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(allowed >> 32), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  };
  const sock_fprog program{std::size(filter), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

void* Allocate(std::size_t size, std::size_t alignment) {
  if (thread_is_counting) ++thread_count.allocations;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* memory = alignment <= alignof(std::max_align_t) ? std::malloc(size == 0 ? 1 : size)
                                                        : std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

CallCounter::CallCounter() : is_filtering_(InstallFilter()) {
  thread_count = {};
  thread_is_counting = true;
}

CallCount CallCounter::Stop() {
  thread_is_counting = false;
  thread_count.counts_system_calls = is_filtering_;
  return thread_count;
}

}  // namespace taskwal

void* operator new(std::size_t size) { return taskwal::Allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return taskwal::Allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#endif  // TASKWAL_COUNTS_CALLS
