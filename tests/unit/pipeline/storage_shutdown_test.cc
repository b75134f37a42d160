// The end of running storage: in order, in time, and with a word about what hangs.
#include <latch>
#include <stdexcept>
#include <thread>

#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  EXPECT_THAT(closed, StatusIs(StatusCode::kUnavailable,
                               AllOf(HasSubstr("safe in"), HasSubstr("a database call"))));
  storage_.reset();
  // The directory is free, and what was acknowledged is there.
  Open();
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 1u);
  release.count_down();
  Await([&] { return is_back.load(); });
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
}

// The first one waits for a handler without a deadline of its own.
TEST_F(StorageShutdownTest, ASecondCallWaitsForTheFirstNoLongerThanItsDeadline) {
  options_.shutdown_timeout = std::chrono::hours(1);
  const auto release = std::make_shared<std::latch>(1);
  const auto has_begun = std::make_shared<std::latch>(1);
  Open();
  ASSERT_OK(Log());
  ASSERT_OK(storage_->OnShutdown("hangs", [release, has_begun] {
    has_begun->count_down();
    release->wait();
  }, {}));
  Status first = Status::Unavailable("not yet");
  std::jthread shutdown([&] { first = storage_->Shutdown(ShutdownMode::kFlushPending, {}); });
  has_begun->wait();
  std::jthread rescue([release](const std::stop_token& stop) {
    const auto until = std::chrono::steady_clock::now() + seconds(60);
    while (!stop.stop_requested() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    release->count_down();
  });
  for (const ShutdownMode mode : {ShutdownMode::kGraceful, ShutdownMode::kImmediate}) {
    EXPECT_THAT(storage_->Shutdown(mode, milliseconds(20)),
                StatusIs(StatusCode::kUnavailable, HasSubstr("another shutdown")));
  }
  rescue.request_stop();
  shutdown.join();
  EXPECT_OK(first);
  EXPECT_OK(storage_->Shutdown(ShutdownMode::kGraceful, milliseconds(20)));  // it is over by now
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
              StatusIs(StatusCode::kUnavailable, HasSubstr("a database call")));
  storage_.reset();
  Open();
  ASSERT_OK(storage_->Flush(seconds(30)));
  release.count_down();
  Await([&] { return is_back.load(); });
  ASSERT_OK(Log());
  ASSERT_OK(storage_->Flush(seconds(30)));
  EXPECT_EQ(Stored().activities, 2u);
}

// --- the deadline, on a clock that stands still -------------------------------------------------

class TimedShutdownTest : public SteppedPressureTest {
 protected:
  // Calls that do not return until the test lets them. Everybody who has a copy of one owns it.
  struct Hang {
    std::latch release{1};
    std::atomic<int> calls{0};

    void Call() {
      ++calls;
      release.wait();
    }
  };

  ~TimedShutdownTest() override { LetGo(); }
  // What was left behind goes on, and is over with all that it uses.
  void LetGo() {
    hang_->release.count_down();
    Drain();
    options_.on_flush = {};
    options_.on_pressure = {};
    options_.on_breaker = {};
    options_.on_error = {};
    Await([&] { return hang_.use_count() == 1; });
  }
  // Tells when the handlers' turn has come, with all deadlines fixed by then.
  void AddBegun() {
    ASSERT_OK(storage_->OnShutdown("begun", [this] { has_begun_ = true; }, {}));
  }
  // A graceful shutdown, and what it says when the clock has moved on by the time it was given.
  Status ShutDownAndPass(milliseconds timeout) {
    Status result;
    std::jthread shutdown(
        [&] { result = storage_->Shutdown(ShutdownMode::kGraceful, timeout); });
    Await([&] { return has_begun_.load(); });
    time_.Advance(timeout);
    shutdown.join();
    return result;
  }

  std::shared_ptr<Hang> hang_ = std::make_shared<Hang>();
  std::atomic<bool> has_begun_{false};
};

TEST_F(TimedShutdownTest, NothingIsWaitedForWhereNothingHangs) {
  Open();
  ASSERT_EQ(LogMany(100), 100);
  Await([&] { return pending() == 0; });
  const Monotonic before = time_.Now();
  EXPECT_OK(storage_->Shutdown(ShutdownMode::kGraceful, seconds(30)));
  EXPECT_EQ(time_.Now() - before, seconds(0));
}

TEST_F(TimedShutdownTest, ImmediateTakesNoTimeThoughNothingIsDrained) {
  allowed_ = 0;
  Open();
  ASSERT_EQ(LogMany(10), 10);
  const Monotonic before = time_.Now();
  const Status closed = storage_->Shutdown(ShutdownMode::kImmediate, {});
  EXPECT_EQ(time_.Now() - before, seconds(0));
  EXPECT_THAT(closed, StatusIs(StatusCode::kUnavailable, HasSubstr("LSN 1 to 10")));
  storage_.reset();
}

// A tenth of a second, with a handler that takes ten of them: the clock stands at the tenth when
// the shutdown has returned.
TEST_F(TimedShutdownTest, ATenthOfASecondHoldsThoughAHandlerTakesTenSeconds) {
  Open();
  const Monotonic end = time_.Now() + seconds(10);
  const auto is_over = std::make_shared<std::atomic<bool>>(false);
  ASSERT_OK(storage_->OnShutdown("slow", [this, is_over, hang = hang_, end] {
    while (time_.Now() < end) std::this_thread::sleep_for(milliseconds(1));
    *is_over = true;
  }, {}));
  AddBegun();
  const Monotonic before = time_.Now();
  const Status closed = ShutDownAndPass(milliseconds(100));
  EXPECT_EQ(time_.Now() - before, milliseconds(100));
  EXPECT_FALSE(is_over->load());
  EXPECT_THAT(closed,
              StatusIs(StatusCode::kUnavailable, HasSubstr("left behind, as it does not return: "
                                                           "shutdown handler slow")));
  time_.Advance(seconds(10));
  Await([&] { return is_over->load(); });
  storage_.reset();
}

// What is kept for those that hang is part of the time there is, and no more: half a second on top
// of it would never pass here.
TEST_F(TimedShutdownTest, AShortDeadlineIsKeptThoughTheDatabaseHangs) {
  const auto hang = std::make_shared<Hang>();
  database_.FailApply([hang](const storage::Batch&) {
    hang->Call();
    return Status::Unavailable("test: it comes back too late");
  });
  Open();
  ASSERT_OK(Log());
  Await([&] { return hang->calls > 0; });
  AddBegun();
  const Monotonic before = time_.Now();
  EXPECT_THAT(ShutDownAndPass(milliseconds(20)),
              StatusIs(StatusCode::kUnavailable, HasSubstr("a database call")));
  EXPECT_EQ(time_.Now() - before, milliseconds(20));
  storage_.reset();
  hang->release.count_down();
  Drain();
}

// Which of the user's functions hangs, and how it comes to be called.
struct HangingCase {
  const char* name;
  const char* told;  // of it in the answer
};

class HangingCallbackTest : public TimedShutdownTest,
                            public ::testing::WithParamInterface<HangingCase> {
 protected:
  void Prepare() {
    const std::string name = GetParam().name;
    const auto call = [hang = hang_](const auto&) { hang->Call(); };
    if (name == "OnFlush") options_.on_flush = call;
    if (name == "OnBreaker") {
      options_.on_breaker = call;
      options_.breaker_failures = 1;
      allowed_ = 0;
    }
    if (name == "OnPressure") {
      options_.on_pressure = call;
      options_.pressure_records = 1;
      options_.metrics_interval = milliseconds(1);  // the monitor's period, too
      allowed_ = 0;
    }
    if (name == "OnError" || name == "OnErrorOfAHandler") options_.on_error = call;
    if (name == "OnError") {
      database_.FailApply([](const storage::Batch&) -> Status {
        throw std::runtime_error("the driver threw");
      });
    }
  }
  // Until it hangs; a handler only does so in the shutdown.
  void Provoke() {
    const std::string name = GetParam().name;
    if (name == "Handler") {
      ASSERT_OK(storage_->OnShutdown("hangs", [hang = hang_] { hang->Call(); }, {}));
      return;
    }
    if (name == "OnErrorOfAHandler") {
      ASSERT_OK(storage_->OnShutdown("bad", [] { throw std::runtime_error("broken"); }, {}));
      return;
    }
    ASSERT_OK(Log());
    ++logged_;
    if (name == "OnPressure") time_.Advance(options_.monitoring_interval);
    Await([&] { return hang_->calls > 0; });
  }

  std::uint64_t logged_ = 0;
};

TEST_P(HangingCallbackTest, ShutdownReturnsAtItsDeadlineAndNamesIt) {
  Prepare();
  Open();
  Provoke();
  ASSERT_OK(Log());
  ++logged_;
  AddBegun();
  const Monotonic before = time_.Now();
  const Status closed = ShutDownAndPass(seconds(10));
  EXPECT_EQ(time_.Now() - before, seconds(10));
  EXPECT_EQ(hang_->calls, 1);
  EXPECT_THAT(closed, StatusIs(StatusCode::kUnavailable, HasSubstr(GetParam().told)));
  // Everything that it may still use stays, and the directory is free for the next one.
  storage_.reset();
  options_.on_flush = {};
  options_.on_pressure = {};
  options_.on_breaker = {};
  options_.on_error = {};
  database_.FailApply({});
  Open();
  Await([&] { return pending() == 0; });
  EXPECT_EQ(Stored().activities, logged_);
}

INSTANTIATE_TEST_SUITE_P(
    Each, HangingCallbackTest,
    ::testing::Values(HangingCase{"OnFlush", "on_flush"}, HangingCase{"OnBreaker", "on_breaker"},
                      HangingCase{"OnPressure", "on_pressure"}, HangingCase{"OnError", "on_error"},
                      HangingCase{"Handler", "shutdown handler hangs"},
                      HangingCase{"OnErrorOfAHandler", "on_error"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace taskwal::pipeline
