#include "pipeline/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "pipeline/flush/missing_records.h"
#include "pipeline/wal_task_storage.h"
#include "tests/support/live_copy.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class IdentityTest : public ::testing::Test {
 protected:
  IdentityTest() {
    options_.ring_bytes = 1u << 20;
    options_.initial_backoff = milliseconds(1);
  }

  Result<std::unique_ptr<WalTaskStorage>> Open(const std::string& name,
                                               SwitchableDatabase& database) {
    WalStorageSetup setup;
    setup.options = options_;
    setup.options.wal_dir = dir_.File(name);
    setup.backend = database.Open();
    return WalTaskStorage::Open(std::move(setup));
  }
  Result<AdoptReport> Adopt(const std::string& name, SwitchableDatabase& database, Adoption word) {
    const auto backend = database.Open();
    const AdoptDatabase only[] = {{"default", backend.get()}};
    return pipeline::Adopt(FileSystem::Real(), Clock::Real(), dir_.File(name), only, word);
  }
  // `first` to `last` as activities; drained or left in the log.
  void Log(const std::string& name, SwitchableDatabase& database, int first, int last, bool drain) {
    if (!drain) database.GoAway();
    ASSERT_OK_AND_ASSIGN(auto storage, Open(name, database));
    for (int i = first; i <= last; ++i) {
      Activity activity;
      activity.id = "a" + std::to_string(i);
      ASSERT_OK(storage->LogActivity(activity, {}));
    }
    const Status closed =
        storage->Shutdown(drain ? ShutdownMode::kGraceful : ShutdownMode::kImmediate, seconds(20));
    EXPECT_EQ(closed.ok(), drain) << closed.ToString();
    database.ComeBack();
  }
  void Copy(const std::string& from, const std::string& to) {
    std::filesystem::copy(dir_.File(from), dir_.File(to), std::filesystem::copy_options::recursive);
  }
  // The ring first: what that has given up by then stands in the segments.
  void CopyWhileItRuns(const std::string& from, const std::string& to) {
    std::filesystem::create_directories(dir_.File(to));
    std::filesystem::copy_file(dir_.File(from + "/RING"), dir_.File(to + "/RING"));
    CopyAlive(dir_.File(from), dir_.File(to));
  }
  // Opens, drains, and says how many activities the database has.
  std::uint64_t DrainAndCount(const std::string& name, SwitchableDatabase& database) {
    auto storage = Open(name, database);
    EXPECT_OK(storage);
    if (!storage.ok()) return 0;
    EXPECT_OK((*storage)->Flush(seconds(20)));
    const auto counts = (*storage)->Count();
    EXPECT_OK(counts);
    return counts.ok() ? counts->activities : 0;
  }

  // Leaves segments of LSN 1 to 3 (in the database), 4 to 5 and 6 (in the log alone), without the
  // first `lost` of them, and a STATE that cannot be read.
  void LogAndLoseState(int lost) {
    options_.partitions = 1;
    Log("wal", database_, 1, 3, true);
    Log("wal", database_, 4, 5, false);
    Log("wal", database_, 6, 6, false);
    for (int i = 1; i <= lost; ++i) {
      ASSERT_TRUE(std::filesystem::remove(
          dir_.File("wal/" + wal::SegmentName(static_cast<std::uint64_t>(i)))));
    }
    std::ofstream(dir_.File("wal/STATE")) << "nothing\n";
    ASSERT_THAT(Open("wal", database_), StatusIs(StatusCode::kFenced));
  }
  // Drained: what was declared lost.
  std::vector<wal::LsnRange> DrainAndListLosses(const std::string& name) {
    auto storage = Open(name, database_);
    EXPECT_OK(storage);
    if (!storage.ok()) return {};
    EXPECT_OK((*storage)->Flush(seconds(20)));
    std::vector<wal::LsnRange> losses;
    const auto letters = (*storage)->GetDeadLetters()->List(100);
    EXPECT_OK(letters);
    for (const DeadLetterInfo& letter : *letters) {
      if (letter.is_loss) losses.push_back({letter.from_lsn, letter.to_lsn});
    }
    return losses;
  }

  TempDir dir_;
  Options options_;
  SwitchableDatabase database_;
};

TEST_F(IdentityTest, WhatIsGoneWithoutStateAndNotInTheDatabaseIsNamed) {
  LogAndLoseState(2);
  ASSERT_OK(Adopt("wal", database_, Adoption::kMoved));
  EXPECT_THAT(DrainAndListLosses("wal"), ElementsAre(wal::LsnRange{4, 5}));
  EXPECT_EQ(DrainAndCount("wal", database_), 4u);
}

TEST_F(IdentityTest, WhatIsGoneWithoutStateAndInTheDatabaseIsNoLoss) {
  LogAndLoseState(1);
  ASSERT_OK(Adopt("wal", database_, Adoption::kMoved));
  EXPECT_THAT(DrainAndListLosses("wal"), IsEmpty());
  EXPECT_EQ(DrainAndCount("wal", database_), 6u);
}

// A partition without records for long is behind the log's beginning, and lacks nothing.
TEST_F(IdentityTest, IdlePartitionsLackNothingWithoutState) {
  options_.partitions = 16;
  Log("wal", database_, 1, 3, true);
  Log("wal", database_, 4, 5, true);
  ASSERT_TRUE(std::filesystem::remove(dir_.File("wal/" + wal::SegmentName(1))));
  std::ofstream(dir_.File("wal/STATE")) << "nothing\n";
  ASSERT_THAT(Open("wal", database_), StatusIs(StatusCode::kFenced));
  ASSERT_OK_AND_ASSIGN(const AdoptReport report, Adopt("wal", database_, Adoption::kMoved));
  EXPECT_THAT(DrainAndListLosses("wal"), IsEmpty());
  EXPECT_EQ(DrainAndCount("wal", database_), 5u);
  // It may as well have been a loss, and so it is told: all but what the database says it has.
  const auto backend = database_.Open();
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  ASSERT_OK_AND_ASSIGN(const storage::LogRow row, session->ReadLog(report.wal_id));
  const std::vector<wal::Lsn> gone(16, 3);
  ASSERT_FALSE(report.unknown.empty());
  EXPECT_EQ(report.unknown, FindMissing(row.watermarks, gone, 3));
}

// Of a killed process whose STATE and headers of segments are damaged, RING alone says who it was,
// and the database how many partitions it had.
TEST_F(IdentityTest, TheDatabaseKnowsThePartitionsOfALogThatRingAloneNames) {
  options_.partitions = 3;
  Log("wal", database_, 1, 3, true);
  {
    database_.GoAway();
    ASSERT_OK_AND_ASSIGN(auto storage, Open("wal", database_));
    Activity activity;
    activity.id = "a4";
    ASSERT_OK(storage->LogActivity(activity, {}));
    CopyWhileItRuns("wal", "killed");
    ASSERT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}),
                StatusIs(StatusCode::kUnavailable));
  }
  database_.ComeBack();
  std::ofstream(dir_.File("killed/STATE")) << "nothing\n";
  for (const auto& file : std::filesystem::directory_iterator(dir_.File("killed"))) {
    if (!wal::ParseSegmentName(file.path().filename().string())) continue;
    std::fstream(file.path(), std::ios::in | std::ios::out | std::ios::binary) << "no header";
  }
  options_.partitions = wal::LogState().partitions;
  ASSERT_THAT(Open("killed", database_), StatusIs(StatusCode::kFenced));
  ASSERT_OK(Adopt("killed", database_, Adoption::kMoved));
  ASSERT_OK_AND_ASSIGN(const wal::LogState state,
                       wal::ReadState(FileSystem::Real(), dir_.File("killed")));
  EXPECT_EQ(state.partitions, 3u);
  EXPECT_EQ(DrainAndCount("killed", database_), 4u);
}

TEST_F(IdentityTest, AMovedDirectoryGoesOnAsBefore) {
  Log("wal", database_, 1, 3, true);
  Log("wal", database_, 4, 5, false);
  Copy("wal", "moved");
  std::filesystem::remove_all(dir_.File("wal"));
  ASSERT_THAT(Open("moved", database_), StatusIs(StatusCode::kFenced));
  ASSERT_OK_AND_ASSIGN(const AdoptReport report, Adopt("moved", database_, Adoption::kMoved));
  EXPECT_TRUE(report.changed);
  EXPECT_TRUE(report.unknown.empty());
  EXPECT_EQ(DrainAndCount("moved", database_), 5u);
  // Said once more: it knows itself.
  ASSERT_OK_AND_ASSIGN(const AdoptReport again, Adopt("moved", database_, Adoption::kMoved));
  EXPECT_FALSE(again.changed);
  EXPECT_EQ(again.wal_id, report.wal_id);
}

TEST_F(IdentityTest, ARelabelledCopyBringsOnlyWhatItAppendedItself) {
  Log("wal", database_, 1, 3, true);
  Log("wal", database_, 4, 5, false);  // the original's to bring
  Copy("wal", "copy");
  Log("copy", database_, 6, 7, false);
  ASSERT_OK_AND_ASSIGN(const AdoptReport report, Adopt("copy", database_, Adoption::kRelabel));
  EXPECT_EQ(report.from, 6u);
  EXPECT_EQ(DrainAndCount("copy", database_), 5u);  // 1, 2, 3, 6, 7
  EXPECT_EQ(DrainAndCount("wal", database_), 7u);
  EXPECT_EQ(DrainAndCount("copy", database_), 7u);  // both go on
}

TEST_F(IdentityTest, ADirectoryThatIsNoCopyIsNotRelabelled) {
  Log("wal", database_, 1, 3, true);
  EXPECT_THAT(Adopt("wal", database_, Adoption::kRelabel),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no copy")));
  EXPECT_EQ(DrainAndCount("wal", database_), 3u);
}

TEST_F(IdentityTest, ANewDatabaseIsFedFromTheOldestRecord) {
  Log("wal", database_, 1, 3, true);
  SwitchableDatabase fresh;
  ASSERT_THAT(Open("wal", fresh), StatusIs(StatusCode::kFenced, HasSubstr("--new-db")));
  ASSERT_OK_AND_ASSIGN(const AdoptReport report, Adopt("wal", fresh, Adoption::kNewDatabase));
  EXPECT_EQ(report.from, 1u);
  EXPECT_EQ(DrainAndCount("wal", fresh), 3u);
  // And back again: that one knows the log, and goes on where it was.
  Log("wal", fresh, 4, 4, true);
  ASSERT_OK(Adopt("wal", database_, Adoption::kNewDatabase));
  EXPECT_EQ(DrainAndCount("wal", database_), 4u);
}

TEST_F(IdentityTest, ACopyMayFeedAnotherDatabase) {
  Log("wal", database_, 1, 3, true);
  Copy("wal", "copy");
  SwitchableDatabase fresh;
  ASSERT_OK_AND_ASSIGN(const AdoptReport report, Adopt("copy", fresh, Adoption::kNewDatabase));
  EXPECT_EQ(report.from, 1u);
  EXPECT_EQ(DrainAndCount("copy", fresh), 3u);
  EXPECT_EQ(DrainAndCount("wal", database_), 3u);
}

TEST_F(IdentityTest, WordsThatDoNotFitAreRefusedAndChangeNothing) {
  Log("wal", database_, 1, 3, true);
  Copy("wal", "copy");
  SwitchableDatabase fresh;
  EXPECT_THAT(Adopt("copy", database_, Adoption::kNewDatabase),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("--relabel")));
  EXPECT_THAT(Adopt("copy", fresh, Adoption::kMoved),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("--new-db")));
  EXPECT_THAT(Adopt("copy", fresh, Adoption::kRelabel),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("--new-db")));
  EXPECT_THAT(Open("copy", database_), StatusIs(StatusCode::kFenced));
}

TEST_F(IdentityTest, NeedsALogADatabaseAndTheLock) {
  EXPECT_THAT(Adopt("absent", database_, Adoption::kMoved), StatusIs(StatusCode::kNotFound));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("absent")));
  Log("wal", database_, 1, 1, true);
  database_.GoAway();
  EXPECT_THAT(Adopt("wal", database_, Adoption::kMoved), StatusIs(StatusCode::kUnavailable));
  database_.ComeBack();
  ASSERT_OK_AND_ASSIGN(auto storage, Open("wal", database_));
  EXPECT_THAT(Adopt("wal", database_, Adoption::kMoved), StatusIs(StatusCode::kUnavailable));
}

TEST_F(IdentityTest, AnEpochThatTheDatabaseHasSeenIsNotUsedAgain) {
  Log("wal", database_, 1, 1, true);
  Copy("wal", "backup");
  for (int i = 2; i < 6; ++i) Log("wal", database_, i, i, true);  // five epochs
  std::filesystem::remove_all(dir_.File("wal"));
  // The restored directory is older than what the database knows of it: under its old name its next
  // LSNs would be taken for records that are there already.
  EXPECT_THAT(Adopt("backup", database_, Adoption::kMoved),
              StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK(Adopt("backup", database_, Adoption::kRelabel));
  Log("backup", database_, 100, 102, true);
  EXPECT_EQ(DrainAndCount("backup", database_), 8u);
}

// Both continue where the copy was made. The second to come to the database is refused, however
// often it tries (each open raises its epoch), and nothing it accepted is taken for the other's
// records.
TEST_F(IdentityTest, TheOriginalIsRefusedForGoodOnceTheCopyHasTakenOver) {
  Log("wal", database_, 1, 1, true);
  Copy("wal", "copy");
  ASSERT_OK(Adopt("copy", database_, Adoption::kMoved));
  Log("copy", database_, 2, 3, true);
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(Open("wal", database_), StatusIs(StatusCode::kFenced)) << i;
  }
}

// The ring of a killed process belongs to the original, as its segments do.
TEST_F(IdentityTest, WhatTheRingOfACopyHeldIsTheOriginals) {
  database_.GoAway();
  {
    ASSERT_OK_AND_ASSIGN(auto storage, Open("wal", database_));
    WriteOptions write;
    write.durability = Durability::kProcess;
    Activity activity;
    activity.id = "original";
    ASSERT_OK(storage->LogActivity(activity, write));
    CopyWhileItRuns("wal", "copy");
    ASSERT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}),
                StatusIs(StatusCode::kUnavailable));
  }
  database_.ComeBack();
  ASSERT_EQ(DrainAndCount("wal", database_), 1u);
  ASSERT_OK_AND_ASSIGN(const AdoptReport report, Adopt("copy", database_, Adoption::kRelabel));
  EXPECT_EQ(report.from, 2u);
}

}  // namespace
}  // namespace taskwal::pipeline
