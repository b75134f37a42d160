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
#include "storage/dsn.h"
#include "storage/mysql/mysql_backend.h"
#include "storage/postgres/postgres_backend.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {

inline Uuid LogNamed(const char* last_digits) {
  return *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-0000000000" + std::string(last_digits));
}

// The model first. mysql_multi_row: the same server as one without array binding, named locks and
// whatever else some lack; postgres_arrays: as one without COPY; postgres_as_cockroach: as one that
// calls itself so, and has no advisory locks either.
inline constexpr const char* kBackends[] = {
    "memory",   "sqlite",          "mysql",                "mysql_multi_row",
    "postgres", "postgres_arrays", "postgres_as_cockroach"};
inline std::string BackendName(const ::testing::TestParamInfo<const char*>& test) {
  return test.param;
}

// The name of an empty database of this kind.
inline std::string NewDatabase(std::string_view kind, const TempDir& dir) {
  if (kind == "sqlite") return "sqlite://" + dir.File("test.db");
  if (kind.starts_with("mysql")) {
    MariadbServer& server = MariadbServer::Shared();
    return server.Dsn(server.NewDatabase());
  }
  if (kind.starts_with("postgres")) {
    PostgresServer& server = PostgresServer::Shared();
    const std::string database = server.NewDatabase();
    if (kind != "postgres_as_cockroach") return server.Dsn(database);
    server.PassForCockroach(database);
    return server.ShadowedDsn(database);
  }
  return "memory:";
}

inline Result<std::unique_ptr<Backend>> OpenBackend(std::string_view kind, const std::string& dsn) {
  if (kind == "postgres_arrays") {
    auto target = ParsePostgresTarget(dsn, BackendOptions().timeout);
    if (!target.ok()) return target.status();
    return std::unique_ptr<Backend>(std::make_unique<PostgresBackend>(
        *target, /*create=*/true, PostgresBackend::BulkPath::kArrays));
  }
  if (kind != "mysql_multi_row") return MakeBackend(dsn, {});
  auto target = ParseMysqlDsn(dsn);
  if (!target.ok()) return target.status();
  return std::unique_ptr<Backend>(std::make_unique<MysqlBackend>(
      MaskDsn(dsn), *target, BackendOptions(), MysqlBackend::BulkPath::kMultiRow));
}

class BackendContract : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    dsn_ = NewDatabase(GetParam(), dir_);
    ASSERT_OK_AND_ASSIGN(backend_, OpenBackend(GetParam(), dsn_));
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

  // Applied, or the test fails. As the flusher does, repeated where the backend asks for it.
  std::uint64_t Apply(Batch batch) {
    auto result = session_->Apply(batch);
    if (result.ok() && result->outcome == ApplyResult::Outcome::kRepeatIdempotent) {
      batch.idempotent = true;
      result = session_->Apply(batch);
    }
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
