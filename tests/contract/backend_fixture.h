// A fresh database of each kind with two known logs, and short forms for what the tests ask of it.
#pragma once

#include <gtest/gtest.h>

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/backend.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {

inline Uuid LogNamed(const char* last_digits) {
  return *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-0000000000" + std::string(last_digits));
}

class BackendContract : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string kind = GetParam();
    dsn_ = kind == "sqlite" ? "sqlite://" + dir_.File("test.db") : "memory:";
    ASSERT_OK_AND_ASSIGN(backend_, MakeBackend(dsn_, {}));
    ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
    ASSERT_OK(session_->RegisterLog(log_, 1, std::vector<Lsn>{0, 0}));
    ASSERT_OK(session_->RegisterLog(other_log_, 1, std::vector<Lsn>{0}));
  }

  Batch MakeBatch(std::vector<TaskChange> tasks = {}, std::vector<Activity> activities = {}) const {
    Batch batch;
    batch.wal_id = log_;
    batch.epoch = 1;
    batch.tasks = std::move(tasks);
    for (const Activity& activity : activities) batch.activities.push_back({activity, 1});
    return batch;
  }

  // Applied, or the test fails.
  std::uint64_t Apply(const Batch& batch) {
    const auto result = session_->Apply(batch);
    EXPECT_OK(result);
    if (!result.ok()) return 0;
    EXPECT_EQ(result->outcome, ApplyResult::Outcome::kApplied);
    return result->duplicates;
  }
  void ApplyTasks(std::vector<TaskChange> tasks) { Apply(MakeBatch(std::move(tasks))); }
  void ApplyFrom(const Uuid& log, std::vector<TaskChange> tasks) {
    Batch batch = MakeBatch(std::move(tasks));
    batch.wal_id = log;
    Apply(batch);
  }

  bool Exists(const std::string& id) {
    const auto row = session_->GetTask(id);
    EXPECT_TRUE(row.ok() || row.status().code() == StatusCode::kNotFound)
        << row.status().ToString();
    return row.ok();
  }
  Task Get(const std::string& id) {
    auto row = session_->GetTask(id);
    EXPECT_OK(row);
    return row.ok() ? row->task : Task();
  }

  std::vector<Lsn> Watermarks() {
    auto row = session_->ReadLog(log_);
    EXPECT_OK(row);
    return row.ok() ? row->watermarks : std::vector<Lsn>();
  }

  template <typename Narrow>
    requires std::invocable<Narrow, TaskQuery&>
  std::vector<std::string> TaskIds(Narrow narrow) {
    TaskQuery query;
    narrow(query);
    return TaskIds(query);
  }
  std::vector<std::string> TaskIds(TaskQuery query = {}) {
    return AllIds(query.paging, [&](const Paging& paging, std::vector<std::string>* ids) {
      query.paging = paging;
      const auto page = session_->QueryTasks(query);
      EXPECT_OK(page);
      if (!page.ok()) return std::string();
      for (const Task& task : page->tasks) ids->push_back(task.id);
      return page->next_page;
    });
  }
  template <typename Narrow>
    requires std::invocable<Narrow, ActivityQuery&>
  std::vector<std::string> ActivityIds(Narrow narrow) {
    ActivityQuery query;
    narrow(query);
    return ActivityIds(query);
  }
  std::vector<std::string> ActivityIds(ActivityQuery query = {}) {
    return AllIds(query.paging, [&](const Paging& paging, std::vector<std::string>* ids) {
      query.paging = paging;
      const auto page = session_->QueryActivities(query);
      EXPECT_OK(page);
      if (!page.ok()) return std::string();
      for (const Activity& activity : page->activities) ids->push_back(activity.id);
      return page->next_page;
    });
  }
  using ReadPage = std::function<std::string(const Paging&, std::vector<std::string>*)>;
  static std::vector<std::string> AllIds(Paging paging, const ReadPage& read) {
    std::vector<std::string> ids;
    do {
      paging.after = read(paging, &ids);
    } while (!paging.after.empty());
    return ids;
  }

  TempDir dir_;
  std::string dsn_;
  const Uuid log_ = LogNamed("10");
  const Uuid other_log_ = LogNamed("20");  // the higher id
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Session> session_;
};

}  // namespace taskwal::storage
