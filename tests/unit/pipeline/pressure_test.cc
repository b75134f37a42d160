// Admission, monitor, breaker, workers, batch size and filters as they show through running
// storage: each of these fails when its part does nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <map>
#include <thread>
#include <vector>

#include "base/random.h"
#include "base/status_macros.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/context.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::Not;

class PressureTest : public ::testing::Test {
 protected:
  PressureTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.durability = Durability::kProcess;
    options_.block_timeout = milliseconds(0);
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(5);
    options_.breaker_open_time = milliseconds(5);
    options_.monitoring_interval = milliseconds(1);
    options_.adaptive_thresholds = false;
  }
  ~PressureTest() override {
    database_.ComeBack();
    Close();
  }
  // For tests whose callbacks use variables of theirs: no callback comes after it.
  void Close() {
    if (storage_ == nullptr) return;
    EXPECT_OK(storage_->Close());
    storage_.reset();
  }

  void Open() {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  Control& control() { return *storage_->GetControl(); }
  Status Log(std::int32_t priority = 3, Level level = Level::kInfo) {
    Activity activity;
    activity.task_id = "t";
    activity.action = "step";
    activity.priority = priority;
    activity.level = level;
    return storage_->LogActivity(activity, {}).status();
  }
  Status Save(const std::string& id, milliseconds timeout = seconds(20)) {
    Task task;
    task.id = id;
    WriteOptions options;
    options.timeout = timeout;
    return storage_->SaveTask(task, options).status();
  }
  StoredCounts Stored() {
    auto session = database_.data().Connect();
    EXPECT_OK(session);
    return *(*session)->Count();
  }
  template <typename Condition>
  void Await(Condition&& condition) {
    const auto until = std::chrono::steady_clock::now() + seconds(30);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  TempDir dir_;
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
};

// --- basics -------------------------------------------------------------------------------------

TEST_F(PressureTest, Basics_NormalCallsAllArriveAndFlushEmptiesTheBuffer) {
  Open();
  for (int i = 0; i < 100; ++i) ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(storage_->GetStats().pending, 0u);
  EXPECT_EQ(Stored().activities, 100u);
  EXPECT_EQ(storage_->GetStats().drops.total(), 0u);
}

TEST_F(PressureTest, Basics_AFullBufferDropsActivitiesAndCountsThem) {
  options_.max_unflushed_records = 10;
  options_.backpressure_strategy = Overflow::kDropNewest;
  database_.GoAway();
  Open();
  int refused = 0;
  for (int i = 0; i < 30; ++i) refused += Log(1 + i % 5).ok() ? 0 : 1;
  EXPECT_EQ(refused, 20);
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.drops.of(DropReason::kNewest), 20u);
  EXPECT_EQ(stats.drops.of(DropReason::kNewest, 2), 4u);
  EXPECT_EQ(stats.dropped, 20u);
  EXPECT_EQ(stats.pending, 10u);
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 10u);
  EXPECT_OK(Log());
}

TEST_F(PressureTest, Basics_ABudgetOfBytesHoldsThroughTheWholePipeline) {
  options_.max_unflushed_bytes = 64u << 10;
  database_.GoAway();
  Open();
  Task task;
  task.payload = "\"" + std::string(1000, 'x') + "\"";
  WriteOptions no_waiting;
  no_waiting.timeout = milliseconds(0);
  int accepted = 0;
  for (int i = 0; i < 200; ++i) {
    task.id = std::to_string(i);
    accepted += storage_->SaveTask(task, no_waiting).ok() ? 1 : 0;
  }
  EXPECT_THAT(accepted, AllOf(Ge(50), Le(65)));
  const FlowControlSnapshot flow = control().FlowControl();
  EXPECT_LE(flow.unflushed_bytes, options_.max_unflushed_bytes);
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(control().FlowControl().unflushed_bytes, 0u);
  EXPECT_EQ(control().FlowControl().unflushed_records, 0u);
}

TEST_F(PressureTest, Basics_ConcurrentCallersLoseNothing) {
  options_.max_unflushed_records = 100;
  options_.block_timeout = seconds(30);
  Open();
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 10; ++t) {
      callers.emplace_back([&] {
        for (int i = 0; i < 100; ++i) EXPECT_OK(Log());
      });
    }
  }
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1000u);
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

TEST_F(PressureTest, Basics_ALargeRecordIsRefused) {
  options_.max_record_bytes = 1000;
  Open();
  Task task;
  task.id = "t";
  task.payload = "\"" + std::string(1000, 'x') + "\"";
  EXPECT_THAT(storage_->SaveTask(task, {}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kTooLarge, 0), 1u);
}

// --- flow control -------------------------------------------------------------------------------

TEST_F(PressureTest, FlowControl_TheRateHoldsAndTurnsAtRunTime) {
  options_.rate_limit = 1;
  options_.rate_burst = 10;
  Open();
  int accepted = 0;
  for (int i = 0; i < 200; ++i) accepted += Log().ok() ? 1 : 0;
  EXPECT_THAT(accepted, AllOf(Ge(10), Le(40)));  // and one for each second this took
  EXPECT_THAT(control().SetRate(0, 2'000'000'000'000), StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK(control().SetRate(0, 0));
  for (int i = 0; i < 200; ++i) EXPECT_OK(Log());
  EXPECT_EQ(control().FlowControl().rate_limit, 0u);
}

TEST_F(PressureTest, FlowControl_TasksWaitWhereActivitiesAreDropped) {
  options_.max_unflushed_records = 5;
  options_.backpressure_strategy = Overflow::kDropNewest;
  database_.GoAway();
  Open();
  for (int i = 0; i < 5; ++i) ASSERT_OK(Log());
  EXPECT_FALSE(Log(5).ok());
  EXPECT_THAT(Save("late", milliseconds(20)), StatusIs(StatusCode::kOverloaded));
  std::jthread task([&] { EXPECT_OK(Save("patient")); });
  Await([&] { return control().FlowControl().waiting == 1; });
  EXPECT_FALSE(Log(5).ok());
  database_.ComeBack();
  task.join();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().tasks, 1u);
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kTimeout, 0), 1u);
}

TEST_F(PressureTest, FlowControl_ThePolicyTurnsAtRunTime) {
  options_.max_unflushed_records = 1;
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(control().SetPolicy(Overflow::kSample, 4));
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(Log().ok());
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kSampled), 6u);
  EXPECT_EQ(control().FlowControl().policy, Overflow::kSample);
}

TEST_F(PressureTest, FlowControl_ADeadlineAndAStopAreHonoured) {
  options_.max_unflushed_records = 1;
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(Save("t", milliseconds(50)), StatusIs(StatusCode::kOverloaded));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(50));
  std::stop_source stop;
  std::jthread task([&] {
    WriteOptions options;
    options.timeout = hours(1);
    options.stop = stop.get_token();
    Task saved;
    saved.id = "t";
    EXPECT_THAT(storage_->SaveTask(saved, options), StatusIs(StatusCode::kOverloaded));
  });
  Await([&] { return control().FlowControl().waiting == 1; });
  stop.request_stop();
  task.join();
}

// Twice what the database takes, for a while: the log takes it all.
TEST_F(PressureTest, FlowControl_ASpikeOfTwiceTheRateDropsNothing) {
  options_.rate_limit = 100'000;
  options_.rate_burst = 2'000;
  options_.block_timeout = seconds(30);
  database_.FailApply([](const storage::Batch&) {
    std::this_thread::sleep_for(milliseconds(2));
    return Status::Ok();
  });
  Open();
  for (int i = 0; i < 4'000; ++i) ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 4'000u);
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

// --- detection ----------------------------------------------------------------------------------

TEST_F(PressureTest, Detection_AnOutageIsToldAndSoIsItsEnd) {
  std::vector<Pressure> told;
  Mutex mutex;
  options_.on_pressure = [&](const PressureEvent& event) {
    MutexLock lock(mutex);
    told.push_back(event.to);
  };
  Open();
  database_.GoAway();
  ASSERT_OK(Log());
  Await([&] { return control().Backpressure().state == Pressure::kEmergency; });
  database_.ComeBack();
  for (int i = 0; control().Backpressure().state != Pressure::kNormal; ++i) {
    ASSERT_LT(i, 10'000);
    ASSERT_OK(Log());
    ASSERT_OK(storage_->Flush(seconds(30)));
  }
  EXPECT_GE(control().Backpressure().changes, 2u);
  Close();
  MutexLock lock(mutex);
  EXPECT_EQ(told.back(), Pressure::kNormal);
  EXPECT_THAT(told, ::testing::Contains(Pressure::kEmergency));
}

TEST_F(PressureTest, Detection_InAnEmergencyLowPrioritiesAreShed) {
  options_.emergency_enabled = true;
  database_.GoAway();
  Open();
  ASSERT_OK(Log(5));
  Await([&] { return control().Backpressure().state == Pressure::kEmergency; });
  int shed = 0;
  for (int i = 0; i < 100; ++i) shed += Log(1).ok() ? 0 : 1;
  EXPECT_EQ(shed, 80);
  for (int i = 0; i < 100; ++i) EXPECT_OK(Log(5));
  for (int i = 0; i < 100; ++i) EXPECT_OK(Save(std::to_string(i)));
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kShed, 1), 80u);
}

// --- breaker ------------------------------------------------------------------------------------

TEST_F(PressureTest, Breaker_OpensAtTwoFailuresTellsItAndIsResetAtRunTime) {
  std::atomic<int> opened{0};
  options_.breaker_failures = 2;
  options_.breaker_open_time = hours(1);
  options_.on_breaker = [&](const BreakerEvent& event) {
    if (event.from == "closed" && event.to == "open") ++opened;
  };
  Open();
  database_.GoAway();
  ASSERT_OK(Log());
  Await([&] { return opened == 1; });
  BreakerSnapshot breaker = control().Buffer().targets.front().breaker;
  EXPECT_EQ(breaker.state, "open");
  EXPECT_EQ(breaker.consecutive_failures, 2u);
  database_.ComeBack();
  EXPECT_THAT(control().ResetBreaker("elsewhere"), StatusIs(StatusCode::kNotFound));
  ASSERT_OK(control().ResetBreaker(""));
  Await([&] { return storage_->GetStats().pending == 0; });
  breaker = control().Buffer().targets.front().breaker;
  EXPECT_EQ(breaker.state, "closed");
  EXPECT_EQ(breaker.opened, 1u);
  Close();
}

// --- workers ------------------------------------------------------------------------------------

TEST_F(PressureTest, Workers_TheirNumberChangesUnderLoadAndOrderHolds) {
  database_.set_writers_max(8);
  options_.max_buffer_size = 1;
  options_.batch_size = 20;
  options_.block_timeout = seconds(30);
  Open();
  std::atomic<bool> over{false};
  std::jthread turning([&] {
    Random random(7);
    while (!over) {
      EXPECT_OK(control().SetWorkerCount(1 + static_cast<std::uint32_t>(random.Below(8))));
      std::this_thread::yield();
    }
  });
  constexpr int kTasks = 20, kRounds = 100;
  for (int round = 0; round < kRounds; ++round) {
    for (int t = 0; t < kTasks; ++t) {
      Task task;
      task.id = "t" + std::to_string(t);
      task.retry_count = round;
      ASSERT_OK(storage_->SaveTask(task, {}));
    }
  }
  over = true;
  turning.join();
  ASSERT_OK(storage_->Flush(seconds(30)));
  ASSERT_OK_AND_ASSIGN(const TaskPage page, storage_->QueryTasks({}));
  ASSERT_EQ(page.tasks.size(), static_cast<std::size_t>(kTasks));
  for (const Task& task : page.tasks) EXPECT_EQ(task.retry_count, kRounds - 1) << task.id;
  const Stats stats = storage_->GetStats();
  EXPECT_EQ(stats.applied, static_cast<std::uint64_t>(kTasks * kRounds));
}

TEST_F(PressureTest, Workers_AreAsManyAsToldAndShareTheWork) {
  database_.set_writers_max(4);
  options_.worker_count = 1;
  std::atomic<int> together{0};
  database_.FailApply([&](const storage::Batch&) {
    ++together;
    for (int i = 0; i < 2000 && together < 4; ++i) std::this_thread::sleep_for(milliseconds(1));
    return Status::Ok();
  });
  Open();
  ASSERT_OK(control().SetWorkerCount(4));
  for (int i = 0; i < 64; ++i) ASSERT_OK(Save("t" + std::to_string(i)));
  ASSERT_OK(storage_->Flush(seconds(30)));
  const BufferSnapshot buffer = control().Buffer();
  ASSERT_EQ(buffer.targets.front().workers.size(), 4u);
  for (const WorkerSnapshot& worker : buffer.targets.front().workers) {
    EXPECT_TRUE(worker.active);
    EXPECT_GE(worker.batches, 1u) << worker.index;
    EXPECT_GE(worker.flush_time.count, 1u) << worker.index;
  }
  ASSERT_OK(control().SetWorkerCount(1));
  ASSERT_OK(control().SetWorkerCount(200));  // no more than the database takes
  EXPECT_EQ(control().Buffer().targets.front().workers.size(), 4u);
  Close();
}

TEST_F(PressureTest, Workers_OneThatThrowsIsToldAndGoesOn) {
  std::atomic<int> told{0};
  std::atomic<int> calls{0};
  options_.on_error = [&](const ErrorEvent& event) {
    if (event.component == "worker") ++told;
    throw 1;
  };
  options_.on_flush = [](const FlushEvent&) { throw 2; };
  database_.FailApply([&](const storage::Batch&) {
    if (++calls <= 3) throw std::runtime_error("the driver threw");
    return Status::Ok();
  });
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(told, 3);
  // And the callback's, once for each attempt.
  Await([&] {
    std::uint64_t exceptions = 0;
    const BufferSnapshot buffer = control().Buffer();
    for (const auto& worker : buffer.targets.front().workers) {
      exceptions += worker.exceptions;
    }
    return exceptions == 3 + 4;
  });
  EXPECT_EQ(Stored().activities, 1u);
  Close();
}

// --- batch size ---------------------------------------------------------------------------------

TEST_F(PressureTest, AdaptiveSize_IsPinnedAtRunTime) {
  Mutex mutex;
  std::vector<std::uint64_t> sizes;
  options_.on_flush = [&](const FlushEvent& event) {
    MutexLock lock(mutex);
    sizes.push_back(event.records);
  };
  database_.GoAway();
  Open();
  ASSERT_OK(control().SetBatchSize(7));
  EXPECT_THAT(control().SetBatchSize(0), StatusIs(StatusCode::kInvalidArgument));
  for (int i = 0; i < 100; ++i) ASSERT_OK(Log());
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(control().Buffer().targets.front().batch_size.pinned, 7u);
  Close();
  MutexLock lock(mutex);
  EXPECT_THAT(sizes, Each(Le(7u)));
}

TEST_F(PressureTest, AdaptiveSize_FollowsTheLatencyOfTheDatabase) {
  options_.target_latency = milliseconds(5);
  options_.batch_evaluation_interval = milliseconds(0);
  options_.batch_size = 400;
  options_.batch_size_min = 10;
  options_.worker_count = 1;
  database_.FailApply([](const storage::Batch& batch) {
    std::this_thread::sleep_for(std::chrono::microseconds(100) * batch.activities.size());
    return Status::Ok();
  });
  Open();
  for (int i = 0; i < 4'000; ++i) ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  const BatchSizeSnapshot size = control().Buffer().targets.front().batch_size;
  EXPECT_LT(size.size, 200u);
  EXPECT_FALSE(size.history.empty());
}

// --- parts that only show together with others ---------------------------------------------------

TEST_F(PressureTest, FlowControl_TheWindowHoldsWhatBurstsAddUpTo) {
  options_.rate_limit = 10;
  options_.rate_burst = 1000;
  options_.rate_window = seconds(2);
  options_.backpressure_strategy = Overflow::kDropNewest;
  Open();
  int taken = 0;
  for (int i = 0; i < 200; ++i) taken += Log().ok() ? 1 : 0;
  EXPECT_GE(taken, 20);
  EXPECT_LT(taken, 200);
}

TEST_F(PressureTest, FlowControl_TheOldestOfTheLowestPriorityGivesWay) {
  options_.max_unflushed_records = 1;
  options_.backpressure_strategy = Overflow::kDropOldest;
  options_.waiting_room = 1;
  options_.block_timeout = hours(1);
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  Status first;
  std::jthread oldest([&] { first = Log(2); });
  Await([&] { return control().FlowControl().waiting == 1; });
  std::jthread newer([&] { EXPECT_OK(Log(3)); });
  oldest.join();
  EXPECT_THAT(first, StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(storage_->GetStats().drops.of(DropReason::kOldest, 2), 1u);
  database_.ComeBack();
  newer.join();
}

TEST_F(PressureTest, FlowControl_TheHigherPriorityGoesFirst) {
  options_.max_unflushed_records = 1;
  options_.block_timeout = hours(1);
  database_.GoAway();
  Open();
  ASSERT_OK(Log());
  std::atomic<std::uint64_t> low{0}, high{0};
  const auto log = [&](std::int32_t priority, std::atomic<std::uint64_t>* lsn) {
    Activity activity;
    activity.priority = priority;
    const auto ack = storage_->LogActivity(activity, {});
    EXPECT_OK(ack.status());
    if (ack.ok()) *lsn = ack->lsn;
  };
  std::jthread first([&] { log(1, &low); });
  Await([&] { return control().FlowControl().waiting == 1; });
  std::jthread second([&] { log(5, &high); });
  Await([&] { return control().FlowControl().waiting == 2; });
  database_.ComeBack();
  first.join();
  second.join();
  EXPECT_LT(high.load(), low.load());
}

TEST_F(PressureTest, Breaker_OpensByTheShareOfFailures) {
  options_.breaker_failures = 0;
  options_.breaker_error_rate = 0.5;
  options_.breaker_min_requests = 4;
  options_.breaker_window = hours(1);
  options_.breaker_open_time = hours(1);
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  database_.GoAway();
  ASSERT_OK(Log());
  Await([&] { return control().Buffer().targets.front().breaker.state == "open"; });
  EXPECT_GE(control().Buffer().targets.front().breaker.consecutive_failures, 2u);
  database_.ComeBack();
  ASSERT_OK(control().ResetBreaker(""));
  ASSERT_OK(storage_->Flush(seconds(30)));
}

TEST_F(PressureTest, Breaker_ClosesAfterAsManyTrialsAsAskedFor) {
  options_.breaker_failures = 1;
  options_.breaker_trials = 3;
  options_.breaker_open_time = milliseconds(1);
  options_.batch_size = 1;
  options_.worker_count = 1;
  std::vector<std::uint64_t> good_before_closing;
  Mutex mutex;
  std::uint64_t good = 0;
  options_.on_flush = [&](const FlushEvent& event) {
    MutexLock lock(mutex);
    good = event.status.ok() ? good + 1 : 0;
  };
  options_.on_breaker = [&](const BreakerEvent& event) {
    MutexLock lock(mutex);
    if (event.to == "closed") good_before_closing.push_back(good);
  };
  Open();
  database_.GoAway();
  for (int i = 0; i < 20; ++i) ASSERT_OK(Log());
  Await([&] { return control().Buffer().targets.front().breaker.opened >= 1; });
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  Close();
  MutexLock lock(mutex);
  ASSERT_FALSE(good_before_closing.empty());
  // The last of them has been committed, but not told yet.
  EXPECT_GE(good_before_closing.back(), 1u);
}

TEST_F(PressureTest, Detection_SlowCommitsArePressure) {
  options_.pressure_latency = milliseconds(1);
  database_.FailApply([](const storage::Batch&) {
    std::this_thread::sleep_for(milliseconds(5));
    return Status::Ok();
  });
  Open();
  for (int i = 0; control().Backpressure().changes == 0; ++i) {
    ASSERT_LT(i, 10'000);
    ASSERT_OK(Log());
    ASSERT_OK(storage_->Flush(seconds(30)));
  }
  EXPECT_GE(control().Backpressure().changes, 1u);
}

TEST_F(PressureTest, Detection_ThresholdsFollowWhatIsUsual) {
  options_.adaptive_thresholds = true;
  options_.recovery_factor = 1;
  options_.pressure_records = 1'000'000;
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  // Usual is next to nothing: half of what was given is the least.
  Await([&] { return control().Backpressure().records_threshold < 600'000; });
}

TEST_F(PressureTest, Retry_WaitsAsLongAsTheStrategySays) {
  options_.backoff_strategy = Backoff::kLinear;
  options_.backoff_jitter = false;
  options_.initial_backoff = hours(1);
  options_.max_backoff = hours(1);
  options_.breaker_failures = 0;
  Open();
  database_.GoAway();
  ASSERT_OK(Log());
  Await([&] { return storage_->GetStats().flush_errors >= 1; });
  // A pause of an hour has begun: no further attempt is made by itself.
  for (int i = 0; i < 50; ++i) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(storage_->GetStats().flush_errors, 1u);
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));  // who waits is not kept for so long
}

// --- level filter and context -------------------------------------------------------------------

TEST_F(PressureTest, ActivitiesBelowTheLevelAreNotKept) {
  options_.min_activity_level = Level::kWarn;
  Open();
  Activity activity;
  activity.task_id = "t";
  activity.level = Level::kInfo;
  ASSERT_OK_AND_ASSIGN(const ActivityAck filtered, storage_->LogActivity(activity, {}));
  EXPECT_EQ(filtered.lsn, 0u);
  activity.level = Level::kError;
  ASSERT_OK_AND_ASSIGN(const ActivityAck kept, storage_->LogActivity(activity, {}));
  EXPECT_GT(kept.lsn, 0u);
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_EQ(storage_->GetStats().filtered, 1u);
  EXPECT_EQ(storage_->GetStats().dropped, 0u);
}

TEST_F(PressureTest, ActivitiesCarryTheFieldsOfTheirScope) {
  Open();
  {
    const ContextScope scope({{"trace_id", "abc"}});
    Activity activity;
    activity.task_id = "t";
    activity.data = R"({"rows":1})";
    ASSERT_OK(storage_->LogActivity(activity, {}));
    activity.data = "{";
    EXPECT_THAT(storage_->LogActivity(activity, {}), StatusIs(StatusCode::kInvalidArgument));
  }
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, storage_->ActivitiesByTask("t"));
  ASSERT_EQ(page.activities.size(), 2u);
  EXPECT_EQ(page.activities[0].data, R"({"rows":1,"trace_id":"abc"})");
  EXPECT_FALSE(page.activities[1].data.has_value());
}

// --- shutdown -----------------------------------------------------------------------------------

class StorageShutdownTest : public PressureTest {
 protected:
  StorageShutdownTest() { options_.initial_backoff = options_.max_backoff = milliseconds(1); }
};

TEST_F(StorageShutdownTest, HandlersRunInReverseWhileCallsAreStillTaken) {
  std::vector<std::string> ran;
  Open();
  ASSERT_OK(storage_->OnShutdown("first", [&] { ran.push_back("first"); }, {}));
  ASSERT_OK(storage_->OnShutdown("second", [&] {
    ran.push_back("second");
    EXPECT_TRUE(storage_->IsShutdown());
    EXPECT_OK(Log());
  }, {}));
  EXPECT_FALSE(storage_->IsShutdown());
  ASSERT_OK(storage_->Close());
  EXPECT_THAT(ran, ElementsAre("second", "first"));
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_THAT(Log(), StatusIs(StatusCode::kClosed));
  EXPECT_THAT(storage_->OnShutdown("late", [] {}, {}), StatusIs(StatusCode::kClosed));
}

TEST_F(StorageShutdownTest, ImmediateLeavesTheRestInTheLogAndASecondCallChangesNothing) {
  int runs = 0;
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->OnShutdown("once", [&] { ++runs; }, {}));
  for (int i = 0; i < 10; ++i) ASSERT_OK(Log());
  const Status first = storage_->Shutdown(ShutdownMode::kImmediate, {});
  EXPECT_THAT(first, StatusIs(StatusCode::kUnavailable, HasSubstr("safe in")));
  database_.ComeBack();
  EXPECT_EQ(storage_->Shutdown(ShutdownMode::kGraceful, seconds(10)).message(), first.message());
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(Stored().activities, 0u);
  storage_.reset();
  Open();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 10u);
}

TEST_F(StorageShutdownTest, FlushPendingRunsHandlersTogetherAndDrains) {
  Open();
  const auto meeting = std::make_shared<std::latch>(2);
  for (const char* name : {"a", "b"}) {
    ASSERT_OK(storage_->OnShutdown(name, [meeting] { meeting->arrive_and_wait(); }, {}));
  }
  for (int i = 0; i < 100; ++i) ASSERT_OK(Log());
  ASSERT_OK(storage_->Shutdown(ShutdownMode::kFlushPending, {}));
  EXPECT_TRUE(meeting->try_wait());
  EXPECT_EQ(Stored().activities, 100u);
}

// A handler that would take ten seconds has a tenth of one.
TEST_F(StorageShutdownTest, GracefulIsBoundedThoughAHandlerHangs) {
  const auto release = std::make_shared<std::latch>(1);
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(storage_->OnShutdown("hangs", [release] { release->wait(); }, {}));
  const auto begin = std::chrono::steady_clock::now();
  IgnoreStatus(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(100)), "it may be late");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
  release->count_down();
}

// The call that hangs comes back after all else is gone, and finds everything it uses.
TEST_F(StorageShutdownTest, GracefulIsBoundedThoughTheDatabaseHangs) {
  std::latch release(1);
  std::atomic<int> calls{0};
  std::atomic<bool> is_back{false};
  database_.FailApply([&](const storage::Batch&) {
    if (++calls > 1) return Status::Ok();
    release.wait();
    is_back = true;
    return Status::Rejected("refused: no letter may be written of it any more");
  });
  Open();
  ASSERT_OK(Log());
  Await([&] { return calls == 1; });
  const Status closed = storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(50));
  EXPECT_THAT(closed, StatusIs(StatusCode::kUnavailable, HasSubstr("safe in")));
  storage_.reset();
  // The directory is free, and what was acknowledged is there.
  Open();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1u);
  release.count_down();
  Await([&] { return is_back.load(); });
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
}

// The same at the first contact.
TEST_F(StorageShutdownTest, GracefulIsBoundedThoughConnectingHangs) {
  std::latch release(1);
  std::atomic<int> calls{0};
  std::atomic<bool> is_back{false};
  database_.OnConnect([&] {
    if (++calls > 1) return;
    release.wait();
    is_back = true;
  });
  options_.recovery_timeout = milliseconds(10);
  Open();
  ASSERT_OK(Log());
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(50)),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  Open();
  ASSERT_OK(storage_->Flush(seconds(30)));
  release.count_down();
  Await([&] { return is_back.load(); });
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 2u);
}

}  // namespace
}  // namespace taskwal::pipeline
