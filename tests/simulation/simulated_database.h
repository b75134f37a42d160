// A database server as simulated processes meet it: it outlives them, goes away and restarts, is
// slow or hangs, loses connections before, during and after a commit, brings commits in late (after
// the death of the process that sent them, too), and refuses poison: rows whose text holds that
// word.
#pragma once

#include <functional>
#include <memory>
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
    std::uint64_t apply_fails = 0;  // in one of the ways there are
    std::uint64_t slow = 0;
    std::uint64_t hangs = 0;
    std::uint64_t restarts = 0;
    std::uint64_t goes_down = 0;    // for up to some seconds
  };

  SimulatedDatabase(std::uint64_t seed, Coverage& coverage)
      : random_(seed), coverage_(coverage) {}

  std::unique_ptr<storage::Backend> Open();
  void SetOdds(const Odds& odds);
  void set_timeout(SimulatedThreads::Nanoseconds timeout) { timeout_ = timeout; }
  void set_takes_poison(bool takes) { takes_poison_ = takes; }
  // Told of each commit, after it.
  void OnCommit(std::function<void(const storage::Batch&)> hook) { on_commit_ = std::move(hook); }
  // Commits that were on their way when their process died land now, or never.
  void LandLateCommits();

  storage::MemoryBackend& data() { return data_; }

 private:
  class Session;
  class Backend;

  enum class Fault : std::uint8_t {
    kNone, kUnavailable, kLostBefore, kLostAfter, kLate, kThrows, kThrowsAfter, kDeadlock,
  };

  bool Happens(std::uint64_t in_a_thousand) { return random_.Below(1000) < in_a_thousand; }
  // Slow, hung, down, or gone since the session was opened.
  Status Reach(std::uint64_t session_generation);
  Result<storage::ApplyResult> Apply(std::uint64_t session_generation,
                                     const storage::Batch& batch);
  Result<storage::ApplyResult> Commit(const storage::Batch& batch);
  Result<storage::ApplyResult> Fail(Fault fault, const storage::Batch& batch);
  [[nodiscard]] bool IsRefused(const storage::Batch& batch) const;

  Random random_;
  Coverage& coverage_;
  storage::MemoryBackend data_;
  std::unique_ptr<storage::Session> session_;
  Odds odds_;
  SimulatedThreads::Nanoseconds timeout_ = 1'000'000'000;
  SimulatedThreads::Nanoseconds down_until_ = 0;
  std::uint64_t generation_ = 1;
  bool takes_poison_ = false;
  std::vector<storage::Batch> late_;
  std::unordered_set<std::string> activity_ids_;
  std::function<void(const storage::Batch&)> on_commit_;
};

}  // namespace taskwal
