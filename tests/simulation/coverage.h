// What the simulation came across: faults it made, and places of the product that they led to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace taskwal {

enum class Seen : std::uint8_t {
  kRecord, kKill, kKillInCall, kPowerCut, kCleanEnd, kOpenRefused, kFailedWrite, kFailedSync,
  kFailedDirectorySync, kFailedRename, kFailedRemove, kFailedOpen, kFailedRing, kFailedRead,
  kFailedOtherCall, kDiskFull, kSlowCall, kHungCall, kFlippedBit, kNoConnection, kDatabaseDown,
  kLostBefore, kLostAfter, kLateCommit, kLateCommitInVain, kDeadlock, kDriverThrew,
  kSlowDatabase, kHungDatabase, kFailedQuestion, kDatabaseRestart, kFailover, kRejectedBatch,
  kRepeatAsked, kLetter, kLetterRetried, kLetterPurged, kDeclaredLoss, kSalvage, kVerify,
  kVerifyBeside, kCopyRefused, kBehindDatabase, kInDoubt, kOverloaded, kReadOnly, kDropped,
  kBreakerOpened, kPressure, kRescued, kTornTail, kUnknownTail, kWatermarkMoved,
  kGoneInPowerCut, kOwnReads, kWorkersChanged, kWallClockStep, kFlowTurned, kQuestions,
  kSeveralTargets, kRebalanced, kRebalanceCut, kRebalanceFinished, kServiceTurned,
  kMoved, kDamagedState, kCallback, kHandler, kLetterShown, kContext,
  kRelabelled, kRestored, kAccident, kNewerFormat, kDirect, kHouseKept, kMistold, kWrongList,
  kWrongCall, kStopped, kLarge, kRecoveryOff, kPages,
  kRebalancedWithReplica, kMoveUndone, kDamagedStateOfTargets, kDamagedTargetList,
  kDestroyedUnknown, kLettersOff, kSyncedDamage, kRepeatDropped, kStoreMet,
  kKillBehindSync, kUnreadable,
  kSectorKept, kSectorLost, kSectorStale, kSectorGarbage, kNameKept, kNameLost, kSizeAhead,
  kShortWrite, kShortRead, kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(Seen::kCount)> kSeenNames = {
    "records", "kills between calls", "kills in a call", "power cuts", "clean ends",
    "opens refused", "failed writes", "failed syncs", "failed directory syncs", "failed renames",
    "failed removals", "failed opens of files", "failed rings", "failed reads",
    "other failed calls", "full disks", "slow calls", "hung calls", "flipped bits",
    "refused connections", "database down", "connections lost before the commit",
    "connections lost after the commit", "commits landed late", "late commits in vain",
    "deadlocks", "drivers that threw", "slow transactions", "hung transactions",
    "failed questions to the database", "restarts of the database",
    "failovers to a replica behind", "rejected batches", "idempotent repeats", "dead letters",
    "letters retried", "letters purged", "declared losses", "salvages", "verifications",
    "verifications beside the process", "copies refused", "logs behind their database refused",
    "calls in doubt", "overloaded calls", "read-only logs", "dropped activities",
    "breakers opened", "states of pressure", "records rescued", "torn tails",
    "tails of unknown standing", "watermarks found moved", "records gone in a power cut",
    "own writes read", "changes of the worker count", "steps of the wall clock",
    "turns of rate and policy", "questions to the storage", "lives with several targets",
    "rebalances", "rebalances cut short", "rebalances finished by an open",
    "targets taken out of service", "directories moved and adopted", "damaged STATE or letters",
    "callbacks", "shutdown handlers", "letters shown", "activities with a context",
    "copies relabelled", "copies restored into another database", "segments lost, cut or exchanged",
    "logs of a later format", "programs without a log", "clean-ups at the end", "options mistold",
    "wrong lists of targets", "wrong calls", "calls told to stop", "large activities",
    "opens without recovery", "databases read page by page",
    "rebalances before a replica that is behind", "moves of tasks undone by a failover",
    "damaged STATE of several targets", "damaged lists of targets",
    "destroyed records that nothing tells of", "lives without dead letters",
    "synced frames damaged and reported", "activities brought again and dropped",
    "stores into the ring put off", "kills soon behind a failed sync",
    "segments unreadable behind a failed sync", "sectors kept in a power cut",
    "sectors lost in a power cut", "sectors stale after a power cut",
    "sectors of garbage after a power cut", "names kept in a power cut",
    "names lost in a power cut", "sizes ahead of the data", "writes that came short",
    "reads that came short",
};

// So many seeds meet each kind at least once, whichever they are; 0: none has to.
constexpr std::uint64_t SeedsToMeet(Seen what) {
  switch (what) {
    // A fault of the product would be told otherwise: these say how often the ledger has to excuse.
    case Seen::kBehindDatabase:
    case Seen::kRepeatDropped:
    case Seen::kDestroyedUnknown:
      return 0;
    // Of two kinds that are rare by themselves.
    case Seen::kMoveUndone:
    case Seen::kDamagedStateOfTargets:
    case Seen::kDamagedTargetList:
      return 10'000;
    default:
      return 1000;
  }
}

class Coverage {
 public:
  void Note(Seen what, std::uint64_t times = 1) {
    counts_[static_cast<std::size_t>(what)] += times;
  }
  [[nodiscard]] std::uint64_t of(Seen what) const {
    return counts_[static_cast<std::size_t>(what)];
  }
  void Add(const Coverage& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  }
  // What so many seeds had to meet, and have not.
  [[nodiscard]] std::vector<std::string_view> MissedBy(std::uint64_t seeds) const {
    std::vector<std::string_view> missed;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const std::uint64_t enough = SeedsToMeet(static_cast<Seen>(i));
      if (counts_[i] == 0 && enough > 0 && seeds >= enough) missed.push_back(kSeenNames[i]);
    }
    return missed;
  }

 private:
  std::array<std::uint64_t, static_cast<std::size_t>(Seen::kCount)> counts_{};
};

}  // namespace taskwal
