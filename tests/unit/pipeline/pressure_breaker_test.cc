// When a database that fails is asked again: retry and circuit breaker.
#include <optional>

#include "tests/unit/pipeline/pressure_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;

// Notes at what time the database was asked, on a clock that moves in steps; at each step the
// worker has looked whether it is time.
class AttemptsTest : public SteppedPressureTest {
 protected:
  AttemptsTest() {
    allowed_ = 0;
    options_.backoff_jitter = false;
    options_.max_backoff = hours(10);
    options_.on_flush = [this](const FlushEvent&) {
      MutexLock lock(mutex_);
      if (!first_) first_ = clock_->Now();
      worker_ = std::this_thread::get_id();
      at_.push_back(std::chrono::duration_cast<seconds>(clock_->Now() - *first_));
    };
  }
  ~AttemptsTest() override { Drain(); }
  void Begin() {
    Open();
    ASSERT_OK(Log());
    Await([&] { return !at().empty(); });
  }
  void Pass(seconds time, seconds step = seconds(30)) {
    for (seconds passed{0}; passed < time; passed += step) {
      time_.Advance(step);
      AwaitItsLook();
    }
  }
  std::vector<seconds> at() {
    MutexLock lock(mutex_);
    return at_;
  }

 private:
  // It looks at the clock twice in a turn without an attempt, and up to seven times in one with it;
  // one turn may have begun before the clock was moved.
  void AwaitItsLook() {
    std::thread::id worker;
    {
      MutexLock lock(mutex_);
      worker = worker_;
    }
    const std::uint64_t before = time_.looks(worker);
    Await([&] {
      EXPECT_OK(Log());  // wakes it
      return time_.looks(worker) >= before + 16;
    });
  }

  Mutex mutex_;
  std::optional<Monotonic> first_ GUARDED_BY(mutex_);
  std::thread::id worker_ GUARDED_BY(mutex_);
  std::vector<seconds> at_ GUARDED_BY(mutex_);
};

TEST_F(AttemptsTest, Retry_ExponentialPausesGrowByTheMultiplierUpToTheLongest) {
  options_.initial_backoff = minutes(1);
  options_.backoff_multiplier = 2;
  options_.max_backoff = minutes(4);
  Begin();
  Pass(minutes(12));
  EXPECT_THAT(at(), ElementsAre(minutes(0), minutes(1), minutes(3), minutes(7), minutes(11)));
}

TEST_F(AttemptsTest, Retry_LinearPausesGrowByTheSameStep) {
  options_.backoff_strategy = Backoff::kLinear;
  options_.initial_backoff = minutes(1);
  Begin();
  Pass(minutes(11));
  EXPECT_THAT(at(), ElementsAre(minutes(0), minutes(1), minutes(3), minutes(6), minutes(10)));
}

TEST_F(AttemptsTest, Retry_ConstantPausesStayTheSame) {
  options_.backoff_strategy = Backoff::kConstant;
  options_.initial_backoff = minutes(2);
  Begin();
  Pass(minutes(7));
  EXPECT_THAT(at(), ElementsAre(minutes(0), minutes(2), minutes(4), minutes(6)));
}

TEST_F(AttemptsTest, Retry_JitterShortensAPauseByHalfAtMost) {
  options_.backoff_strategy = Backoff::kConstant;
  options_.backoff_jitter = true;
  options_.initial_backoff = minutes(10);
  Begin();
  Pass(minutes(150), minutes(1));
  const std::vector<seconds> tries = at();
  ASSERT_GE(tries.size(), 13u);
  seconds shortest = hours(1);
  for (std::size_t i = 1; i < tries.size(); ++i) {
    const seconds pause = tries[i] - tries[i - 1];
    EXPECT_GE(pause, minutes(5));
    EXPECT_LE(pause, minutes(10));
    shortest = std::min(shortest, pause);
  }
  // That chance has chosen nearly the whole of a dozen pauses is less likely than one in 10^8.
  EXPECT_LT(shortest, minutes(10));
}

TEST_F(AttemptsTest, Retry_ARefusedRowRestsByTheSamePauses) {
  options_.initial_backoff = minutes(1);
  options_.max_flush_retries = 3;
  const auto refusals = std::make_shared<std::atomic<int>>(0);
  database_.FailApply([refusals](const storage::Batch& batch) {
    const bool is_refused = !batch.activities.empty() && *refusals < 4;
    if (is_refused) ++*refusals;
    return is_refused ? Status::Rejected("test: refused") : Status::Ok();
  });
  Begin();
  Pass(minutes(8));
  std::vector<seconds> tries = at();
  ASSERT_GE(tries.size(), 5u);
  tries.resize(4);
  EXPECT_THAT(tries, ElementsAre(minutes(0), minutes(1), minutes(3), minutes(7)));
  EXPECT_EQ(storage_->GetStats().dead_letters.added, 1u);
}

TEST_F(AttemptsTest, Retry_WhoWaitsIsNotKeptForSoLong) {
  options_.initial_backoff = hours(1);
  Begin();
  allowed_ = kAll;
  std::jthread waiting([&] { EXPECT_OK(storage_->Flush(hours(1))); });
  Await([&] {
    time_.Advance(milliseconds(100));
    return pending() == 0;
  });
  waiting.join();
  EXPECT_LT(at().back(), hours(1));
}

TEST_F(AttemptsTest, Breaker_LeavesTheDatabaseAloneForTheOpenTime) {
  options_.breaker_failures = 2;
  options_.breaker_open_time = minutes(5);
  Begin();
  Await([&] { return at().size() == 2; });  // two failures open it
  EXPECT_EQ(control().Buffer().targets.front().breaker.state, "open");
  Pass(minutes(11));
  EXPECT_THAT(at(), ElementsAre(minutes(0), minutes(0), minutes(5), minutes(10)))
      << "one trial each time, and none between";
  allowed_ = kAll;
  Pass(minutes(4));
  Await([&] { return pending() == 0; });
  const BreakerSnapshot breaker = control().Buffer().targets.front().breaker;
  EXPECT_EQ(breaker.state, "closed");
  EXPECT_EQ(breaker.opened, 3u);
}

TEST_F(AttemptsTest, Breaker_TrialsAreNoFasterThanTold) {
  options_.breaker_failures = 1;
  options_.breaker_open_time = minutes(5);
  options_.breaker_trials = 3;
  options_.breaker_trial_interval = minutes(10);
  Begin();
  allowed_ = kAll;
  Pass(minutes(26));
  std::vector<seconds> tries = at();
  ASSERT_GE(tries.size(), 4u);
  tries.resize(4);
  EXPECT_THAT(tries, ElementsAre(minutes(0), minutes(5), minutes(15), minutes(25)));
}

TEST_F(AttemptsTest, Breaker_OpensByTheShareOfFailures) {
  options_.breaker_error_rate = 0.5;
  options_.breaker_min_requests = 4;
  options_.breaker_window = hours(1);
  options_.breaker_open_time = hours(1);
  allowed_ = 2;
  Begin();
  ASSERT_OK(Log());
  ASSERT_OK(Log());
  Await([&] { return control().Buffer().targets.front().breaker.state == "open"; });
  Pass(minutes(10));
  EXPECT_EQ(at().size(), 5u) << "of six calls three failed: the first was the contact";
}

TEST_F(PressureTest, Breaker_OpensAtTwoFailuresTellsItAndIsResetAtRunTime) {
  std::atomic<int> opened{0};
  options_.breaker_failures = 2;
  options_.breaker_open_time = hours(1);
  options_.on_breaker = [&](const BreakerEvent& event) {
    if (event.from == "closed" && event.to == "open") ++opened;
  };
  Open();
  EXPECT_EQ(control().Buffer().targets.front().breaker.state, "closed");
  database_.GoAway();
  ASSERT_OK(Log());
  Await([&] { return opened == 1; });
  BreakerSnapshot breaker = control().Buffer().targets.front().breaker;
  EXPECT_EQ(breaker.state, "open");
  EXPECT_EQ(breaker.consecutive_failures, 2u);
  database_.ComeBack();
  EXPECT_THAT(control().ResetBreaker("elsewhere"), StatusIs(StatusCode::kNotFound));
  ASSERT_OK(control().ResetBreaker(""));
  Await([&] { return pending() == 0; });
  breaker = control().Buffer().targets.front().breaker;
  EXPECT_EQ(breaker.state, "closed");
  EXPECT_EQ(breaker.opened, 1u);
  Close();
}

TEST_F(PressureTest, Breaker_ClosesAfterAsManyTrialsAsAskedFor) {
  options_.breaker_failures = 1;
  options_.breaker_trials = 3;
  options_.breaker_open_time = milliseconds(1);
  options_.batch_size = 1;
  options_.worker_count = 1;
  Mutex mutex;
  std::vector<std::uint64_t> good_before_closing;
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
  ASSERT_EQ(LogMany(20), 20);
  Await([&] { return control().Buffer().targets.front().breaker.opened >= 1; });
  database_.ComeBack();
  ASSERT_OK(storage_->Flush(seconds(30)));
  Close();
  MutexLock lock(mutex);
  ASSERT_FALSE(good_before_closing.empty());
  EXPECT_EQ(good_before_closing.back(), 2u) << "the third has not been told yet";
}

}  // namespace
}  // namespace taskwal::pipeline
