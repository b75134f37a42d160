// Every metric moves when its cause happens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <latch>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/status_macros.h"
#include "metrics/registry.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/dead_letters.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

using ApplyHook = std::function<Status(const storage::Batch&)>;

class EveryMetricTest : public ::testing::Test {
 protected:
  EveryMetricTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.initial_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(5);
    options_.breaker_open_time = milliseconds(1);
    options_.breaker_failures = 2;
    options_.max_flush_retries = 0;
    options_.monitoring_interval = milliseconds(1);
    options_.metrics_interval = milliseconds(1);
    options_.flush_linger = milliseconds(0);
    options_.block_timeout = milliseconds(0);
    options_.shutdown_timeout = seconds(20);
    database_.FailApply([this](const storage::Batch& batch) {
      ApplyHook hook;
      {
        MutexLock lock(mutex_);
        hook = hook_;
      }
      return hook ? hook(batch) : Status::Ok();
    });
  }
  ~EveryMetricTest() override { Close(); }

  void Open() {
    Close();
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
    Look();
  }
  void Close() {
    if (storage_ == nullptr) return;
    OnApply({});
    EXPECT_OK(storage_->Close());
    storage_.reset();
  }
  void OnApply(ApplyHook hook) {
    MutexLock lock(mutex_);
    hook_ = std::move(hook);
  }
  static Status Away(const storage::Batch&) { return Status::Unavailable("test: away"); }
  static Status Poison(const storage::Batch& batch) {
    for (const auto& task : batch.tasks) {
      if (task.id.starts_with("bad")) return Status::Rejected("test: poison");
    }
    for (const auto& row : batch.activities) {
      if (row.activity.id.starts_with("bad")) return Status::Rejected("test: poison");
    }
    return Status::Ok();
  }

  Status Save(const std::string& id, const WriteOptions& options = {}) {
    Task task;
    task.id = id;
    return storage_->SaveTask(task, options).status();
  }
  Status Log(const std::string& id, std::int32_t priority = 3, Level level = Level::kInfo) {
    Activity activity;
    activity.id = id;
    activity.priority = priority;
    activity.level = level;
    return storage_->LogActivity(activity, {}).status();
  }
  void Flush() { ASSERT_OK(storage_->Flush(seconds(20))); }
  Control& control() { return *storage_->GetControl(); }
  DeadLetterControl& letters() { return *storage_->GetDeadLetters(); }
  static DeadLetterSelection All() {
    DeadLetterSelection selection;
    selection.all = true;
    return selection;
  }

  // Notes what is different from the first look at it, or has come.
  void Look() {
    const auto families = metrics::Collect({storage_->GetStats(), control().Buffer().targets,
                                            control().Backpressure(), control().FlowControl()});
    for (const metrics::Family& family : families) {
      const std::string name(family.name);
      known_.insert(name);
      for (const metrics::Sample& sample : family.samples) {
        std::string key = name;
        for (const auto& [label, value] : sample.labels) key += "," + label + "=" + value;
        const bool is_summary = family.kind == metrics::Kind::kSummary;
        const double value =
            is_summary ? static_cast<double>(sample.latency.count) : sample.value;
        const auto [first, is_new] = first_.emplace(key, value);
        const bool has_come = is_new && name.find("timestamp") != std::string::npos;
        if (has_come || first->second != value) moved_.insert(name);
      }
    }
  }
  void AwaitMove(const std::string& name) {
    const auto until = std::chrono::steady_clock::now() + seconds(30);
    while (!moved_.contains(name)) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << name;
      Look();
      std::this_thread::yield();
    }
  }
  void ExpectMoved(const std::vector<std::string>& names) {
    Look();
    for (const std::string& name : names) EXPECT_TRUE(moved_.contains(name)) << name;
  }

  void WriteAndRead();
  void TurnKnobs();
  void FillTheRing();
  void MeetPoison();
  void LoseTheDatabase();
  void ComeUnderPressure();
  void MeetDamage();

  TempDir dir_;
  Mutex mutex_;
  ApplyHook hook_ GUARDED_BY(mutex_);
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
  std::map<std::string, double> first_;
  std::set<std::string> known_, moved_;
};

void EveryMetricTest::WriteAndRead() {
  options_.min_activity_level = Level::kInfo;
  options_.target_latency = milliseconds(50);
  options_.batch_evaluation_interval = milliseconds(0);
  options_.batch_size = options_.batch_size_min = 1;
  Open();
  for (int i = 0; i < 70; ++i) ASSERT_OK(Save("t" + std::to_string(i)));
  ASSERT_OK(Log("a"));
  ASSERT_OK(Log("a"));  // the same again
  ASSERT_OK(Log("below", 3, Level::kDebug));
  Flush();
  ASSERT_OK(storage_->GetTask("t1"));
  ExpectMoved({"taskwal_records_accepted_total", "taskwal_records_applied_total",
               "taskwal_records_filtered_total", "taskwal_records_duplicate_total",
               "taskwal_append_duration_seconds", "taskwal_commit_duration_seconds",
               "taskwal_read_duration_seconds", "taskwal_log_sync_duration_seconds",
               "taskwal_flush_bytes_total", "taskwal_flush_rows_total",
               "taskwal_worker_batches_total", "taskwal_worker_flush_duration_seconds"});
  ExpectMoved({"taskwal_batch_score_ratio"});
  options_.batch_size = 5000;
}

void EveryMetricTest::TurnKnobs() {
  ASSERT_OK(control().SetBatchSize(123));
  ASSERT_OK(control().SetWorkerCount(1));
  ASSERT_OK(control().SetRate(1000, 50));
  for (int i = 0; i < 20; ++i) ASSERT_OK(Log("r" + std::to_string(i)));
  AwaitMove("taskwal_rate_records_per_second");
  ASSERT_OK(storage_->SetTargetHealth("default", false));
  ExpectMoved({"taskwal_batch_size_records", "taskwal_worker_active", "taskwal_target_healthy",
               "taskwal_rate_limit_records_per_second", "taskwal_rate_burst_records",
               "taskwal_rate_tokens"});
  ASSERT_OK(control().SetRate(0, 0));
}

// Records leave the log buffer within a moment: they have to be caught in it.
void EveryMetricTest::FillTheRing() {
  WriteOptions at_once;
  at_once.durability = Durability::kMemory;
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  for (int i = 0; !moved_.contains("taskwal_ring_utilization_ratio"); ++i) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    IgnoreStatus(Save("x" + std::to_string(i % 100), at_once), "the buffer may be full");
    Look();
  }
}

void EveryMetricTest::MeetPoison() {
  options_.dead_letter_count_max = 5;
  Open();
  OnApply(Poison);
  for (const char* id : {"bad-1", "bad-2", "bad-3", "bad-4"}) ASSERT_OK(Save(id));
  Flush();
  AwaitMove("taskwal_alarm");
  DeadLetterSelection one;
  one.task_id = "bad-1";
  ASSERT_OK(letters().Purge(one));
  OnApply({});
  ASSERT_OK(Save("bad-2"));
  Flush();
  ASSERT_OK(letters().Retry(All(), seconds(20)));
  ExpectMoved({"taskwal_records_dead_lettered_total", "taskwal_target_dead_lettered_total",
               "taskwal_flush_errors_total", "taskwal_flush_last_error_timestamp_seconds",
               "taskwal_dead_letters", "taskwal_dead_letter_bytes",
               "taskwal_dead_letter_oldest_timestamp_seconds", "taskwal_dead_letters_added_total",
               "taskwal_dead_letters_retried_total", "taskwal_dead_letters_superseded_total",
               "taskwal_dead_letters_purged_total"});
  options_.dead_letter_age_max = milliseconds(1);
  Open();
  OnApply(Poison);
  ASSERT_OK(Log("bad-log"));
  Flush();
  AwaitMove("taskwal_dead_letters_expired_total");
}

void EveryMetricTest::LoseTheDatabase() {
  Open();
  OnApply(Away);
  ASSERT_OK(Save("waits"));
  for (const char* name :
       {"taskwal_breaker_opened_total", "taskwal_breaker_state", "taskwal_queue_records",
        "taskwal_queue_bytes", "taskwal_queue_utilization_ratio", "taskwal_records_pending",
        "taskwal_breaker_consecutive_failures", "taskwal_breaker_error_ratio",
        "taskwal_worker_failures_total", "taskwal_database_available"}) {
    AwaitMove(name);
  }
  OnApply([](const storage::Batch&) -> Status { throw std::runtime_error("the driver threw"); });
  AwaitMove("taskwal_worker_exceptions_total");
  std::latch inside(1);
  std::latch go(1);
  std::atomic<bool> is_first{true};
  OnApply([&](const storage::Batch&) {
    if (!is_first.exchange(false)) return Status::Ok();
    inside.count_down();
    go.wait();
    return Status::Ok();
  });
  inside.wait();
  Look();
  go.count_down();
  Flush();
  ExpectMoved({"taskwal_worker_in_hand_records"});
  options_.batch_timeout = milliseconds(1);
  Open();
  OnApply(Away);
  ASSERT_OK(Save("waits again"));
  AwaitMove("taskwal_worker_timeouts_total");
}

void EveryMetricTest::ComeUnderPressure() {
  options_.batch_timeout = milliseconds(0);
  options_.worker_count = 2;
  options_.pressure_records = 10;
  options_.pressure_latency = milliseconds(77);
  options_.adaptive_thresholds = false;
  options_.emergency_enabled = true;
  options_.emergency_throttle = 1.0;
  options_.max_record_bytes = 2000;
  options_.backpressure_strategy = Overflow::kDropOldest;
  Open();
  OnApply(Away);
  for (int i = 0; i < 60; ++i) ASSERT_OK(Save("p" + std::to_string(i)));
  for (const char* name :
       {"taskwal_pressure_state", "taskwal_pressure_changes_total", "taskwal_pressure_score",
        "taskwal_pressure_signal", "taskwal_shed_up_to_priority",
        "taskwal_arrivals_records_per_second", "taskwal_breaker_refused_total"}) {
    AwaitMove(name);
  }
  EXPECT_FALSE(Log("low", 1).ok());  // of the lowest priority, in an emergency
  ExpectMoved({"taskwal_records_dropped_total", "taskwal_pressure_threshold"});
  // One that waits, as there is no token left.
  ASSERT_OK(control().SetRate(1, 1));
  std::thread waiting([&] {
    Activity activity;
    activity.priority = 5;
    WriteOptions patient;
    patient.timeout = seconds(20);
    for (int i = 0; i < 2; ++i) {
      IgnoreStatus(storage_->LogActivity(activity, patient).status(), "it may give way");
    }
  });
  AwaitMove("taskwal_waiting_calls");
  ASSERT_OK(control().SetRate(0, 0));
  waiting.join();
  OnApply({});
  Flush();
  AwaitMove("taskwal_applied_records_per_second");
}

// Two segments are damaged, one of them the last: one is met on the way, one at open.
void EveryMetricTest::MeetDamage() {
  Close();
  options_ = {};
  options_.wal_dir = dir_.File("damaged");
  options_.max_segment_size = 5;
  options_.frame_bytes = 512;
  options_.recovery_timeout = milliseconds(0);
  options_.shutdown_timeout = milliseconds(0);
  database_.GoAway();
  Open();
  for (int i = 0; i < 30; ++i) ASSERT_OK(Save("d" + std::to_string(i)));
  EXPECT_THAT(storage_->Close(), StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  database_.ComeBack();
  std::vector<std::filesystem::path> segments;
  for (const auto& entry : std::filesystem::directory_iterator(options_.wal_dir)) {
    const bool is_segment = entry.path().filename().string().starts_with("wal-");
    if (is_segment) segments.push_back(entry.path());
  }
  std::sort(segments.begin(), segments.end());
  ASSERT_GE(segments.size(), 3u);
  std::fstream file(segments[1], std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096 + 64 + 40);
  file.put('\x7f');
  file.close();
  options_.recovery_timeout = seconds(20);
  options_.shutdown_timeout = seconds(20);
  Open();
  Flush();
  ExpectMoved({"taskwal_records_lost_total", "taskwal_recovery_records_total",
               "taskwal_log_segments"});
  Open();  // says what the one before has lost
  ExpectMoved({"taskwal_recovery_errors_total"});
}

TEST_F(EveryMetricTest, MovesWhenItsCauseHappens) {
  WriteAndRead();
  TurnKnobs();
  FillTheRing();
  MeetPoison();
  LoseTheDatabase();
  ComeUnderPressure();
  MeetDamage();
  // As given at open: nothing moves it with one database.
  moved_.insert("taskwal_target_weight");
  for (const std::string& name : known_) EXPECT_TRUE(moved_.contains(name)) << name;
}

}  // namespace
}  // namespace taskwal::pipeline
