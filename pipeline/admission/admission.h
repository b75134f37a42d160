// The door in front of the log: who may append now, who waits, and who is refused. Nothing that has
// an LSN is ever dropped, and no task operation by a policy.
//
//   call ─▶ size, shedding, sampling ─▶ gate: rate, budgets ─▶ log: room ─▶ LSN
//              │ (activities)              │ waits by rank        │ waits by rank
//              └─────▶ dropped, counted ◀──┴──────────────────────┘ timeout, gave way
//
// While nothing is limited and nobody waits the door stands open, which costs a call one load
// (is_open). Else Enter decides: task operations first, then activities by priority; at the gate,
// who came first within a rank. Who waits for room steps back through the gate, and gives back what
// it gave him, while a higher rank waits there. Waiting callers look up every few milliseconds, so
// that a deadline or a stop is honoured in time. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <stop_token>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/admission/sliding_window.h"
#include "pipeline/admission/token_bucket.h"
#include "taskwal/control.h"
#include "taskwal/options.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

// Above every priority of activities (1 to 5).
inline constexpr std::int32_t kTaskRank = 6;

class Admission {
 public:
  // `gauge` outlives it. `read_load`: asked at each look of the monitor, no lock held.
  Admission(const Options& options, Clock& clock, LoadGauge& gauge,
            std::function<LoadSample()> read_load);

  // True: append at once, and call Enter only where the log answers kOverloaded.
  [[nodiscard]] bool is_open() const { return gates_.load(std::memory_order_relaxed) == 0; }

  struct Call {
    std::int32_t rank = kTaskRank;  // or the activity's priority
    std::size_t bytes = 0;
    std::chrono::milliseconds timeout{0};
    std::stop_token stop;
    bool only_if_room = false;
  };
  // Asks the log for room until the deadline; kOverloaded when there is none.
  using Append = std::function<Result<wal::Lsn>(const wal::Deadline&)>;
  // The LSN; kOverloaded with nothing kept (counted, unless only_if_room); kInvalidArgument above
  // max_record_bytes; kClosed after Close; else what `append` fails with.
  Result<wal::Lsn> Enter(const Call& call, const Append& append) EXCLUDES(mutex_);
  // Ends all waiting; for good.
  void Close() EXCLUDES(mutex_);

  // Looks at the load where a look is due; blocks for no code of the user's.
  void MaybeLook() EXCLUDES(mutex_);
  // Called where a look has found a changed state, on the thread that looked: `wake` lets another
  // one tell it, and never waits itself.
  void WhenChanged(std::function<void()> wake) EXCLUDES(mutex_);
  // Tells of the changes of the state that were found since, in their order: a line in the log, and
  // the hook, on this thread. One thread at a time.
  void TellChanges() EXCLUDES(mutex_);

  // Records the log holds at open, from which the budgets start.
  void CountBacklog(std::uint64_t records, std::uint64_t bytes) EXCLUDES(mutex_);
  void SetRate(std::uint64_t per_second, std::uint64_t burst) EXCLUDES(mutex_);
  void SetPolicy(Overflow policy, std::uint32_t sample_one_in) EXCLUDES(mutex_);

  [[nodiscard]] DropCounts drops() const;
  [[nodiscard]] FlowControlSnapshot Snapshot() EXCLUDES(mutex_);

 private:
  // Why the door is not open.
  enum Gate : std::uint32_t {
    kRate = 1,
    kBudget = 2,
    kWaiting = 4,
    kShedding = 8,
    kSampling = 16,
    kSize = 32,
    kClosed = 64,
  };
  static constexpr std::size_t kRanks = kTaskRank + 1;

  // A caller on its way in; on its stack. It waits first at the gate, then for room in the log.
  struct Visit {
    const Call& call;
    Monotonic deadline;
    std::uint64_t number = 0;   // in order of arrival, once it waits
    bool waits = false;
    bool holds = false;         // a token and its part of the budgets
    bool gave_way = false;
    SlidingWindow::Place counted{};  // in the window, where a rate is set
    std::list<Visit*>::iterator place{};
    CondVar wake{};  // while it waits behind others
  };
  using Ranks = std::array<std::list<Visit*>, kRanks>;

  Result<wal::Lsn> EnterAndWait(Visit* visit, const Append& append);
  Status CheckCall(const Call& call);
  bool TryGate(Visit* visit) EXCLUDES(mutex_);
  bool MayAskLog(Visit* visit) EXCLUDES(mutex_);
  void StepBack(Visit* visit) REQUIRES(mutex_);
  Status StartWaiting(Visit* visit) EXCLUDES(mutex_);
  Status CheckWaiting(const Visit& visit) EXCLUDES(mutex_);
  void Sleep(Visit* visit) EXCLUDES(mutex_);
  void Leave(Visit* visit, bool has_entered) EXCLUDES(mutex_);

  [[nodiscard]] bool IsNext(const Visit& visit) const REQUIRES(mutex_);
  [[nodiscard]] bool IsInFront(const Visit& visit) const REQUIRES(mutex_);
  void WakeFront() REQUIRES(mutex_);
  bool TakeGate(Visit* visit, Monotonic now) REQUIRES(mutex_);
  void GiveBackGate(const Visit& visit) REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t WindowMax() const REQUIRES(mutex_);
  [[nodiscard]] bool HasBudget(const Call& call) const REQUIRES(mutex_);
  bool MakeWaitingRoom(const Visit& visit) REQUIRES(mutex_);
  [[nodiscard]] static bool HasAbove(const Ranks& ranks, std::int32_t rank);
  [[nodiscard]] std::size_t WaitingActivities() const REQUIRES(mutex_);
  [[nodiscard]] std::size_t Waiting() const REQUIRES(mutex_);
  void SetGate(Gate gate, bool is_shut);
  // In an emergency, this priority is among those of which not every call is let in.
  [[nodiscard]] bool IsThinned(std::int32_t rank) const;
  bool IsShed(std::int32_t rank) EXCLUDES(mutex_);
  bool IsSampled() EXCLUDES(mutex_);
  Status Drop(const Call& call, DropReason reason, const char* why);
  void Look(Monotonic now) EXCLUDES(mutex_);
  void SettleDrift(std::uint64_t admitted) EXCLUDES(mutex_);

  const Options options_;
  Clock& clock_;
  LoadGauge& gauge_;
  const std::function<LoadSample()> read_load_;

  std::atomic<std::uint32_t> gates_{0};
  std::atomic<std::uint64_t> waiting_{0};
  std::atomic<Monotonic> next_look_;
  std::array<std::array<std::atomic<std::uint64_t>, kRanks - 1>, kDropReasons> drops_{};

  mutable Mutex mutex_;
  CondVar changed_;  // for those in front
  bool is_closed_ GUARDED_BY(mutex_) = false;
  Overflow policy_ GUARDED_BY(mutex_);
  std::uint32_t sample_one_in_ GUARDED_BY(mutex_);
  std::uint64_t sampled_ GUARDED_BY(mutex_) = 0;
  std::uint64_t rate_limit_ GUARDED_BY(mutex_), rate_burst_ GUARDED_BY(mutex_);
  TokenBucket bucket_ GUARDED_BY(mutex_);
  SlidingWindow window_ GUARDED_BY(mutex_);
  std::uint64_t admitted_records_ GUARDED_BY(mutex_) = 0;
  std::uint64_t admitted_bytes_ GUARDED_BY(mutex_) = 0;
  std::array<double, kRanks> shed_credit_ GUARDED_BY(mutex_){};
  std::uint64_t visits_ GUARDED_BY(mutex_) = 0;
  std::vector<PressureEvent> untold_ GUARDED_BY(mutex_);
  std::function<void()> wake_ GUARDED_BY(mutex_);
  Ranks at_gate_ GUARDED_BY(mutex_);  // by rank, in order of arrival
  Ranks at_log_ GUARDED_BY(mutex_);   // the same; they hold what the gate gave them
};

}  // namespace taskwal::pipeline
