#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "tests/unit/pipeline/admission_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The tests' clock, which also keeps how often the log had been opened when a thread last asked for
// the time. A caller asks for it before it looks for those above it.
class LookClock final : public Clock {
 public:
  explicit LookClock(FakeClock& clock) : clock_(clock) {}

  Monotonic Now() override {
    seen_ = openings_.load();
    return clock_.Now();
  }
  Time WallNow() override { return clock_.WallNow(); }
  void SleepFor(std::chrono::nanoseconds duration) override { clock_.SleepFor(duration); }

  void CountOpening() { ++openings_; }
  bool HasSeenOpening() const { return seen_ == openings_.load(); }

 private:
  inline static thread_local std::uint64_t seen_ = 0;
  FakeClock& clock_;
  std::atomic<std::uint64_t> openings_{0};
};

// Random arrivals at a door that lets one call in at a time, by room in the log or by the rate.
class AdmissionOrderTest : public AdmissionTest, public ::testing::WithParamInterface<bool> {
 protected:
  struct Caller {
    std::int32_t rank = 0;
    Monotonic deadline;
    std::size_t order = 0;
    std::atomic<bool> is_done{false};
    std::optional<Result<wal::Lsn>> result;
    std::jthread thread;
  };

  void MakeLooking() {
    gauge_ = std::make_unique<LoadGauge>(options_);
    admission_ =
        std::make_unique<Admission>(options_, look_clock_, *gauge_, [this] { return load_; });
  }
  // Between a caller's look for those above it and its asking the log others may arrive: what the
  // log is opened for are the callers that look after it.
  Result<wal::Lsn> EnterLooking(std::int32_t rank, milliseconds timeout) {
    const Admission::Call call{rank, 100, timeout, {}, false};
    return admission_->Enter(call, [this, rank](const wal::Deadline&) -> Result<wal::Lsn> {
      if (!look_clock_.HasSeenOpening()) return Status::Overloaded("it was full at the look");
      return Append(rank);
    });
  }
  bool by_rate() const { return GetParam(); }
  void Arrive(std::int32_t rank, milliseconds timeout) {
    callers_.push_back(std::make_unique<Caller>());
    Caller& caller = *callers_.back();
    caller.rank = rank;
    caller.deadline = clock_.Now() + timeout;
    caller.order = callers_.size();
    caller.thread = std::jthread([this, &caller, timeout] {
      caller.result = EnterLooking(caller.rank, timeout);
      caller.is_done = true;
    });
    AwaitQuiet();
  }
  // Until everybody has gone, or waits.
  void AwaitQuiet() {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    while (!IsQuiet()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
  }
  // In this order: who leaves in between must not stand for one that is to come, nor may one that
  // is through, or holds a token, still count among those that wait.
  bool IsQuiet() {
    const std::size_t present = Waiting().size();
    const auto through = std::count_if(callers_.begin(), callers_.end(), [](const auto& caller) {
      return caller->is_done && caller->result->ok();
    });
    const FlowControlSnapshot door = admission_->Snapshot();
    const std::size_t entered_count = entered().size();
    return door.waiting == present && static_cast<std::size_t>(through) == entered_count &&
           (!by_rate() || door.unflushed_records == entered_count);
  }
  std::vector<Caller*> Waiting() {
    std::vector<Caller*> waiting;
    for (const auto& caller : callers_) {
      if (!caller->is_done) waiting.push_back(caller.get());
    }
    return waiting;
  }
  // Until all are gone whose time is over.
  void Pass(milliseconds time) {
    clock_.Advance(time);
    for (const Caller* caller : Waiting()) {
      while (clock_.Now() >= caller->deadline && !caller->is_done) std::this_thread::yield();
    }
    if (by_rate()) AwaitNoTokenIsLeft();
  }
  void AwaitNoTokenIsLeft() {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    while (admission_->Snapshot().tokens >= 1 && !Waiting().empty()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
  }
  // One may come in: it must be of the highest rank that waits.
  void LetOneIn() {
    const std::vector<Caller*> waiting = Waiting();
    if (waiting.empty()) return;
    const std::size_t before = entered().size();
    if (by_rate()) {
      Pass(milliseconds(10));
    } else {
      look_clock_.CountOpening();
      room_ = 1;
    }
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    while (entered().size() == before && !Waiting().empty()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
    room_ = by_rate() ? 1'000'000 : 0;
    AwaitQuiet();
    if (entered().size() == before) return;
    // Those whose time was over by then, or who were on their way out, do not count.
    std::int32_t highest = 0;
    for (const Caller* caller : waiting) {
      if (clock_.Now() >= caller->deadline || HasGivenWay(*caller)) continue;
      highest = std::max(highest, caller->rank);
    }
    EXPECT_GE(entered().back(), highest);
  }
  static bool HasGivenWay(const Caller& caller) {
    return caller.is_done && !caller.result->ok() &&
           caller.result->status().message().find("gave way") != std::string::npos;
  }

  ~AdmissionOrderTest() override {
    callers_.clear();
    admission_.reset();  // before its clock
  }

  LookClock look_clock_{clock_};
  std::vector<std::unique_ptr<Caller>> callers_;
};

TEST_P(AdmissionOrderTest, NoTaskIsRefusedWhileALowerOneIsLetIn) {
  const std::uint64_t seed = Random::FromSystem().Next();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  options_.backpressure_strategy = Overflow::kDropOldest;
  options_.waiting_room = 6;
  if (by_rate()) {
    options_.rate_limit = 100;
    options_.rate_burst = 1;
    options_.max_unflushed_records = 1'000'000;  // counts who holds a token
  } else {
    room_ = 0;
  }
  MakeLooking();
  for (int i = 0; i < 120; ++i) {
    const std::int32_t rank =
        random.OneIn(3) ? kTaskRank : static_cast<std::int32_t>(1 + random.Below(5));
    Arrive(rank, milliseconds(5 + random.Below(200)));
    if (random.OneIn(2)) LetOneIn();
    if (random.OneIn(4)) Pass(milliseconds(random.Below(9)));
    // Only its own timeout refuses a task.
    for (const auto& caller : callers_) {
      if (caller->rank != kTaskRank || !caller->is_done || caller->result->ok()) continue;
      EXPECT_GE(clock_.Now(), caller->deadline);
    }
  }
  while (!Waiting().empty()) LetOneIn();
  EXPECT_EQ(admission_->drops().of(DropReason::kOldest, 0), 0u);
}

INSTANTIATE_TEST_SUITE_P(ByRoomAndByRate, AdmissionOrderTest, ::testing::Bool());

}  // namespace
}  // namespace taskwal::pipeline
