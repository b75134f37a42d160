// Tells poison from a broken schema: a few refused rows among many are poison and may be lettered.
// One of each target, shared by its workers.
//
// By type of operation, each letter owes five records that go through; each that does pays for one,
// and a retried letter for itself. No more may be owed than for max(10, 1 % of the batch) letters:
// beyond it nothing is lettered and the log waits. So poison holds nothing up while five of six go
// through, however small the batches are, and a schema that refuses all costs ten letters. A letter
// keeps what was owed then, so that a restart does not begin anew: the one added last knows of all
// before it, whichever worker made them. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/partition_queues.h"
#include "storage/operation.h"

namespace taskwal::pipeline {

class PoisonGuard {
 public:
  using Type = storage::OperationType;

  // What an earlier process left: `letters`, the newest open one of each type of operation, where
  // all up to `settled` has been brought.
  void Load(std::span<const DeadLetter> letters, wal::Lsn settled) EXCLUDES(mutex_);

  // A record of a batch of `batch_records` is refused for good, as `why` says: `add` makes its
  // letter, which keeps the text `mark` under kGuardMark. kOverloaded: it must not be lettered;
  // what `add` returns otherwise. One at a time over all workers: blocks while another adds.
  Status Letter(Type type, wal::Lsn lsn, std::uint64_t batch_records, std::string_view why,
                const std::function<Status(const std::string& mark)>& add)
      EXCLUDES(adding_, mutex_);

  // They are settled: those that are not lettered went through.
  // Never waits for a letter that is being added.
  void OnSettled(std::span<QueuedRecord* const> records) EXCLUDES(mutex_);

 private:
  struct Account {
    std::uint64_t owed = 0;     // records
    std::uint64_t records = 0;  // lettered, or gone through, since something is owed
    wal::Lsn from = 0, to = 0;  // the lowest and the highest letter of these
    bool all_refused = true;    // none of these went through
    bool is_tripped = false;    // until all is paid
  };

  // Nothing: no more may be owed.
  std::optional<std::string> Claim(Type type, wal::Lsn lsn, std::uint64_t batch_records)
      EXCLUDES(mutex_);
  void TakeBack(Type type) EXCLUDES(mutex_);
  static void Pay(Account* account, std::uint64_t records);

  Mutex adding_;  // before mutex_: letters are added in the order of their marks
  Mutex mutex_;
  std::map<Type, Account> accounts_ GUARDED_BY(mutex_);  // of those who owe
};

}  // namespace taskwal::pipeline
