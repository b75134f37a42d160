#include "pipeline/flush/dead_letters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "pipeline/flush/letter_file.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using storage::OperationType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kDir[] = "/wal";
constexpr char kFirst[] = "/wal/dead-letters/letters-00000001";

class DeadLettersTest : public ::testing::Test {
 protected:
  DeadLettersTest() { EXPECT_OK(fs_.MakeDirectories(kDir)); }

  std::unique_ptr<DeadLetters> Open(bool read_only = false) {
    damage_.clear();
    auto letters = DeadLetters::Open(fs_, kDir, read_only, &damage_);
    EXPECT_OK(letters);
    return letters.ok() ? std::move(letters).value() : nullptr;
  }

  DeadLetter Rejected(wal::Lsn lsn, const std::string& task = "task",
                      OperationType type = OperationType::kTaskUpdate) const {
    DeadLetter letter;
    letter.wal_id = wal_id_;
    letter.lsns = {lsn, lsn};
    letter.stamp = 7;
    letter.type = type;
    letter.body = {std::byte{1}, std::byte{2}};
    letter.task_id = task;
    letter.error = "constraint failed";
    letter.sql_code = "SQLite 275";
    letter.attempts = 4;
    letter.first_failed = Time(std::chrono::microseconds(111));
    letter.last_failed = Time(std::chrono::microseconds(222));
    letter.backend = "sqlite://x.db";
    return letter;
  }
  DeadLetter Loss(wal::Lsn from, wal::Lsn to) const {
    DeadLetter letter;
    letter.kind = DeadLetter::Kind::kLoss;
    letter.wal_id = wal_id_;
    letter.lsns = {from, to};
    letter.error = "wal-00000001.log offset 4096: body checksum";
    return letter;
  }
  static std::vector<DeadLetter> All(const DeadLetters& letters) {
    std::vector<DeadLetter> all;
    EXPECT_OK(letters.ForEach([&](const DeadLetter& letter) {
      all.push_back(letter);
      return true;
    }));
    return all;
  }
  static std::vector<wal::Lsn> LsnsOf(const DeadLetters& letters) {
    std::vector<wal::Lsn> lsns;
    for (const DeadLetter& letter : All(letters)) lsns.push_back(letter.lsns.from);
    return lsns;
  }

  SimulatedFileSystem fs_;
  const Uuid wal_id_ = *Uuid::Parse("11111111-2222-4333-8444-555555555555");
  std::vector<std::string> damage_;
};

TEST_F(DeadLettersTest, StartsEmptyAndMakesNothing) {
  const auto letters = Open();
  EXPECT_EQ(letters->count(), 0u);
  EXPECT_THAT(All(*letters), IsEmpty());
  EXPECT_FALSE(fs_.Exists("/wal/dead-letters"));
}

TEST_F(DeadLettersTest, GivesBackEveryField) {
  ASSERT_OK(Open()->Add(Rejected(5)));
  const auto all = All(*Open());
  ASSERT_THAT(all, SizeIs(1));
  const DeadLetter& letter = all[0];
  EXPECT_EQ(letter.kind, DeadLetter::Kind::kRejected);
  EXPECT_EQ(letter.id(), "11111111-2222-4333-8444-555555555555-5");
  EXPECT_EQ(letter.lsns, (wal::LsnRange{5, 5}));
  EXPECT_EQ(letter.stamp, 7u);
  EXPECT_EQ(letter.type, OperationType::kTaskUpdate);
  EXPECT_EQ(letter.body, (std::vector{std::byte{1}, std::byte{2}}));
  EXPECT_EQ(letter.task_id, "task");
  EXPECT_EQ(letter.error, "constraint failed");
  EXPECT_EQ(letter.sql_code, "SQLite 275");
  EXPECT_EQ(letter.attempts, 4u);
  EXPECT_EQ(letter.first_failed, Time(std::chrono::microseconds(111)));
  EXPECT_EQ(letter.last_failed, Time(std::chrono::microseconds(222)));
  EXPECT_EQ(letter.backend, "sqlite://x.db");
}

TEST_F(DeadLettersTest, KeepsTheOrderOfAdding) {
  const auto letters = Open();
  for (const wal::Lsn lsn : {9, 3, 7}) ASSERT_OK(letters->Add(Rejected(lsn)));
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(9, 3, 7));
  EXPECT_THAT(LsnsOf(*Open()), ElementsAre(9, 3, 7));
}

TEST_F(DeadLettersTest, StopsVisitingWhenTold) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(1)));
  ASSERT_OK(letters->Add(Rejected(2)));
  int visits = 0;
  EXPECT_OK(letters->ForEach([&](const DeadLetter&) { return ++visits < 1; }));
  EXPECT_EQ(visits, 1);
}

TEST_F(DeadLettersTest, KnowsLettersByLogAndLsn) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(5)));
  EXPECT_TRUE(letters->Contains(wal_id_, 5));
  EXPECT_FALSE(letters->Contains(wal_id_, 6));
  EXPECT_FALSE(letters->Contains(Uuid(), 5));
}

TEST_F(DeadLettersTest, AddsALetterOnce) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(5)));
  ASSERT_OK(letters->Add(Rejected(5)));
  EXPECT_EQ(letters->count(), 1u);
  EXPECT_EQ(Open()->count(), 1u);
}

TEST_F(DeadLettersTest, SurvivesPowerLossOnceAdded) {
  ASSERT_OK(Open()->Add(Rejected(5)));
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0.0});
  EXPECT_TRUE(Open()->Contains(wal_id_, 5));
}

TEST_F(DeadLettersTest, CountsTheLsnsOfLossesApart) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Loss(10, 19)));
  EXPECT_EQ(letters->count(), 0u);
  EXPECT_EQ(letters->lost(), 10u);
  EXPECT_FALSE(letters->Contains(wal_id_, 10));
}

TEST_F(DeadLettersTest, AddsOnlyWhatNoOtherLossCovers) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Loss(10, 19)));
  ASSERT_OK(letters->Add(Loss(30, 39)));
  ASSERT_OK(letters->Add(Loss(12, 15)));
  ASSERT_OK(letters->Add(Loss(5, 45)));
  EXPECT_EQ(letters->lost(), 41u);
  EXPECT_THAT(LsnsOf(*letters), ElementsAre(10, 30, 5, 20, 40));
  EXPECT_EQ(Open()->lost(), 41u);
}

// --- tasks whose save was lettered
// ----------------------------------------------------------------

TEST_F(DeadLettersTest, HoldsWhatComesBehindALetteredSave) {
  ASSERT_OK(Open()->Add(Rejected(10, "t")));
  const auto letters = Open();
  EXPECT_TRUE(letters->HoldsSaveOf("t"));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 11));
  EXPECT_FALSE(letters->HoldsSaveOf("t", 10));
  EXPECT_FALSE(letters->HoldsSaveOf("u"));
}

TEST_F(DeadLettersTest, HoldsNothingBehindOtherLetters) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(10, "t", OperationType::kStatusUpdate)));
  ASSERT_OK(letters->Add(Rejected(11, "t", OperationType::kActivityLog)));
  EXPECT_FALSE(letters->HoldsSaveOf("t"));
}

TEST_F(DeadLettersTest, HoldsEveryTaskOfALetteredBatch) {
  std::vector<Task> tasks(2);
  tasks[0].id = "a";
  tasks[1].id = "b";
  DeadLetter letter = Rejected(10, "", OperationType::kBatchUpdate);
  letter.body.resize(storage::EncodedBytes(tasks));
  storage::Encode(tasks, Time(), letter.body);
  ASSERT_OK(Open()->Add(letter));
  const auto letters = Open();
  EXPECT_TRUE(letters->HoldsSaveOf("a"));
  EXPECT_TRUE(letters->HoldsSaveOf("b"));
}

TEST_F(DeadLettersTest, ClearsATaskDurablyFromAnLsnOn) {
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(10, "t")));
    ASSERT_OK(letters->ClearTask("t", 20));
  }
  Random random(3);
  fs_.PowerLoss(random, {.kept = 0.0});
  const auto letters = Open();
  EXPECT_FALSE(letters->HoldsSaveOf("t", 21));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 15));  // a replay of what came in between
  EXPECT_THAT(All(*letters), SizeIs(1));
}

TEST_F(DeadLettersTest, HoldsAgainWhenTheClearingSaveIsLetteredToo) {
  const auto letters = Open();
  ASSERT_OK(letters->Add(Rejected(10, "t")));
  ASSERT_OK(letters->ClearTask("t", 20));
  ASSERT_OK(letters->Add(Rejected(20, "t")));
  EXPECT_TRUE(letters->HoldsSaveOf("t", 21));
  EXPECT_TRUE(Open()->HoldsSaveOf("t", 21));
}

TEST_F(DeadLettersTest, WritesNothingToClearATaskThatIsNotHeld) {
  const auto letters = Open();
  ASSERT_OK(letters->ClearTask("t", 20));
  EXPECT_FALSE(fs_.Exists(kFirst));
}

// --- files
// ------------------------------------------------------------------------------------------

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
  {
    const auto letters = Open();
    ASSERT_OK(letters->Add(Rejected(1)));
    ASSERT_OK(letters->Add(Rejected(2)));
  }
  const std::uint64_t size = fs_.Content(kFirst).size();
  for (std::uint64_t cut = 1; cut < 40; ++cut) {
    SimulatedFileSystem fresh;
    ASSERT_OK(fresh.MakeDirectories("/wal/dead-letters"));
    ASSERT_OK(WriteFileAtomically(fresh, kFirst, fs_.Content(kFirst).substr(0, size - cut)));
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

TEST_F(DeadLettersTest, ReportsDamageBeforeASoundEntryAndPassesOverIt) {
  {
    const auto letters = Open();
    for (const wal::Lsn lsn : {1, 2, 3}) ASSERT_OK(letters->Add(Rejected(lsn)));
  }
  const std::uint64_t entry = (fs_.Content(kFirst).size() - kLetterFileHeaderBytes) / 3;
  fs_.Corrupt(kFirst, kLetterFileHeaderBytes + entry + entry / 2, 0x10);
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

TEST_F(DeadLettersTest, TakesLettersFromSeveralThreads) {
  const auto letters = Open();
  std::vector<std::thread> threads;
  for (wal::Lsn first = 0; first < 4; ++first) {
    threads.emplace_back([&, first] {
      for (wal::Lsn i = 0; i < 25; ++i) EXPECT_OK(letters->Add(Rejected(1 + first * 25 + i)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(letters->count(), 100u);
  EXPECT_EQ(Open()->count(), 100u);
}

TEST(LetterFile, ParsesOnlyItsOwnNames) {
  EXPECT_EQ(ParseLetterFileName(LetterFileName(7)), 7u);
  EXPECT_EQ(ParseLetterFileName(LetterFileName(123456789)), 123456789u);
  for (const char* name : {"letters-0", "letters-00000000", "letters-1", "letters-0000000a",
                           "letters-", "wal-00000001.log", "letters-00000001.tmp"}) {
    EXPECT_EQ(ParseLetterFileName(name), std::nullopt) << name;
  }
}

TEST(LetterFile, ValidatesAnEntryOnlyInItsPlace) {
  const std::vector<std::byte> body(10, std::byte{3});
  const auto entry = MakeEntry(EntryKind::kLetter, body, 1, 40);
  EXPECT_TRUE(ParseEntry(entry, 1, 40).has_value());
  EXPECT_FALSE(ParseEntry(entry, 1, 41).has_value());
  EXPECT_FALSE(ParseEntry(entry, 2, 40).has_value());
}

TEST(LetterFile, RefusesBodiesThatAreNoLetter) {
  DeadLetter letter;
  letter.lsns = {1, 1};
  std::vector<std::byte> body = EncodeLetter(letter);
  ASSERT_TRUE(DecodeLetter(body).has_value());
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(DecodeLetter(std::span(body).first(size)).has_value()) << size;
  }
  body.push_back(std::byte{0});
  EXPECT_FALSE(DecodeLetter(body).has_value());
  EXPECT_FALSE(DecodeTaskCleared(std::span(body).first(3)).has_value());
}

TEST(LetterFile, ReportsASoundEntryThatIsNoLetter) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/wal/dead-letters"));
  const auto append = [](std::string* file, const std::vector<std::byte>& bytes) {
    file->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  std::string file;
  append(&file, MakeLetterFileHeader(1, 0));
  append(&file, MakeEntry(EntryKind::kLetter, {}, 1, file.size()));
  append(&file, MakeEntry(static_cast<EntryKind>(99), {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kTaskCleared, {}, 1, file.size()));
  ASSERT_OK(WriteFileAtomically(fs, kFirst, file));
  std::vector<std::string> damage;
  ASSERT_OK(DeadLetters::Open(fs, kDir, false, &damage));
  EXPECT_THAT(damage, SizeIs(3));
}

}  // namespace
}  // namespace taskwal::pipeline
