// From what was found to what is done about it: one table, as data. A test enumerates every
// combination. (TigerBeetle's recovery decision table is the model.)
#pragma once

#include <cstdint>
#include <string_view>

namespace taskwal::recovery {

enum class Verdict : std::uint8_t {
  kIntact = 0,
  kTornTail,        // unreadable, above every named synced LSN: cut (a copy is kept)
  kUnknownTail,     // valid frames that nothing names as synced, of another boot: kept, reported
  kDamage,          // at or below a named synced LSN, held by no valid frame: reported, file kept
  kMissingSegment,  // a number between others, or one STATE counts on, is not there: damage
  kForeignSegment,  // of another log: reported, never read: damage
  kEmptyFile,       // made and never used, or half made: passed over
  kNotASegment,     // named like one, with neither its header nor its frames: passed over
  kOtherVersion,    // a format this program does not read: refuse to open
  kSuperseded,      // beyond the next segment's first LSN: void, passed over
  kDamagedHeader,   // the header block of a segment whose frames are intact
  kDamagedPadding,  // bytes that must be zero are not, where nothing was torn; costs no record
  kDamagedState,    // STATE does not validate
  kDamagedTargets,  // TARGETS does not: the next open settles it, if STATE is whole
};

std::string_view VerdictName(Verdict verdict);

// Whether `verify` exits with 2 for it.
bool IsDamage(Verdict verdict);

// What stands, or is missing, at some place of the log.
enum class Found : std::uint8_t {
  kFrames,       // valid frames
  kBadBytes,     // no valid frame where there was one, or where there could be one
  kBadFooter,    // no valid footer at the very end of the file
  kBadPadding,   // bytes that must be zero are not
  kBadHeader,    // the segment header does not validate, or it is of an older use of the file
  kGarbage,      // neither a segment header nor frames, but bytes
  kNoFile,       // there is no such segment
  kForeignFile,  // a segment of another log, or one under the wrong name
  kOtherVersion,
  kBadState,    // STATE
  kBadTargets,  // TARGETS
};

// The LSNs that depend on it.
enum class Stake : std::uint8_t {
  kNone,         // none that counts: declared lost, void, or no record at all
  kAboveSynced,  // none that anything names as synced
  kSynced,       // at least one that was synced
};

struct Situation {
  Found found = Found::kFrames;
  Stake stake = Stake::kNone;
  bool sealed = false;      // the segment was sealed: any byte of it counts
  bool superseded = false;  // a later segment has taken over its LSNs
  bool reachable = true;    // of frames above the synced LSN: no gap lies between
  bool other_boot = false;  // the page cache was lost since: what is here may not be all
  friend bool operator==(const Situation&, const Situation&) = default;
};

Verdict JudgeSituation(const Situation& situation);

}  // namespace taskwal::recovery
