// A database server as simulated processes meet it: it outlives them, goes away and restarts, is
// slow or hangs, loses connections before, during and after a commit, brings commits in late (after
// the death of the process that sent them, too), fails over to a replica that is behind, and
// refuses poison: rows whose text holds that word.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/random.h"
#include "storage/memory/memory_backend.h"
#include "tests/simulation/coverage.h"
#include "tests/simulation/simulated_threads.h"

namespace taskwal {

class SimulatedDatabase {
 public:
  struct Odds {                  // in a thousand
    std::uint64_t connect_fails = 0;
    std::uint64_t question_fails = 0;
    std::uint64_t question_throws = 0;
    std::uint64_t apply_fails = 0;  // in one of the ways there are
    std::uint64_t slow = 0;
    std::uint64_t hangs = 0;
    std::uint64_t restarts = 0;
    std::uint64_t goes_down = 0;    // for up to some seconds
    std::uint64_t fails_over = 0;
  };

  SimulatedDatabase(std::uint64_t seed, Coverage& coverage)
      : random_(seed), coverage_(coverage) {}

  std::unique_ptr<storage::Backend> Open();
  void SetOdds(const Odds& odds);
  void set_timeout(SimulatedThreads::Nanoseconds timeout) { timeout_ = timeout; }
  void set_question_throws(std::uint64_t in_a_thousand) { odds_.question_throws = in_a_thousand; }
  void set_away(bool is_away) { is_away_ = is_away; }
  void set_takes_poison(bool takes) { takes_poison_ = takes; }
  // Told of each commit, after it.
  void OnCommit(std::function<void(const storage::Batch&)> hook) { on_commit_ = std::move(hook); }
  // Told of each activity in a commit that the database had before, by its id.
  void OnRepeat(std::function<void(const storage::Batch::ActivityRow&)> hook) {
    on_repeat_ = std::move(hook);
  }
  // Told of the batches that a failover undid, oldest first; and whether it went back behind the
  // last move.
  void OnFailover(std::function<void(std::span<const storage::Batch>, bool)> hook) {
    on_failover_ = std::move(hook);
  }
  // Asked before a replica takes over. Empty: it may.
  void MayFailOver(std::function<bool()> may) { may_fail_over_ = std::move(may); }
  // Commits that were on their way when their process died land now, or never.
  void LandLateCommits();
  // All rows are at home: a rebalance is over.
  void NoteMoved() { moved_at_ = history_.size(); }
  // A replica takes over that lacks the last few changes; that it knows the log is the first.
  void FailOver();
  void Reseed(std::uint64_t seed) { random_ = Random(seed); }

  storage::MemoryBackend& data() { return *data_; }

 private:
  class Session;
  class Backend;

  enum class Fault : std::uint8_t {
    kNone, kUnavailable, kLostBefore, kLostAfter, kLate, kThrows, kThrowsAfter, kDeadlock,
  };

  // One that a replica is told of: a batch, or a log's registration.
  struct Change {
    std::optional<storage::Batch> batch;
    Uuid wal_id;
    std::uint64_t epoch = 0;
    std::vector<storage::Lsn> start;
  };

  bool Happens(std::uint64_t in_a_thousand) { return random_.Below(1000) < in_a_thousand; }
  // Slow, hung, down, or gone since the session was opened.
  Status Reach(std::uint64_t session_generation);
  Result<storage::LogRow> Register(const Change& registration);
  // `gives_way`: see Session::HasGivenWay.
  Result<storage::ApplyResult> Apply(std::uint64_t session_generation,
                                     const storage::Batch& batch, bool* gives_way);
  Result<storage::ApplyResult> Commit(const storage::Batch& batch);
  void SettleLateMoves(const storage::Batch& before);
  void LandOrNot(const storage::Batch& batch);
  Result<storage::ApplyResult> Fail(Fault fault, const storage::Batch& batch);
  [[nodiscard]] bool IsRefused(const storage::Batch& batch) const;

  Random random_;
  Coverage& coverage_;
  std::unique_ptr<storage::MemoryBackend> data_ = std::make_unique<storage::MemoryBackend>();
  const Uuid db_id_ = data_->db_id();  // a replica's, too
  std::unique_ptr<storage::Session> session_;
  Odds odds_;
  SimulatedThreads::Nanoseconds timeout_ = 1'000'000'000;
  SimulatedThreads::Nanoseconds down_until_ = 0;
  std::uint64_t generation_ = 1;
  bool takes_poison_ = false;
  bool is_away_ = false;
  std::vector<storage::Batch> late_;
  std::vector<Change> history_;
  std::size_t moved_at_ = 0;  // changes there were
  std::unordered_set<std::string> activity_ids_;
  std::function<void(const storage::Batch&)> on_commit_;
  std::function<void(const storage::Batch::ActivityRow&)> on_repeat_;
  std::function<void(std::span<const storage::Batch>, bool)> on_failover_;
  std::function<bool()> may_fail_over_;
};

}  // namespace taskwal
