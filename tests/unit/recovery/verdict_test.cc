#include "recovery/verdict.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace taskwal::recovery {
namespace {

constexpr Found kAllFound[] = {Found::kFrames,     Found::kBadBytes,     Found::kBadFooter,
                               Found::kBadPadding, Found::kBadHeader,    Found::kGarbage,
                               Found::kNoFile,     Found::kForeignFile,  Found::kOtherVersion,
                               Found::kBadState,   Found::kBadTargets};
constexpr Stake kAllStakes[] = {Stake::kNone, Stake::kAboveSynced, Stake::kSynced};

std::vector<Situation> AllSituations() {
  std::vector<Situation> all;
  for (const Found found : kAllFound) {
    for (const Stake stake : kAllStakes) {
      for (int bits = 0; bits < 16; ++bits) {
        all.push_back(
            {found, stake, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0});
      }
    }
  }
  return all;
}

// What the table must say, put as the promises it keeps.
Verdict Expected(const Situation& s) {
  const bool synced = s.stake == Stake::kSynced;
  switch (s.found) {
    case Found::kFrames:
      if (s.superseded) return Verdict::kSuperseded;
      if (s.stake != Stake::kAboveSynced) return Verdict::kIntact;
      if (!s.reachable) return Verdict::kTornTail;
      return s.other_boot && !s.sealed ? Verdict::kUnknownTail : Verdict::kIntact;
    case Found::kBadBytes:
      if (s.sealed) return Verdict::kDamage;
      if (s.superseded) return Verdict::kSuperseded;
      return synced ? Verdict::kDamage : Verdict::kTornTail;
    case Found::kBadFooter:
      return s.sealed ? Verdict::kDamage : Verdict::kTornTail;
    case Found::kBadPadding:
      if (s.sealed) return Verdict::kDamagedPadding;
      if (s.superseded) return Verdict::kSuperseded;
      return synced ? Verdict::kDamagedPadding : Verdict::kTornTail;
    case Found::kBadHeader:
      return s.sealed || synced ? Verdict::kDamagedHeader : Verdict::kEmptyFile;
    case Found::kGarbage:
      return Verdict::kNotASegment;
    case Found::kNoFile:
      return synced ? Verdict::kMissingSegment : Verdict::kIntact;
    case Found::kForeignFile:
      return Verdict::kForeignSegment;
    case Found::kOtherVersion:
      return Verdict::kOtherVersion;
    case Found::kBadState:
      return Verdict::kDamagedState;
    case Found::kBadTargets:
      return Verdict::kDamagedTargets;
  }
  return Verdict::kIntact;
}

TEST(Verdict, EveryCombinationIsDecidedAsPromised) {
  const std::vector<Situation> all = AllSituations();
  ASSERT_EQ(all.size(), 11u * 3u * 16u);
  for (const Situation& s : all) {
    EXPECT_EQ(JudgeSituation(s), Expected(s))
        << "found " << static_cast<int>(s.found) << " stake " << static_cast<int>(s.stake)
        << " sealed " << s.sealed << " superseded " << s.superseded << " reachable " << s.reachable
        << " other boot " << s.other_boot;
  }
}

TEST(Verdict, LossOfSyncedRecordsIsAlwaysDamage) {
  for (const Situation& s : AllSituations()) {
    const bool loses = s.found == Found::kBadBytes || s.found == Found::kNoFile;
    if (!loses || s.stake != Stake::kSynced || s.superseded) continue;
    EXPECT_TRUE(IsDamage(JudgeSituation(s)));
  }
}

TEST(Verdict, NothingUnsyncedInAnOpenSegmentIsDamage) {
  for (const Situation& s : AllSituations()) {
    if (s.sealed || s.stake == Stake::kSynced || s.found >= Found::kForeignFile) continue;
    EXPECT_FALSE(IsDamage(JudgeSituation(s)));
  }
}

TEST(Verdict, AnyChangeOfASealedSegmentIsDamage) {
  for (const Situation& s : AllSituations()) {
    const bool changed = s.found == Found::kBadBytes || s.found == Found::kBadFooter ||
                         s.found == Found::kBadPadding || s.found == Found::kBadHeader;
    if (!s.sealed || !changed) continue;
    EXPECT_TRUE(IsDamage(JudgeSituation(s)));
  }
}

TEST(Verdict, EachIsReachedAndHasItsOwnName) {
  std::set<Verdict> reached;
  std::set<std::string_view> names;
  for (const Situation& s : AllSituations()) reached.insert(JudgeSituation(s));
  EXPECT_EQ(reached.size(), 14u);
  for (const Verdict verdict : reached) names.insert(VerdictName(verdict));
  EXPECT_EQ(names.size(), reached.size());
}

}  // namespace
}  // namespace taskwal::recovery
