// accepted = in the database + dead letters + lost + pending, whatever goes wrong meanwhile.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "base/file_system.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/dead_letters.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::uint64_t Seed() {
  const char* given = std::getenv("TASKWAL_ACCOUNTING_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : Random::FromSystem().Next();
}

// A database that is away, cut or refusing by odds.
class UnreliableDatabase {
 public:
  explicit UnreliableDatabase(std::uint64_t seed) : random_(seed) {
    database_.FailApply([this](const storage::Batch& batch) { return Judge(batch); });
    database_.OnApply([this] {
      MutexLock lock(mutex_);
      const double odds = random_.Unit();
      if (odds < 0.05 * trouble_) return SwitchableDatabase::Cut::kBefore;
      return odds < 0.1 * trouble_ ? SwitchableDatabase::Cut::kAfter
                                   : SwitchableDatabase::Cut::kNone;
    });
  }
  SwitchableDatabase& operator*() { return database_; }
  SwitchableDatabase* operator->() { return &database_; }
  void Mend() {
    MutexLock lock(mutex_);
    trouble_ = 0;
  }

 private:
  Status Judge(const storage::Batch& batch) {
    MutexLock lock(mutex_);
    if (random_.Unit() < 0.1 * trouble_) return Status::Unavailable("test: by odds");
    for (const auto& row : batch.activities) {
      const bool is_poison = row.activity.id.ends_with("-poison");
      if (is_poison && trouble_ > 0) return Status::Rejected("test: poison");
    }
    return Status::Ok();
  }

  Mutex mutex_;
  Random random_ GUARDED_BY(mutex_);
  double trouble_ GUARDED_BY(mutex_) = 1;
  SwitchableDatabase database_;
};

class AccountingTest : public ::testing::Test {
 protected:
  AccountingTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 256u << 10;
    options_.durability = Durability::kProcess;
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(5);
    options_.breaker_open_time = milliseconds(5);
    options_.max_flush_retries = 0;
    options_.flush_interval = milliseconds(5);
    options_.max_unflushed_records = 3000;
    options_.backpressure_strategy = Overflow::kDropNewest;
    options_.block_timeout = milliseconds(1);
    options_.shutdown_timeout = milliseconds(0);
    options_.metrics_interval = options_.monitoring_interval = milliseconds(5);
    std::printf("TASKWAL_ACCOUNTING_SEED=%llu\n", static_cast<unsigned long long>(seed_));
  }

  void Open() {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_->Open();
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  // One caller's calls; each that has an LSN is counted.
  void Append(int caller, int round) {
    Random random(seed_ + static_cast<std::uint64_t>(caller * 100 + round));
    for (int i = 0; i < kCalls; ++i) {
      Activity activity;
      activity.id = std::to_string(round) + "-" + std::to_string(caller) + "-" + std::to_string(i);
      activity.task_id = "t" + std::to_string(random.Next() % 20);
      if (i % kPoisonEvery == 0) activity.id += "-poison";
      ++begun_;
      if (storage_->LogActivity(activity, {}).ok()) ++acknowledged_;
    }
  }
  void Check(const Stats& stats, const Stats& before) {
    EXPECT_EQ(stats.accepted, stats.applied + stats.dead_lettered + stats.lost + stats.pending);
    EXPECT_GE(stats.applied, before.applied);
    EXPECT_GE(stats.dead_lettered, before.dead_lettered);
    EXPECT_GE(stats.accepted, before.accepted);
    const DeadLetterStats& letters = stats.dead_letters;
    const std::uint64_t settled =
        letters.retried + letters.superseded + letters.purged + letters.expired;
    EXPECT_EQ(letters.added + open_at_start_, letters.open + settled);
  }

  // What others read: the text of Prometheus, or JSON.
  static void CheckText(const std::string& text) {
    const auto figure = [&text](const std::string& what) {
      const std::string name = "taskwal_records_" + what;
      for (const std::string& found : {"\n" + name + " ", "\"" + name + "\":"}) {
        const std::size_t at = text.find(found);
        if (at != std::string::npos) return std::stod(text.substr(at + found.size(), 30));
      }
      ADD_FAILURE() << "no " << name;
      return -1.0;
    };
    EXPECT_EQ(figure("accepted_total"),
              figure("applied_total") + figure("dead_lettered_total") + figure("lost_total") +
                  figure("pending"));
  }

  static constexpr int kCallers = 3;
  static constexpr int kCalls = 1500;
  static constexpr int kPoisonEvery = 500;
  static constexpr int kLettersMax = 3 * kCallers * (kCalls / kPoisonEvery);

  const std::uint64_t seed_ = Seed();
  TempDir dir_;
  UnreliableDatabase database_{seed_};
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
  std::atomic<std::uint64_t> begun_{0};
  std::atomic<std::uint64_t> acknowledged_{0};
  std::uint64_t open_at_start_ = 0;
  std::uint64_t files_seen_ = 0;
};

TEST_F(AccountingTest, HoldsInEverySnapshotUnderLoadAndFaults) {
  std::uint64_t purged = 0;
  for (int round = 0; round < 3; ++round) {
    Open();
    open_at_start_ = storage_->GetStats().dead_letters.open;
    const std::uint64_t pending_at_open = storage_->GetStats().accepted;
    begun_ = acknowledged_ = 0;
    std::atomic<bool> ends{false};
    std::thread watcher([&] {
      Stats before;
      while (!ends) {
        const std::uint64_t known = acknowledged_;
        const Stats stats = storage_->GetStats();
        Check(stats, before);
        EXPECT_GE(stats.accepted, known);
        EXPECT_LE(stats.accepted, pending_at_open + begun_);
        CheckText(storage_->GetMetrics()->Prometheus());
        CheckText(storage_->GetMetrics()->Json());
        const auto file = ReadFile(FileSystem::Real(), dir_.File("wal/METRICS"));
        if (file.ok()) CheckText(*file);
        files_seen_ += file.ok() ? 1 : 0;
        before = stats;
      }
    });
    std::thread operator_thread([&] {
      DeadLetterSelection all;
      all.all = true;
      for (int i = 0; !ends; ++i) {
        if (i % 5 == 4) {
          const auto gone = storage_->GetDeadLetters()->Purge(all);
          if (gone.ok()) purged += *gone;
        } else {
          begun_ += kLettersMax;
          const auto outcomes = storage_->GetDeadLetters()->Retry(all, milliseconds(2));
          EXPECT_TRUE(outcomes.ok() || outcomes.status().code() == StatusCode::kNotFound);
        }
        std::this_thread::sleep_for(milliseconds(5));
      }
    });
    std::vector<std::thread> callers;
    for (int c = 0; c < kCallers; ++c) callers.emplace_back([&, c] { Append(c, round); });
    for (std::thread& caller : callers) caller.join();
    if (round == 2) database_.Mend();
    ends = true;
    watcher.join();
    operator_thread.join();
    if (round < 2) {
      // Not drained: the rest counts as accepted by the next one.
      IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "the next open goes on");
      storage_.reset();
    }
  }
  ASSERT_OK(storage_->Flush(seconds(30)));
  DeadLetterSelection all;
  all.all = true;
  const auto last = storage_->GetDeadLetters()->Retry(all, seconds(30));
  ASSERT_TRUE(last.ok() || last.status().code() == StatusCode::kNotFound);
  const Stats stats = storage_->GetStats();
  Check(stats, {});
  EXPECT_EQ(stats.pending, 0u);
  EXPECT_EQ(stats.dead_letters.open, 0u);
  EXPECT_GT(files_seen_, 0u);
  ASSERT_OK(storage_->Close());
}

// Every activity that was acknowledged is in the database once, or was purged.
TEST_F(AccountingTest, WhatWasAcceptedIsStoredOrPurged) {
  options_.max_unflushed_records = 0;
  Open();
  Append(0, 0);
  ASSERT_OK(storage_->Flush(seconds(30)));
  const std::uint64_t open = storage_->GetStats().dead_letters.open;
  ASSERT_GT(open, 0u);
  DeadLetterSelection one;
  one.ids = {(*storage_->GetDeadLetters()->List(1))[0].id};
  ASSERT_EQ(*storage_->GetDeadLetters()->Purge(one), 1u);
  database_.Mend();
  DeadLetterSelection all;
  all.all = true;
  if (open > 1) {
    ASSERT_OK(storage_->GetDeadLetters()->Retry(all, seconds(30)));
  }
  const auto session = std::move(database_->data().Connect()).value();
  EXPECT_EQ(session->Count()->activities, acknowledged_ - 1);
  ASSERT_OK(storage_->Close());
}

}  // namespace
}  // namespace taskwal::pipeline
