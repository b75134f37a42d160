// A call that asks the database is back by its deadline, and as soon as it is told to stop, though
// the database never answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "pipeline/bounded_calls.h"
#include "pipeline/direct_task_storage.h"
#include "tests/support/hanging_file_system.h"
#include "tests/support/no_new_threads.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/wal_task_storage_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

// What passes is held up while it is shut; for a minute, so that a test that waits for it fails.
class Barrier {
 public:
  void Shut() {
    MutexLock lock(mutex_);
    is_shut_ = true;
  }
  void Open() {
    MutexLock lock(mutex_);
    is_shut_ = false;
    changed_.NotifyAll();
  }
  void Pass() {
    const auto until = steady_clock::now() + seconds(60);
    MutexLock lock(mutex_);
    ++passed_;
    if (!is_shut_) return;
    ++held_;
    changed_.NotifyAll();
    while (is_shut_ && changed_.WaitUntil(mutex_, until)) {
    }
    is_shut_ = false;
    --held_;
    changed_.NotifyAll();
  }
  void AwaitHeld(int count) {
    const auto until = steady_clock::now() + seconds(60);
    MutexLock lock(mutex_);
    while (held_ != count && changed_.WaitUntil(mutex_, until)) {
    }
    EXPECT_EQ(held_, count);
  }
  int held() {
    MutexLock lock(mutex_);
    return held_;
  }
  std::uint64_t passed() {
    MutexLock lock(mutex_);
    return passed_;
  }
  bool is_shut() {
    MutexLock lock(mutex_);
    return is_shut_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool is_shut_ GUARDED_BY(mutex_) = false;
  int held_ GUARDED_BY(mutex_) = 0;
  std::uint64_t passed_ GUARDED_BY(mutex_) = 0;
};

struct NamedCall {
  const char* name;
  std::function<Status(TaskStorage&, const CallLimits&)> call;
};

const std::vector<NamedCall>& Calls() {
  static const std::vector<NamedCall> kCalls = {
      {"GetTask", [](auto& s, const auto& l) { return s.GetTask("absent", l).status(); }},
      {"QueryTasks", [](auto& s, const auto& l) { return s.QueryTasks({}, l).status(); }},
      {"QueryActivities", [](auto& s, const auto& l) { return s.QueryActivities({}, l).status(); }},
      {"Count", [](auto& s, const auto& l) { return s.Count(l).status(); }},
      {"TasksByDag", [](auto& s, const auto& l) { return s.TasksByDag("d", {}, l).status(); }},
      {"PendingTasks", [](auto& s, const auto& l) { return s.PendingTasks({}, l).status(); }},
      {"ResumableTasks", [](auto& s, const auto& l) { return s.ResumableTasks({}, l).status(); }},
      {"ActivitiesByTask",
       [](auto& s, const auto& l) { return s.ActivitiesByTask("t", {}, l).status(); }},
      {"ActivitiesByDag",
       [](auto& s, const auto& l) { return s.ActivitiesByDag("d", {}, l).status(); }},
      {"CleanupOldTasks",
       [](auto& s, const auto& l) { return s.CleanupOldTasks({}, {}, l).status(); }},
      {"CleanupOldActivityLogs",
       [](auto& s, const auto& l) { return s.CleanupOldActivityLogs({}, l).status(); }},
      {"Ping", [](auto& s, const auto& l) { return s.Ping(l); }},
  };
  return kCalls;
}

enum class Kind : std::uint8_t { kLog, kDirect };

class CallLimitsTest : public WalTaskStorageTest, public ::testing::WithParamInterface<Kind> {
 protected:
  CallLimitsTest() {
    database_.OnAsk([this] { barrier_.Pass(); });
    if (GetParam() == Kind::kLog) {
      Open();
      open_ = std::move(storage_);
    } else {
      auto opened = DirectTaskStorage::Open(database_.Open(), Clock::Real(), options_);
      EXPECT_OK(opened);
      open_ = std::move(opened).value();
    }
  }
  // What was left behind ends before what it uses.
  ~CallLimitsTest() override {
    barrier_.Open();
    barrier_.AwaitHeld(0);
    open_.reset();
  }

  // One that the database holds up when the stop comes.
  Status StopWhileAsked(const NamedCall& one) {
    std::stop_source stop;
    const int before = barrier_.held();
    Status answer;
    std::thread caller([&] { answer = one.call(*open_, {std::nullopt, stop.get_token()}); });
    barrier_.AwaitHeld(before + 1);
    stop.request_stop();
    caller.join();
    return answer;
  }

  Barrier barrier_;
  std::unique_ptr<TaskStorage> open_;
};

INSTANTIATE_TEST_SUITE_P(Storages, CallLimitsTest, ::testing::Values(Kind::kLog, Kind::kDirect),
                         [](const auto& given) {
                           return given.param == Kind::kLog ? "Log" : "Direct";
                         });

TEST_P(CallLimitsTest, EveryCallIsBackByItsDeadline) {
  barrier_.Shut();
  for (const NamedCall& one : Calls()) {
    const auto start = steady_clock::now();
    EXPECT_THAT(one.call(*open_, {milliseconds(5), {}}), StatusIs(StatusCode::kUnavailable))
        << one.name;
    EXPECT_GE(steady_clock::now() - start, milliseconds(5)) << one.name;
    EXPECT_TRUE(barrier_.is_shut()) << one.name;
  }
}

TEST_P(CallLimitsTest, EveryCallIsBackWhenToldToStop) {
  barrier_.Shut();
  for (const NamedCall& one : Calls()) {
    const Status answer = StopWhileAsked(one);
    EXPECT_THAT(answer, StatusIs(StatusCode::kUnavailable)) << one.name;
    EXPECT_THAT(answer.message(), HasSubstr("told to stop, and there is no answer yet"))
        << one.name;
    EXPECT_TRUE(barrier_.is_shut()) << one.name;
  }
}

// One that comes in time is the database's own, an error as well.
TEST_P(CallLimitsTest, AnAnswerInTimeIsThatOfACallWithoutLimits) {
  ASSERT_OK(open_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(open_->LogActivity(ActivityOn("t"), {}));
  ASSERT_OK(open_->Flush(seconds(60)));
  std::stop_source stop;
  const CallLimits limits{hours(1), stop.get_token()};
  for (const NamedCall& one : Calls()) {
    EXPECT_EQ(one.call(*open_, limits).ToString(), one.call(*open_, {}).ToString()) << one.name;
  }
  const auto task = open_->GetTask("t", limits);
  ASSERT_OK(task);
  EXPECT_EQ(task->dag_id, "d");
  const auto page = open_->TasksByDag("d", {}, limits);
  ASSERT_OK(page);
  EXPECT_EQ(page->tasks.size(), 1u);
  const auto counts = open_->Count(limits);
  ASSERT_OK(counts);
  EXPECT_EQ(counts->activities, 1u);
}

// On a busy machine any one call may come late; one that looks up too seldom is late every time.
TEST_P(CallLimitsTest, IsPunctual) {
  barrier_.Shut();
  const auto ping = [&](const CallLimits& limits) {
    EXPECT_THAT(open_->Ping(limits), StatusIs(StatusCode::kUnavailable));
  };
  const auto deadline = [&]() -> nanoseconds {
    const auto start = steady_clock::now();
    ping({milliseconds(20), {}});
    return steady_clock::now() - start - milliseconds(20);
  };
  const auto stop = [&]() -> nanoseconds {
    std::stop_source source;
    steady_clock::time_point asked_at;
    const int before = barrier_.held();
    std::jthread asks([&] {
      barrier_.AwaitHeld(before + 1);
      asked_at = steady_clock::now();
      source.request_stop();
    });
    ping({std::nullopt, source.get_token()});
    const auto back_at = steady_clock::now();
    asks.join();
    return back_at - asked_at;
  };
  const std::vector<std::function<nanoseconds()>> measures = {deadline, stop};
  for (const auto& measure : measures) {
    const auto until = steady_clock::now() + seconds(30);
    nanoseconds late = measure();
    while (late > milliseconds(10) && steady_clock::now() < until) {
      barrier_.Open();
      barrier_.AwaitHeld(0);
      barrier_.Shut();
      late = measure();
    }
    EXPECT_LE(late, milliseconds(10));
  }
}

TEST_P(CallLimitsTest, SoManyAreLeftBehindAndNoMore) {
  barrier_.Shut();
  const NamedCall& ping = Calls().back();
  for (std::uint32_t i = 0; i < BoundedCalls::kUnderwayMax; ++i) {
    EXPECT_THAT(StopWhileAsked(ping), StatusIs(StatusCode::kUnavailable));
  }
  const Status refused = open_->Ping({milliseconds(5), {}});
  EXPECT_THAT(refused, StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(refused.message(), HasSubstr("the call's time is over"));
  EXPECT_EQ(barrier_.held(), static_cast<int>(BoundedCalls::kUnderwayMax));
  // It waits for one of them to end, as long as its time allows.
  Status answer = Status::Unavailable("not asked");
  std::thread caller([&] { answer = open_->Ping({hours(1), {}}); });
  barrier_.Open();
  caller.join();
  EXPECT_OK(answer);
}

TEST_P(CallLimitsTest, WhatIsLeftBehindHoldsUpNoEnd) {
  ASSERT_OK(open_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(open_->Flush(seconds(60)));
  barrier_.Shut();
  EXPECT_THAT(StopWhileAsked(Calls().back()), StatusIs(StatusCode::kUnavailable));
  EXPECT_OK(open_->Shutdown(ShutdownMode::kGraceful, seconds(20)));
  open_.reset();
  EXPECT_TRUE(barrier_.is_shut());
  EXPECT_EQ(barrier_.held(), 1);
}

TEST_P(CallLimitsTest, OneThatWasToldToStopBeforeIsNotAsked) {
  std::stop_source stop;
  stop.request_stop();
  const std::uint64_t before = barrier_.passed();
  EXPECT_THAT(open_->Ping({std::nullopt, stop.get_token()}), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(open_->Ping({milliseconds(0), {}}), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(barrier_.passed(), before);
}

// Of calls alone: beside a log, threads of its own would be met.
TEST(BoundedDatabaseCalls, AThreadThatCannotBeStartedIsToldAsThat) {
  SwitchableDatabase database;
  const auto backend = database.Open();
  DatabaseCalls calls(*backend);
  const DatabaseCalls::End end{steady_clock::now() + hours(1), {}};
  {
    const NoNewThreads none;
    const Status refused = calls.Ping(end);
    EXPECT_THAT(refused, StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(refused.message(), HasSubstr("starts no more threads (see ulimit -u"));
  }
  EXPECT_OK(calls.Ping(end));
}

using LoggedCallLimitsTest = WalTaskStorageTest;

TEST_F(LoggedCallLimitsTest, WhatTheLogKnowsIsAnsweredInNoTime) {
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  EXPECT_OK(storage_->GetTask("t", {milliseconds(0), {}}));
  database_.ComeBack();
}

// What is still to be written to the log is waited for, and written by others.
TEST_F(LoggedCallLimitsTest, HoldThoughTheDiskHangs) {
  HangingFileSystem fs(FileSystem::Real());
  WalStorageSetup setup;
  setup.options = options_;
  setup.options.durability = Durability::kProcess;
  setup.backend = database_.Open();
  setup.fs = &fs;
  auto opened = WalTaskStorage::Open(std::move(setup));
  ASSERT_OK(opened);
  storage_ = std::move(opened).value();
  Task ended = TaskNamed("ended");
  ended.status = TaskStatus::kCompleted;
  ASSERT_OK(storage_->SaveTask(ended, {}));
  ASSERT_OK(storage_->Flush(seconds(60)));
  fs.Hang();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_TRUE(fs.AwaitHeld());
  std::stop_source stop;
  std::thread stops([&] { stop.request_stop(); });
  for (const CallLimits& limits : {CallLimits{milliseconds(5), {}},
                                   CallLimits{std::nullopt, stop.get_token()}}) {
    EXPECT_THAT(storage_->GetTask("t", limits), StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(storage_->CleanupOldTasks(Time::max(), {}, limits),
                StatusIs(StatusCode::kUnavailable));
  }
  EXPECT_FALSE(fs.gave_up());
  stops.join();
  fs.Answer();
  EXPECT_OK(storage_->GetTask("t", {hours(1), {}}));
  storage_.reset();
}

// A call that begins when all threads have been waited for, and the log is about to be closed.
TEST_F(LoggedCallLimitsTest, WhatALateCallLeavesBehindHoldsUpNoEnd) {
  HangingFileSystem fs(FileSystem::Real());
  Barrier barrier;
  SwitchableDatabase database;
  database.OnAsk([&] { barrier.Pass(); });
  WalStorageSetup setup;
  setup.options = options_;
  setup.backend = database.Open();
  setup.fs = &fs;
  auto opened = WalTaskStorage::Open(std::move(setup));
  ASSERT_OK(opened);
  auto storage = std::move(opened).value();
  ASSERT_OK(storage->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage->Flush(seconds(60)));
  barrier.Shut();
  fs.Hang();
  std::thread ends([&] { EXPECT_OK(storage->Shutdown(ShutdownMode::kGraceful, seconds(20))); });
  ASSERT_TRUE(fs.AwaitHeld());
  EXPECT_FALSE(storage->Ping({milliseconds(5), {}}).ok());
  fs.Answer();
  ends.join();
  storage.reset();
  EXPECT_TRUE(barrier.is_shut());
  barrier.Open();
  barrier.AwaitHeld(0);
}

TEST_F(LoggedCallLimitsTest, BoundTheWaitForTheFlushToo) {
  Open();
  database_.GoAway();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  TaskQuery query;
  query.paging.consistency = Consistency::kFlushed;
  EXPECT_THAT(storage_->QueryTasks(query, {milliseconds(5), {}}).status(),
              StatusIs(StatusCode::kUnavailable));
  std::stop_source stop;
  std::thread stops([&] { stop.request_stop(); });
  EXPECT_THAT(storage_->QueryTasks(query, {hours(1), stop.get_token()}).status(),
              StatusIs(StatusCode::kUnavailable));
  stops.join();
  database_.ComeBack();
  EXPECT_OK(storage_->QueryTasks(query, {hours(1), {}}));
}

// Without a log a write is a database call, too.
class DirectWriteTest : public WalTaskStorageTest {
 protected:
  DirectWriteTest() {
    auto opened = DirectTaskStorage::Open(database_.Open(), Clock::Real(), options_);
    EXPECT_OK(opened);
    direct_ = std::move(opened).value();
  }
  ~DirectWriteTest() override {
    barrier_.Open();
    barrier_.AwaitHeld(0);
    direct_.reset();
  }
  Status StopWhileHeld() {
    barrier_.Shut();
    std::stop_source stop;
    WriteOptions options;
    options.stop = stop.get_token();
    Status answer;
    std::thread caller([&] { answer = direct_->SaveTask(TaskNamed("t"), options).status(); });
    barrier_.AwaitHeld(1);
    stop.request_stop();
    caller.join();
    EXPECT_TRUE(barrier_.is_shut());
    barrier_.Open();
    barrier_.AwaitHeld(0);
    return answer;
  }

  Barrier barrier_;
  std::unique_ptr<DirectTaskStorage> direct_;
};

TEST_F(DirectWriteTest, IsInDoubtWhereItsTransactionHasBegun) {
  database_.FailApply([this](const storage::Batch&) {
    barrier_.Pass();
    return Status::Ok();
  });
  const Status answer = StopWhileHeld();
  EXPECT_THAT(answer, StatusIs(StatusCode::kInDoubt));
  EXPECT_GT(answer.lsn(), 0u);
  direct_.reset();  // waits for what comes back at once
  EXPECT_EQ(Stored().tasks, 1u);
}

TEST_F(DirectWriteTest, NeverTakesEffectWhereItHasNot) {
  options_.max_idle_conns = 0;
  auto opened = DirectTaskStorage::Open(database_.Open(), Clock::Real(), options_);
  ASSERT_OK(opened);
  direct_ = std::move(opened).value();
  database_.OnConnect([this] { barrier_.Pass(); });
  const Status answer = StopWhileHeld();
  EXPECT_THAT(answer, StatusIs(StatusCode::kUnavailable));
  direct_.reset();
  EXPECT_EQ(Stored().tasks, 0u);
}

}  // namespace
}  // namespace taskwal::pipeline
