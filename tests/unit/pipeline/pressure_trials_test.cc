// What reaches a database whose circuit breaker is half-open: as many batches as there are trials,
// however many workers have one in hand.
#include <algorithm>
#include <deque>
#include <set>

#include "storage/operation.h"
#include "tests/unit/pipeline/pressure_fixture.h"
#include "wal/record.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using ::testing::Values;

// Each worker has a partition of its own, and brings one record at a time. Every transaction waits
// in front of the database until it is told what becomes of it.
class TrialsTest : public SteppedPressureTest, public ::testing::WithParamInterface<std::uint32_t> {
 protected:
  static constexpr std::uint32_t kWorkers = 6;

  TrialsTest() {
    database_.set_writers_max(kWorkers);
    options_.worker_count = options_.partitions = kWorkers;
    options_.breaker_failures = 1;
    options_.breaker_open_time = minutes(5);
    options_.breaker_trials = GetParam();
    database_.FailApply([this](const storage::Batch&) { return WaitForVerdict(); });
  }
  ~TrialsTest() override {
    LetThrough();
    time_.Advance(options_.breaker_open_time);
    Drain();
  }

  // All workers fail with a batch in hand, which opens the breaker; then its open time is over.
  void FailUntilItIsHalfOpen() {
    Open();
    for (std::uint32_t partition = 0; partition < kWorkers; ++partition) {
      ASSERT_OK(Save(IdIn(partition)));
    }
    Await([&] { return at_the_database() == kWorkers; });
    Answer(std::vector<Status>(kWorkers, Status::Unavailable("test: out of order")));
    Await([&] { return breaker().failures == kWorkers; });
    ASSERT_EQ(breaker().state, "open");
    begun_before_ = begun();
    connects_before_ = database_.connects();
    time_.Advance(options_.breaker_open_time);
    Await([&] {
      EXPECT_OK(Log());  // wakes the workers
      return at_the_database() >= 1;
    });
    AwaitEachLook();
  }
  // Batches that have begun since the open time was over.
  std::uint32_t trials() { return begun() - begun_before_; }
  std::uint64_t connects() const { return database_.connects() - connects_before_; }
  BreakerSnapshot breaker() { return control().Buffer().targets.front().breaker; }

  // Every worker that is not at the database has asked anew whether it may go there. One looks at
  // the clock no more than seven times in a turn, and one turn may have begun before.
  void AwaitEachLook() {
    std::map<std::thread::id, std::uint64_t> before;
    for (const std::thread::id worker : all()) before[worker] = time_.looks(worker);
    Await([&] {
      EXPECT_OK(Log());
      const std::set<std::thread::id> there = waiting();
      return std::ranges::all_of(before, [&](const auto& look) {
        return there.contains(look.first) || time_.looks(look.first) >= look.second + 16;
      });
    });
  }
  void Answer(const std::vector<Status>& verdicts) {
    MutexLock lock(mutex_);
    verdicts_.insert(verdicts_.end(), verdicts.begin(), verdicts.end());
    told_.NotifyAll();
  }
  void LetThrough() {
    MutexLock lock(mutex_);
    is_open_ = true;
    told_.NotifyAll();
  }
  std::uint32_t at_the_database() { return static_cast<std::uint32_t>(waiting().size()); }

 private:
  static std::string IdIn(std::uint32_t partition) {
    for (int i = 0;; ++i) {
      const std::string id = "t" + std::to_string(i);
      if (wal::PartitionOf(storage::KeyOf(id), kWorkers) == partition) return id;
    }
  }
  Status WaitForVerdict() {
    MutexLock lock(mutex_);
    ++begun_;
    all_.insert(std::this_thread::get_id());
    waiting_.insert(std::this_thread::get_id());
    while (verdicts_.empty() && !is_open_) told_.Wait(mutex_);
    waiting_.erase(std::this_thread::get_id());
    if (verdicts_.empty()) return Status::Ok();
    const Status verdict = verdicts_.front();
    verdicts_.pop_front();
    return verdict;
  }
  std::uint32_t begun() {
    MutexLock lock(mutex_);
    return begun_;
  }
  std::set<std::thread::id> all() {
    MutexLock lock(mutex_);
    return all_;
  }
  std::set<std::thread::id> waiting() {
    MutexLock lock(mutex_);
    return waiting_;
  }

  std::uint32_t begun_before_ = 0;
  std::uint64_t connects_before_ = 0;
  Mutex mutex_;
  CondVar told_;
  std::deque<Status> verdicts_ GUARDED_BY(mutex_);
  bool is_open_ GUARDED_BY(mutex_) = false;
  std::uint32_t begun_ GUARDED_BY(mutex_) = 0;
  std::set<std::thread::id> all_ GUARDED_BY(mutex_);      // workers seen
  std::set<std::thread::id> waiting_ GUARDED_BY(mutex_);  // of them, at the database
};

TEST_P(TrialsTest, Breaker_LetsAsManyBatchesThroughAsThereAreTrialsWhileTheOthersWait) {
  FailUntilItIsHalfOpen();
  const std::uint32_t allowed = GetParam();
  for (std::uint32_t good = 0; good < allowed; ++good) {
    EXPECT_EQ(trials(), allowed) << good << " of them were good";
    EXPECT_EQ(connects(), allowed);
    EXPECT_EQ(at_the_database(), allowed - good);
    EXPECT_EQ(breaker().state, "half-open");
    EXPECT_EQ(breaker().requests, 1 + kWorkers + allowed) << "the first was the contact";
    Answer({Status::Ok()});
    Await([&] { return breaker().successes == 2 + good; });
    if (good + 1 < allowed) AwaitEachLook();
  }
  EXPECT_EQ(breaker().state, "closed");
  LetThrough();
  Await([&] { return pending() == 0; });
  EXPECT_EQ(Stored().tasks, kWorkers);
  EXPECT_EQ(breaker().opened, 1u);
}

TEST_P(TrialsTest, Breaker_OneBadTrialKeepsTheOthersWaiting) {
  FailUntilItIsHalfOpen();
  const std::uint32_t allowed = GetParam();
  Answer(std::vector<Status>(allowed, Status::Unavailable("test: still out of order")));
  Await([&] { return breaker().failures == kWorkers + allowed; });
  EXPECT_EQ(breaker().state, "open");
  const std::uint64_t refused = breaker().refused;
  Await([&] {
    EXPECT_OK(Log());
    return breaker().refused >= refused + std::uint64_t{2} * kWorkers;
  });
  EXPECT_EQ(trials(), allowed);
  EXPECT_EQ(connects(), allowed);
  EXPECT_EQ(Stored().tasks, 0u);
  EXPECT_EQ(breaker().opened, 2u);
}

INSTANTIATE_TEST_SUITE_P(OneAndThree, TrialsTest, Values(1u, 3u));

}  // namespace
}  // namespace taskwal::pipeline
