// A call's deadline and its stop, wherever it waits. On the machine's clock: honoured to within ten
// milliseconds. On a busy machine any one call may come late; a wait that looks up too seldom is
// late every time. On a clock that a test moves: at the deadline, and not a nanosecond before.
#include <unistd.h>

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/hanging_file_system.h"
#include "tests/support/thread_state.h"
#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class DeadlineTest : public PressureTest {
 protected:
  using Call = std::function<Status(const WriteOptions&)>;

  DeadlineTest() {
    options_.shutdown_timeout = seconds(20);
    database_.GoAway();
  }
  ~DeadlineTest() override {
    fs_.Answer();
    database_.ComeBack();
    Close();
  }
  void OpenHere() {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    setup.fs = &fs_;
    setup.clock = clock_;
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  Status SaveWith(const WriteOptions& options) {
    Task task;
    task.id = "t";
    return storage_->SaveTask(task, options).status();
  }
  Status LogWith(const WriteOptions& options, std::size_t bytes = 0) {
    Activity activity;
    activity.task_id = "t";
    activity.message = std::string(bytes, 'x');
    return storage_->LogActivity(activity, options).status();
  }

  static constexpr milliseconds kTime{25};
  static constexpr milliseconds kLate{10};

  HangingFileSystem fs_{FileSystem::Real()};
  CountingClock time_;

  std::uint64_t end_lsn() { return storage_->GetStats().end_lsn; }
};

enum class Pace : std::uint8_t { kMachine, kStepped };

class EveryWait : public DeadlineTest, public ::testing::WithParamInterface<Pace> {
 protected:
  EveryWait() {
    if (GetParam() == Pace::kStepped) clock_ = &time_;
  }
  // Time goes on, so that it can be closed.
  ~EveryWait() override {
    fs_.Answer();
    database_.ComeBack();
    const std::jthread time([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        time_.Advance(milliseconds(1));
        std::this_thread::sleep_for(milliseconds(1));
      }
    });
    Close();
  }

  void ExpectInTime(StatusCode code, const Call& call) {
    if (GetParam() == Pace::kStepped) {
      ExpectBackAtTheDeadline(code, call);
      ExpectBackWhenToldToStop(code, call);
      return;
    }
    ExpectPunctual("deadline", [&] { return HowLateIsTheDeadline(code, call); });
    ExpectPunctual("stop", [&] { return HowLateIsTheStop(code, call); });
  }

 private:
  // A call on a thread of its own.
  struct Caller {
    Caller(const Call& call, const WriteOptions& options, CountingClock& time)
        : thread([this, call, options, &time] {
            looks_before = time.looks(std::this_thread::get_id());
            has_begun = true;
            status = call(options);
            is_back = true;
          }) {}

    Status status;
    std::uint64_t looks_before = 0;
    std::atomic<bool> has_begun{false};
    std::atomic<bool> is_back{false};
    std::jthread thread;
  };

  void AwaitLooks(Caller& caller, std::uint64_t before, std::uint64_t more) {
    const auto id = caller.thread.get_id();
    Await([&] { return caller.is_back || time_.looks(id) >= before + more; });
  }
  // Counted from its beginning: one that waits for an hour does not look again before it.
  void AwaitFirstLooks(Caller& caller, std::uint64_t count) {
    Await([&] { return caller.has_begun.load(); });
    AwaitLooks(caller, caller.looks_before, count);
  }
  void AwaitMoreLooks(Caller& caller, std::uint64_t count) {
    AwaitLooks(caller, time_.looks(caller.thread.get_id()), count);
  }
  void ExpectBackAtTheDeadline(StatusCode code, const Call& call) {
    WriteOptions options;
    options.timeout = kTime;
    Caller caller(call, options, time_);
    AwaitFirstLooks(caller, 10);  // the first of which says when the time is over
    time_.Advance(kTime - nanoseconds(1));
    AwaitMoreLooks(caller, 10);
    EXPECT_FALSE(caller.is_back);
    time_.Advance(nanoseconds(1));
    Await([&] { return caller.is_back.load(); });
    if (!caller.is_back) time_.Advance(std::chrono::hours(1));
    caller.thread.join();
    EXPECT_THAT(caller.status, StatusIs(code));
  }
  // Time stands still.
  void ExpectBackWhenToldToStop(StatusCode code, const Call& call) {
    std::stop_source stop;
    WriteOptions options;
    options.timeout = std::chrono::hours(1);
    options.stop = stop.get_token();
    const std::uint64_t before = end_lsn();
    Caller caller(call, options, time_);
    AwaitFirstLooks(caller, 1);
    if (code == StatusCode::kInDoubt) Await([&] { return end_lsn() > before; });
    EXPECT_FALSE(caller.is_back);
    stop.request_stop();
    Await([&] { return caller.is_back.load(); });
    if (!caller.is_back) time_.Advance(std::chrono::hours(2));
    caller.thread.join();
    EXPECT_THAT(caller.status, StatusIs(code));
  }

  template <typename Measure>
  static void ExpectPunctual(const char* what, Measure&& measure) {
    const auto until = steady_clock::now() + seconds(60);
    nanoseconds late = measure();
    while (late > kLate && steady_clock::now() < until && !HasFailure()) late = measure();
    EXPECT_LE(late, kLate) << what;
    EXPECT_GE(late, nanoseconds(0)) << what;
  }
  static nanoseconds HowLateIsTheDeadline(StatusCode code, const Call& call) {
    WriteOptions options;
    options.timeout = kTime;
    const auto start = steady_clock::now();
    const Status refused = call(options);
    const auto late = steady_clock::now() - start - kTime;
    // What it waited for may have come.
    if (refused.ok()) return nanoseconds::max();
    EXPECT_THAT(refused, StatusIs(code));
    return late;
  }
  nanoseconds HowLateIsTheStop(StatusCode code, const Call& call) {
    std::stop_source stop;
    WriteOptions options;
    options.timeout = std::chrono::hours(1);
    options.stop = stop.get_token();
    steady_clock::time_point asked_at;
    const pid_t caller = ::gettid();
    std::jthread asks([&] {
      // Were it asleep for another reason, it would meet the stop at its door.
      Await([&] { return IsAsleep(caller); });
      asked_at = steady_clock::now();
      stop.request_stop();
    });
    const Status refused = call(options);
    const auto back_at = steady_clock::now();
    asks.join();
    if (refused.ok()) return nanoseconds::max();
    EXPECT_THAT(refused, StatusIs(code));
    return back_at - asked_at;
  }
};

INSTANTIATE_TEST_SUITE_P(Deadline, EveryWait, ::testing::Values(Pace::kMachine, Pace::kStepped),
                         [](const auto& pace) {
                           return pace.param == Pace::kMachine ? "OnTheMachinesClock"
                                                               : "OnAClockThatIsStepped";
                         });

TEST_P(EveryWait, ForABudget) {
  options_.max_unflushed_records = 1;
  OpenHere();
  ASSERT_OK(SaveWith({}));
  ExpectInTime(StatusCode::kOverloaded, [&](const auto& options) { return SaveWith(options); });
}

TEST_P(EveryWait, ForTheRate) {
  options_.rate_limit = 1;
  options_.rate_burst = 1;
  OpenHere();
  while (LogWith({}).ok()) {
  }
  ExpectInTime(StatusCode::kOverloaded, [&](const auto& options) { return LogWith(options); });
}

TEST_P(EveryWait, ForThoseBeforeIt) {
  options_.max_unflushed_records = 1;
  OpenHere();
  ASSERT_OK(SaveWith({}));
  std::stop_source stop;
  WriteOptions long_time;
  long_time.timeout = std::chrono::hours(1);
  long_time.stop = stop.get_token();
  const std::jthread first([&] { EXPECT_FALSE(SaveWith(long_time).ok()); });
  Await([&] { return control().FlowControl().waiting == 1; });
  ExpectInTime(StatusCode::kOverloaded, [&](const auto& options) { return LogWith(options); });
  stop.request_stop();
}

TEST_P(EveryWait, ForRoomInTheRing) {
  options_.ring_bytes = 64u << 10;
  OpenHere();
  fs_.Hang();
  while (LogWith({}, 2000).ok()) {
  }
  ExpectInTime(StatusCode::kOverloaded,
               [&](const auto& options) { return LogWith(options, 2000); });
  EXPECT_FALSE(fs_.gave_up());
}

TEST_P(EveryWait, ForTheDisk) {
  OpenHere();
  fs_.Hang();
  ExpectInTime(StatusCode::kInDoubt, [&](WriteOptions options) {
    options.durability = Durability::kDisk;
    return SaveWith(options);
  });
  EXPECT_FALSE(fs_.gave_up());
}

TEST_P(EveryWait, ForARecordTooLargeForTheRing) {
  options_.ring_bytes = 64u << 10;
  OpenHere();
  fs_.Hang();
  ExpectInTime(StatusCode::kInDoubt,
               [&](const auto& options) { return LogWith(options, 20'000); });
  EXPECT_FALSE(fs_.gave_up());
}

TEST_P(EveryWait, ForTheDatabase) {
  OpenHere();
  ExpectInTime(StatusCode::kInDoubt, [&](WriteOptions options) {
    options.wait = WaitFor::kApplied;
    return SaveWith(options);
  });
}

// One deadline for all of it: what went on waiting for room is not there for the disk.
TEST_F(DeadlineTest, OfTheWholeCallOnAClockThatIsStepped) {
  clock_ = &time_;
  options_.max_unflushed_records = 1;
  options_.initial_backoff = options_.max_backoff = milliseconds(0);
  options_.breaker_failures = 0;
  options_.flush_linger = milliseconds(0);
  database_.ComeBack();
  OpenHere();  // with all that the first contact writes into the directory
  database_.GoAway();
  WriteOptions options;
  options.durability = Durability::kDisk;
  ASSERT_OK(SaveWith(options));
  options.timeout = 2 * kTime;
  std::atomic<bool> is_back{false};
  Status status;
  const std::uint64_t before = end_lsn();
  std::jthread caller([&] {
    status = SaveWith(options);
    is_back = true;
  });
  Await([&] { return control().FlowControl().waiting == 1; });
  // Half of the time passes until there is room, and then the disk does not answer.
  time_.Advance(kTime);
  fs_.Hang();
  database_.ComeBack();
  Await([&] { return end_lsn() > before; });
  time_.Advance(kTime - nanoseconds(1));
  const std::uint64_t looks = time_.looks(caller.get_id());
  Await([&] { return is_back || time_.looks(caller.get_id()) > looks + 10; });
  EXPECT_FALSE(is_back);
  time_.Advance(nanoseconds(1));
  Await([&] { return is_back.load(); });
  if (!is_back) time_.Advance(std::chrono::hours(1));
  caller.join();
  EXPECT_THAT(status, StatusIs(StatusCode::kInDoubt));
}

// To check a call takes its time, too: it begins before.
TEST_F(DeadlineTest, CountsFromBeforeTheCheckOfTheCall) {
  clock_ = &time_;
  options_.initial_backoff = options_.max_backoff = milliseconds(0);
  options_.breaker_failures = 0;
  options_.flush_linger = milliseconds(0);
  database_.ComeBack();
  OpenHere();
  WriteOptions options;
  options.durability = Durability::kDisk;
  options.timeout = kTime;
  const std::string bad(256, 'x');  // longer than an id may be
  Task task;
  task.id = bad;
  Activity activity;
  activity.task_id = bad;
  const std::vector<std::function<Status()>> calls{
      [&] { return storage_->SaveTask(task, options).status(); },
      [&] { return storage_->SaveTasks(std::span(&task, 1), options).status(); },
      [&] { return storage_->UpdateTaskStatus(bad, {}, "", options).status(); },
      [&] { return storage_->DeleteTask(bad, options).status(); },
      [&] { return storage_->DeleteTasksByDag(bad, options).status(); },
      [&] { return storage_->LogActivity(activity, options).status(); },
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::uint64_t before = time_.looks(std::this_thread::get_id());
    EXPECT_THAT(calls[i](), StatusIs(StatusCode::kInvalidArgument)) << i;
    EXPECT_EQ(time_.looks(std::this_thread::get_id()), before + 1) << i;
  }
}

TEST_F(DeadlineTest, OfTheWholeCall) {
  options_.max_unflushed_records = 1;
  OpenHere();
  const auto until = steady_clock::now() + seconds(60);
  nanoseconds late = nanoseconds::max();
  while (late > 2 * kLate && steady_clock::now() < until) {
    WriteOptions full;
    full.durability = Durability::kDisk;
    ASSERT_OK(SaveWith(full));
    const auto start = steady_clock::now();
    std::atomic<bool> is_back{false};
    // Half of the time passes until there is room, and then the disk does not answer.
    std::jthread room([&] {
      Await([&] {
        const bool is_waiting = control().FlowControl().waiting == 1;
        return is_back || (is_waiting && steady_clock::now() >= start + kTime);
      });
      fs_.Hang();
      database_.ComeBack();
    });
    WriteOptions options;
    options.durability = Durability::kDisk;
    options.timeout = 2 * kTime;
    const StatusCode code = SaveWith(options).code();
    if (code == StatusCode::kInDoubt) late = steady_clock::now() - start - 2 * kTime;
    is_back = true;
    room.join();
    fs_.Answer();
    ASSERT_OK(storage_->Flush(seconds(60)));
    database_.GoAway();
  }
  EXPECT_LE(late, 2 * kLate);
}

}  // namespace
}  // namespace taskwal::pipeline
