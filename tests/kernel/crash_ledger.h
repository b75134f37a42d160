// What a database may hold after the lives of crash_child (tests/crash) over one directory: each
// acknowledged call has happened once; of what a power cut may take, each producer's calls up to
// some point have; what was refused has not.
//
//   ledger.StartLife(cycle);
//   ledger.Told(line);                 // for each line of the child
//   … the child is dead, the log recovered …
//   ledger.Check(database, Durability::kProcess);   // the process was killed; kDisk: a power cut
//
// Failures are reported to GoogleTest. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "taskwal/options.h"
#include "tests/crash/crash_operations.h"

namespace taskwal {

class CrashLedger {
 public:
  // Another directory and database: the figures go on.
  void StartAnew();
  // `all_disk`: the child was told so, too.
  void StartLife(std::uint64_t cycle, bool all_disk = false);
  void Told(const std::string& line);
  // Holds the SQLite database against this life and those before it. `survived`: what is
  // acknowledged at this level or above must be there.
  void Check(const std::string& database, Durability survived);

  [[nodiscard]] std::uint64_t told() const { return told_; }  // in this life, refusals included
  [[nodiscard]] std::uint64_t refused() const { return refused_; }  // in this life
  // Over all lives.
  [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_; }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }
  [[nodiscard]] std::uint64_t doubled() const { return doubled_; }
  [[nodiscard]] std::uint64_t taken() const { return taken_; }  // by power cuts, below level disk

 private:
  // Status and error, or no such task.
  using State = std::optional<std::pair<std::string, std::string>>;
  using States = std::map<std::string, std::set<State>>;  // every state a task may be in
  enum class Outcome : std::uint8_t { kHappened, kMayHaveHappened, kRefused };
  struct Call {
    Outcome outcome = Outcome::kHappened;
    std::uint64_t lsn = 0;
  };
  struct Stored {
    std::map<std::string, State> tasks;
    std::set<std::string> activities;  // of this life
  };

  Stored Read(const std::string& database);
  std::uint64_t DurableLsn() const;
  void CheckProducer(std::uint32_t producer, std::uint64_t kept_lsn, const Stored& stored);
  CrashOperation OperationOf(std::uint32_t producer, std::uint64_t number) const {
    return MakeCrashOperation(cycle_, producer, number);
  }
  static void Apply(const CrashOperation& operation, bool for_certain, States* states);
  static bool Fits(const States& states, const Stored& stored);
  void Settle(std::uint32_t producer, std::uint64_t happened, const Stored& stored);

  std::uint64_t cycle_ = 0;
  bool all_disk_ = false;
  std::vector<Call> calls_[kProducers];  // of this life
  std::map<std::string, State> tasks_;   // after the lives before
  std::uint64_t activities_ = 0;         // of the lives before
  std::uint64_t kept_lsn_ = 0;           // never to be given out again
  std::set<std::uint64_t> lsns_;         // of this life
  std::uint64_t told_ = 0, refused_ = 0;
  std::uint64_t acknowledged_ = 0, lost_ = 0, doubled_ = 0, taken_ = 0;
};

}  // namespace taskwal
