// A storage over several databases that can be taken away, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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

inline Activity ActivityOn(std::string task_id, std::string id = {}) {
  Activity activity;
  activity.id = std::move(id);
  activity.task_id = std::move(task_id);
  activity.action = "go";
  return activity;
}

class SeveralTargetsTest : public ::testing::Test {
 protected:
  using Weights = std::vector<NamedWeight>;

  SeveralTargetsTest() {
    options_.wal_dir = dir_.File("wal");
    options_.ring_bytes = 1u << 20;
    options_.durability = Durability::kProcess;
    options_.initial_backoff = std::chrono::milliseconds(1);
    options_.max_backoff = std::chrono::milliseconds(20);
    options_.breaker_open_time = std::chrono::milliseconds(20);
    options_.shutdown_timeout = std::chrono::seconds(20);
    options_.enable_metrics = false;
    options_.health_check_interval = std::chrono::hours(1);  // only when a test asks
  }

  SwitchableDatabase& Database(const std::string& name) {
    auto& database = databases_[name];
    if (!database) database = std::make_unique<SwitchableDatabase>();
    return *database;
  }
  Result<std::unique_ptr<WalTaskStorage>> TryOpen(const Weights& weights) {
    WalStorageSetup setup;
    setup.options = options_;
    setup.fs = fs_;
    setup.needs_database = true;  // those that answer do, however busy the machine is
    for (const auto& [name, weight] : weights) {
      setup.targets.push_back({name, weight, Database(name).Open()});
    }
    return WalTaskStorage::Open(std::move(setup));
  }
  void Open(const Weights& weights) {
    storage_.reset();
    auto opened = TryOpen(weights);
    ASSERT_OK(opened);
    storage_ = std::move(opened).value();
  }
  void Close() {
    ASSERT_OK(storage_->Close());
    storage_.reset();
  }
  void Flush() { ASSERT_OK(storage_->Flush(std::chrono::seconds(20))); }

  StoredCounts Stored(const std::string& name) {
    auto session = Database(name).data().Connect();
    EXPECT_OK(session);
    auto counts = (*session)->Count();
    EXPECT_OK(counts);
    return *counts;
  }
  Result<Task> StoredTask(const std::string& name, std::string_view id) {
    auto session = Database(name).data().Connect();
    if (!session.ok()) return session.status();
    auto row = (*session)->GetTask(id);
    if (!row.ok()) return row.status();
    return row->task;
  }
  // The databases that have a task of this id.
  std::vector<std::string> HoldersOf(std::string_view id) {
    std::vector<std::string> holders;
    for (const auto& [name, database] : databases_) {
      if (StoredTask(name, id).ok()) holders.push_back(name);
    }
    return holders;
  }
  TargetStats StatsOf(std::string_view name) {
    for (TargetStats& target : storage_->GetStats().targets) {
      if (target.name == name) return target;
    }
    ADD_FAILURE() << "there is no target " << name;
    return {};
  }
  template <typename Condition>
  void AwaitThat(Condition&& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  TempDir dir_;
  std::map<std::string, std::unique_ptr<SwitchableDatabase>> databases_;
  Options options_;
  FileSystem* fs_ = &FileSystem::Real();
  std::unique_ptr<WalTaskStorage> storage_;
};

}  // namespace taskwal::pipeline
