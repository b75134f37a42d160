// A storage over a real directory and a database that a test can take away.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "pipeline/wal_task_storage.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::pipeline {

inline Task TaskNamed(std::string id, std::string dag = "d") {
  Task task;
  task.id = std::move(id);
  task.dag_id = std::move(dag);
  return task;
}

inline Activity ActivityOn(std::string task_id) {
  Activity activity;
  activity.task_id = std::move(task_id);
  activity.action = "go";
  return activity;
}

class WalTaskStorageTest : public ::testing::Test {
 protected:
  WalTaskStorageTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.initial_backoff = std::chrono::milliseconds(1);
    options_.max_backoff = std::chrono::milliseconds(20);
    options_.breaker_open_time = std::chrono::milliseconds(20);
    options_.shutdown_timeout = std::chrono::seconds(20);
  }

  Result<std::unique_ptr<WalTaskStorage>> TryOpen(OpenReport* report = nullptr) {
    WalStorageSetup setup;
    setup.options = options_;
    setup.backend = database_.Open();
    return WalTaskStorage::Open(std::move(setup), report);
  }
  void Open(OpenReport* report = nullptr) {
    auto opened = TryOpen(report);
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  StoredCounts Stored() {
    auto session = database_.data().Connect();
    EXPECT_OK(session);
    auto counts = (*session)->Count();
    EXPECT_OK(counts);
    return *counts;
  }
  void ExpectBalanced(const Stats& stats) {
    EXPECT_EQ(stats.accepted, stats.applied + stats.dead_lettered + stats.lost + stats.pending);
  }

  TempDir dir_;
  SwitchableDatabase database_;
  Options options_;
  std::unique_ptr<WalTaskStorage> storage_;
};

}  // namespace taskwal::pipeline
