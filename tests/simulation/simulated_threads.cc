#include "tests/simulation/simulated_threads.h"

#include <cxxabi.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace taskwal {
namespace {

constexpr std::size_t kStackBytes = 256u << 10;
constexpr std::uint64_t kStepBits = 10;  // of nanoseconds
constexpr std::uint64_t kShunBits = 9;   // one step in so many shuns a thread
constexpr std::uint64_t kShunSteps = 2000;
constexpr std::size_t kThreadsMax = 64;  // a bit for each

SimulatedThreads* g_current = nullptr;

// What the C++ runtime keeps of exceptions under way, for each thread of the machine.
struct ExceptionState {
  void* caught = nullptr;
  unsigned int uncaught = 0;
};

}  // namespace

struct SimulatedThreads::Thread {
  std::uint64_t id = 0;
  std::size_t place_in_mask = 0;
  const void* waits_for = nullptr;
  Nanoseconds wakes_at = kNever;
  bool has_ended = false;
  bool has_started = false;
  bool timed_out = false;
  std::byte* stack = nullptr;
  ExceptionState exceptions;
  std::function<void()> body;
  std::jmp_buf place;
  ucontext_t start{};
};

SimulatedThreads::SimulatedThreads(std::uint64_t seed) : random_(seed), entropy_(~seed) {}

SimulatedThreads::~SimulatedThreads() = default;

SimulatedThreads* SimulatedThreads::current() { return g_current; }

std::byte* SimulatedThreads::TakeStack() {
  if (!free_stacks_.empty()) {
    std::byte* stack = free_stacks_.back();
    free_stacks_.pop_back();
    return stack;
  }
  void* got = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  TASKWAL_CHECK(got != MAP_FAILED);
  // Running over the end is a fault, not another thread's stack.
  TASKWAL_CHECK(::mprotect(got, 4096, PROT_NONE) == 0);
  return static_cast<std::byte*>(got);
}

SimulatedThreads::End SimulatedThreads::Run(std::function<void()> main, const Odds& odds) {
  TASKWAL_CHECK(g_current == nullptr);
  g_current = this;
  odds_ = odds;
  kill_at_ = odds.kill_after > UINT64_MAX - steps_ ? UINT64_MAX : steps_ + odds.kill_after;
  end_ = End::kReturned;
  alone_ = 0;
  next_wake_ = kNever;
  auto first = std::make_unique<Thread>();
  first->body = [this, main = std::move(main)] {
    main();
    Leave(End::kReturned);
  };
  Add(std::move(first));
  if (_setjmp(outside_) == 0) Enter(threads_.front().get());
  for (const auto& thread : threads_) {
    if (thread->stack != nullptr) free_stacks_.push_back(thread->stack);
    // Its objects are as dead as it is: they are not unwound, and not freed.
    static_cast<void>(new std::function<void()>(std::move(thread->body)));
  }
  threads_.clear();
  ready_ = 0;
  running_ = nullptr;
  shunned_ = nullptr;
  *reinterpret_cast<ExceptionState*>(abi::__cxa_get_globals()) = ExceptionState();
  g_current = nullptr;
  return end_;
}

void SimulatedThreads::Leave(End end) {
  end_ = end;
  std::longjmp(outside_, 1);
}

void SimulatedThreads::Die() { Leave(End::kKilled); }

void SimulatedThreads::Trampoline() {
  SimulatedThreads& self = *g_current;
  Thread* const thread = self.running_;
  thread->body();
  thread->has_ended = true;
  self.ready_ &= ~BitOf(*thread);
  self.WakeAll(thread);
  self.SwitchTo(self.Next());
}

void SimulatedThreads::Enter(Thread* thread) {
  running_ = thread;
  auto* exceptions = reinterpret_cast<ExceptionState*>(abi::__cxa_get_globals());
  *exceptions = thread->exceptions;
  if (thread->has_started) std::longjmp(thread->place, 1);
  thread->has_started = true;
  thread->stack = TakeStack();
  TASKWAL_CHECK(::getcontext(&thread->start) == 0);
  thread->start.uc_stack.ss_sp = thread->stack;
  thread->start.uc_stack.ss_size = kStackBytes;
  thread->start.uc_link = nullptr;
  ::makecontext(&thread->start, &Trampoline, 0);
  ::setcontext(&thread->start);
}

void SimulatedThreads::SwitchTo(Thread* next) {
  fingerprint_ = (fingerprint_ ^ (next->id + static_cast<std::uint64_t>(now_))) *
                 0x9e3779b97f4a7c15ull;
  if (next == running_) return;
  running_->exceptions = *reinterpret_cast<ExceptionState*>(abi::__cxa_get_globals());
  if (_setjmp(running_->place) == 0) Enter(next);
}

// --- whose turn it is --------------------------------------------------------------------------

// One draw serves all: there are some hundred thousand steps to a seed.
std::uint32_t SimulatedThreads::StepTime() {
  const std::uint64_t drawn = random_.Next();
  ++steps_;
  now_ += 100 + static_cast<Nanoseconds>(drawn & ((1u << kStepBits) - 1));
  if (steps_ >= kill_at_) Die();
  if ((drawn >> kStepBits & ((1u << kShunBits) - 1)) == 0) {
    shunned_ = running_;
    shunned_until_ = steps_ + random_.Below(kShunSteps);
  }
  if (now_ >= next_wake_) WakeSleepers();
  return static_cast<std::uint32_t>(drawn >> 32);
}

void SimulatedThreads::WakeSleepers() {
  next_wake_ = kNever;
  for (const auto& thread : threads_) {
    if (IsReady(*thread) || thread->has_ended) continue;
    if (thread->wakes_at <= now_) {
      Ready(thread.get(), true);
    } else {
      next_wake_ = std::min(next_wake_, thread->wakes_at);
    }
  }
}

SimulatedThreads::Thread* SimulatedThreads::PickReady() {
  std::uint64_t ready = ready_;
  if (ready == 0) return nullptr;
  if (shunned_ != nullptr && steps_ < shunned_until_) {
    ready &= ~BitOf(*shunned_);
    if (ready == 0) return shunned_;
  }
  const int count = std::popcount(ready);
  std::uint64_t skipped = count == 1 ? 0 : random_.Below(static_cast<std::uint64_t>(count));
  for (; skipped > 0; --skipped) ready &= ready - 1;
  return threads_[static_cast<std::size_t>(std::countr_zero(ready))].get();
}

SimulatedThreads::Thread* SimulatedThreads::Next() {
  for (;;) {
    if (Thread* ready = PickReady(); ready != nullptr) return ready;
    if (next_wake_ == kNever) Leave(End::kStuck);
    now_ = std::max(now_, next_wake_) + static_cast<Nanoseconds>(random_.Below(50'000));
    WakeSleepers();
  }
}

void SimulatedThreads::Preempt() {
  if (alone_ > 0) return;
  const std::uint64_t drawn = StepTime();
  if (drawn * odds_.switch_one_in >> 32 == 0) SwitchTo(PickReady());
}

void SimulatedThreads::Yield() {
  if (alone_ > 0) return;
  StepTime();
  SwitchTo(PickReady());
}

void SimulatedThreads::StepAside() {
  if (alone_ > 0) return;
  StepTime();
  shunned_ = running_;
  shunned_until_ = steps_ + random_.Below(kShunSteps);
  SwitchTo(PickReady());
}

void SimulatedThreads::KillWithin(std::uint64_t steps) {
  kill_at_ = std::min(kill_at_, steps_ + 1 + random_.Below(steps));
}

void SimulatedThreads::Block(const void* what, Nanoseconds until) {
  TASKWAL_CHECK(alone_ == 0);
  ready_ &= ~BitOf(*running_);
  running_->timed_out = false;
  running_->waits_for = what;
  running_->wakes_at = until;
  next_wake_ = std::min(next_wake_, until);
  StepTime();
  SwitchTo(Next());
}

void SimulatedThreads::Ready(Thread* thread, bool timed_out) {
  ready_ |= BitOf(*thread);
  thread->timed_out = timed_out;
  thread->waits_for = nullptr;
  thread->wakes_at = kNever;
}

void SimulatedThreads::Sleep(Nanoseconds duration) {
  if (duration <= 0) return Yield();
  Block(nullptr, now_ + duration);
}

// --- threads -----------------------------------------------------------------------------------

std::uint64_t SimulatedThreads::BitOf(const Thread& thread) {
  return std::uint64_t{1} << thread.place_in_mask;
}

bool SimulatedThreads::IsReady(const Thread& thread) const {
  return (ready_ & BitOf(thread)) != 0;
}

void SimulatedThreads::Add(std::unique_ptr<Thread> thread) {
  TASKWAL_CHECK(threads_.size() < kThreadsMax);
  thread->id = next_id_++;
  thread->place_in_mask = threads_.size();
  ready_ |= BitOf(*thread);
  threads_.push_back(std::move(thread));
}

// Nobody runs on their stacks any more.
void SimulatedThreads::RemoveEnded() {
  std::uint64_t ready = 0;
  std::size_t kept = 0;
  for (auto& thread : threads_) {
    if (thread->has_ended) {
      free_stacks_.push_back(thread->stack);
      if (shunned_ == thread.get()) shunned_ = nullptr;
      continue;
    }
    if (IsReady(*thread)) ready |= std::uint64_t{1} << kept;
    thread->place_in_mask = kept;
    std::swap(threads_[kept++], thread);
  }
  threads_.resize(kept);
  ready_ = ready;
}

std::uint64_t SimulatedThreads::Start(void* (*body)(void*), void* argument) {
  auto thread = std::make_unique<Thread>();
  thread->body = [body, argument] { body(argument); };
  RemoveEnded();
  Add(std::move(thread));
  const std::uint64_t id = threads_.back()->id;
  Preempt();
  return id;
}

void SimulatedThreads::Join(std::uint64_t id) {
  const auto thread = std::find_if(threads_.begin(), threads_.end(),
                                   [&](const auto& one) { return one->id == id; });
  if (thread == threads_.end()) return;
  Thread* const joined = thread->get();
  if (!joined->has_ended) Block(joined, kNever);
}

std::uint64_t SimulatedThreads::self() const { return running_ == nullptr ? 0 : running_->id; }

// --- locks and waits ---------------------------------------------------------------------------

bool SimulatedThreads::TryLock(Mutex* mutex, bool is_recursive) {
  const auto me = static_cast<std::uint32_t>(self());
  if (mutex->count > 0 && !(is_recursive && mutex->owner == me)) return false;
  mutex->owner = me;
  ++mutex->count;
  return true;
}

void SimulatedThreads::Lock(Mutex* mutex, bool is_recursive) {
  Preempt();
  while (!TryLock(mutex, is_recursive)) {
    TASKWAL_CHECK(mutex->owner != self());  // it would wait for itself for ever
    WaitFor(mutex);
  }
}

void SimulatedThreads::WaitFor(Mutex* mutex) {
  ++mutex->waiting;
  Block(mutex, kNever);
  --mutex->waiting;
}

void SimulatedThreads::LetGo(Mutex* mutex) {
  mutex->count = 0;
  mutex->owner = 0;
  if (mutex->waiting > 0) WakeAll(mutex);
}

void SimulatedThreads::Unlock(Mutex* mutex) {
  TASKWAL_CHECK(mutex->count > 0);
  if (mutex->count > 1) {
    --mutex->count;
    return;
  }
  LetGo(mutex);
  Preempt();
}

bool SimulatedThreads::WaitOn(const void* condition, Mutex* mutex, Nanoseconds until) {
  LetGo(mutex);
  Block(condition, until);
  const bool timed_out = running_->timed_out;
  while (!TryLock(mutex, false)) WaitFor(mutex);
  return !timed_out;
}

void SimulatedThreads::WakeOne(const void* condition) {
  Thread* picked = nullptr;
  std::uint64_t count = 0;
  for (const auto& thread : threads_) {
    if (IsReady(*thread) || thread->waits_for != condition) continue;
    if (random_.Below(++count) == 0) picked = thread.get();
  }
  if (picked != nullptr) Ready(picked, false);
}

void SimulatedThreads::WakeAll(const void* condition) {
  for (const auto& thread : threads_) {
    if (!IsReady(*thread) && thread->waits_for == condition) Ready(thread.get(), false);
  }
}

void SimulatedThreads::WaitOnWord(const void* word, std::uint32_t expected, Nanoseconds until) {
  Preempt();
  std::uint32_t value = 0;
  std::memcpy(&value, word, sizeof value);
  if (value != expected || until <= now_) return;
  Block(word, until);
}

std::string SimulatedThreads::Describe() const {
  std::string text;
  for (const auto& thread : threads_) {
    text += "thread " + std::to_string(thread->id) +
            (thread->has_ended ? " ended" : IsReady(*thread) ? " ready" : " waits") + "\n";
  }
  return text;
}

}  // namespace taskwal
