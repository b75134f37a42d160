// The metrics of running storage as text, and the file METRICS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "base/file_system.h"
#include "base/json_text.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/metrics.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

class StorageMetricsTest : public ::testing::Test {
 protected:
  StorageMetricsTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.metrics_interval = milliseconds(1);
    options_.shutdown_timeout = seconds(20);
  }
  ~StorageMetricsTest() override { Close(); }

  void Open() {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    auto opened = WalTaskStorage::Open(std::move(setup));
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  void Close() {
    if (storage_ == nullptr) return;
    EXPECT_OK(storage_->Close());
    storage_.reset();
  }
  Status Save(const std::string& id) {
    Task task;
    task.id = id;
    return storage_->SaveTask(task, {}).status();
  }
  void Flush() { ASSERT_OK(storage_->Flush(seconds(20))); }

  TempDir dir_;
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
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

TEST_F(StorageMetricsTest, NothingIsBelowZeroBesideAReset) {
  Open();
  Metrics& metrics = *storage_->GetMetrics();
  const std::jthread saves([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) EXPECT_OK(Save("t"));
  });
  const std::jthread resets([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      metrics.Reset();
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 200 && !HasFailure(); ++i) {
    EXPECT_THAT(metrics.Prometheus(), ::testing::Not(HasSubstr(" -")));
  }
}

TEST_F(StorageMetricsTest, TheFileIsReplacedAsAWholeAndSaysWhoWroteIt) {
  const std::string path = dir_.File("wal/METRICS");
  Open();
  ASSERT_OK(Save("t"));
  Flush();
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  std::string content;
  while (content.find("\"taskwal_records_applied_total\":1,") == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    const auto read = ReadFile(FileSystem::Real(), path);
    content = read.ok() ? *read : "{}";
    ASSERT_TRUE(IsJson(content)) << content;
    std::this_thread::yield();
  }
  EXPECT_THAT(content, HasSubstr("\"pid\":" + std::to_string(::getpid())));
  EXPECT_THAT(content, HasSubstr("\"ended\":false"));
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
