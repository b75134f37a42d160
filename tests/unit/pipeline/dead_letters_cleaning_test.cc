#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "pipeline/flush/letter_file.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/dead_letters_fixture.h"

namespace taskwal::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DeadLettersCleaning : public DeadLettersTest {
 protected:
  // A store of which half and more is settled: of letters 1 to 20, only 5 and 15 are open.
  std::unique_ptr<DeadLetters> Wasteful(FileSystem& fs) {
    auto opened = DeadLetters::Open(fs, kDir, false);
    EXPECT_OK(opened);
    auto letters = std::move(opened).value();
    std::vector<LetterResolution> purged;
    for (wal::Lsn lsn = 1; lsn <= 20; ++lsn) {
      DeadLetter letter = Rejected(lsn, "t-" + std::to_string(lsn));
      letter.body.resize(100'000);
      EXPECT_OK(letters->Add(letter));
      if (lsn % 10 != 5) purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
    }
    EXPECT_OK(letters->Add(Loss(30, 39)));
    EXPECT_OK(letters->ClearTask("t-5", 40));
    EXPECT_OK(letters->Resolve(purged));
    return letters;
  }
  void ExpectComplete(const DeadLetters& letters) {
    EXPECT_EQ(letters.count(), 2u);
    EXPECT_EQ(letters.lost(), 10u);
    std::vector<wal::Lsn> lsns = LsnsOf(letters);
    std::sort(lsns.begin(), lsns.end());
    EXPECT_THAT(lsns, ElementsAre(5, 15, 30));
    for (wal::Lsn lsn = 10; lsn <= 20; ++lsn) EXPECT_TRUE(letters.Contains(wal_id_, lsn)) << lsn;
    EXPECT_FALSE(letters.HoldsSaveOf("t-5", 41));
    EXPECT_TRUE(letters.HoldsSaveOf("t-15", 41));
  }
};

TEST_F(DeadLettersCleaning, GivesBackTheDiskAndForgetsNothingThatAReplayMayMeet) {
  const auto letters = Wasteful(fs_);
  ASSERT_OK(letters->Clean(10, 40));
  EXPECT_FALSE(fs_.Exists(kFirst));
  EXPECT_LT(fs_.Content("/wal/dead-letters/letters-00000002").size(), 300'000u);
  ExpectComplete(*letters);
  ExpectComplete(*Open());
  EXPECT_THAT(damage_, IsEmpty());
  ASSERT_OK(letters->Add(Rejected(50)));
  EXPECT_EQ(Open()->count(), 3u);
}

// The next process sees the new file by its name, and removes the old ones: a power cut may then
// keep what it removed removed, and not the name.
TEST_F(DeadLettersCleaning, AKillBeforeTheNewNameIsOnDiskIsMadeGoodBeforeTheOldFilesGo) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimulatedFileSystem disk;
    ASSERT_OK(disk.MakeDirectories(kDir));
    auto letters = Wasteful(disk);
    disk.FailNth(1, {SimulatedCall::kSyncDirectory, {}, true});
    EXPECT_FALSE(letters->Clean(10, 40).ok());
    letters.reset();
    disk.ClearFaults();
    ASSERT_OK(DeadLetters::Open(disk, kDir, false));
    Random random(seed);
    disk.PowerLoss(random, {.kept = 0.5, .garbage = 0});
    std::vector<std::string> damage;
    const auto left = DeadLetters::Open(disk, kDir, false, &damage);
    ASSERT_OK(left);
    EXPECT_THAT(damage, IsEmpty()) << seed;
    ExpectComplete(**left);
  }
}

// Another retry of it may stand anywhere in the log, up to where that ended then.
TEST_F(DeadLettersCleaning, ForgetsALetterWithTheLastRetryThatMayNameIt) {
  const auto letters = Wasteful(fs_);
  const auto waste_again = [&](wal::Lsn lsn) {
    DeadLetter letter = Rejected(lsn);
    letter.body.resize(2u << 20);
    ASSERT_OK(letters->Add(letter));
    const LetterResolution purged{letter.key(), {LetterOutcome::kPurged, 0}};
    ASSERT_OK(letters->Resolve({&purged, 1}));
  };
  ASSERT_OK(letters->Clean(10, 40));
  EXPECT_TRUE(letters->Contains(wal_id_, 9));
  EXPECT_TRUE(Open()->Contains(wal_id_, 9));
  waste_again(50);
  ASSERT_OK(letters->Clean(40, 60));
  EXPECT_TRUE(letters->Contains(wal_id_, 9));
  EXPECT_TRUE(Open()->Contains(wal_id_, 9));
  waste_again(51);
  ASSERT_OK(letters->Clean(41, 60));
  EXPECT_FALSE(letters->Contains(wal_id_, 9));  // retired with its segment
  EXPECT_FALSE(Open()->Contains(wal_id_, 9));
  EXPECT_TRUE(letters->Contains(wal_id_, 51));
  EXPECT_TRUE(Open()->Contains(wal_id_, 50));
}

TEST_F(DeadLettersCleaning, LeavesAStoreAloneThatIsMostlyOpen) {
  const auto letters = Open();
  for (wal::Lsn lsn = 1; lsn <= 4; ++lsn) ASSERT_OK(letters->Add(Rejected(lsn)));
  const auto before = fs_.Dump(kDir);
  ASSERT_OK(letters->Clean(1, 40));
  EXPECT_EQ(fs_.Dump(kDir), before);
}

TEST_F(DeadLettersCleaning, WritesAsManyFilesAsItNeeds) {
  const auto letters = Open();
  std::vector<LetterResolution> purged;
  for (wal::Lsn lsn = 1; lsn <= 8; ++lsn) {
    DeadLetter letter = Rejected(lsn);
    letter.body.resize(12u << 20);
    ASSERT_OK(letters->Add(letter));
    if (lsn % 2 == 0) purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
  }
  ASSERT_OK(letters->Resolve(purged));
  ASSERT_OK(letters->Clean(1, 40));
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(DeadLettersCleaning, RefusesToGoOnOverADamagedLetter) {
  const auto letters = Wasteful(fs_);
  fs_.Corrupt(kFirst, kLetterFileHeaderBytes + 4 * 100'300 + 50'000, 0x01);
  EXPECT_THAT(letters->Clean(1, 40), StatusIs(StatusCode::kCorruption));
  EXPECT_TRUE(fs_.Exists(kFirst));
}

// For N = 1, 2, 3… the N-th call fails, then a power cut: nothing that was promised is gone.
TEST_F(DeadLettersCleaning, LosesNothingWhicheverCallFails) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    auto letters = Wasteful(fs);
    const std::uint64_t before = fs.calls();
    fs.FailNth(n, {});
    const Status cleaned = letters->Clean(10, 40);
    const bool has_failed = fs.calls() - before >= n;
    fs.ClearFaults();
    if (has_failed && cleaned.ok()) ExpectComplete(*letters);  // only removing the old file failed
    Random random(n);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto again, DeadLetters::Open(fs, kDir, false, &damage));
    ExpectComplete(*again);
    EXPECT_THAT(damage, IsEmpty()) << n;
    if (!has_failed) break;
  }
}

TEST_F(DeadLettersCleaning, LosesNothingWhereverItIsKilled) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    auto letters = Wasteful(fs);
    fs.CrashAfter(n);
    IgnoreStatus(letters->Clean(10, 40), "it is killed in there");
    const bool has_crashed = fs.crashed();
    letters.reset();
    Random random(n);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto again, DeadLetters::Open(fs, kDir, false, &damage));
    ExpectComplete(*again);
    EXPECT_THAT(damage, IsEmpty()) << n;
    ASSERT_OK(again->Add(Rejected(60)));
    if (!has_crashed) break;
  }
}

}  // namespace
}  // namespace taskwal::pipeline
