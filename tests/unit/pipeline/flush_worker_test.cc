#include "pipeline/flush/flush_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using storage::OperationType;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Turn = FlushWorker::Turn;

constexpr std::uint32_t kPartitions = OperationLog::kPartitions;

// One worker over all partitions, fed by hand: no log.
class FlushWorkerTest : public ::testing::Test {
 protected:
  FlushWorkerTest() {
    options_.backoff_jitter = false;
    options_.initial_backoff = milliseconds(100);
    options_.max_backoff = seconds(10);
    options_.breaker_failures = 3;
    options_.breaker_open_time = seconds(60);
    options_.max_flush_retries = 2;
    options_.batch_size = 100;
    options_.flush_linger = milliseconds(0);
    options_.on_flush = [this](const FlushEvent& event) { events_.push_back(event); };
    identity_.wal_id = Uuid::Make();
    identity_.epoch = 5;
    identity_.db_id = memory_.db_id();
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    Register(memory_, 0);
    Make();
  }

  void Register(storage::Backend& backend, wal::Lsn at) {
    auto session = backend.Connect();
    ASSERT_OK(session);
    ASSERT_OK((*session)->RegisterLog(identity_.wal_id, identity_.epoch,
                                      std::vector<wal::Lsn>(kPartitions, at)));
  }
  void Make() {
    PartitionQueues::Limits limits;
    limits.partitions = kPartitions;
    limits.batch_records = options_.batch_size;
    limits.linger = options_.flush_linger;
    queues_ = std::make_unique<PartitionQueues>(limits);
    const std::vector<wal::Lsn> none(kPartitions, 0);
    queues_->Reset(none, none);
    breaker_ = std::make_unique<CircuitBreaker>(BreakerLimitsOf(options_));
    setting_ = std::make_unique<FlushSetting>(
        FlushSetting{backend_, *queues_, *letters_, *breaker_, counters_, guard_, clock_, options_,
                     [this](std::uint64_t stamp) { stamp_ = std::max(stamp_, stamp); }});
    worker_ = std::make_unique<FlushWorker>(*setting_, 0, 1);
    worker_->Begin(identity_, nullptr);
  }

  // --- feeding ---
  wal::Lsn Offer(OperationType type, const std::string& id, std::vector<std::byte> body) {
    wal::RecordView record;
    record.lsn = next_++;
    record.header.type = static_cast<std::uint8_t>(type);
    record.header.key = storage::KeyOf(id);
    record.header.stamp = 1000 + record.lsn;
    record.body = body;
    queues_->Offer(record, clock_.Now());
    queues_->AdvanceTo(next_);
    return record.lsn;
  }
  wal::Lsn Save(const std::string& id, const std::string& dag_id = {}) {
    Task task;
    task.id = id;
    task.dag_id = dag_id;
    std::vector<std::byte> body(storage::EncodedBytes(task));
    storage::Encode(task, clock_.WallNow(), body);
    return Offer(OperationType::kTaskUpdate, id, body);
  }
  wal::Lsn Update(const std::string& id, TaskStatus status) {
    std::vector<std::byte> body(storage::EncodedStatusUpdateBytes(id, ""));
    storage::EncodeStatusUpdate(id, status, "", clock_.WallNow(), body);
    return Offer(OperationType::kStatusUpdate, id, body);
  }
  wal::Lsn Delete(const std::string& id, OperationType type = OperationType::kTaskDelete) {
    std::vector<std::byte> body(storage::EncodedNameBytes(id));
    storage::EncodeName(id, clock_.WallNow(), body);
    return Offer(type, id, body);
  }
  wal::Lsn SaveAll(const std::vector<std::string>& ids) {
    std::vector<Task> tasks(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) tasks[i].id = ids[i];
    std::vector<std::byte> body(storage::EncodedBytes(tasks));
    storage::Encode(tasks, clock_.WallNow(), body);
    return Offer(OperationType::kBatchUpdate, ids[0], body);
  }
  wal::Lsn Log(const std::string& id, const std::string& task_id = "t") {
    Activity activity;
    activity.task_id = task_id;
    std::vector<std::byte> body(storage::EncodedBytes(activity, id));
    storage::Encode(activity, id, clock_.WallNow(), body);
    return Offer(OperationType::kActivityLog, task_id, body);
  }

  // --- driving ---
  Turn Step() { return worker_->Step(); }
  // Until there is nothing to do now or it pauses.
  Turn RunNow() {
    Turn turn = Turn::kProgress;
    for (int i = 0; i < 10000 && turn == Turn::kProgress; ++i) turn = Step();
    return turn;
  }
  // The same, passing over the rests of refused records.
  Turn Run() {
    Turn turn = RunNow();
    for (int i = 0; i < 1000 && turn == Turn::kIdle && counters_.workers()[0].in_hand > 0; ++i) {
      clock_.Advance(worker_->NextTurnIn());
      turn = RunNow();
    }
    return turn;
  }
  // The same, passing over pauses.
  void Drain() {
    for (int i = 0; i < 100; ++i) {
      if (Run() != Turn::kPaused) return;
      clock_.Advance(options_.breaker_open_time);
    }
    FAIL() << "still paused: " << counters_.Snapshot().alarm;
  }
  // In another partition than `id`.
  static std::string IdElsewhere(const std::string& id, const std::string& name) {
    const auto partition_of = [](const std::string& task) {
      return wal::PartitionOf(storage::KeyOf(task), kPartitions);
    };
    std::string other = name;
    while (partition_of(other) == partition_of(id)) other += "'";
    return other;
  }
  void RejectTask(const std::string& id) {
    backend_.RejectTasks([id](const storage::TaskChange& change) { return change.id == id; });
  }
  std::unique_ptr<storage::Session> Session() { return std::move(memory_.Connect()).value(); }
  bool IsStored(const std::string& id) { return Session()->GetTask(id).ok(); }
  std::vector<wal::Lsn> Lettered() {
    std::vector<wal::Lsn> lsns;
    EXPECT_OK(letters_->ForEach([&](const DeadLetter& letter) {
      lsns.push_back(letter.lsns.from);
      return true;
    }));
    return lsns;
  }
  FlusherStats Stats() { return counters_.Snapshot(); }
  wal::Lsn settled() { return queues_->settled_lsn(); }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  LogIdentity identity_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<PartitionQueues> queues_;
  std::unique_ptr<CircuitBreaker> breaker_;
  FlushCounters counters_;
  PoisonGuard guard_;
  std::unique_ptr<FlushSetting> setting_;
  std::unique_ptr<FlushWorker> worker_;
  std::vector<FlushEvent> events_;
  std::uint64_t stamp_ = 0;
  wal::Lsn next_ = 1;
};

// --- committing
// -------------------------------------------------------------------------------------------

TEST_F(FlushWorkerTest, HasNothingToDoWhileIdle) {
  EXPECT_EQ(Step(), Turn::kIdle);
  EXPECT_EQ(backend_.connects(), 0u);
}

TEST_F(FlushWorkerTest, CommitsRowsAndWatermarksTogether) {
  for (const char* id : {"a", "b", "c", "d"}) Save(id);
  Log("l1");
  EXPECT_EQ(Run(), Turn::kIdle);
  ASSERT_THAT(backend_.committed(), SizeIs(1));
  const auto batch = backend_.committed()[0];
  EXPECT_EQ(batch.tasks, 4u);
  EXPECT_EQ(batch.activities, 1u);
  EXPECT_THAT(batch.moves, Each(Field(&storage::WatermarkMove::expected, 0u)));
  EXPECT_EQ(settled(), 5u);
  EXPECT_TRUE(IsStored("d"));
  EXPECT_EQ(Stats().applied, 5u);
  EXPECT_EQ(Stats().flush_operations, 1u);
  EXPECT_EQ(Stats().rows_written, 5u);
  EXPECT_TRUE(Stats().database_available);
}

TEST_F(FlushWorkerTest, ComposesTheOperationsOfATask) {
  Save("a");
  Update("a", TaskStatus::kRunning);
  Update("a", TaskStatus::kCompleted);
  Run();
  EXPECT_EQ(backend_.committed()[0].tasks, 1u);
  EXPECT_EQ(Session()->GetTask("a")->task.status, TaskStatus::kCompleted);
  EXPECT_EQ(Session()->GetTask("a")->origin.lsn, 3u);
}

TEST_F(FlushWorkerTest, TellsOfEachBatch) {
  Save("a");
  Save("b");
  Run();
  ASSERT_THAT(events_, SizeIs(1));
  EXPECT_OK(events_[0].status);
  EXPECT_EQ(events_[0].records, 2u);
  EXPECT_EQ(events_[0].first_lsn, 1u);
  EXPECT_EQ(events_[0].last_lsn, 2u);
}

TEST_F(FlushWorkerTest, GoesOnWhenACallbackThrows) {
  options_.on_flush = [](const FlushEvent&) { throw 1; };
  Save("a");
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_EQ(Stats().flush_errors, 0u);
}

TEST_F(FlushWorkerTest, RaisesTheClockWhenItConnects) {
  Save("a");
  Run();
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("b");
  Drain();
  EXPECT_EQ(stamp_, 1001u);
}

TEST_F(FlushWorkerTest, AppliesABarrierAloneAndMovesEveryPartition) {
  Save("a", "dag");
  Save("b", "other");
  const wal::Lsn barrier = Delete("dag", OperationType::kDagDelete);
  Save("c", "dag");
  Run();
  ASSERT_THAT(backend_.committed(), SizeIs(3));
  const auto batch = backend_.committed()[1];
  EXPECT_EQ(batch.dag_deletes, 1u);
  EXPECT_EQ(batch.tasks, 0u);
  EXPECT_THAT(batch.moves, SizeIs(kPartitions));
  EXPECT_THAT(batch.moves, Each(Field(&storage::WatermarkMove::to, barrier)));
  EXPECT_FALSE(IsStored("a"));
  EXPECT_TRUE(IsStored("b"));
  EXPECT_TRUE(IsStored("c"));
}

TEST_F(FlushWorkerTest, CountsActivitiesThatComeTwice) {
  backend_.MindActivityIds();
  Log("x");
  Log("x");
  Run();
  EXPECT_EQ(Stats().duplicates, 1u);
  Log("x");
  Log("y");
  Run();
  EXPECT_EQ(Stats().duplicates, 2u);
  EXPECT_EQ(Stats().applied, 4u);
  EXPECT_TRUE(backend_.committed().back().idempotent);
  EXPECT_THAT(Lettered(), IsEmpty());
  Log("z");
  Run();
  EXPECT_FALSE(backend_.committed().back().idempotent);
}

TEST_F(FlushWorkerTest, ReplaysInIdempotentForm) {
  identity_.replayed_until = 2;
  worker_->Begin(identity_, nullptr);
  Log("x");
  Run();
  Log("y");
  Log("z");
  Run();
  Log("last");
  Run();
  std::vector<bool> idempotent;
  for (const auto& batch : backend_.committed()) idempotent.push_back(batch.idempotent);
  EXPECT_THAT(idempotent, ElementsAre(true, true, false));
}

// --- trouble of the database
// ---------------------------------------------------------------------------------

TEST_F(FlushWorkerTest, TriesAgainAtOnceWithoutAPause) {
  options_.initial_backoff = options_.max_backoff = milliseconds(0);
  options_.breaker_failures = 0;
  Make();
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kUnavailable});
  Save("a");
  for (std::uint64_t attempts = 1; attempts <= 2; ++attempts) {
    EXPECT_EQ(Run(), Turn::kPaused);
    EXPECT_EQ(backend_.applies(), attempts);
    EXPECT_LE(worker_->NextTurnIn(), milliseconds(0));
  }
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, TriesAgainAfterAGrowingPause) {
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kUnavailable});
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(worker_->NextTurnIn(), milliseconds(100));
  clock_.Advance(milliseconds(99));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(backend_.applies(), 1u);
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(worker_->NextTurnIn(), milliseconds(200));
  clock_.Advance(milliseconds(200));
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_EQ(Stats().flush_errors, 2u);
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, DoesNotPauseWhereTheBackoffIsZero) {
  options_.initial_backoff = milliseconds(0);
  Make();
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(Run(), Turn::kIdle);
}

TEST_F(FlushWorkerTest, RaisesAnAlarmAndClearsIt) {
  backend_.RefuseConnections(1);
  Save("a");
  Run();
  EXPECT_EQ(Stats().alarm, "scripted: connection refused");
  EXPECT_FALSE(Stats().database_available);
  EXPECT_THAT(events_, ElementsAre(Field(&FlushEvent::status, StatusIs(StatusCode::kUnavailable))));
  Drain();
  EXPECT_EQ(Stats().alarm, "");
  EXPECT_TRUE(Stats().database_available);
}

TEST_F(FlushWorkerTest, OpensTheBreakerAndTriesOnceAfterIt) {
  backend_.RefuseConnections(UINT32_MAX);
  Save("a");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Run(), Turn::kPaused);
    clock_.Advance(seconds(2));
  }
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kOpen);
  EXPECT_EQ(backend_.connects(), 3u);
  clock_.Advance(seconds(50));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(backend_.connects(), 3u);
  clock_.Advance(seconds(10));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(backend_.connects(), 4u);
  backend_.RefuseConnections(0);
  Drain();
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kClosed);
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, FindsTheCommitWhoseAnswerWasLost) {
  for (const ApplyFault fault : {ApplyFault::kLostAfter, ApplyFault::kThrowsAfter}) {
    const std::size_t before = backend_.committed().size();
    backend_.NextApplies({fault});
    Log("x" + std::to_string(next_));
    Save("a");
    Drain();
    EXPECT_EQ(backend_.committed().size(), before + 1);
    EXPECT_EQ(settled(), next_ - 1);
  }
  EXPECT_EQ(Stats().applied, 4u);
  EXPECT_EQ(Session()->Count()->activities, 2u);
}

TEST_F(FlushWorkerTest, RepeatsWhatDidNotHappen) {
  for (const ApplyFault fault :
       {ApplyFault::kLostBefore, ApplyFault::kThrows, ApplyFault::kThrowsOddly, ApplyFault::kMoved,
        ApplyFault::kUnavailable}) {
    backend_.NextApplies({fault});
    const wal::Lsn lsn = Save("a");
    Drain();
    EXPECT_EQ(Session()->GetTask("a")->origin.lsn, lsn);
    EXPECT_EQ(settled(), lsn);
  }
  EXPECT_EQ(Stats().applied, 5u);
  EXPECT_EQ(Stats().flush_errors, 5u);
}

TEST_F(FlushWorkerTest, StoresACommitThatLandsLateOnce) {
  backend_.NextApplies({ApplyFault::kLate});
  Log("x");
  Drain();
  EXPECT_EQ(backend_.committed().size(), 1u);
  EXPECT_EQ(Stats().duplicates, 0u);
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, TreatsAskingTwiceForTheIdempotentFormAsTrouble) {
  backend_.NextApplies({ApplyFault::kRepeat, ApplyFault::kRepeat});
  Log("x");
  EXPECT_EQ(Run(), Turn::kPaused);
  Drain();
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, LetsATrialThatAsksForTheIdempotentFormGoOn) {
  breaker_->Trip(clock_.Now());
  clock_.Advance(options_.breaker_open_time);
  backend_.NextApplies({ApplyFault::kRepeat});
  Log("x");
  EXPECT_EQ(Run(), Turn::kIdle);
}

TEST_F(FlushWorkerTest, PassesOverEveryFailureWhileConnecting) {
  using Question = ScriptedBackend::Question;
  backend_.ThrowInConnect(1);
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  clock_.Advance(seconds(1));
  for (const Question question : {Question::kHighestStamp, Question::kReadLog}) {
    backend_.FailNext(question);
    clock_.Advance(options_.breaker_open_time);
    EXPECT_EQ(Run(), Turn::kPaused);
  }
  Drain();
  EXPECT_TRUE(IsStored("a"));
}

TEST_F(FlushWorkerTest, WantsToMeetAgainADatabaseThatWentBack) {
  Save("a");
  Run();
  storage::MemoryBackend restored;
  Register(restored, 0);
  backend_.set_volatile(true);  // the same database by name, with an older content
  backend_.SwitchTo(restored);
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("b");
  EXPECT_EQ(Run(), Turn::kPaused);
  clock_.Advance(seconds(1));
  EXPECT_EQ(Run(), Turn::kMeetAgain);
}

TEST_F(FlushWorkerTest, WantsToMeetAgainAnotherDatabase) {
  storage::MemoryBackend another;
  backend_.SwitchTo(another);
  Save("a");
  EXPECT_EQ(Run(), Turn::kMeetAgain);
}

TEST_F(FlushWorkerTest, StopsForGoodWhenFenced) {
  backend_.NextApplies({ApplyFault::kFenced});
  Save("a");
  EXPECT_EQ(Run(), Turn::kFenced);
  EXPECT_EQ(Run(), Turn::kFenced);
  EXPECT_THAT(worker_->fenced(), StatusIs(StatusCode::kFenced, HasSubstr("later opener")));
  EXPECT_EQ(backend_.applies(), 1u);
}

TEST_F(FlushWorkerTest, StopsForGoodWhenSomebodyElseMovedItsWatermarks) {
  Save("a");
  ASSERT_OK(Session()->RegisterLog(identity_.wal_id, identity_.epoch + 1, {}));
  Drain();
  EXPECT_EQ(Run(), Turn::kFenced);
  EXPECT_FALSE(IsStored("a"));
}

// --- poison
// -----------------------------------------------------------------------------------------------

TEST_F(FlushWorkerTest, LettersTheOneRowThatIsRefused) {
  for (int i = 0; i < 20; ++i) Save("task-" + std::to_string(i));
  RejectTask("task-13");
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(14));
  EXPECT_EQ(Stats().applied, 19u);
  EXPECT_EQ(Stats().dead_lettered, 1u);
  EXPECT_EQ(settled(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(IsStored("task-" + std::to_string(i)), i != 13) << i;
}

TEST_F(FlushWorkerTest, SaysInTheLetterWhatHappened) {
  RejectTask("bad");
  const Time first = clock_.WallNow();
  Save("bad");
  Run();
  EXPECT_OK(letters_->ForEach([&](const DeadLetter& letter) {
    EXPECT_EQ(letter.wal_id, identity_.wal_id);
    EXPECT_EQ(letter.stamp, 1001u);
    EXPECT_EQ(letter.type, OperationType::kTaskUpdate);
    EXPECT_EQ(letter.task_id, "bad");
    EXPECT_EQ(letter.error, "scripted: constraint failed (SQL 4711)");
    EXPECT_EQ(letter.sql_code, "SQL 4711");
    EXPECT_EQ(letter.attempts, options_.max_flush_retries + 1);
    EXPECT_EQ(letter.first_failed, first);
    EXPECT_EQ(letter.backend, "scripted:");
    EXPECT_TRUE(storage::Decode(letter.type, letter.body).ok());
    return true;
  }));
}

TEST_F(FlushWorkerTest, TriesASingleRefusedRowAgainAsOftenAsTold) {
  RejectTask("bad");
  Save("bad");
  Run();
  EXPECT_EQ(backend_.applies(), options_.max_flush_retries + 2u);  // the last moves the watermark
  EXPECT_EQ(Stats().flush_errors, options_.max_flush_retries + 1u);
}

TEST_F(FlushWorkerTest, TheRetriesOfARefusedRowFollowTheBackoff) {
  options_.initial_backoff = seconds(2);
  options_.max_flush_retries = 3;
  options_.health_check_interval = hours(10);
  Make();
  RejectTask("bad");
  Save("bad");
  for (const int pause : {2, 4, 8}) {
    EXPECT_EQ(RunNow(), Turn::kIdle);
    const std::uint64_t tries = backend_.applies();
    EXPECT_EQ(worker_->NextTurnIn(), seconds(pause));
    clock_.Advance(seconds(pause) - milliseconds(1));
    EXPECT_EQ(Step(), Turn::kIdle);
    EXPECT_EQ(backend_.applies(), tries);
    EXPECT_THAT(Lettered(), IsEmpty());
    clock_.Advance(milliseconds(1));
  }
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));  // the fourth failure is final
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, ABackoffOfZeroTriesARefusedRowAgainAtOnce) {
  options_.initial_backoff = options_.max_backoff = milliseconds(0);
  Make();
  RejectTask("bad");
  Save("bad");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));
}

TEST_F(FlushWorkerTest, OnlyItsOwnPartitionWaitsForARefusedRow) {
  const std::string other = IdElsewhere("bad", "other");
  const std::string later = IdElsewhere("bad", "later");
  RejectTask("bad");
  Save("before");
  Save("bad");
  Save(other);
  Update("bad", TaskStatus::kRunning);
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_TRUE(IsStored("before"));
  EXPECT_TRUE(IsStored(other));
  EXPECT_EQ(settled(), 1u);
  EXPECT_EQ(counters_.workers()[0].in_hand, 2u);
  Save(later);  // of another batch
  Update("bad", TaskStatus::kFailed);
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_TRUE(IsStored(later));
  EXPECT_EQ(settled(), 1u);
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(2, 4, 6));
  EXPECT_EQ(settled(), 6u);
}

TEST_F(FlushWorkerTest, EveryPartitionOfARefusedRowRestsForItself) {
  backend_.RejectTasks(
      [](const storage::TaskChange& change) { return change.id.starts_with("b"); });
  for (int i = 0; i < 5; ++i) Save("b" + std::to_string(i));
  Save("fine");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_TRUE(IsStored("fine"));
  const Monotonic start = clock_.Now();
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), SizeIs(5));
  const auto each = options_.initial_backoff * 3;
  std::set<std::uint32_t> partitions;
  for (int i = 0; i < 5; ++i) {
    partitions.insert(wal::PartitionOf(storage::KeyOf("b" + std::to_string(i)), kPartitions));
  }
  ASSERT_GT(partitions.size(), 1u);
  // As many after one another as the fullest partition has.
  EXPECT_LE(clock_.Now() - start, each * (5 - static_cast<int>(partitions.size()) + 1));
}

TEST_F(FlushWorkerTest, ARefusedBarrierRestsToo) {
  backend_.RejectTasks([](const storage::TaskChange& change) { return change.id == "bad"; });
  SaveAll({"fine", "bad"});
  Save("behind");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_EQ(worker_->NextTurnIn(), options_.initial_backoff);
  EXPECT_FALSE(IsStored("behind"));
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));
  EXPECT_TRUE(IsStored("behind"));
}

TEST_F(FlushWorkerTest, ARefusedRowRestsNoLongerThanFiveSecondsWhileSomebodyWaits) {
  options_.initial_backoff = options_.max_backoff = hours(1);
  options_.max_flush_retries = 1;
  options_.health_check_interval = hours(10);
  Make();
  RejectTask("bad");
  Save("bad");
  EXPECT_EQ(RunNow(), Turn::kIdle);
  ASSERT_EQ(worker_->NextTurnIn(), hours(1));
  clock_.Advance(kUrgentRetry - milliseconds(1));
  EXPECT_EQ(RunNow(), Turn::kIdle);
  ASSERT_THAT(Lettered(), IsEmpty());
  std::stop_source stop;
  std::jthread waiter([&] {
    queues_->WaitSettled(1, {Monotonic::max(), stop.get_token()}, clock_);
  });
  while (queues_->awaited_lsn() == 0) std::this_thread::yield();
  EXPECT_EQ(worker_->NextTurnIn(), milliseconds(1));
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1));
}

TEST_F(FlushWorkerTest, ARetiredWorkerLeavesToOthersWhatRests) {
  RejectTask("bad");
  Save("bad");
  Update("bad", TaskStatus::kRunning);
  EXPECT_EQ(RunNow(), Turn::kIdle);
  EXPECT_FALSE(queues_->DueAt(0, clock_.Now()));
  EXPECT_TRUE(worker_->Retire());
  EXPECT_EQ(counters_.workers()[0].in_hand, 0u);
  EXPECT_TRUE(queues_->DueAt(0, clock_.Now()));
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_THAT(Lettered(), ElementsAre(1, 2));
}

TEST_F(FlushWorkerTest, AppliesWhatIsRefusedForAWhileOnly) {
  int refusals = 2;
  backend_.RejectTasks([&](const storage::TaskChange&) { return refusals-- > 0; });
  Save("a");
  EXPECT_EQ(Run(), Turn::kIdle);
  EXPECT_TRUE(IsStored("a"));
  EXPECT_THAT(Lettered(), IsEmpty());
}

TEST_F(FlushWorkerTest, LettersTheActivityThatIsRefused) {
  for (int i = 0; i < 9; ++i) Log("log-" + std::to_string(i), "t" + std::to_string(i));
  backend_.RejectActivities([](const Activity& activity) { return activity.id == "log-4"; });
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(5));
  EXPECT_EQ(Session()->Count()->activities, 8u);
}

TEST_F(FlushWorkerTest, SendsPartialOperationsAfterTheLetteredSave) {
  RejectTask("bad");
  const wal::Lsn save = Save("bad");
  const wal::Lsn update = Update("bad", TaskStatus::kRunning);
  Save("good");
  Run();
  const wal::Lsn later = Update("bad", TaskStatus::kCompleted);
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(save, update, later));
  EXPECT_TRUE(IsStored("good"));
  EXPECT_EQ(Stats().dead_lettered, 3u);
}

TEST_F(FlushWorkerTest, AppliesPartialOperationsAgainAfterTheNextSave) {
  RejectTask("t");
  const wal::Lsn save = Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  const wal::Lsn follows = Update("t", TaskStatus::kFailed);
  Save("t");
  Update("t", TaskStatus::kRunning);
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(save, follows));
  EXPECT_EQ(Session()->GetTask("t")->task.status, TaskStatus::kRunning);
}

TEST_F(FlushWorkerTest, AppliesPartialOperationsAgainAfterADeleteOrABatch) {
  RejectTask("t");
  Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  Delete("t");
  Update("t", TaskStatus::kRunning);
  Run();
  EXPECT_THAT(Lettered(), SizeIs(1));
  RejectTask("t");
  Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  SaveAll({"t", "u"});
  Update("t", TaskStatus::kRunning);
  Run();
  EXPECT_THAT(Lettered(), SizeIs(2));
  EXPECT_EQ(Session()->GetTask("t")->task.status, TaskStatus::kRunning);
}

TEST_F(FlushWorkerTest, LettersAWholeBatchForOneBadRow) {
  RejectTask("bad");
  Save("a");
  const wal::Lsn batch = SaveAll({"b", "bad", "c"});
  const wal::Lsn follows = Update("c", TaskStatus::kRunning);
  Save("d");
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(batch, follows));
  EXPECT_FALSE(IsStored("b"));
  EXPECT_TRUE(IsStored("d"));
  EXPECT_EQ(settled(), 4u);
}

TEST_F(FlushWorkerTest, LettersWhatDoesNotDecode) {
  Save("a");
  const wal::Lsn bad = Offer(OperationType::kTaskUpdate, "x", {std::byte{0xff}});
  const wal::Lsn odd = Offer(static_cast<OperationType>(99), "y", {std::byte{1}});
  Save("b");
  Run();
  EXPECT_THAT(Lettered(), ElementsAre(bad, odd));
  EXPECT_TRUE(IsStored("b"));
  EXPECT_EQ(settled(), 4u);
}

TEST_F(FlushWorkerTest, SkipsALetterOfAnEarlierRun) {
  DeadLetter letter;
  letter.wal_id = identity_.wal_id;
  letter.lsns = {1, 1};
  letter.type = OperationType::kTaskUpdate;
  letter.task_id = "a";
  ASSERT_OK(letters_->Add(letter));
  Save("a");
  Save("b");
  Run();
  EXPECT_FALSE(IsStored("a"));
  EXPECT_TRUE(IsStored("b"));
  EXPECT_EQ(Stats().dead_lettered, 1u);
}

TEST_F(FlushWorkerTest, SkipsALetterOfItsFormerIdentity) {
  const Uuid former = Uuid::Make();
  DeadLetter letter;
  letter.wal_id = former;
  letter.lsns = {1, 1};
  letter.type = OperationType::kTaskUpdate;
  ASSERT_OK(letters_->Add(letter));
  identity_.former = {{former, 1}};
  worker_->Begin(identity_, nullptr);
  Save("a");
  Run();
  EXPECT_FALSE(IsStored("a"));
}

TEST_F(FlushWorkerTest, GoesOnWithTheSamePartAfterTroubleInTheMiddle) {
  for (int i = 0; i < 8; ++i) Save("task-" + std::to_string(i));
  RejectTask("task-5");
  backend_.NextApplies({ApplyFault::kNone, ApplyFault::kLostAfter, ApplyFault::kThrows,
                        ApplyFault::kNone, ApplyFault::kLostBefore, ApplyFault::kLostAfter});
  Drain();
  EXPECT_THAT(Lettered(), ElementsAre(6));
  EXPECT_EQ(Stats().applied, 7u);
  EXPECT_EQ(settled(), 8u);
  EXPECT_EQ(Session()->Count()->tasks, 7u);
}

TEST_F(FlushWorkerTest, WaitsWhereALetterCannotBeKept) {
  RejectTask("bad");
  fs_.SetCapacity(1);
  Save("bad");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(settled(), 0u);
  fs_.SetCapacity(1 << 20);
  Drain();
  EXPECT_THAT(Lettered(), ElementsAre(1));
  EXPECT_EQ(settled(), 1u);
}

TEST_F(FlushWorkerTest, WaitsWhereAClearedTaskCannotBeKept) {
  RejectTask("t");
  Save("t");
  Run();
  backend_.RejectTasks(nullptr);
  fs_.FailNth(1, {.call = SimulatedCall::kWrite});
  Save("t");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_FALSE(IsStored("t"));
  Drain();
  EXPECT_TRUE(IsStored("t"));
}

// --- a broken schema is not poison
// ---------------------------------------------------------------------------------

// Without pauses the letters are the first ten of the log.
TEST_F(FlushWorkerTest, LettersNoMoreThanPoisonCouldExplain) {
  options_.batch_size = 100;
  options_.initial_backoff = milliseconds(0);
  Make();
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  for (int i = 0; i < 100; ++i) Save("task-" + std::to_string(i));
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(letters_->count(), 10u);
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kOpen);
  EXPECT_THAT(Stats().alarm, HasSubstr("constraint failed"));
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(options_.breaker_open_time);
    EXPECT_EQ(Run(), Turn::kPaused);
  }
  EXPECT_EQ(letters_->count(), 10u);
  EXPECT_EQ(settled(), 10u);
}

TEST_F(FlushWorkerTest, LettersNoMoreThoughEachPartitionRestsForItself) {
  options_.batch_size = 100;
  Make();
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  for (int i = 0; i < 100; ++i) Save("task-" + std::to_string(i));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Run(), Turn::kPaused);
    clock_.Advance(options_.breaker_open_time);
  }
  EXPECT_EQ(letters_->count(), 10u);
  backend_.RejectTasks(nullptr);
  Drain();
  EXPECT_EQ(letters_->count(), 10u);
  EXPECT_EQ(settled(), 100u);
  EXPECT_EQ(Stats().applied, 90u);
}

TEST_F(FlushWorkerTest, BringsTheRestOnceTheSchemaIsRepaired) {
  backend_.RejectTasks([](const storage::TaskChange&) { return true; });
  for (int i = 0; i < 100; ++i) Save("task-" + std::to_string(i));
  Run();
  backend_.RejectTasks(nullptr);
  Drain();
  EXPECT_EQ(settled(), 100u);
  EXPECT_EQ(Session()->Count()->tasks, 90u);
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(FlushWorkerTest, SparsePoisonHoldsNothingUpHoweverLongItLasts) {
  options_.initial_backoff = milliseconds(0);
  Make();
  backend_.RejectTasks([](const storage::TaskChange& c) { return c.id.starts_with("bad"); });
  for (int group = 0; group < 40; ++group) {
    Save("bad-" + std::to_string(group));
    for (int i = 0; i < 29; ++i) Save("good-" + std::to_string(30 * group + i));
    Drain();
  }
  EXPECT_EQ(letters_->count(), 40u);
  EXPECT_EQ(Stats().applied, 40u * 29);
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(FlushWorkerTest, LettersNothingMoreOnceTheStoreIsFull) {
  options_.dead_letter_count_max = 2;
  Make();
  backend_.RejectTasks([](const storage::TaskChange& c) { return c.id.starts_with("bad"); });
  for (int i = 0; i < 5; ++i) Save("bad-" + std::to_string(i));
  Save("good");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(letters_->count(), 2u);
  EXPECT_EQ(breaker_->state(), CircuitBreaker::State::kOpen);
  EXPECT_THAT(Stats().alarm, HasSubstr("dead_letter_count_max=2"));
  EXPECT_EQ(settled(), 2u);
}

TEST_F(FlushWorkerTest, BringsWhatComesBeforeARecordThatMustNotBeLettered) {
  options_.dead_letter_count_max = 0;
  Make();
  for (int i = 0; i < 6; ++i) Save("task-" + std::to_string(i));
  Offer(OperationType::kTaskUpdate, "x", {std::byte{0xff}});
  Save("behind");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_TRUE(IsStored("task-5"));
  EXPECT_EQ(settled(), 6u);
}

TEST_F(FlushWorkerTest, HoldsBackWhatWouldFollowIntoAFullStore) {
  options_.dead_letter_count_max = 1;
  Make();
  RejectTask("bad");
  Save("bad");
  Update("bad", TaskStatus::kRunning);
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(settled(), 1u);
}

// --- what it tells of itself, deadlines ----------------------------------------------------------

TEST_F(FlushWorkerTest, CountsWhatItDidAndWhatWentWrong) {
  Save("a");
  Save("b");
  Run();
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kThrows, ApplyFault::kThrowsOddly});
  Save("c");
  Drain();
  const WorkerSnapshot worker = counters_.workers()[0];
  EXPECT_EQ(worker.batches, 2u);
  EXPECT_EQ(worker.records, 3u);
  EXPECT_EQ(worker.failures, 3u);
  EXPECT_EQ(worker.exceptions, 2u);
  EXPECT_EQ(worker.in_hand, 0u);
  EXPECT_EQ(worker.flush_time.count, 2u);
}

TEST_F(FlushWorkerTest, CountsItsTimeInDatabaseCalls) {
  backend_.OnApply([this](const storage::Batch&) { clock_.Advance(seconds(2)); });
  Save("a");
  Run();
  EXPECT_DOUBLE_EQ(counters_.workers()[0].busy_seconds, 2);
}

TEST_F(FlushWorkerTest, TellsTheErrorHookOfWhatWasThrown) {
  std::vector<ErrorEvent> errors;
  options_.on_error = [&](const ErrorEvent& event) { errors.push_back(event); };
  backend_.NextApplies({ApplyFault::kThrows});
  Save("a");
  Drain();
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(errors[0].component, "worker");
  EXPECT_EQ(errors[0].database, "scripted:");
  EXPECT_THAT(errors[0].message, HasSubstr("the driver threw"));
}

TEST_F(FlushWorkerTest, GivesABatchBackThatItCannotBringInTime) {
  options_.batch_timeout = seconds(30);
  backend_.NextApplies(std::vector<ApplyFault>(4, ApplyFault::kUnavailable));
  Save("a");
  EXPECT_EQ(Run(), Turn::kPaused);
  EXPECT_EQ(counters_.workers()[0].in_hand, 1u);
  clock_.Advance(seconds(29));
  Run();
  EXPECT_EQ(counters_.workers()[0].timeouts, 0u);
  clock_.Advance(seconds(61));
  Run();
  EXPECT_EQ(counters_.workers()[0].timeouts, 1u);
  EXPECT_EQ(counters_.workers()[0].in_hand, 0u) << "others may have it first";
  Drain();
  EXPECT_TRUE(IsStored("a"));
  EXPECT_EQ(Stats().applied, 1u);
}

TEST_F(FlushWorkerTest, KeepsABatchWhoseFateItDoesNotKnow) {
  options_.batch_timeout = seconds(1);
  backend_.NextApplies({ApplyFault::kLostAfter});
  Save("a");
  Run();
  clock_.Advance(seconds(60));
  Run();
  EXPECT_EQ(counters_.workers()[0].timeouts, 0u);
  EXPECT_TRUE(IsStored("a"));
  EXPECT_EQ(Stats().applied, 1u);
}

TEST_F(FlushWorkerTest, GivesATransactionWhatIsLeftOfItsBatchsTime) {
  std::vector<milliseconds> times;
  backend_.OnApply([&](const storage::Batch& batch) {
    times.push_back(batch.time_max);
    clock_.Advance(seconds(3));
  });
  Save("a");
  Save("b");
  Run();
  options_.batch_timeout = seconds(10);
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("c");
  Save("d");
  Run();
  clock_.Advance(milliseconds(100));
  Run();
  Save("alone");  // nothing would be won by cutting it
  Run();
  EXPECT_THAT(times, ElementsAre(milliseconds(0), milliseconds(10'000), milliseconds(6'900),
                                 milliseconds(0)));
}

TEST_F(FlushWorkerTest, GivesEachPartOfARefusedBatchATimeOfItsOwn) {
  options_.batch_timeout = seconds(10);
  options_.initial_backoff = milliseconds(0);
  Make();
  std::vector<milliseconds> times;
  backend_.OnApply([&](const storage::Batch& batch) {
    if (batch.tasks.size() > 1) times.push_back(batch.time_max);
    clock_.Advance(seconds(6));
  });
  RejectTask("bad");
  for (const char* id : {"a", "b", "bad", "c", "d", "e", "f", "g"}) Save(id);
  Drain();
  EXPECT_THAT(times, SizeIs(5));  // of eight, of four, of two and two, of four
  EXPECT_THAT(times, Each(milliseconds(10'000)));
  EXPECT_EQ(counters_.workers()[0].timeouts, 0u);
  EXPECT_THAT(Lettered(), ElementsAre(3u));
}

// A transaction that needs a second for each record, and is cut when its time is over.
class CutTest : public FlushWorkerTest {
 protected:
  CutTest() {
    options_.batch_timeout = seconds(10);
    options_.breaker_failures = 1000;
    Make();
    sizer_.emplace(options_);
    setting_->sizer = &*sizer_;
    backend_.OnApply([this](const storage::Batch& batch) {
      const std::size_t records = batch.tasks.size() + batch.activities.size();
      applied_.push_back(records);
      const std::chrono::nanoseconds needed = records * a_record_;
      const bool is_cut = batch.time_max.count() > 0 && needed >= batch.time_max;
      if (is_cut) backend_.NextApplies({fault_});
      clock_.Advance(is_cut ? batch.time_max * 9 / 10 : needed);
    });
  }
  void LogMany(int count) {
    for (int i = 0; i < count; ++i) Log("a" + std::to_string(next_));
  }

  std::optional<BatchSizer> sizer_;
  milliseconds a_record_{1000};
  ApplyFault fault_ = ApplyFault::kUnavailable;
  std::vector<std::size_t> applied_;
};

TEST_F(CutTest, WhatIsCutIsTriedAgainWithFewerRecords) {
  LogMany(50);
  Drain();
  ASSERT_GE(applied_.size(), 5u);
  EXPECT_THAT(std::vector(applied_.begin(), applied_.begin() + 5),
              ElementsAre(50u, 25u, 12u, 6u, 6u));
  EXPECT_EQ(counters_.workers()[0].timeouts, 3u);
  EXPECT_EQ(Stats().applied, 50u);
  EXPECT_EQ(Session()->Count()->activities, 50u);
  EXPECT_THAT(Lettered(), IsEmpty());
  EXPECT_EQ(Stats().alarm, "");
}

TEST_F(CutTest, ACutThatLeftTheCommitInDoubtIsSettledFirst) {
  // The last one is not there when it is looked for, and lands before the next attempt, which must
  // be the same again: others would look like somebody else's.
  for (const ApplyFault fault :
       {ApplyFault::kLostBefore, ApplyFault::kLostAfter, ApplyFault::kLate}) {
    fault_ = fault;
    sizer_.emplace(options_);
    queues_->SetBatchRecords(sizer_->size());
    LogMany(20);
    Drain();
  }
  EXPECT_EQ(Stats().applied, 60u);
  EXPECT_EQ(Session()->Count()->activities, 60u);
  EXPECT_EQ(Stats().duplicates, 0u);
  EXPECT_THAT(Lettered(), IsEmpty());
}

// There is nothing left to make smaller: it has the time of every call.
TEST_F(CutTest, ARecordThatNeedsLongerByItselfComesIn) {
  a_record_ = seconds(11);
  LogMany(3);
  Drain();
  EXPECT_EQ(Stats().applied, 3u);
  EXPECT_EQ(applied_.back(), 1u);
}

TEST_F(CutTest, BatchesGrowAgainWithTheDatabasesPace) {
  LogMany(100);
  Drain();
  EXPECT_EQ(sizer_->size(), 6u);
  a_record_ = milliseconds(10);
  applied_.clear();
  LogMany(300);
  Drain();
  EXPECT_EQ(sizer_->size(), 100u);
  EXPECT_THAT(applied_, ElementsAre(6u, 12u, 24u, 48u, 96u, 100u, 14u));
}

TEST_F(FlushWorkerTest, RetiresOnlyWithEmptyHands) {
  backend_.NextApplies({ApplyFault::kUnavailable});
  Save("a");
  Run();
  EXPECT_FALSE(worker_->Retire());
  Drain();
  EXPECT_TRUE(worker_->Retire());
}

}  // namespace
}  // namespace taskwal::pipeline
