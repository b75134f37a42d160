#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "tests/support/simulated_file_system.h"
#include "tests/unit/pipeline/several_targets.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::SizeIs;
using Cut = SwitchableDatabase::Cut;

constexpr int kTasks = 120;

class RebalanceTest : public SeveralTargetsTest {
 protected:
  static std::string Id(int task) { return "t" + std::to_string(task); }

  void SaveAll() {
    for (int i = 0; i < kTasks; ++i) {
      Task task = TaskNamed(Id(i));
      task.payload = "{\"n\": " + std::to_string(i) + "}";
      ASSERT_OK(storage_->SaveTask(task, {}));
      ASSERT_OK(storage_->UpdateTaskStatus(Id(i), TaskStatus::kRunning, {}, {}));
    }
    Flush();
  }
  static std::vector<std::string> AllIds() {
    std::vector<std::string> ids;
    for (int i = 0; i < kTasks; ++i) ids.push_back(Id(i));
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  // The ids of all pages, sorted; one that came twice is there twice.
  std::vector<std::string> Listed(std::uint32_t limit) {
    std::vector<std::string> ids;
    TaskQuery query;
    query.paging.limit = limit;
    do {
      const Result<TaskPage> page = storage_->QueryTasks(query);
      if (!page.ok()) return {page.status().ToString()};
      for (const Task& task : page->tasks) ids.push_back(task.id);
      query.paging.after = page->next_page;
    } while (!query.paging.after.empty() && ids.size() <= 2 * kTasks);
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  Status Rebalance() { return storage_->Rebalance(seconds(20), {}); }
  // As a replica that takes over and never had this task, nor any of the log.
  void GoBackBehind(const std::string& id, const std::string& database) {
    ASSERT_OK_AND_ASSIGN(const auto session, Database(database).data().Connect());
    const Uuid wal_id = storage_->log().state().wal_id;
    ASSERT_OK_AND_ASSIGN(const storage::LogRow row, session->ReadLog(wal_id));
    ASSERT_OK_AND_ASSIGN(const auto stored, session->GetTask(id));
    storage::Batch batch;
    batch.wal_id = wal_id;
    batch.epoch = row.epoch;
    for (std::uint32_t p = 0; p < row.watermarks.size(); ++p) {
      batch.moves.push_back({p, row.watermarks[p], 0});
    }
    storage::TaskChange gone;
    gone.kind = storage::TaskChange::Kind::kDelete;
    gone.id = id;
    gone.origin = stored.origin;
    ++gone.origin.lsn;
    batch.tasks.push_back(gone);
    ASSERT_OK(session->Apply(batch));
    ASSERT_THAT(HoldersOf(id), SizeIs(0));
  }
  // Each once, as it was saved, and found through the storage.
  void ExpectAllInPlace(const std::set<std::string>& allowed) {
    for (int i = 0; i < kTasks; ++i) {
      const auto holders = HoldersOf(Id(i));
      ASSERT_THAT(holders, SizeIs(1)) << Id(i);
      EXPECT_TRUE(allowed.contains(holders[0])) << Id(i) << " in " << holders[0];
      ASSERT_OK_AND_ASSIGN(const Task stored, StoredTask(holders[0], Id(i)));
      ASSERT_OK_AND_ASSIGN(const Task task, storage_->GetTask(Id(i)));
      EXPECT_EQ(stored, task);
      EXPECT_EQ(task.payload, "{\"n\": " + std::to_string(i) + "}");
    }
  }
};

TEST_F(RebalanceTest, ATargetThatJoinsGetsItsShare) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 1}, {"c", 2}});
  std::uint64_t moved = 0;
  ASSERT_OK(storage_->Rebalance(seconds(20), [&](std::uint64_t seen, std::uint64_t all,
                                                 std::uint64_t so_far) {
    EXPECT_LE(seen, all);
    moved = so_far;
  }));
  ExpectAllInPlace({"a", "b", "c"});
  EXPECT_EQ(moved, Stored("c").tasks);
  EXPECT_GT(moved, 0u);
  // In force at once: an update finds its task.
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_OK(storage_->UpdateTaskStatus(Id(i), TaskStatus::kCompleted, {}, {}));
  }
  Flush();
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_OK_AND_ASSIGN(const Task task, StoredTask(HoldersOf(Id(i)).at(0), Id(i)));
    EXPECT_EQ(task.status, TaskStatus::kCompleted);
  }
}

// What a row's created_at is from moves with it: another log's save is held against that.
TEST_F(RebalanceTest, TheRankOfCreatedAtMovesWithTheRow) {
  Open({{"a", 1}, {"b", 0}});
  Task given = TaskNamed("given"), called = TaskNamed("called");
  given.created_at = Time(seconds(7));
  ASSERT_OK(storage_->SaveTask(given, {}));
  ASSERT_OK(storage_->SaveTask(called, {}));
  Flush();
  Close();
  ASSERT_OK_AND_ASSIGN(const auto from, Database("a").data().Connect());
  std::map<std::string, storage::Session::StoredTask> before;
  for (const char* id : {"given", "called"}) before[id] = *from->GetTask(id);
  EXPECT_GT(before["given"].created_rank, storage::kGivenCreatedRank);
  EXPECT_LT(before["called"].created_rank, storage::kUnknownCreatedRank);
  Open({{"a", 0}, {"b", 1}});
  ASSERT_OK(Rebalance());
  ASSERT_OK_AND_ASSIGN(const auto to, Database("b").data().Connect());
  for (const auto& [id, row] : before) {
    ASSERT_OK_AND_ASSIGN(const auto moved, to->GetTask(id));
    EXPECT_EQ(moved.task, row.task) << id;
    EXPECT_EQ(moved.created_rank, row.created_rank) << id;
  }
}

TEST_F(RebalanceTest, ATargetThatLeavesIsEmptiedAndMayThenBeMissing) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 0}});
  ASSERT_OK(Rebalance());
  ExpectAllInPlace({"a"});
  Close();
  Open({{"a", 1}});
  ExpectAllInPlace({"a"});
}

// A row that is not as the log left it would be moved, or missed, and what the log brings again
// comes to the former home.
TEST_F(RebalanceTest, ADatabaseThatWentBackUnnoticedIsCaughtUpFirst) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 0}});
  Flush();
  const auto is_at_b = [&](int i) { return HoldersOf(Id(i)).at(0) == "b"; };
  int lost = 0;
  while (!is_at_b(lost)) ++lost;
  GoBackBehind(Id(lost), "b");
  ASSERT_OK(Rebalance());
  ExpectAllInPlace({"a"});
}

TEST_F(RebalanceTest, NothingIsBegunWhileADatabaseCannotBeLookedAt) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Database("b").GoAway();
  options_.recovery_timeout = milliseconds(0);
  Open({{"a", 1}, {"b", 0}});
  EXPECT_THAT(storage_->Rebalance(milliseconds(0), {}), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(storage_->log().state().rebalancing);
  Database("b").ComeBack();
  ASSERT_OK(Rebalance());
  ExpectAllInPlace({"a"});
}

TEST_F(RebalanceTest, ADatabaseThatForgetsIsNotWaitedFor) {
  databases_["b"] = std::make_unique<SwitchableDatabase>(true);
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  ASSERT_OK(Rebalance());
  ExpectAllInPlace({"a", "b"});
}

TEST_F(RebalanceTest, ABatchAfterItGoesToTheNewHomes) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 0}, {"c", 1}});
  ASSERT_OK(Rebalance());
  Close();
  Open({{"a", 1}, {"c", 1}});
  std::vector<Task> again;
  for (int i = 0; i < kTasks; ++i) again.push_back(TaskNamed(Id(i), "again"));
  ASSERT_OK(storage_->SaveTasks(again, {}));
  Flush();
  for (int i = 0; i < kTasks; ++i) {
    const auto holders = HoldersOf(Id(i));
    ASSERT_THAT(holders, SizeIs(1));
    ASSERT_OK_AND_ASSIGN(const Task task, StoredTask(holders[0], Id(i)));
    EXPECT_EQ(task.dag_id, "again");
  }
}

TEST_F(RebalanceTest, NothingMovesBeforeAllIsFlushed) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 0}});
  Database("b").GoAway();
  for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(Id(i), "late"), {}));
  EXPECT_THAT(storage_->Rebalance(milliseconds(0), {}), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(storage_->log().state().rebalancing);
  Database("b").ComeBack();
  ASSERT_OK(Rebalance());
  for (int i = 0; i < kTasks; ++i) EXPECT_THAT(HoldersOf(Id(i)), ElementsAre("a"));
}

TEST_F(RebalanceTest, ANewerRowOfAnotherLogStays) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 0}, {"b", 1}});
  // Written into its home by somebody else between its being read and being deleted.
  std::atomic<int> applies{0};
  Database("a").OnApply([&] {
    if (applies.fetch_add(1) > 0) return Cut::kNone;
    auto session = Database("a").data().Connect();
    EXPECT_OK(session);
    storage::Batch batch;
    batch.wal_id = Uuid::Make();
    for (int i = 0; i < kTasks; ++i) {
      storage::TaskChange change;
      change.id = Id(i);
      change.origin = {1, UINT64_MAX / 4};
      change.task = TaskNamed(Id(i), "theirs");
      change.task.created_at = change.task.updated_at = Time(seconds(1));
      batch.tasks.push_back(change);
    }
    EXPECT_OK((*session)->Apply(batch));
    return Cut::kNone;
  });
  IgnoreStatus(Rebalance(), "what it meets is another's");
  int theirs = 0;
  for (int i = 0; i < kTasks; ++i) {
    for (const std::string& holder : HoldersOf(Id(i))) {
      ASSERT_OK_AND_ASSIGN(const Task task, StoredTask(holder, Id(i)));
      theirs += task.dag_id == "theirs" ? 1 : 0;
    }
  }
  EXPECT_EQ(theirs, kTasks);
}

// From the N-th write to any database on, before or after that one took effect, nothing comes
// through any more; the next open goes on with it. Until N is beyond the last write.
class InterruptedRebalanceTest : public RebalanceTest, public ::testing::WithParamInterface<Cut> {};

TEST_P(InterruptedRebalanceTest, IsFinishedByTheNextOpen) {
  for (int nth = 1;; ++nth) {
    SCOPED_TRACE(nth);
    databases_.clear();
    options_.wal_dir = dir_.File("wal-" + std::to_string(nth));
    Open({{"a", 1}, {"b", 1}});
    SaveAll();
    Close();
    Open({{"a", 0}, {"b", 1}, {"c", 1}});
    Flush();
    std::atomic<int> writes{0};
    const auto cut = [&] {
      const int write = writes.fetch_add(1) + 1;
      if (write < nth) return Cut::kNone;
      return write == nth ? GetParam() : Cut::kBefore;
    };
    for (const auto& [name, database] : databases_) database->OnApply(cut);
    const Status done = Rebalance();
    for (const auto& [name, database] : databases_) database->OnApply({});
    if (!done.ok()) {
      EXPECT_THAT(storage_->SaveTask(TaskNamed("x"), {}), StatusIs(StatusCode::kClosed));
      for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->GetTask(Id(i)));
      EXPECT_EQ(Listed(7), AllIds());
      ASSERT_OK(storage_->Close());
      Open({{"a", 0}, {"b", 1}, {"c", 1}});
      // Taken at once, flushed behind the moves.
      ASSERT_OK(storage_->UpdateTaskStatus(Id(0), TaskStatus::kCompleted, {}, {}));
      for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->GetTask(Id(i)));
      Flush();
      EXPECT_FALSE(storage_->log().state().rebalancing);
      ASSERT_OK_AND_ASSIGN(const Task task, StoredTask(HoldersOf(Id(0)).at(0), Id(0)));
      EXPECT_EQ(task.status, TaskStatus::kCompleted);
    }
    ExpectAllInPlace({"b", "c"});
    Close();
    if (done.ok()) {
      EXPECT_GT(nth, 4);
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, InterruptedRebalanceTest,
                         ::testing::Values(Cut::kBefore, Cut::kAfter),
                         [](const auto& cut) {
                           return cut.param == Cut::kBefore ? "Before" : "After";
                         });

TEST_F(RebalanceTest, TasksAreFoundAndWritesKeptWhileTheRestWaitsForADatabase) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 1}, {"c", 1}});
  Flush();
  const auto is_cut = std::make_shared<std::atomic<bool>>(true);
  Database("c").OnApply([is_cut] { return is_cut->load() ? Cut::kBefore : Cut::kNone; });
  EXPECT_FALSE(Rebalance().ok());
  EXPECT_OK(storage_->Close());
  Open({{"a", 1}, {"b", 1}, {"c", 1}});
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_OK(storage_->GetTask(Id(i)));
    ASSERT_OK(storage_->UpdateTaskStatus(Id(i), TaskStatus::kFailed, "later", {}));
    ASSERT_OK_AND_ASSIGN(const Task task, storage_->GetTask(Id(i)));
    ASSERT_EQ(task.status, TaskStatus::kFailed);
  }
  const Status waiting = storage_->Flush(milliseconds(300));
  EXPECT_THAT(waiting.message(), ::testing::HasSubstr("rebalance"));
  TaskQuery query;
  query.paging.limit = 1000;
  ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->QueryTasks(query));
  EXPECT_THAT(page.tasks, SizeIs(kTasks));
  is_cut->store(false);
  Flush();
  ExpectAllInPlace({"a", "b", "c"});
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_OK_AND_ASSIGN(const Task task, StoredTask(HoldersOf(Id(i)).at(0), Id(i)));
    EXPECT_EQ(task.error, "later");
  }
}

TEST_F(RebalanceTest, AnEarlierOneIsFinishedBeforeTheNextIsPlanned) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 1}, {"b", 0}, {"c", 1}});
  Flush();
  // Between the move of a page into c and its deletion from b.
  Database("b").OnApply([] { return Cut::kBefore; });
  EXPECT_FALSE(Rebalance().ok());
  EXPECT_OK(storage_->Close());
  Open({{"a", 1}, {"b", 1}, {"c", 0}});
  EXPECT_THAT(storage_->Rebalance(milliseconds(0), {}), StatusIs(StatusCode::kUnavailable));
  EXPECT_OK(storage_->Close());
  Database("b").OnApply({});
  // All is flushed as far as the log goes, and the rest is still on its way.
  Open({{"a", 1}, {"b", 1}, {"c", 0}});
  ASSERT_OK(Rebalance());
  ExpectAllInPlace({"a", "b"});
}

TEST_F(RebalanceTest, OneThatWasCutShortKeepsTheDoorShutWhateverTheNextMeets) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 0}, {"b", 1}});
  Flush();
  Database("b").OnApply([] { return Cut::kBefore; });
  EXPECT_FALSE(Rebalance().ok());
  for (const milliseconds timeout : {milliseconds(0), milliseconds(50)}) {
    EXPECT_THAT(storage_->Rebalance(timeout, {}), StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(storage_->SaveTask(TaskNamed("x"), {}), StatusIs(StatusCode::kClosed));
  }
  EXPECT_OK(storage_->Close());
}

// Nothing is planned before each database has been looked at.
TEST_F(RebalanceTest, ADatabaseThatIsMetMeanwhileIsFlushedTo) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  std::atomic<bool> answers{false};
  Database("b").OnConnect([&] {
    while (!answers.load()) std::this_thread::sleep_for(milliseconds(1));
  });
  options_.recovery_timeout = milliseconds(0);
  Open({{"a", 0}, {"b", 1}});
  std::jthread moving([&] { EXPECT_OK(Rebalance()); });
  EXPECT_FALSE(storage_->log().state().rebalancing);
  answers.store(true);
  moving.join();
  for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(Id(i), "after"), {}));
  Flush();
  for (int i = 0; i < kTasks; ++i) EXPECT_THAT(HoldersOf(Id(i)), ElementsAre("b"));
  Close();
}

// The next process rescues the record, and brings it to where its task was at home.
TEST_F(RebalanceTest, NothingMovesWhileABrokenLogHoldsBackARecord) {
  SimulatedFileSystem fs;
  options_.wal_dir = "/wal";
  fs_ = &fs;
  Open({{"a", 1}, {"b", 1}});
  for (int i = 0; i < kTasks; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(Id(i)), {}));
  Flush();
  Close();
  Open({{"a", 0}, {"b", 1}});
  fs.FailNth(1, {.call = SimulatedCall::kSync, .sticky = true});
  fs.FailNth(1, {.call = SimulatedCall::kWrite, .sticky = true});
  WriteOptions no_wait;
  no_wait.wait = WaitFor::kAppended;
  ASSERT_OK(storage_->SaveTask(TaskNamed(Id(0), "late"), no_wait));
  AwaitThat([&] { return !storage_->log().health().ok(); });
  fs.ClearFaults();
  EXPECT_THAT(Rebalance(), StatusIs(StatusCode::kIoError));
  EXPECT_FALSE(storage_->log().state().rebalancing);
  IgnoreStatus(storage_->Close(), "it is broken");
  storage_.reset();
}

// Its task may have another home by the time it finds room.
TEST_F(RebalanceTest, WaitsForCallsThatWaitForRoom) {
  Open({{"a", 1}, {"b", 1}});
  Close();
  options_.max_unflushed_records = 1;
  options_.block_timeout = seconds(60);
  Open({{"a", 0}, {"b", 1}});
  std::atomic<bool> is_held{true};
  for (const char* name : {"a", "b"}) {
    Database(name).FailApply([&](const storage::Batch& batch) {
      const bool is_refused = is_held.load() && !batch.moves.empty();
      return is_refused ? Status::Unavailable("test: not now") : Status::Ok();
    });
  }
  ASSERT_OK(storage_->SaveTask(TaskNamed(Id(0)), {}));
  std::vector<std::jthread> callers;
  for (int i = 1; i < 8; ++i) {
    callers.emplace_back([&, i] { EXPECT_OK(storage_->SaveTask(TaskNamed(Id(i)), {})); });
  }
  AwaitThat([&] { return storage_->GetControl()->FlowControl().waiting == 7; });
  EXPECT_THAT(storage_->Rebalance(milliseconds(1), {}),
              ::testing::AllOf(StatusIs(StatusCode::kUnavailable),
                               ::testing::Property(&Status::message,
                                                   ::testing::HasSubstr("wait for room"))));
  is_held.store(false);
  ASSERT_OK(Rebalance());
  callers.clear();
  Flush();
  for (int i = 0; i < 8; ++i) EXPECT_THAT(HoldersOf(Id(i)), ElementsAre("b")) << Id(i);
  EXPECT_OK(storage_->Close());
}

TEST_F(RebalanceTest, ALetterIsRetriedInTheNewHomeOfItsTask) {
  options_.max_flush_retries = 0;
  Open({{"a", 1}, {"b", 1}});
  for (const char* name : {"a", "b"}) {
    Database(name).FailApply([&](const storage::Batch& batch) {
      return batch.tasks.empty() ? Status::Ok() : Status::Rejected("test: constraint");
    });
  }
  for (int i = 0; i < 8; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(Id(i)), {}));
  Flush();
  ASSERT_EQ(storage_->dead_letters().count(), 8u);
  Close();
  for (const char* name : {"a", "b"}) Database(name).FailApply({});
  Open({{"a", 0}, {"b", 1}});
  ASSERT_OK(Rebalance());
  DeadLetterSelection all;
  all.all = true;
  ASSERT_OK_AND_ASSIGN(const auto outcomes, storage_->GetDeadLetters()->Retry(all, seconds(20)));
  ASSERT_THAT(outcomes, SizeIs(8));
  for (const RetryOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.result, RetryResult::kApplied) << outcome.error;
  }
  for (int i = 0; i < 8; ++i) EXPECT_THAT(HoldersOf(Id(i)), ElementsAre("b")) << Id(i);
}

TEST_F(RebalanceTest, TasksAreFoundWhileTheyMove) {
  Open({{"a", 1}, {"b", 1}});
  SaveAll();
  Close();
  Open({{"a", 0}, {"b", 1}, {"c", 1}});
  std::atomic<bool> ends{false};
  std::atomic<int> missing{0};
  std::atomic<int> short_lists{0};
  std::atomic<int> wrong_pages{0};
  std::jthread reader([&] {
    while (!ends.load()) {
      for (int i = 0; i < kTasks; ++i) missing += storage_->GetTask(Id(i)).ok() ? 0 : 1;
    }
  });
  std::jthread lister([&] {
    TaskQuery query;
    query.paging.limit = 1000;
    while (!ends.load()) {
      const Result<TaskPage> page = storage_->QueryTasks(query);
      short_lists += page.ok() && page->tasks.size() == kTasks ? 0 : 1;
    }
  });
  std::jthread pager([&] {
    const std::vector<std::string> all = AllIds();
    while (!ends.load()) wrong_pages += Listed(7) == all ? 0 : 1;
  });
  EXPECT_OK(Rebalance());
  ends.store(true);
  reader.join();
  lister.join();
  pager.join();
  EXPECT_EQ(missing.load(), 0);
  EXPECT_EQ(short_lists.load(), 0);
  EXPECT_EQ(wrong_pages.load(), 0);
}

}  // namespace
}  // namespace taskwal::pipeline
