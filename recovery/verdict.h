// From what was found to what is done about it: one table, as data. A test enumerates every
// combination. (TigerBeetle's recovery decision table is the model.)
#pragma once

#include <cstdint>
#include <string_view>

namespace taskwal::recovery {

enum class Verdict : std::uint8_t {
  kIntact = 0,
  kTornTail,         // unreadable, above every named synced LSN: cut (a copy is kept)
  kUnknownTail,      // valid frames that nothing names as synced, of another boot: kept, range reported
  kDamage,           // at or below a named synced LSN, held by no valid frame: reported, file kept
  kMissingSegment,   // a number between others, or one STATE counts on, is not there: damage
  kForeignSegment,   // of another log: reported, never read: damage
  kEmptyFile,        // made and never used, or half made: passed over
  kOtherVersion,     // a format this program does not read: refuse to open
  kSuperseded,       // beyond the next segment's first LSN: void, passed over
  kDamagedHeader,    // the header block of a segment whose frames are intact
  kDamagedPadding,   // bytes that must be zero are not, in a sealed segment; no record is concerned
  kDamagedState,     // STATE does not validate
};

std::string_view VerdictName(Verdict verdict);

}  // namespace taskwal::recovery
