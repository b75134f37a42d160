// One seed: a machine with a disk, a database server, and process after process that opens the same
// log directory through the product's whole layer, is used by several callers and an operator, and
// is killed, loses its power, or ends; until all is held against the ledger a last time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/random.h"
#include "pipeline/adoption.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/identity.h"
#include "pipeline/targets/home_table.h"
#include "pipeline/wal_task_storage.h"
#include "storage/operation.h"
#include "tests/simulation/coverage.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/live_frames.h"
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
  static constexpr std::uint64_t kRecordsWanted = 1000;
  static constexpr std::uint64_t kCrashesWanted = 5;

  // `is_traced` tells on stderr what happens.
  World(std::uint64_t seed, bool is_traced);
  SeedOutcome Run();

  static std::string TaskId(std::uint32_t caller, std::uint64_t number);
  static std::string DagOf(std::uint32_t caller);

 private:
  // What a life of a process is like, drawn before it begins.
  struct Plan {
    Options options;
    bool is_last = false;
    bool salvage = false;
    bool has_disk_faults = false;
    bool is_full_disk = false;
    bool has_handlers = false;
    std::uint32_t callers = 1;
    std::uint32_t calls = 50;      // of each
    ShutdownMode mode = ShutdownMode::kGraceful;
    std::chrono::milliseconds close_timeout{1000};
    SimulatedThreads::Odds odds;
    std::vector<std::uint32_t> weights;  // of several targets
    std::uint64_t body_bytes_max = 0;    // of a few activities; 0: none is larger than the others
    bool needs_database = false;
    bool has_wrong_list = false;         // of targets, before the right one
  };

  // Each concern of each life draws from a stream of its own: where a build lets other threads go
  // on, the schedule changes, and neither what callers do nor what fails.
  enum class Concern : std::uint8_t {
    kMachine, kPlan, kEnd, kThreads, kDisk, kFiles, kDatabase, kOperator, kCaller, kMore, kAside,
    kMoreOfOperator, kMoreOfCaller,
  };
  [[nodiscard]] std::uint64_t SeedOf(Concern concern, std::uint64_t number = 0) const;

  // --- world.cc: lives one after another
  void BeginLife();
  Plan Draw(bool is_last);
  void Live(const Plan& plan);
  [[nodiscard]] Time WallNow() const {
    return Time(std::chrono::microseconds(threads_.wall_now() / 1000));
  }
  [[nodiscard]] bool HasUnreadableFiles() const;
  void Crash(bool was_killed);
  void NoteFates();
  void BetweenLives();
  void WentBack(std::size_t index, std::span<const storage::Batch> undone, bool is_behind_move);
  bool IsOfDamagedState(const Status& refused);
  void CheckAll(bool is_all);
  void MakeDatabases();
  [[nodiscard]] std::string TargetName(std::size_t index) const;
  [[nodiscard]] bool HasSeveralNow() const;
  void TryWrongList(const Plan& plan);
  void SetUp(std::span<const std::uint32_t> weights, pipeline::WalStorageSetup* setup);
  void FindTasks(Ledger::Database* found);
  void FindLetters(Ledger::Database* found);
  void NoteLetter(const pipeline::DeadLetter& letter, Ledger::Database* found);
  bool IsAstray(const std::string& id, std::size_t index, const wal::LogState& state,
                const pipeline::HomeTable& homes);
  void NoteMoving(bool is_moving);
  [[nodiscard]] bool has_failed() const { return !ledger_.failure().empty(); }

  // --- world_directory.cc: what becomes of the directory between lives
  void TryCopy();
  void RunAside(const std::function<void()>& process);
  pipeline::WalStorageSetup SetupOfCopy();
  std::uint64_t LiveOnAsCopy(Random& random);
  void Relabel(Random& random);
  void BringCopy(std::uint64_t activities);
  void Restore(Random& random);
  Result<pipeline::AdoptReport> AdoptIn(const std::string& directory, pipeline::Adoption word);
  void TryNewerFormat();
  void WriteDirectly();
  void PurgeBetween();
  void KeepHouse();
  std::map<std::string, Ledger::Row> RowsThatGoOn(TaskStorage& storage);
  void Move();
  void AdoptAsMoved();
  void Verify();

  // --- world_damage.cc: what a bad disk does to it
  void HaveAccident(Random& random);
  void NoteDestroyed(std::uint64_t segment);
  void FlipABit();
  void ExpectReported(const std::vector<LiveFrame>& before);
  void ExpectUnknownTail(const recovery::ScanReport& report);
  void ExpectDeclared(const recovery::SalvageReport& salvaged, const wal::LogState& state);
  void FlipInState();

  // --- world_options.cc: what is drawn
  Options DrawOptions();
  Options Retold(const Options& options);
  void Mistell(const Options& options);
  void DrawMore(Plan* plan);
  void AddCallbacks(Options* options);
  void DrawPressure(Options* options);
  void DrawFlusher(Options* options);
  SimulatedDatabase::Odds DrawDatabaseOdds();
  std::vector<std::uint32_t> DrawWeights();
  void ArmDiskFaults(Plan* plan);
  template <typename T>
  T OneOf(std::initializer_list<T> choices) {
    return choices.begin()[random_.Below(choices.size())];
  }

  // --- world_life.cc: inside a process
  void Process(const Plan& plan);
  pipeline::WalTaskStorage* Open(const Plan& plan);
  bool IsBehindItsDatabase();
  void NoteOpened(const Plan& plan, const pipeline::OpenReport& report,
                  pipeline::WalTaskStorage& storage);
  void AddHandlers(pipeline::WalTaskStorage& storage);
  void Call(pipeline::WalTaskStorage& storage, std::uint32_t caller, std::uint32_t calls);
  // One of its calls, and what it draws from.
  struct Turn {
    std::uint32_t caller = 0;
    std::uint32_t number = 0;
    Random& random;
    Random& more;
  };
  bool CallOnce(pipeline::WalTaskStorage& storage, const Turn& turn);
  PlannedOperation DrawOperation(const Turn& turn) const;
  Result<wal::Lsn> Send(pipeline::WalTaskStorage& storage, const PlannedOperation& operation,
                        const WriteOptions& options, const Turn& turn);
  static storage::OperationBody BodyOf(const PlannedOperation& operation);
  Result<wal::Lsn> SendActivity(pipeline::WalTaskStorage& storage,
                                const PlannedOperation& operation, const WriteOptions& options,
                                const Turn& turn);
  void Heard(Ledger::Number number, const Result<wal::Lsn>& answer, const WriteOptions& options);
  void TraceCall(const PlannedOperation& operation, const Result<wal::Lsn>& answer) const;
  void ReadOwn(pipeline::WalTaskStorage& storage, const std::string& task_id);
  void NoteFlushed(pipeline::WalTaskStorage& storage);
  void Close(const Plan& plan, pipeline::WalTaskStorage& storage);

  // --- world_operator.cc: beside the callers
  void Operate(pipeline::WalTaskStorage& storage);
  void OperateMore(pipeline::WalTaskStorage& storage, Random& random);
  void AskInText(pipeline::WalTaskStorage& storage, Random& random);
  void CallWrongly(pipeline::WalTaskStorage& storage, Random& random);
  void TendChosenLetters(pipeline::WalTaskStorage& storage, Random& random);
  Status NoteLetters(pipeline::WalTaskStorage& storage);
  void CheckPages(pipeline::WalTaskStorage& storage);
  void CheckClosed(pipeline::WalTaskStorage& storage);
  void ExpectInvalid(const char* what, const Status& status);
  void OperateOnce(pipeline::WalTaskStorage& storage, Random& random);
  void VerifyBeside();
  void TurnFlow(Control& control, Random& random);
  void AskAround(pipeline::WalTaskStorage& storage, Random& random);
  void CheckFigures(pipeline::WalTaskStorage& storage);
  void TendLetters(pipeline::WalTaskStorage& storage, Random& random);
  void TurnTargets(pipeline::WalTaskStorage& storage, Random& random);

  static std::string TextOf(const std::vector<recovery::Finding>& findings);
  static void Pause(Random& random, std::uint64_t milliseconds_max);
  void Trace(const std::string& what) const;
  void TraceBatch(const storage::Batch& batch) const;

  const bool is_traced_;
  const std::uint64_t seed_;
  std::uint64_t lives_ = 0;
  Random random_;  // of the life's plan, and then of its end
  Coverage coverage_;
  SimulatedThreads threads_;
  SimulatedFileSystem disk_;
  PreemptingFileSystem fs_;
  std::vector<std::unique_ptr<SimulatedDatabase>> databases_;  // one, or several targets
  Ledger ledger_;

  // Drawn once.
  const std::uint32_t partitions_;
  const bool has_rough_disk_;      // calls fail
  const bool has_rough_database_;
  const bool has_replica_;         // to fail over to
  const bool is_rotten_;           // bits flip
  const std::uint64_t poison_one_in_;
  const bool has_several_targets_;
  const bool begins_with_one_;     // of them, of no name yet
  const bool is_protecting_;       // Options::protect_terminal_status

  std::uint64_t crashes_ = 0;
  bool after_power_cut_ = false;
  Time latest_ = Time::min();      // that the wall clock has shown in this life
  bool callers_are_done_ = false;
  bool is_contacted_ = false;      // the database knows this log
  bool is_drained_ = false;        // by the last life
  bool is_refused_ = false;        // rightly, and for good
  std::uint64_t failovers_ = 0;
  bool is_moving_ = false;         // rows, by a rebalance
  bool has_met_ = true;            // the database, since it went back: what is flushed is known
  bool disk_was_rough_ = false;    // faults were armed
  bool disk_was_full_ = false;
  bool has_copy_ = false;
  bool protects_now_ = false;      // calls of this life
  bool takes_letters_ = true;      // the same; else a row that is refused holds up its database
  std::uint64_t body_bytes_max_ = 0;
  std::stop_source stop_;          // of calls; another one once it was asked to
  std::vector<std::string> of_others_;  // activities brought by a copy, or past any log
  bool is_state_damaged_ = false;  // and not rebuilt yet
  bool needs_adoption_ = false;    // it was rebuilt, and does not know whether it is a copy
  wal::Lsn flushed_ = 0;
  std::vector<wal::LsnRange> lost_;
  std::vector<wal::LsnRange> destroyed_;  // by an accident
  // By database: whether a failover took it back behind a move, and tasks that were found in it
  // since and are not at home there.
  std::vector<bool> went_behind_move_;
  std::vector<std::set<std::string>> returned_;
  std::set<wal::Lsn> letters_;     // that were open once
};

}  // namespace taskwal
