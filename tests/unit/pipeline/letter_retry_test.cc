// Retrying dead letters: through the log, exactly once, whatever happens in between.
#include "base/status_macros.h"
#include "pipeline/flush/letter_retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "pipeline/flush/flusher.h"
#include "pipeline/letter_desk.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using storage::TaskChange;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LetterRetryTest : public ::testing::Test {
 protected:
  LetterRetryTest() {
    options_.wal_dir = "/wal";
    options_.worker_count = 2;
    options_.backoff_jitter = false;
    options_.max_flush_retries = 0;
    Open();
  }

  void Open() {
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    flusher_ = std::make_unique<Flusher>(log_->log(), backend_, *letters_, clock_, options_, fs_);
    desk_ = std::make_unique<LetterDesk>(LetterDesk::Parties{
        *letters_, log_->log(), clock_,
        [this](const wal::RecordHeader& header, std::span<const std::byte> body, bool,
               milliseconds, const std::stop_token&) -> Result<LetterDesk::Sent> {
          if (on_append_) on_append_();
          TASKWAL_ASSIGN(const wal::Lsn lsn,
                         log_->log().Append(header, body.size(), Durability::kDisk, {},
                                            [&](std::span<std::byte> into) {
                                              std::copy(body.begin(), body.end(), into.begin());
                                            }));
          return LetterDesk::Sent{lsn, header.target};
        },
        [this](wal::Lsn lsn, milliseconds) {
          if (drains_) Drain();
          return flusher_->flushed_lsn() >= lsn ? Status::Ok() : Status::Unavailable("not yet");
        }});
  }
  // As a kill at this point, and a new process.
  void Restart() {
    desk_.reset();
    flusher_.reset();
    log_->Abandon();
    fs_.Kill();
    log_->Open();
    Open();
  }
  void Drain() {
    log_->Sync();
    const auto is_done = [&] {
      return flusher_->GetStats().start_lsn > 0 &&
             flusher_->flushed_lsn() >= log_->log().end_lsn();
    };
    for (int i = 0; i < 100 && !is_done(); ++i) {
      while (flusher_->Step()) {
      }
      clock_.Advance(seconds(1));
    }
    EXPECT_TRUE(is_done()) << flusher_->GetStats().alarm;
  }
  // The task with this id cannot be taken, as long as it is in `refused_`.
  void RefuseTasks() {
    backend_.RejectTasks([this](const TaskChange& change) { return refused_.contains(change.id); });
    backend_.RejectActivities([this](const Activity& a) { return refused_.contains(a.id); });
  }
  void Refuse(const std::string& id) {
    refused_.insert(id);
    RefuseTasks();
  }
  void Accept() {
    refused_.clear();
    RefuseTasks();
  }
  static DeadLetterSelection All() {
    DeadLetterSelection selection;
    selection.all = true;
    return selection;
  }
  std::vector<RetryResult> Retry(const DeadLetterSelection& selection) {
    auto outcomes = desk_->Retry(selection, seconds(1));
    EXPECT_OK(outcomes);
    std::vector<RetryResult> results;
    if (!outcomes.ok()) return results;
    for (const RetryOutcome& outcome : *outcomes) results.push_back(outcome.result);
    return results;
  }
  std::unique_ptr<storage::Session> Session() { return std::move(memory_.Connect()).value(); }
  std::optional<Task> Stored(const std::string& id) {
    const auto row = Session()->GetTask(id);
    if (!row.ok()) return std::nullopt;
    return row->task;
  }
  std::vector<DeadLetterInfo> Letters() { return *desk_->List(1000, {}); }
  void ExpectBalanced() {
    const FlusherStats stats = flusher_->GetStats();
    const LetterStats letters = letters_->GetStats();
    EXPECT_EQ(log_->log().end_lsn(), stats.applied + stats.dead_lettered + stats.lost);
    EXPECT_EQ(letters.added, stats.dead_lettered);
    EXPECT_EQ(letters.added, letters.open + letters.retried + letters.superseded +
                                 letters.purged + letters.expired);
  }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  std::unique_ptr<OperationLog> log_ = std::make_unique<OperationLog>(fs_, clock_);
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  std::set<std::string> refused_;
  bool drains_ = true;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
  std::unique_ptr<LetterDesk> desk_;
  std::function<void()> on_append_;
};

TEST_F(LetterRetryTest, BringsWhatTheDatabaseTakesNow) {
  Refuse("t");
  log_->Save("t", "dag");
  Drain();
  ASSERT_THAT(Letters(), SizeIs(1));
  Accept();
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kApplied));
  EXPECT_EQ(Stored("t")->dag_id, "dag");
  EXPECT_THAT(Letters(), IsEmpty());
  EXPECT_EQ(Session()->GetTask("t")->origin.lsn, 1u);  // its own, not that of the retry
  ExpectBalanced();
  EXPECT_THAT(desk_->Retry(All(), seconds(1)), StatusIs(StatusCode::kNotFound));
}

TEST_F(LetterRetryTest, ASaveThatCameLaterSupersedesIt) {
  Refuse("t");
  log_->Save("t", "old");
  Drain();
  Accept();
  log_->Save("t", "new");
  Drain();
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kSuperseded));
  EXPECT_EQ(Stored("t")->dag_id, "new");
  EXPECT_THAT(Letters(), IsEmpty());
  ExpectBalanced();
}

TEST_F(LetterRetryTest, AStopEndsTheSendingAndTheRestStayLetters) {
  Refuse("t");
  Refuse("u");
  log_->Save("t");
  log_->Save("u");
  Drain();
  Accept();
  std::stop_source stop;
  on_append_ = [&] { stop.request_stop(); };
  ASSERT_OK_AND_ASSIGN(const auto sending, desk_->Send(All(), seconds(1), stop.get_token()));
  Drain();
  EXPECT_EQ(Letters().at(0).task_id, "u");
  EXPECT_TRUE(Stored("t"));
  EXPECT_FALSE(Stored("u"));
  ASSERT_OK_AND_ASSIGN(const auto outcomes, desk_->OutcomesOf(sending, sending.refused));
  ASSERT_THAT(outcomes, SizeIs(2));
  EXPECT_EQ(outcomes[0].result, RetryResult::kApplied);
  EXPECT_EQ(outcomes[1].result, RetryResult::kPending);
  EXPECT_THAT(outcomes[1].error, HasSubstr("told to stop"));
  on_append_ = nullptr;
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kApplied));
  ExpectBalanced();
}

TEST_F(LetterRetryTest, ADeleteSupersedesItThoughNoRowTellsSo) {
  Refuse("t");
  log_->Save("t");
  log_->Save("u", "gone");
  refused_.insert("u");
  Drain();
  Accept();
  log_->Delete("t");
  log_->DeleteDag("gone");
  Drain();
  Restart();
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kSuperseded, RetryResult::kSuperseded));
  EXPECT_FALSE(Stored("t"));
  EXPECT_FALSE(Stored("u"));
}

TEST_F(LetterRetryTest, AnUpdateInTheSameBatchSupersedesAnOlderOne) {
  log_->Save("t");
  Drain();
  backend_.RejectTasks([](const TaskChange& change) { return change.patch.error == "bad"; });
  log_->Update("t", TaskStatus::kRunning, "bad");
  Drain();
  backend_.RejectTasks([](const TaskChange&) { return false; });
  log_->Update("t", TaskStatus::kFailed, "later");  // pending when the retry is appended
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kSuperseded));
  EXPECT_EQ(Stored("t")->error, "later");
}

TEST_F(LetterRetryTest, WhatFollowsASaveGoesWithIt) {
  Refuse("t");
  log_->Save("t");
  log_->Update("t", TaskStatus::kRunning);
  log_->Update("t", TaskStatus::kCompleted);
  log_->Save("other");
  Drain();
  ASSERT_THAT(Letters(), SizeIs(3));
  EXPECT_EQ(Letters()[1].attempts, 0u);
  Accept();
  DeadLetterSelection selection;
  selection.lsns = {2};
  EXPECT_THAT(Retry(selection), ElementsAre(RetryResult::kApplied, RetryResult::kApplied,
                                            RetryResult::kApplied));
  EXPECT_EQ(Stored("t")->status, TaskStatus::kCompleted);
  EXPECT_TRUE(Stored("t")->started_at.has_value());
  log_->Update("t", TaskStatus::kFailed, "after");
  Drain();
  EXPECT_EQ(Stored("t")->error, "after");  // nothing follows the letter any more
  ExpectBalanced();
}

TEST_F(LetterRetryTest, ABatchIsBroughtButForWhatIsNewerByNow) {
  Refuse("b");
  log_->SaveAll({"a", "b", "c"});
  Drain();
  ASSERT_FALSE(Stored("a"));
  Accept();
  log_->Save("a", "newer");
  Drain();
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kApplied));
  EXPECT_EQ(Stored("a")->dag_id, "newer");
  EXPECT_TRUE(Stored("b"));
  EXPECT_TRUE(Stored("c"));
}

TEST_F(LetterRetryTest, ARefusedRetryIsTheSameLetterAgain) {
  Refuse("t");
  log_->Save("t");
  log_->Update("t", TaskStatus::kRunning);
  Drain();
  const auto before = Letters();
  clock_.Advance(seconds(60));
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kRejected, RetryResult::kRejected));
  const auto after = Letters();
  ASSERT_THAT(after, SizeIs(2));
  EXPECT_EQ(after[0].id, before[0].id);
  EXPECT_EQ(after[0].from_lsn, 1u);
  EXPECT_EQ(after[0].retries, 1u);
  EXPECT_EQ(after[0].attempts, 2 * before[0].attempts);
  EXPECT_EQ(after[0].first_failed, before[0].first_failed);
  EXPECT_GT(after[0].last_failed, before[0].last_failed);
  EXPECT_EQ(after[1].id, before[1].id);
  EXPECT_THAT(after[1].error, HasSubstr("follows the save"));
  ExpectBalanced();
  Accept();
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kApplied, RetryResult::kApplied));
  EXPECT_EQ(Stored("t")->status, TaskStatus::kRunning);
}

TEST_F(LetterRetryTest, ManyThatAreRefusedAgainNeitherOpenTheBreakerNorNeedRoom) {
  options_.dead_letter_count_max = 30;
  for (int i = 0; i < 30; ++i) refused_.insert("bad-" + std::to_string(i));
  RefuseTasks();
  for (int i = 0; i < 30; ++i) {
    for (int k = 0; k < 200; ++k) log_->Save("good-" + std::to_string(k));
    log_->Save("bad-" + std::to_string(i));
    Drain();
  }
  Restart();
  ASSERT_THAT(Letters(), SizeIs(30));
  EXPECT_THAT(Retry(All()), ::testing::Each(RetryResult::kRejected));
  EXPECT_THAT(Letters(), SizeIs(30));
  EXPECT_EQ(flusher_->GetStats().breaker_state, "closed");
  EXPECT_EQ(flusher_->GetStats().alarm, "");
}

TEST_F(LetterRetryTest, AnActivityIsInsertedOnce) {
  Refuse("a");
  log_->LogActivity("a", "t");
  Drain();
  Accept();
  drains_ = false;
  // Twice on its way before anything is flushed.
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kPending));
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kPending));
  Drain();
  EXPECT_EQ(Session()->Count()->activities, 1u);
  EXPECT_EQ(flusher_->GetStats().duplicates, 0u);
  EXPECT_THAT(Letters(), IsEmpty());
  ExpectBalanced();
}

TEST_F(LetterRetryTest, OnlyOneOfTwoRetriesBringsASave) {
  Refuse("t");
  log_->Save("t");
  Drain();
  Accept();
  drains_ = false;
  Retry(All());
  log_->Delete("t");
  Retry(All());  // behind the delete: must not bring the task back
  Drain();
  EXPECT_FALSE(Stored("t"));
}

TEST_F(LetterRetryTest, APurgedLetterIsNotBroughtByARetryUnderWay) {
  Refuse("t");
  log_->Save("t");
  Drain();
  Accept();
  drains_ = false;
  Retry(All());
  ASSERT_OK_AND_ASSIGN(const std::uint64_t purged, desk_->Purge(All()));
  EXPECT_EQ(purged, 1u);
  Drain();
  EXPECT_FALSE(Stored("t"));
  ExpectBalanced();
}

TEST_F(LetterRetryTest, TheRetryOfABodyThatIsNoOperationComesBack) {
  log_->Garbage("t");
  Drain();
  ASSERT_THAT(Letters(), SizeIs(1));
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kRejected));
  EXPECT_THAT(Letters(), SizeIs(1));
  EXPECT_EQ(Letters()[0].operation, "");
}

TEST_F(LetterRetryTest, SelectsByIdLsnTaskAndAge) {
  for (const char* id : {"a", "b", "c"}) {
    Refuse(id);
    log_->Save(id);
    Drain();
    clock_.Advance(seconds(100));
  }
  const auto letters = Letters();
  const auto purged = [&](const DeadLetterSelection& selection) {
    return *desk_->Purge(selection);
  };
  EXPECT_EQ(purged({}), 0u);
  DeadLetterSelection by_age;
  by_age.failed_before = letters[1].last_failed;
  EXPECT_EQ(purged(by_age), 1u);
  DeadLetterSelection none;
  none.ids = {letters[1].id};
  none.task_id = "c";
  EXPECT_EQ(purged(none), 0u);
  DeadLetterSelection by_id;
  by_id.ids = {letters[1].id};
  EXPECT_EQ(purged(by_id), 1u);
  DeadLetterSelection by_task;
  by_task.task_id = "c";
  EXPECT_EQ(purged(by_task), 1u);
  EXPECT_THAT(Letters(), IsEmpty());
  EXPECT_THAT(desk_->Get(letters[0].id), StatusIs(StatusCode::kNotFound));
}

TEST_F(LetterRetryTest, ListsInPages) {
  for (int i = 0; i < 5; ++i) {
    Refuse("t-" + std::to_string(i));
    log_->Save("t-" + std::to_string(i));
  }
  Drain();
  ASSERT_OK_AND_ASSIGN(const auto first, desk_->List(2, {}));
  ASSERT_THAT(first, SizeIs(2));
  ASSERT_OK_AND_ASSIGN(const auto rest, desk_->List(100, first.back().id));
  ASSERT_THAT(rest, SizeIs(3));
  EXPECT_EQ(rest[0].task_id, "t-2");
  EXPECT_EQ(rest[0].metadata.at("epoch"), std::to_string(log_->log().epoch()));
  EXPECT_THAT(rest[0].operation, HasSubstr(R"("op":"save_task")"));
}

// Nothing behind it is no end of the list.
TEST_F(LetterRetryTest, APageBehindALetterThatIsSettledIsRefused) {
  for (int i = 0; i < 3; ++i) {
    Refuse("t-" + std::to_string(i));
    log_->Save("t-" + std::to_string(i));
  }
  Drain();
  ASSERT_OK_AND_ASSIGN(const auto first, desk_->List(1, {}));
  DeadLetterSelection one;
  one.ids = {first.back().id};
  ASSERT_OK(desk_->Purge(one));
  EXPECT_THAT(desk_->List(100, first.back().id), StatusIs(StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(const auto rest, desk_->List(100, {}));
  EXPECT_THAT(rest, SizeIs(2));
}

// --- faults
// -----------------------------------------------------------------------------------------

// Whatever becomes of the transactions that bring it.
TEST_F(LetterRetryTest, IsExactlyOnceThroughEveryFaultOfTheDatabase) {
  const ApplyFault faults[] = {
      ApplyFault::kUnavailable, ApplyFault::kLostBefore,  ApplyFault::kLostAfter,
      ApplyFault::kLate,        ApplyFault::kThrows,      ApplyFault::kThrowsAfter,
      ApplyFault::kThrowsOddly, ApplyFault::kMoved,       ApplyFault::kRepeat};
  for (const ApplyFault first : faults) {
    for (const ApplyFault second : faults) {
      const std::string id = "t-" + std::to_string(static_cast<int>(first)) + "-" +
                             std::to_string(static_cast<int>(second));
      Refuse(id);
      log_->Save(id);
      log_->Update(id, TaskStatus::kCompleted);
      // It is poison, no broken schema.
      for (int i = 0; i < 200; ++i) log_->Save("good-" + std::to_string(i));
      Drain();
      Accept();
      backend_.NextApplies({first, second});
      EXPECT_THAT(Retry(All()), ::testing::Each(RetryResult::kApplied)) << id;
      ASSERT_TRUE(Stored(id)) << id;
      EXPECT_EQ(Stored(id)->status, TaskStatus::kCompleted) << id;
      EXPECT_THAT(Letters(), IsEmpty());
    }
  }
  ExpectBalanced();
}

// Killed after every call of the file system in turn, and repeated: the task comes once, and never
// again once it was deleted; the activity comes once.
TEST_F(LetterRetryTest, IsExactlyOnceWhereverItIsKilledAndRepeated) {
  for (std::uint64_t n = 1;; ++n) {
    const std::string id = "t" + std::to_string(n);
    const std::string activity = "a" + std::to_string(n);
    Refuse(id);
    refused_.insert(activity);
    log_->Save(id);
    log_->LogActivity(activity, id);
    Drain();
    Accept();
    const std::uint64_t before = Session()->Count()->activities;
    fs_.CrashAfter(n);
    drains_ = false;
    const auto cut_short = desk_->Retry(All(), seconds(1));
    for (int i = 0; i < 20 && !fs_.crashed(); ++i) flusher_->Step();
    const bool has_crashed = fs_.crashed();
    Restart();
    if (n % 2 == 0) log_->Delete(id);
    drains_ = true;
    Drain();
    for (int i = 0; i < 2; ++i) {
      const StatusCode code = desk_->Retry(All(), seconds(1)).status().code();
      EXPECT_TRUE(code == StatusCode::kOk || code == StatusCode::kNotFound) << n;
    }
    EXPECT_EQ(Stored(id).has_value(), n % 2 != 0) << n;
    EXPECT_EQ(Session()->Count()->activities, before + 1) << n;
    EXPECT_THAT(Letters(), IsEmpty()) << n;
    if (!has_crashed) break;
    ASSERT_LT(n, 500u);
  }
}

// The database goes back to an older state: everything behind it is brought again, the retry too.
TEST_F(LetterRetryTest, IsBroughtAgainWhenTheDatabaseGoesBack) {
  Refuse("t");
  log_->Save("t");
  Drain();
  Accept();
  EXPECT_THAT(Retry(All()), ElementsAre(RetryResult::kApplied));
  log_->Update("t", TaskStatus::kRunning);
  Drain();
  storage::MemoryBackend older;
  backend_.SwitchTo(older);
  backend_.set_volatile(true);  // as `memory:` after a restart: empty, and no stranger
  Restart();
  Drain();
  const auto row = std::move(older.Connect()).value()->GetTask("t");
  ASSERT_OK(row);
  EXPECT_EQ(row->task.status, TaskStatus::kRunning);
}

TEST(RetryRecord, RefusesBodiesThatAreNone) {
  DeadLetter letter;
  letter.lsns = {4, 4};
  letter.type = storage::OperationType::kTaskDelete;
  letter.body.resize(20);
  std::vector<std::byte> body = EncodeRetry(letter);
  ASSERT_TRUE(DecodeRetry(body).has_value());
  EXPECT_EQ(DecodeRetry(body)->body, letter.body);
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(DecodeRetry(std::span(body).first(size)).has_value()) << size;
  }
  body[0] = std::byte{9};
  EXPECT_FALSE(DecodeRetry(body).has_value());
}

}  // namespace
}  // namespace taskwal::pipeline
