#include "recovery/verdict.h"

#include <optional>

#include "base/check.h"

namespace taskwal::recovery {

namespace {

// A row matches where every field that is given equals the situation's.
struct Row {
  Found found;
  std::optional<Stake> stake;
  std::optional<bool> sealed;
  std::optional<bool> superseded;
  std::optional<bool> reachable;
  std::optional<bool> other_boot;
  Verdict verdict;
};

constexpr std::nullopt_t any = std::nullopt;

// The first row that matches decides.
constexpr Row kTable[] = {
    // found             stake                sealed superseded reachable other_boot
    {Found::kFrames, any, any, true, any, any, Verdict::kSuperseded},
    {Found::kFrames, Stake::kSynced, any, any, any, any, Verdict::kIntact},
    {Found::kFrames, Stake::kNone, any, any, any, any, Verdict::kIntact},
    {Found::kFrames, Stake::kAboveSynced, any, any, false, any, Verdict::kTornTail},
    {Found::kFrames, Stake::kAboveSynced, false, any, any, true, Verdict::kUnknownTail},
    {Found::kFrames, Stake::kAboveSynced, any, any, any, any, Verdict::kIntact},
    // A sealed file is whole, whatever its bytes are for; elsewhere only synced records count.
    {Found::kBadBytes, any, true, any, any, any, Verdict::kDamage},
    {Found::kBadBytes, any, any, true, any, any, Verdict::kSuperseded},
    {Found::kBadBytes, Stake::kSynced, any, any, any, any, Verdict::kDamage},
    {Found::kBadBytes, any, any, any, any, any, Verdict::kTornTail},
    {Found::kBadFooter, any, true, any, any, any, Verdict::kDamage},
    {Found::kBadFooter, any, any, any, any, any, Verdict::kTornTail},
    {Found::kBadPadding, any, true, any, any, any, Verdict::kDamagedPadding},
    {Found::kBadPadding, any, any, true, any, any, Verdict::kSuperseded},
    {Found::kBadPadding, Stake::kSynced, any, any, any, any, Verdict::kDamagedPadding},
    {Found::kBadPadding, any, any, any, any, any, Verdict::kTornTail},
    {Found::kGarbage, any, any, any, any, any, Verdict::kNotASegment},
    // The header is synced before the first frame is: without one, nothing synced can stand there.
    {Found::kBadHeader, any, true, any, any, any, Verdict::kDamagedHeader},
    {Found::kBadHeader, Stake::kSynced, any, any, any, any, Verdict::kDamagedHeader},
    {Found::kBadHeader, any, any, any, any, any, Verdict::kEmptyFile},
    {Found::kNoFile, Stake::kSynced, any, any, any, any, Verdict::kMissingSegment},
    {Found::kNoFile, any, any, any, any, any, Verdict::kIntact},
    {Found::kForeignFile, any, any, any, any, any, Verdict::kForeignSegment},
    {Found::kOtherVersion, any, any, any, any, any, Verdict::kOtherVersion},
    {Found::kBadState, any, any, any, any, any, Verdict::kDamagedState},
    {Found::kBadTargets, any, any, any, any, any, Verdict::kDamagedTargets},
};

template <typename T>
bool Fits(const std::optional<T>& pattern, const T& value) {
  return !pattern || *pattern == value;
}

bool Matches(const Row& row, const Situation& s) {
  return row.found == s.found && Fits(row.stake, s.stake) && Fits(row.sealed, s.sealed) &&
         Fits(row.superseded, s.superseded) && Fits(row.reachable, s.reachable) &&
         Fits(row.other_boot, s.other_boot);
}

}  // namespace

Verdict JudgeSituation(const Situation& situation) {
  for (const Row& row : kTable) {
    if (Matches(row, situation)) return row.verdict;
  }
  TASKWAL_CHECK(false && "every situation has a verdict");
  return Verdict::kDamage;
}

bool IsDamage(Verdict verdict) {
  switch (verdict) {
    case Verdict::kIntact:
    case Verdict::kTornTail:
    case Verdict::kUnknownTail:
    case Verdict::kEmptyFile:
    case Verdict::kNotASegment:
    case Verdict::kSuperseded:
      return false;
    case Verdict::kDamage:
    case Verdict::kMissingSegment:
    case Verdict::kForeignSegment:
    case Verdict::kOtherVersion:
    case Verdict::kDamagedHeader:
    case Verdict::kDamagedPadding:
    case Verdict::kDamagedState:
    case Verdict::kDamagedTargets:
      return true;
  }
  return true;
}

std::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kIntact:
      return "intact";
    case Verdict::kTornTail:
      return "torn tail";
    case Verdict::kUnknownTail:
      return "tail of unknown standing";
    case Verdict::kDamage:
      return "damage";
    case Verdict::kMissingSegment:
      return "missing segment";
    case Verdict::kForeignSegment:
      return "foreign segment";
    case Verdict::kEmptyFile:
      return "empty file";
    case Verdict::kNotASegment:
      return "not a segment";
    case Verdict::kOtherVersion:
      return "other format version";
    case Verdict::kSuperseded:
      return "superseded";
    case Verdict::kDamagedHeader:
      return "damaged header";
    case Verdict::kDamagedPadding:
      return "damaged padding";
    case Verdict::kDamagedState:
      return "damaged STATE";
    case Verdict::kDamagedTargets:
      return "damaged TARGETS";
  }
  return "?";
}

}  // namespace taskwal::recovery
