#include "tests/fault/mysql_fixture.h"

#include <mysql.h>

#include <thread>

#include "storage/dsn.h"

namespace taskwal::storage {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::unique_ptr<Backend> OpenMysql(const std::string& dsn, milliseconds timeout,
                                   MysqlBackend::BulkPath path, bool create) {
  auto target = ParseMysqlDsn(dsn);
  EXPECT_OK(target);
  return std::make_unique<MysqlBackend>(MaskDsn(dsn), *target, BackendOptions{timeout, create},
                                        path);
}

bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

void MysqlServer::UseServer(MariadbServer& server) {
  server_ = &server;
  database_ = server.NewDatabase();
  dsn_ = server.Dsn(database_);
  Reopen(seconds(20));
}

void MysqlServer::Reopen(milliseconds timeout, BulkPath path) {
  backend_ = OpenMysql(dsn_, timeout, path);
  ASSERT_OK_AND_ASSIGN(session_, backend_->Connect());
  ASSERT_OK(session_->RegisterLog(log_, 1, std::vector<Lsn>{0}));
}

Batch MysqlServer::MakeBatch(std::vector<TaskChange> tasks,
                             std::vector<Activity> activities) const {
  Batch batch;
  batch.wal_id = log_;
  batch.epoch = 1;
  batch.tasks = std::move(tasks);
  for (Activity& activity : activities) batch.activities.push_back({std::move(activity), 1});
  return batch;
}

Rival::Rival(const MariadbServer& server, const std::string& database)
    : mysql_(mysql_init(nullptr)) {
  const std::string socket = server.socket();
  EXPECT_NE(mysql_real_connect(mysql_, nullptr, "root", nullptr, database.c_str(), 0,
                               socket.c_str(), 0),
            nullptr);
  Do("BEGIN");
}

Rival::~Rival() { mysql_close(mysql_); }

void Rival::Do(const std::string& sql) {
  EXPECT_EQ(mysql_real_query(mysql_, sql.data(), sql.size()), 0) << mysql_error(mysql_);
}

}  // namespace taskwal::storage
