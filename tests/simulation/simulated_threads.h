// The threads of a simulated process: all of them run on one thread of the machine, one at a time,
// and which goes on is drawn from a seed. thread_seam.cc leads the C library's calls on threads,
// locks, sleeps and time here, so that the product's own objects run unchanged: where they lock,
// wait, wake, start, checksum, or call the disk or the database, another thread may go on instead.
//
// Time stands in between: each such point takes a little of it, and when all threads wait, it moves
// on to the first that waits for a moment.
//
//   SimulatedThreads threads(seed);
//   threads.Run([&] { … starts threads, joins them … }, {.kill_after = 5000});
//   // kKilled: none of them ever goes on, nothing was unwound, as after a SIGKILL.
#pragma once

#include <csetjmp>
#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"

namespace taskwal {

class SimulatedThreads {
 public:
  using Nanoseconds = std::int64_t;
  static constexpr Nanoseconds kNever = INT64_MAX;

  explicit SimulatedThreads(std::uint64_t seed);
  ~SimulatedThreads();
  SimulatedThreads(const SimulatedThreads&) = delete;
  SimulatedThreads& operator=(const SimulatedThreads&) = delete;

  // The one whose Run is under way, or null.
  static SimulatedThreads* current();

  // --- for whoever runs a process ----------------------------------------------------------------
  enum class End : std::uint8_t {
    kReturned,  // `main` came back
    kKilled,
    kStuck,     // everybody waits, and for no moment in time
  };
  struct Odds {
    std::uint64_t kill_after = UINT64_MAX;  // points of preemption from now on
    std::uint64_t switch_one_in = 8;        // points of preemption that let another go on
  };
  // From here on whose turn it is, and what the kernel gives as chance, comes from this seed.
  void Reseed(std::uint64_t seed) {
    random_ = Random(seed);
    entropy_ = Random(~seed);
  }
  // Runs `main` and what it starts. What is left when main returns is killed.
  End Run(std::function<void()> main, const Odds& odds);
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  // Of everything that was drawn: two runs of one seed agree in it.
  [[nodiscard]] std::uint64_t fingerprint() const { return fingerprint_; }
  [[nodiscard]] std::string Describe() const;  // what each thread waits for

  // --- for simulated devices, on a simulated thread ---
  // Another thread may go on, and time passes.
  void Preempt();
  void Sleep(Nanoseconds duration);
  // The others go on for a while, where there are any.
  void StepAside();
  // The process is killed within so many points of preemption.
  void KillWithin(std::uint64_t steps);
  // Ends the process: does not return.
  [[noreturn]] void Die();
  // While it lives nobody else goes on: what a device does is one step.
  class Alone {
   public:
    Alone() : threads_(current()) {
      if (threads_ != nullptr) ++threads_->alone_;
    }
    ~Alone() {
      if (threads_ != nullptr) --threads_->alone_;
    }
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;

   private:
    SimulatedThreads* const threads_;
  };

  [[nodiscard]] Nanoseconds now() const { return now_; }
  [[nodiscard]] Nanoseconds wall_now() const { return now_ + wall_offset_; }
  void StepWallClock(Nanoseconds by) { wall_offset_ += by; }
  Random& entropy() { return entropy_; }

  // --- for the seam ------------------------------------------------------------------------------
  struct Mutex {  // the first bytes of a pthread_mutex_t
    std::uint32_t owner;
    std::uint32_t count;
    std::uint32_t waiting;  // threads
  };
  std::uint64_t Start(void* (*body)(void*), void* argument);
  void Join(std::uint64_t id);
  [[nodiscard]] std::uint64_t self() const;
  void Lock(Mutex* mutex, bool is_recursive);
  bool TryLock(Mutex* mutex, bool is_recursive);
  void Unlock(Mutex* mutex);
  // False when the moment passed.
  bool WaitOn(const void* condition, Mutex* mutex, Nanoseconds until);
  void WakeOne(const void* condition);
  void WakeAll(const void* condition);
  void WaitOnWord(const void* word, std::uint32_t expected, Nanoseconds until);
  void Yield();

 private:
  struct Thread;

  // Bits of chance that nothing else is drawn from.
  std::uint32_t StepTime();
  void LetGo(Mutex* mutex);
  void WaitFor(Mutex* mutex);
  Thread* PickReady();
  Thread* Next();
  void WakeSleepers();
  static std::uint64_t BitOf(const Thread& thread);
  [[nodiscard]] bool IsReady(const Thread& thread) const;
  void Ready(Thread* thread, bool timed_out);
  void Add(std::unique_ptr<Thread> thread);
  void RemoveEnded();
  void Block(const void* what, Nanoseconds until);
  void SwitchTo(Thread* next);
  [[noreturn]] void Leave(End end);
  void Enter(Thread* thread);
  static void Trampoline();
  std::byte* TakeStack();

  Random random_;
  Random entropy_;
  Odds odds_;
  std::uint64_t kill_at_ = UINT64_MAX;
  std::uint64_t steps_ = 0;
  std::uint64_t fingerprint_ = 0;
  Nanoseconds now_ = 3'600'000'000'000;
  Nanoseconds wall_offset_ = 1'767'225'600'000'000'000;  // 2026-01-01
  Nanoseconds next_wake_ = kNever;
  Thread* shunned_ = nullptr;          // a thread that is not given its turn …
  std::uint64_t shunned_until_ = 0;    // … before this step, while there is another
  int alone_ = 0;
  std::uint64_t next_id_ = 1;

  std::vector<std::unique_ptr<Thread>> threads_;
  std::uint64_t ready_ = 0;  // a bit for each of threads_, by its place there
  std::vector<std::byte*> free_stacks_;
  Thread* running_ = nullptr;
  std::jmp_buf outside_;
  End end_ = End::kReturned;
};

}  // namespace taskwal
