#include "pipeline/flush/database_contact.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using storage::LogRow;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Verdict = ContactPlan::Verdict;

const Uuid kOurs = *Uuid::Parse("aaaaaaaa-0000-4000-8000-000000000001");
const Uuid kOther = *Uuid::Parse("bbbbbbbb-0000-4000-8000-000000000002");

wal::LogState State(std::vector<wal::Lsn> watermarks = {}, wal::Lsn flushed = 0,
                    wal::Lsn first = 1) {
  wal::LogState state;
  state.wal_id = *Uuid::Parse("cccccccc-0000-4000-8000-000000000003");
  state.partitions = 2;
  state.epoch = 5;
  state.registered_epoch = 5;
  state.first_lsn = first;
  state.db_id = kOurs;
  state.watermarks = std::move(watermarks);
  state.flushed_lsn = flushed;
  return state;
}

LogRow Row(std::vector<wal::Lsn> watermarks, std::uint64_t epoch = 4) {
  return {epoch, std::move(watermarks)};
}

// Every combination of what decides the verdict, against the rules written as one list.
TEST(Decide, JudgesEveryCombination) {
  int combinations = 0;
  for (const bool copied : {false, true}) {
    for (const bool is_known : {false, true}) {
      for (const std::uint64_t epoch : {4, 5, 6}) {
        for (const Uuid& recorded : {Uuid(), kOurs, kOther}) {
          for (const bool is_volatile : {false, true}) {
            wal::LogState state = State();
            state.copied = copied;
            state.db_id = recorded;
            const LogRow row = is_known ? Row({0, 0}, epoch) : LogRow();
            Verdict expected = Verdict::kGoOn;
            if (copied) {
              expected = is_known ? Verdict::kFencedCopy : Verdict::kTakeIdentity;
            } else if (is_known && epoch == 6) {
              expected = Verdict::kFencedEpoch;
            } else if (recorded == kOther && !is_volatile) {
              expected = Verdict::kFencedDatabase;
            }
            const ContactPlan plan = Decide(state, row, kOurs, is_volatile);
            EXPECT_EQ(plan.verdict, expected)
                << copied << is_known << epoch << recorded.ToString() << is_volatile;
            if (expected == Verdict::kGoOn) {
              EXPECT_EQ(plan.is_new_database, recorded.IsZero() && !is_volatile);
              EXPECT_THAT(plan.start, SizeIs(2));
            }
            ++combinations;
          }
        }
      }
    }
  }
  EXPECT_EQ(combinations, 2 * 2 * 3 * 3 * 2);
}

TEST(Decide, BringsEverythingRetainedWhereTheLogIsUnknown) {
  const ContactPlan plan = Decide(State({}, 500, 101), LogRow(), kOurs, false);
  EXPECT_THAT(plan.start, ElementsAre(100, 100));
  EXPECT_FALSE(plan.went_back);
  EXPECT_TRUE(plan.missing.empty());
}

TEST(Decide, StartsIdlePartitionsWhereAllWasSettled) {
  const ContactPlan plan = Decide(State({90, 20}, 80), Row({95, 20}), kOurs, false);
  EXPECT_THAT(plan.start, ElementsAre(95, 80));
  EXPECT_FALSE(plan.went_back);
}

TEST(Decide, ReplaysFromTheWatermarkOfADatabaseThatWentBack) {
  const ContactPlan plan = Decide(State({90, 20}, 80), Row({50, 20}), kOurs, false);
  EXPECT_TRUE(plan.went_back);
  EXPECT_THAT(plan.start, ElementsAre(50, 80));
  EXPECT_TRUE(plan.missing.empty());
}

TEST(Decide, NamesWhatIsNotInTheLogAnyMore) {
  const ContactPlan plan = Decide(State({90, 85}, 80, 61), Row({50, 40}), kOurs, false);
  EXPECT_TRUE(plan.went_back);
  EXPECT_THAT(plan.start, ElementsAre(60, 60));
  EXPECT_THAT(plan.missing,
              ElementsAre(MissingRecords{{41, 49}, {1}}, MissingRecords{{51, 60}, {}}));
}

TEST(Decide, NamesTheMissingWhereTheDatabaseForgotTheLog) {
  const ContactPlan plan = Decide(State({90, 85}, 80, 61), LogRow(), kOurs, false);
  EXPECT_TRUE(plan.went_back);
  EXPECT_THAT(plan.start, ElementsAre(60, 60));
  EXPECT_THAT(plan.missing, ElementsAre(MissingRecords{{1, 60}, {}}));
}

TEST(Decide, TrustsNoConfirmationOfAnotherDatabase) {
  wal::LogState state = State({90, 85}, 80);
  state.db_id = Uuid();
  const ContactPlan plan = Decide(state, Row({50, 40}), kOurs, false);
  EXPECT_FALSE(plan.went_back);
  EXPECT_THAT(plan.start, ElementsAre(50, 40));
}

TEST(Decide, StartsAVolatileDatabaseAtTheOldestRecord) {
  EXPECT_THAT(Decide(State({90, 85}, 80, 61), LogRow(), kOther, true).start, ElementsAre(60, 60));
  EXPECT_THAT(Decide(State({90, 85}, 80, 61), Row({70, 0}), kOther, true).start,
              ElementsAre(70, 60));
}

// --- after a reconnection
// ----------------------------------------------------------------------------

const std::vector<storage::WatermarkMove> kAttempt = {{0, 10, 15}, {1, 20, 25}};

Standing After(std::vector<wal::Lsn> row, std::uint64_t epoch = 5) {
  return Recheck(5, {10, 20, 30}, kAttempt, {epoch, std::move(row)});
}

TEST(Recheck, RepeatsWhatDidNothing) {
  EXPECT_EQ(After({10, 20, 30}), Standing::kUnchanged);
  EXPECT_EQ(Recheck(5, {10, 20, 30}, {}, {5, {10, 20, 30}}), Standing::kUnchanged);
}

TEST(Recheck, FindsTheCommitInDoubt) { EXPECT_EQ(After({15, 25, 30}), Standing::kCommitted); }

TEST(Recheck, LetsOtherPartitionsMoveOn) {
  EXPECT_EQ(After({10, 20, 99}), Standing::kUnchanged);
  EXPECT_EQ(After({15, 25, 99}), Standing::kCommitted);
}

TEST(Recheck, MeetsAgainADatabaseThatWentBack) {
  EXPECT_EQ(After({9, 20, 30}), Standing::kMeetAgain);
  EXPECT_EQ(After({10, 20, 29}), Standing::kMeetAgain);  // an idle partition
  EXPECT_EQ(After({15, 25, 29}), Standing::kMeetAgain);
  EXPECT_EQ(After({}), Standing::kMeetAgain);
  EXPECT_EQ(After({10, 20, 30}, 4), Standing::kMeetAgain);
}

TEST(Recheck, StopsWhereSomebodyElseWrites) {
  EXPECT_EQ(After({10, 20, 30}, 6), Standing::kFenced);
  EXPECT_EQ(After({15, 20, 30}), Standing::kFenced);
  EXPECT_EQ(After({12, 20, 30}), Standing::kFenced);
  EXPECT_EQ(After({16, 26, 30}), Standing::kFenced);
}

// --- carried out
// --------------------------------------------------------------------------------------

class ContactTest : public ::testing::Test {
 protected:
  Result<Contact> Meet() {
    return ContactDatabase({log_.log(), backend_, fs_, log_.directory()}, log_.log().state());
  }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  OperationLog log_{fs_, clock_};
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
};

TEST_F(ContactTest, MakesTheLogKnownAndRemembersTheDatabase) {
  ASSERT_OK_AND_ASSIGN(const Contact contact, Meet());
  EXPECT_EQ(log_.log().state().db_id, memory_.db_id());
  EXPECT_EQ(contact.identity.wal_id, log_.log().state().wal_id);
  EXPECT_EQ(contact.identity.epoch, log_.log().epoch());
  EXPECT_THAT(contact.start, SizeIs(OperationLog::kPartitions));
  EXPECT_THAT(contact.start, Each(0u));
  ASSERT_OK_AND_ASSIGN(const LogRow row, contact.session->ReadLog(contact.identity.wal_id));
  EXPECT_EQ(row.epoch, log_.log().epoch());
}

TEST_F(ContactTest, RemembersNoVolatileDatabase) {
  backend_.set_volatile(true);
  ASSERT_OK(Meet());
  EXPECT_TRUE(log_.log().state().db_id.IsZero());
}

TEST_F(ContactTest, RaisesTheClockToTheHighestStampSeen) {
  const auto wall = static_cast<std::uint64_t>(clock_.WallNow().time_since_epoch().count());
  const Uuid someone = Uuid::Make();
  ASSERT_OK_AND_ASSIGN(const auto session, memory_.Connect());
  ASSERT_OK(session->RegisterLog(someone, 1, std::vector<wal::Lsn>{0}));
  storage::Batch batch;
  batch.wal_id = someone;
  batch.epoch = 1;
  storage::TaskChange change;
  change.id = "t";
  change.origin = {1, wall + 777};
  batch.tasks.push_back(change);
  ASSERT_OK(session->Apply(batch));
  ASSERT_OK(Meet());
  EXPECT_GE(log_.log().NextStamp(clock_.WallNow()), wall + 777);
}

TEST_F(ContactTest, RefusesAnotherDatabaseAndNamesTheWayOut) {
  ASSERT_OK(Meet());
  storage::MemoryBackend another;
  backend_.SwitchTo(another);
  const auto contact = Meet();
  EXPECT_THAT(contact, StatusIs(StatusCode::kFenced));
  EXPECT_THAT(contact.status().message(),
              HasSubstr("taskwal adopt --wal /wal --db scripted: --new-db"));
}

TEST_F(ContactTest, RefusesWhereALaterOpenerHasTakenOver) {
  ASSERT_OK(Meet());
  ASSERT_OK_AND_ASSIGN(const auto session, memory_.Connect());
  ASSERT_OK(session->RegisterLog(log_.log().state().wal_id, 99, {}));
  EXPECT_THAT(Meet(), StatusIs(StatusCode::kFenced));
}

TEST_F(ContactTest, RefusesACopyWhereTheOriginalIsKnown) {
  ASSERT_OK(Meet());
  ASSERT_OK(log_.log().SetState([](wal::LogState* state) { state->copied = true; }));
  const auto contact = Meet();
  EXPECT_THAT(contact, StatusIs(StatusCode::kFenced));
  EXPECT_THAT(contact.status().message(),
              AllOf(HasSubstr("`taskwal adopt --wal /wal --db scripted: --moved`"),
                    HasSubstr("`taskwal adopt --wal /wal --db scripted: --relabel`"),
                    Not(HasSubstr("--new-db"))));
  EXPECT_TRUE(log_.log().state().copied);
}

// STATE and every header of a segment were damaged: the number of partitions was guessed.
TEST_F(ContactTest, BringsNothingUnderAnotherNumberOfPartitions) {
  const wal::LogState state = log_.log().state();
  ASSERT_OK_AND_ASSIGN(const auto session, memory_.Connect());
  const std::vector<wal::Lsn> stored(state.partitions + 1);
  ASSERT_OK(session->RegisterLog(state.wal_id, state.registered_epoch, stored));
  const auto contact = Meet();
  EXPECT_THAT(contact, StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(contact.status().message(), HasSubstr("taskwal adopt --moved"));
  EXPECT_TRUE(log_.log().state().db_id.IsZero());
}

TEST_F(ContactTest, GivesACopyItsOwnIdentityBeforeItFeedsAnotherDatabase) {
  log_.Save("a");
  log_.Sync();
  const Uuid before = log_.log().state().wal_id;
  ASSERT_OK(log_.log().SetState([](wal::LogState* state) {
    state->copied = true;
    state->copied_at = 1;
    state->db_id = kOther;
    state->watermarks = {1, 1, 1, 1};
    state->flushed_lsn = 1;
    state->lock_inode = 1;
  }));
  ASSERT_OK_AND_ASSIGN(const Contact contact, Meet());
  const wal::LogState state = log_.log().state();
  EXPECT_NE(state.wal_id, before);
  EXPECT_EQ(contact.identity.wal_id, state.wal_id);
  ASSERT_THAT(state.former, SizeIs(1));
  EXPECT_EQ(state.former[0].wal_id, before);
  EXPECT_EQ(state.former[0].last_lsn, 1u);
  EXPECT_EQ(contact.identity.OwnerOf(1), before);
  EXPECT_EQ(contact.identity.OwnerOf(2), state.wal_id);
  EXPECT_FALSE(state.copied);
  ASSERT_OK_AND_ASSIGN(const FileStat lock, fs_.Stat("/wal/LOCK"));
  EXPECT_EQ(state.lock_inode, lock.inode);
  EXPECT_EQ(state.lock_born, lock.born);
  EXPECT_EQ(state.db_id, memory_.db_id());
  EXPECT_THAT(contact.start, Each(0u));  // all it holds is brought
}

TEST_F(ContactTest, TakesNoIdentityThatItCannotKeep) {
  ASSERT_OK(log_.log().SetState([](wal::LogState* state) { state->copied = true; }));
  fs_.FailNth(1, {.call = SimulatedCall::kStat, .path_part = "LOCK"});
  EXPECT_FALSE(Meet().ok());
  EXPECT_TRUE(log_.log().state().copied);
}

TEST_F(ContactTest, ReplaysWhereTheDatabaseWentBack) {
  ASSERT_OK(Meet());
  ASSERT_OK(log_.log().SetState([](wal::LogState* state) {
    state->watermarks = {7, 0, 9, 0};
    state->flushed_lsn = 12;
  }));
  ASSERT_OK_AND_ASSIGN(const Contact contact, Meet());
  EXPECT_THAT(contact.start, ElementsAre(0, 12, 0, 12));
  EXPECT_THAT(contact.stored, Each(0u));
  EXPECT_EQ(contact.identity.replayed_until, 12u);
}

// The disk may run short while the database is asked.
TEST_F(ContactTest, NamesWhatWentWhileItLooked) {
  log_.Abandon();
  log_.Open(64u << 10);
  for (int i = 0; i < 100; ++i) {
    log_.Save("task-" + std::to_string(i), {}, 4000);
    log_.Sync();
    while (log_.log().MaintenanceStep()) {
    }
  }
  wal::Log& log = log_.log();
  ASSERT_OK(Meet());
  const std::vector<wal::Lsn> last(OperationLog::kPartitions, log.end_lsn());
  ASSERT_OK(log.SetState([&](wal::LogState* state) { state->watermarks = last; }));
  wal::LogState confirmed = log.state();
  confirmed.flushed_lsn = log.end_lsn();
  ASSERT_OK(log.Retire(50, last));
  const wal::Lsn first = log.first_lsn();
  ASSERT_GT(first, confirmed.first_lsn);
  ASSERT_OK_AND_ASSIGN(const Contact contact,
                       ContactDatabase({log, backend_, fs_, log_.directory()}, confirmed));
  EXPECT_THAT(contact.missing, ElementsAre(MissingRecords{{1, first - 1}, {}}));
  EXPECT_THAT(contact.start, Each(first - 1));
}

TEST_F(ContactTest, PassesEveryFailureOn) {
  using Question = ScriptedBackend::Question;
  for (const Question question :
       {Question::kHighestStamp, Question::kReadLog, Question::kRegisterLog}) {
    backend_.FailNext(question);
    EXPECT_THAT(Meet(), StatusIs(StatusCode::kUnavailable));
  }
  backend_.RefuseConnections(1);
  EXPECT_THAT(Meet(), StatusIs(StatusCode::kUnavailable));
  ASSERT_OK(Meet());
}

}  // namespace
}  // namespace taskwal::pipeline
