#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "pipeline/flush/letter_file.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/dead_letters_fixture.h"

namespace taskwal::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(DeadLettersTest, BeginsANewFileWhenOneIsFull) {
  DeadLetter large = Rejected(1);
  large.body.resize(kLetterFileBytes);
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(large));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  EXPECT_TRUE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  const auto letters = Open();
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(1, 2));
  ASSERT_OK(letters->Add(Rejected(3)));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2, 3));
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(DeadLettersTest, CutsATornLastEntryAndKeepsACopy) {
  std::uint64_t end = 0;
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    end = fs_.Content(kFirst).size() + EntryBytes(Rejected(2));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  for (std::uint64_t cut = 1; cut < 40; ++cut) {
    SimulatedFileSystem fresh;
    ASSERT_OK(fresh.MakeDirectories("/wal/dead-letters"));
    ASSERT_OK(WriteFileAtomically(fresh, kFirst, fs_.Content(kFirst).substr(0, end - cut)));
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fresh, kDir, false, &damage));
    EXPECT_THAT(LsnsOf(*letters), ElementsAre(1)) << cut;
    EXPECT_THAT(damage, IsEmpty());
    ASSERT_OK(letters->Add(Rejected(3)));
    ASSERT_OK_AND_ASSIGN(const auto again, DeadLetters::Open(fresh, kDir, false, &damage));
    EXPECT_THAT(LsnsOf(*again), ElementsAre(1, 3)) << cut;
    EXPECT_THAT(damage, IsEmpty());
    EXPECT_THAT(fresh.Dump("/wal/quarantine"), SizeIs(1));
  }
}

// As a file of an earlier version ends, or one whose last sector was cut.
TEST_F(DeadLettersTest, WritesNothingIntoASectorThatHoldsALetter) {
  std::uint64_t end = 0;
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    end = kLetterFileHeaderBytes + EntryBytes(Rejected(1));
    EXPECT_EQ(fs_.Content(kFirst).size() % 512, 0u);
  }
  fs_.TruncateFile(kFirst, end);
  const auto letters = Open();
  const std::string before = fs_.Content(kFirst);  // made anew as a whole
  EXPECT_NE(before.size() % 512, 0u);
  ASSERT_OK(letters->Add(Rejected(2)));
  EXPECT_EQ(fs_.Content(kFirst), before);
  EXPECT_TRUE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2));
  EXPECT_THAT(damage_, IsEmpty());
}

// The sectors that were being written are garbage.
TEST_F(DeadLettersTest, ALetterOutlivesThePowerCutInWhichTheNextIsWritten) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    for (std::uint64_t call = 1; call <= 2; ++call) {
      SimulatedFileSystem fs(seed);
      ASSERT_OK(fs.MakeDirectories(kDir));
      {
        ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
        ASSERT_OK(letters->Add(Rejected(1)));
        fs.CrashAfter(call);
        IgnoreStatus(letters->Add(Rejected(2)), "it is killed in there");
      }
      Random random(seed);
      fs.PowerLoss(random, {.kept = 0.0, .garbage = 1.0});
      ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, true));
      EXPECT_TRUE(letters->Contains(wal_id_, 1)) << seed << " " << call;
    }
  }
}

TEST_F(DeadLettersTest, ReportsDamageBeforeASoundEntryAndPassesOverIt) {
  std::uint64_t second = 0;
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    second = fs_.Content(kFirst).size();
    for (const wal::Lsn lsn : {2, 3}) ASSERT_OK(letters->Add(Rejected(lsn)));
  }
  fs_.Corrupt(kFirst, second + EntryBytes(Rejected(2)) / 2, 0x10);
  const auto letters = Open();
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(1, 3));
  EXPECT_THAT(damage_, ElementsAre(HasSubstr("letters-00000001: bytes")));
}

TEST_F(DeadLettersTest, NoticesEveryFlippedByteOfOlderEntries) {
  {
    const auto letters = Open();
    for (const wal::Lsn lsn : {1, 2}) ASSERT_OK(letters->Add(Rejected(lsn)));
  }
  const std::uint64_t entry = (fs_.Content(kFirst).size() - kLetterFileHeaderBytes) / 2;
  for (std::uint64_t at = 0; at < kLetterFileHeaderBytes + entry; ++at) {
    fs_.Corrupt(kFirst, at, 0x01);
    Open(true);
    EXPECT_THAT(damage_, SizeIs(1)) << at;
    fs_.Corrupt(kFirst, at, 0x01);
  }
  Open(true);
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(DeadLettersTest, NoticesAnOlderFileThatWasCutOrRemoved) {
  DeadLetter large = Rejected(1);
  large.body.resize(kLetterFileBytes);
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(large));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  fs_.TruncateFile(kFirst, 1000);
  Open(true);
  EXPECT_THAT(damage_, ::testing::Contains(HasSubstr("was cut short")));
  ASSERT_OK(fs_.Remove(kFirst));
  EXPECT_THAT(LsnsOf(*Open(true)), ElementsAre(2));
  EXPECT_THAT(damage_, ElementsAre(HasSubstr("letters-00000001 is missing")));
}

TEST_F(DeadLettersTest, SaysWhenALetterIsDamagedAfterOpening) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(1)));
  fs_.Corrupt(kFirst, kLetterFileHeaderBytes + 40, 0x01);
  EXPECT_THAT(letters->ForEach([](const DeadLetter&) { return true; }),
              StatusIs(StatusCode::kCorruption));
}

TEST_F(DeadLettersTest, ChangesNothingWhenReadOnly) {
  ASSERT_OK(Open()->Add(Rejected(1)));
  fs_.TruncateFile(kFirst, fs_.Content(kFirst).size() + 3);
  const auto before = fs_.Dump(kDir);
  EXPECT_THAT(LsnsOf(*Open(true)), ElementsAre(1));
  EXPECT_EQ(fs_.Dump(kDir), before);
}

TEST_F(DeadLettersTest, WaitsForSpaceAndUsesTheSameFile) {
  const auto letters = Open();
  fs_.SetCapacity(10);
  EXPECT_THAT(letters->Add(Rejected(1)), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(letters->Contains(wal_id_, 1));
  fs_.SetCapacity(1 << 20);
  ASSERT_OK(letters->Add(Rejected(1)));
  EXPECT_FALSE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1));
}

TEST_F(DeadLettersTest, LeavesAFileWhoseSyncFailed) {
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    fs_.FailNth(1, {.call = SimulatedCall::kSync});
    EXPECT_THAT(letters->Add(Rejected(2)), StatusIs(StatusCode::kIoError));
    EXPECT_FALSE(letters->Contains(wal_id_, 2));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  EXPECT_TRUE(fs_.Exists("/wal/dead-letters/letters-00000002"));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2));
  EXPECT_THAT(damage_, IsEmpty());
}

// For N = 1, 2, 3… the process that makes the file is killed in its N-th call. The next one goes on
// in that file, and its name must be on disk before a letter in it counts.
TEST_F(DeadLettersTest, GoesOnInTheFileOfAKilledProcessAndKeepsItOverAPowerCut) {
  constexpr std::uint64_t kSeeds = 8;  // the call that it dies in had its effect, or not
  bool has_died = true;
  for (std::uint64_t n = 1; has_died; ++n) {
    has_died = false;
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
      SimulatedFileSystem fs(seed);
      ASSERT_OK(fs.MakeDirectories(kDir));
      {
        ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
        fs.CrashAfter(n);
        IgnoreStatus(letters->Add(Rejected(1)), "it is killed in there");
        has_died = has_died || fs.crashed();
      }
      fs.Kill();
      {
        ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
        ASSERT_OK(letters->Add(Rejected(2)));
      }
      Random random(seed);
      fs.PowerLoss(random, {.kept = 0.0, .garbage = 0.0});
      ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, true));
      EXPECT_TRUE(letters->Contains(wal_id_, 2)) << n << " " << seed;
    }
  }
}

// For N = 1, 2, 3… the N-th call fails; what Add said is true after a power cut.
TEST_F(DeadLettersTest, KeepsWhatItPromisedWhicheverCallFails) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    fs.FailNth(n, {});
    const std::uint64_t before = fs.calls();
    std::vector<wal::Lsn> kept;
    {
      auto letters = DeadLetters::Open(fs, kDir, false);
      for (wal::Lsn lsn = 1; letters.ok() && lsn <= 4; ++lsn) {
        if ((*letters)->Add(Rejected(lsn)).ok()) kept.push_back(lsn);
      }
    }
    const bool has_failed = fs.calls() - before >= n;
    fs.ClearFaults();
    Random random(n);
    fs.PowerLoss(random);
    ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false));
    for (const wal::Lsn lsn : kept) EXPECT_TRUE(letters->Contains(wal_id_, lsn)) << n;
    ASSERT_OK(letters->Add(Rejected(9)));
    if (!has_failed) break;
  }
}

TEST_F(DeadLettersTest, KeepsWhatItPromisedWhereverItIsKilled) {
  for (std::uint64_t n = 1;; ++n) {
    SimulatedFileSystem fs(n);
    ASSERT_OK(fs.MakeDirectories(kDir));
    fs.CrashAfter(n);
    std::vector<wal::Lsn> kept;
    {
      auto letters = DeadLetters::Open(fs, kDir, false);
      for (wal::Lsn lsn = 1; letters.ok() && lsn <= 4; ++lsn) {
        if ((*letters)->Add(Rejected(lsn)).ok()) kept.push_back(lsn);
      }
    }
    const bool has_crashed = fs.crashed();
    Random random(n);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, kDir, false, &damage));
    for (const wal::Lsn lsn : kept) EXPECT_TRUE(letters->Contains(wal_id_, lsn)) << n;
    EXPECT_THAT(damage, IsEmpty()) << n;
    ASSERT_OK(letters->Add(Rejected(9)));
    if (!has_crashed) break;
  }
}

// Who wrote a letter was killed before its sync, or behind one that failed. What the next process
// finds it goes by, and lets the watermark pass: then it must be on disk.
class UnprovenLetter : public DeadLettersTest {
 protected:
  // Letter 2 is added while `disturb` of its n-th call; true when that was reached.
  template <typename Disturb>
  bool IsKeptOnceFound(bool is_first, std::uint64_t n, std::uint64_t seed, Disturb&& disturb) {
    SimulatedFileSystem fs(seed);
    EXPECT_OK(fs.MakeDirectories(kDir));
    auto letters = DeadLetters::Open(fs, kDir, false).value();
    if (!is_first) {
      EXPECT_OK(letters->Add(Rejected(1)));
    }
    const std::uint64_t before = fs.calls();
    disturb(fs, n);
    IgnoreStatus(letters->Add(Rejected(2)), "it is disturbed");
    const bool was_reached = fs.calls() - before >= n;
    letters.reset();
    fs.ClearFaults();
    fs.Kill();
    const auto found = LsnsOf(**DeadLetters::Open(fs, kDir, false));
    Random random(seed);
    fs.PowerLoss(random);
    std::vector<std::string> damage;
    const auto left = LsnsOf(**DeadLetters::Open(fs, kDir, false, &damage));
    EXPECT_EQ(left, found) << "call " << n << " seed " << seed;
    EXPECT_THAT(damage, IsEmpty()) << "call " << n << " seed " << seed;
    return was_reached;
  }
  template <typename Disturb>
  void ExpectKeptOnceFound(Disturb&& disturb) {
    for (const bool is_first : {false, true}) {
      for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        for (std::uint64_t n = 1; IsKeptOnceFound(is_first, n, seed, disturb); ++n) {
        }
      }
    }
  }
};

TEST_F(UnprovenLetter, OfAProcessThatWasKilledIsKeptOnceFound) {
  ExpectKeptOnceFound([](SimulatedFileSystem& fs, std::uint64_t n) { fs.CrashAfter(n); });
}

TEST_F(UnprovenLetter, BehindAFailedSyncIsKeptOnceFound) {
  ExpectKeptOnceFound([](SimulatedFileSystem& fs, std::uint64_t n) { fs.FailNth(n, {}); });
}

// Nothing grows by opening alone, and who only reads writes nothing.
TEST_F(UnprovenLetter, BehindADamagedHeaderHidesNoOther) {
  DeadLetter large = Rejected(1);
  large.body.resize(kLetterFileBytes);
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(large));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  fs_.Corrupt("/wal/dead-letters/letters-00000002", 20, 1);
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2));
  EXPECT_THAT(damage_, SizeIs(1));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1, 2));
}

TEST_F(UnprovenLetter, IsWrittenAgainOnce) {
  ASSERT_OK(Open()->Add(Rejected(1)));
  const auto before = fs_.Dump(kDir);
  EXPECT_THAT(LsnsOf(*Open(/*read_only=*/true)), ElementsAre(1));
  EXPECT_EQ(fs_.Dump(kDir), before);
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1));
  const auto again = fs_.Dump(kDir);
  EXPECT_NE(again, before);
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(1));
  EXPECT_EQ(fs_.Dump(kDir), again);
}

}  // namespace
}  // namespace taskwal::pipeline
