// One seed: a machine with a disk, a database server, and process after process that opens the same
// log directory through the product's whole layer, is used by several callers and an operator, and
// is killed, loses its power, or ends; until all is held against the ledger a last time.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "pipeline/wal_task_storage.h"
#include "tests/simulation/coverage.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/preempting_file_system.h"
#include "tests/simulation/simulated_database.h"
#include "tests/simulation/simulated_threads.h"
#include "tests/support/simulated_file_system.h"

namespace taskwal {

struct SeedOutcome {
  std::string failure;  // empty: all held
  Coverage coverage;
  std::uint64_t records = 0, crashes = 0, lives = 0, steps = 0;
  std::uint64_t fingerprint = 0;
};

class World {
 public:
  // `is_traced` tells on stderr what happens.
  World(std::uint64_t seed, bool is_traced);
  SeedOutcome Run();

 private:
  // What a life of a process is like, drawn before it begins.
  struct Plan {
    Options options;
    bool is_last = false;
    bool salvage = false;
    bool has_disk_faults = false;
    bool is_full_disk = false;
    std::uint32_t callers = 1;
    std::uint32_t calls = 50;      // of each
    ShutdownMode mode = ShutdownMode::kGraceful;
    std::chrono::milliseconds close_timeout{1000};
    SimulatedThreads::Odds odds;
  };

  // --- world.cc: lives one after another
  Plan Draw(bool is_last);
  void Live(const Plan& plan);
  void Crash(bool was_killed);
  void BetweenLives();
  void TryCopy();
  void FlipABit();
  void Verify();
  void CheckAll(bool is_all);
  [[nodiscard]] bool has_failed() const { return !ledger_.failure().empty(); }

  // --- world_options.cc: what is drawn
  Options DrawOptions();
  void DrawPressure(Options* options);
  void DrawFlusher(Options* options);
  SimulatedDatabase::Odds DrawDatabaseOdds();
  void ArmDiskFaults(Plan* plan);
  template <typename T>
  T OneOf(std::initializer_list<T> choices) {
    return choices.begin()[random_.Below(choices.size())];
  }

  // --- world_life.cc: inside a process
  void Process(const Plan& plan);
  pipeline::WalTaskStorage* Open(const Plan& plan);
  void NoteOpened(const Plan& plan, const pipeline::OpenReport& report,
                  pipeline::WalTaskStorage& storage);
  void Call(pipeline::WalTaskStorage& storage, std::uint32_t caller, std::uint32_t calls);
  bool CallOnce(pipeline::WalTaskStorage& storage, std::uint32_t caller);
  PlannedOperation DrawOperation(std::uint32_t caller);
  Result<wal::Lsn> Send(pipeline::WalTaskStorage& storage, const PlannedOperation& operation,
                        const WriteOptions& options);
  void Heard(Ledger::Number number, const Result<wal::Lsn>& answer, const WriteOptions& options);
  void TraceCall(const PlannedOperation& operation, const Result<wal::Lsn>& answer) const;
  void ReadOwn(pipeline::WalTaskStorage& storage, const std::string& task_id);
  void Operate(pipeline::WalTaskStorage& storage);
  void OperateOnce(pipeline::WalTaskStorage& storage);
  void CheckFigures(pipeline::WalTaskStorage& storage);
  void TendLetters(pipeline::WalTaskStorage& storage);
  void NoteFlushed(pipeline::WalTaskStorage& storage);
  void Close(const Plan& plan, pipeline::WalTaskStorage& storage);

  void Trace(const std::string& what) const;
  void TraceBatch(const storage::Batch& batch) const;

  const bool is_traced_;
  Random random_;
  Coverage coverage_;
  SimulatedThreads threads_;
  SimulatedFileSystem disk_;
  PreemptingFileSystem fs_;
  SimulatedDatabase database_;
  Ledger ledger_;

  // Drawn once.
  const std::uint32_t partitions_;
  const bool has_rough_disk_;      // calls fail
  const bool has_rough_database_;
  const bool is_rotten_;           // bits flip
  const std::uint64_t poison_one_in_;

  std::uint64_t lives_ = 0;
  std::uint64_t crashes_ = 0;
  std::uint64_t versions_ = 0;
  bool after_power_cut_ = false;
  bool callers_are_done_ = false;
  bool is_contacted_ = false;      // the database knows this log
  bool is_drained_ = false;        // by the last life
  bool disk_was_rough_ = false;
  bool has_copy_ = false;
  wal::Lsn flushed_ = 0;
  std::vector<wal::LsnRange> lost_;
  std::set<wal::Lsn> letters_;     // that were open once
};

}  // namespace taskwal
