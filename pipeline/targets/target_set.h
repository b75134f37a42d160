// The databases that one log feeds. Each has its own flusher, sessions, breaker and health check;
// none waits for another. Decides where records go:
//
//   activity         ─▶ the next in turn among the healthy ones (ActivityCycle)
//   one task         ─▶ its home (HomeTable), under the shares that STATE records
//   several tasks    ─▶ all of them, each takes its share
//
// A single database of no name is target 0 and the only one; nothing more is recorded of it.
//
//   Make ─▶ StartContact ─▶ AwaitContact ─▶ Release ─▶ (unfinished rebalance: move the rest) ─▶
//   flushers run ─▶ Stop
//
// Any thread may call any method, but for those of a life's steps, which come once and in order.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/database_calls.h"
#include "pipeline/flush/backlog_count.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/flusher.h"
#include "pipeline/read_overlay.h"
#include "pipeline/targets/activity_cycle.h"
#include "pipeline/targets/home_table.h"
#include "pipeline/targets/target_plan.h"
#include "storage/backend.h"
#include "taskwal/options.h"
#include "taskwal/stats.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

struct TargetSetup {
  std::string name{kDefaultTarget};
  std::uint32_t weight = 1;
  std::unique_ptr<storage::Backend> backend;
};

// A backend for each; kInvalidArgument as MakeBackend.
Result<std::vector<TargetSetup>> MakeTargets(const std::vector<TargetOptions>& targets,
                                             const storage::BackendOptions& options);

struct Target {
  std::uint16_t number = 0;
  std::string name;
  std::uint32_t weight = 1;  // of new activities
  std::unique_ptr<storage::Backend> backend;
  std::unique_ptr<Flusher> flusher;
  std::unique_ptr<DatabaseCalls> calls;
  wal::Lsn starts_behind = 0;              // see Flusher::FixStart
  std::uint64_t backlog = 0;               // its records that the log held at open, behind that
  std::atomic<std::uint64_t> appended{0};  // since open; of the only target the log counts them
};

// Told while rows are moved: how many tasks have been looked at, of all there are, and how many
// were moved.
using MoveProgress =
    std::function<void(std::uint64_t seen, std::uint64_t all, std::uint64_t moved)>;

class TargetSet {
 public:
  struct Parties {
    wal::Log& log;
    DeadLetters& letters;
    Clock& clock;
    FileSystem& fs;
    LoadGauge* gauge = nullptr;  // may be null
  };
  // Records the list in STATE, durably, where it is another one. All references outlive it. Errors
  // as CheckTargetList and PlanTargets.
  static Result<std::unique_ptr<TargetSet>> Make(const Parties& parties, const Options& options,
                                                 std::vector<TargetSetup> list);
  ~TargetSet();  // as Stop()

  // --- where records go: no lock, no allocation ----------------------------------------------
  [[nodiscard]] std::uint16_t HomeOf(std::uint64_t key) const {
    return homes_.load(std::memory_order_acquire)->Of(key);
  }
  // Takes a turn: only of a record that is sure to come.
  std::uint16_t NextForActivity() { return cycle_.Next(); }
  // Taken so far, earlier opens included: for STATE, when the last record is in.
  [[nodiscard]] std::uint64_t turns() const { return cycle_.turns(); }
  // Of a record over many tasks.
  [[nodiscard]] std::uint16_t ForAll() const { return is_single_ ? 0 : wal::kEveryTarget; }
  // Before the record is published: whoever reads it finds it counted.
  void CountAppended(std::uint16_t target);

  // --- where tasks are read ------------------------------------------------------------------
  [[nodiscard]] ReadOverlay::Home ReadHome(std::uint64_t key) const;
  [[nodiscard]] const std::vector<std::unique_ptr<Target>>& targets() const { return targets_; }

  // --- flushing ------------------------------------------------------------------------------
  // Starts the first contact with each, in a thread of its own: one that hangs delays no other.
  // kUnavailable when the system gives no more threads.
  Status StartContact();
  // What became of it by then, or by a requested stop: kFenced before kUnavailable before OK.
  Status AwaitContact(std::chrono::steady_clock::time_point until, const std::stop_token& stop);
  // What the log holds for them. Of several it is read, as it is where it must be `exact`; else,
  // or where it cannot be read, told from the LSNs, and the bytes from the files. Once, before
  // Release.
  BacklogCount TakeStock(bool exact);
  // Flushers start (each after its contact), or never will. Errors as StartContact.
  Status Release(bool may_start);
  void Stop();
  // The same, but for threads that hang in a call when the time is over: false. The destructor
  // waits for them.
  bool StopBy(std::chrono::steady_clock::time_point until) EXCLUDES(mutex_);

  // Whether a thread is in a call that may hang, for all that is known.
  [[nodiscard]] bool IsInCall() const;

  // Everything up to here is in the databases or in dead letters.
  [[nodiscard]] wal::Lsn flushed_lsn() const;
  // As Flusher::WaitFlushed, for all; while one is away the others are waited for in turns.
  Status WaitFlushed(wal::Lsn lsn, const wal::Deadline& deadline);
  // The same for the one that has a record, or for all (kEveryTarget).
  Status WaitFlushedIn(std::uint16_t target, wal::Lsn lsn, const wal::Deadline& deadline);

  // --- health --------------------------------------------------------------------------------
  // Asks the target of that index; one that does not answer, or whose breaker is open, gets no new
  // activities. Done every Options::health_check_interval where there are several.
  void CheckHealth(std::size_t index);
  Status SetHealth(std::string_view name, bool in_service);

  // --- rebalance -----------------------------------------------------------------------------
  // Looks at each database once more, and waits where one went back unnoticed: a row that is to be
  // moved must be as the log left it. kUnavailable at the deadline. Everything must be flushed.
  Status CatchUp(const wal::Deadline& deadline);
  // Moves tasks to their homes under the weights of the list and records these, once an earlier
  // rebalance is finished (kUnavailable at the deadline: nothing was begun). Everything must be
  // flushed and nothing appended meanwhile. Ended early or killed, it is finished by the next open,
  // which flushes nothing before.
  Status Rebalance(const wal::Deadline& deadline, const MoveProgress& on_progress);

  // --- statistics ----------------------------------------------------------------------------
  // Over all: sums, the worst percentiles, the worst breaker, the first alarm.
  [[nodiscard]] FlusherStats Totals() const;
  // What the databases decide of it: the counts of records, and all that is about flushing.
  void FillStats(Stats* stats) const;
  // "sqlite://t.db", or "a*2=sqlite://a.db b=…": as `--db` takes them, passwords masked.
  [[nodiscard]] std::vector<std::string> Names() const;

 private:
  TargetSet(const Parties& parties, const Options& options, std::vector<TargetSetup> list,
            const wal::LogState& state);
  void MakeFlushers(const Options& options);
  void KeepShare(std::uint16_t target, storage::OperationBody* body) const;
  Status MayTakeIdentity();

  // kUnavailable when the system gives no more threads.
  Status Spawn(std::function<void(const std::stop_token&)> body) EXCLUDES(mutex_);
  void RunContact(std::size_t index);
  void StartFlusher(const Target& target);
  bool FinishRest(const std::stop_token& stop);
  Status AwaitRest(const wal::Deadline& deadline);
  Status MeetAgain(Target& target, const wal::Deadline& deadline);
  Status MoveRest(const std::stop_token& stop, const MoveProgress& on_progress);
  void RunHealth(std::size_t index);
  bool Pause(std::chrono::milliseconds time) EXCLUDES(mutex_);
  void Publish() REQUIRES(mutex_);
  [[nodiscard]] const Target& Of(std::uint16_t number) const;
  [[nodiscard]] std::vector<FlusherStats> Each() const;
  [[nodiscard]] FlusherStats SumOf(const std::vector<FlusherStats>& each) const;
  void FillHealth(std::vector<TargetStats>* targets) const;
  struct Account {
    std::uint64_t accepted = 0;
    std::uint64_t read = 0;     // of these, by the flusher's reader
    std::uint64_t applied = 0;
    std::uint64_t pending = 0;
  };
  [[nodiscard]] Account AccountOf(const Target& target, const FlusherStats& flush) const;
  [[nodiscard]] TargetStats StatsOf(const Target& target, const FlusherStats& flush,
                                    const Account& account) const;
  bool IsLast(wal::Lsn lsn) EXCLUDES(mutex_);

  const Parties parties_;
  const std::string directory_;
  const std::chrono::milliseconds health_check_interval_;
  const bool is_single_;
  const wal::Lsn end_at_open_;
  // Fixed by TakeStock, before anybody asks for statistics.
  bool is_backlog_read_ = false;
  std::uint64_t lost_at_open_ = 0;  // in a backlog that was read: nobody knows whose
  std::vector<std::unique_ptr<Target>> targets_;  // as listed

  ActivityCycle cycle_;
  // Tables outlive all readers; a rebalance adds one. `former_`: where tasks may still be.
  std::vector<std::unique_ptr<const HomeTable>> tables_;
  std::atomic<const HomeTable*> homes_{nullptr};
  std::atomic<const HomeTable*> former_{nullptr};

  std::atomic<std::uint32_t> health_calls_{0};  // under way

  mutable Mutex mutex_;
  CondVar changed_;
  struct Health {
    bool answers = true;
    bool in_service = true;
  };
  enum class Go : std::uint8_t { kUndecided, kYes, kNo };
  std::vector<Health> health_ GUARDED_BY(mutex_);
  // Of what every target has to do: how many have still to, once the first has.
  std::map<wal::Lsn, std::size_t> shared_ GUARDED_BY(mutex_);
  std::vector<std::optional<Status>> contacted_ GUARDED_BY(mutex_);
  Go may_start_ GUARDED_BY(mutex_) = Go::kUndecided;
  bool ends_ GUARDED_BY(mutex_) = false;
  std::uint32_t running_ GUARDED_BY(mutex_) = 0;  // of threads_
  std::string rest_alarm_ GUARDED_BY(mutex_);  // why an unfinished rebalance is not finished

  std::vector<std::jthread> threads_;
};

}  // namespace taskwal::pipeline
