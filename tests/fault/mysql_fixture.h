// The MySQL backend on a private MariaDB server: a session of a log that the database knows, and a
// second client beside it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/mysql/mysql_backend.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/status_matchers.h"

struct st_mysql;

namespace taskwal::storage {

std::unique_ptr<Backend> OpenMysql(
    const std::string& dsn, std::chrono::milliseconds timeout = std::chrono::seconds(20),
    MysqlBackend::BulkPath path = MysqlBackend::BulkPath::kByCapability, bool create = true);

// Asked again and again; false after 30 s.
bool Eventually(const std::function<bool()>& condition);

class MysqlServer : public ::testing::Test {
 protected:
  using BulkPath = MysqlBackend::BulkPath;

  void SetUp() override { UseServer(MariadbServer::Shared()); }

  void UseServer(MariadbServer& server);
  void Reopen(std::chrono::milliseconds timeout, BulkPath path = BulkPath::kByCapability);
  [[nodiscard]] Batch MakeBatch(std::vector<TaskChange> tasks,
                                std::vector<Activity> activities = {}) const;
  [[nodiscard]] Batch OneTask(const std::string& id = "t") const {
    return MakeBatch({Put(MakeTask(id), {9, 9})});
  }
  std::string Admin(const std::string& sql) { return server_->Value(sql, database_); }
  std::string Counted() {
    return Admin("SELECT count(*) FROM dag_tasks") + " " +
           Admin("SELECT count(*) FROM dag_task_activity_logs");
  }

  MariadbServer* server_ = nullptr;
  std::string database_, dsn_;
  const Uuid log_ = Uuid::Make();
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Session> session_;
};

// A second client with a transaction of its own.
class Rival {
 public:
  Rival(const MariadbServer& server, const std::string& database);
  ~Rival();
  Rival(const Rival&) = delete;
  Rival& operator=(const Rival&) = delete;

  void Do(const std::string& sql);

 private:
  st_mysql* mysql_;
};

}  // namespace taskwal::storage
