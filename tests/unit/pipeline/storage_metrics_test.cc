// Every metric moves when its cause happens, through running storage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <latch>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/file_system.h"
#include "base/json_text.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "metrics/registry.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/dead_letters.h"
#include "taskwal/metrics.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Figures by "name{labels}": the value, or the count of a summary.
using Figures = std::map<std::string, double>;

class StorageMetricsTest : public ::testing::Test {
 protected:
  StorageMetricsTest() {
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
      std::function<Status(const storage::Batch&)> hook;
      {
        MutexLock lock(mutex_);
        hook = hook_;
      }
      return hook ? hook(batch) : Status::Ok();
    });
  }
  ~StorageMetricsTest() override { Close(); }

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
    database_.ComeBack();
    EXPECT_OK(storage_->Close());
    storage_.reset();
  }
  void OnApply(std::function<Status(const storage::Batch&)> hook) {
    MutexLock lock(mutex_);
    hook_ = std::move(hook);
  }
  static Status Poison(const storage::Batch& batch) {
    for (const auto& task : batch.tasks) {
      if (task.id.starts_with("bad")) return Status::Rejected("test: poison");
    }
    for (const auto& row : batch.activities) {
      if (row.activity.id.starts_with("bad")) return Status::Rejected("test: poison");
    }
    return Status::Ok();
  }

  Status Save(const std::string& id) {
    Task task;
    task.id = id;
    return storage_->SaveTask(task, {}).status();
  }
  Status Log(const std::string& id, std::int32_t priority = 3) {
    Activity activity;
    activity.id = id;
    activity.priority = priority;
    return storage_->LogActivity(activity, {}).status();
  }
  void Flush() { ASSERT_OK(storage_->Flush(seconds(20))); }
  static DeadLetterSelection All() {
    DeadLetterSelection selection;
    selection.all = true;
    return selection;
  }

  // Notes what is different from any time before.
  void Look() {
    Control& control = *storage_->GetControl();
    const auto families = metrics::Collect({storage_->GetStats(), control.Buffer().targets,
                                            control.Backpressure(), control.FlowControl()});
    for (const metrics::Family& family : families) {
      const std::string name(family.name);
      known_.insert(name);
      for (const metrics::Sample& sample : family.samples) {
        std::string key = name;
        for (const auto& [label, value] : sample.labels) key += "," + label + "=" + value;
        const double value = family.kind == metrics::Kind::kSummary
                                 ? static_cast<double>(sample.latency.count)
                                 : sample.value;
        const auto [before, is_new] = seen_.emplace(key, value);
        const bool has_come = is_new && name.find("timestamp") != std::string::npos;
        if (has_come || before->second != value) moved_.insert(name);
      }
    }
  }
  // Until that metric has moved.
  void AwaitMove(const std::string& name) {
    const auto until = std::chrono::steady_clock::now() + seconds(30);
    while (!moved_.contains(name)) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << name;
      Look();
    }
  }


  TempDir dir_;
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
  Mutex mutex_;
  std::function<Status(const storage::Batch&)> hook_ GUARDED_BY(mutex_);
  Figures seen_;
  std::set<std::string> known_, moved_;
};

TEST_F(StorageMetricsTest, TextAndJsonAreOfTheSameStorage) {
  Open();
  ASSERT_OK(Save("t"));
  Flush();
  Metrics& metrics = *storage_->GetMetrics();
  EXPECT_THAT(metrics.Prometheus(), HasSubstr("\ntaskwal_records_applied_total 1\n"));
  EXPECT_TRUE(IsJson(metrics.Json()));
  EXPECT_THAT(metrics.Json(), HasSubstr(R"("taskwal_records_applied_total":1,)"));
}

TEST_F(StorageMetricsTest, ResetStartsOver) {
  Open();
  for (int i = 0; i < 100; ++i) ASSERT_OK(Save("t" + std::to_string(i)));
  Flush();
  Metrics& metrics = *storage_->GetMetrics();
  metrics.Reset();
  const std::string text = metrics.Prometheus();
  EXPECT_THAT(text, HasSubstr("\ntaskwal_records_applied_total 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntaskwal_records_accepted_total 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntaskwal_commit_duration_seconds_count 0\n"));
  EXPECT_THAT(text, HasSubstr("taskwal_flush_duration_seconds_count{target=\"default\"} 0\n"));
  ASSERT_OK(Save("after"));
  Flush();
  EXPECT_THAT(metrics.Prometheus(), HasSubstr("\ntaskwal_records_applied_total 1\n"));
}

TEST_F(StorageMetricsTest, TheFileIsReplacedAsAWholeAndSaysWhoWroteIt) {
  const std::string path = dir_.File("wal/METRICS");
  Open();
  ASSERT_OK(Save("t"));
  Flush();
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  for (;;) {
    const auto content = ReadFile(FileSystem::Real(), path);
    const bool is_there = content.ok();
    if (is_there) {
      ASSERT_TRUE(IsJson(*content)) << *content;
    }
    if (is_there && content->find("\"taskwal_records_applied_total\":1,") != std::string::npos) {
      EXPECT_THAT(*content, HasSubstr("\"pid\":" + std::to_string(::getpid())));
      EXPECT_THAT(*content, HasSubstr("\"ended\":false"));
      break;
    }
    ASSERT_LT(std::chrono::steady_clock::now(), until);
  }
  Close();
  EXPECT_THAT(*ReadFile(FileSystem::Real(), path), HasSubstr("\"ended\":true"));
}

TEST_F(StorageMetricsTest, WithoutMetricsThereIsNoFileAndNothingIsTimed) {
  options_.enable_metrics = false;
  Open();
  for (int i = 0; i < 100; ++i) ASSERT_OK(Save("t" + std::to_string(i)));
  Flush();
  EXPECT_EQ(storage_->GetStats().append_time.count, 0u);
  EXPECT_EQ(storage_->GetStats().commit_time.count, 0u);
  EXPECT_EQ(storage_->GetStats().applied, 100u);
  Close();
  EXPECT_FALSE(std::filesystem::exists(dir_.File("wal/METRICS")));
}

}  // namespace
}  // namespace taskwal::pipeline
