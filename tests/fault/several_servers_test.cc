// One log that feeds a PostgreSQL, a MariaDB and a SQLite database: each takes its share, one that
// is away holds back nothing but its own, and rows are moved between them.
#include <nlohmann/json.hpp>
#include <set>

#include "tests/fault/database_faults.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"
#include "tests/support/private_server.h"
#include "tests/support/tcp_proxy.h"

namespace taskwal {
namespace {

class SeveralServers : public DatabaseFaults {
 protected:
  void OpenAll() {
    Options options = FaultOptions(std::chrono::seconds(30));
    options.health_check_interval = Milliseconds(50);
    options.targets = {{"pg", postgres_dsn_, 2}, {"maria", mariadb_dsn_, 1}, {"lite", lite_, 1}};
    ASSERT_OK_AND_ASSIGN(storage_, OpenTaskStorage(std::move(options)));
  }
  TargetStats StatsOf(const std::string& name) {
    for (const TargetStats& target : storage_->GetStats().targets) {
      if (target.name == name) return target;
    }
    ADD_FAILURE() << name;
    return {};
  }
  void WaitForHealth(const std::string& name, bool healthy) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (StatsOf(name).healthy != healthy) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(Milliseconds(10));
    }
  }
  std::string PostgresHas(const std::string& what) const {
    return postgres_.Value("SELECT count(*) FROM " + what, postgres_database_);
  }

  // Nothing is to be at home in PostgreSQL any more.
  std::vector<std::string> MoveOutOfPostgres() const {
    return {TASKWAL_TOOL, "targets", "rebalance", "--wal", dir_.File("wal"), "--db",
            "pg*0=" + postgres_dsn_, "--db", "maria=" + mariadb_dsn_, "--db", "lite=" + lite_};
  }
  // Each of what was written, once, as whoever reads the databases sees it now.
  void ExpectAllFound() const {
    std::set<std::string> ids;
    std::size_t rows = 0;
    std::string after;
    do {
      std::vector<std::string> query = {TASKWAL_TOOL, "query", "tasks", "--json", "--limit", "1000",
                                        "--db", "pg=" + postgres_dsn_, "--db",
                                        "maria=" + mariadb_dsn_, "--db", "lite=" + lite_};
      if (!after.empty()) query.insert(query.end(), {"--after", after});
      const RunOutcome page = taskwal::Run(query);
      ASSERT_EQ(page.exit.code, 0) << page.err;
      const nlohmann::json read = nlohmann::json::parse(page.out);
      for (const nlohmann::json& task : read["tasks"]) ids.insert(task["id"]);
      rows += read["tasks"].size();
      after = read.value("next_page", "");
    } while (!after.empty());
    EXPECT_EQ(ids.size(), static_cast<std::size_t>(written_));
    EXPECT_EQ(rows, ids.size());
  }

  PostgresServer& postgres_ = PostgresServer::Shared();
  MariadbServer& mariadb_ = MariadbServer::Shared();
  TcpProxy proxy_{postgres_.port()};
  const std::string postgres_database_ = postgres_.NewDatabase();
  const std::string postgres_dsn_ = postgres_.DsnAt(proxy_.port(), postgres_database_);
  const std::string mariadb_dsn_ = mariadb_.Dsn(mariadb_.NewDatabase());
  const std::string lite_ = "sqlite://" + dir_.File("lite.db");
};

TEST_F(SeveralServers, OneThatIsAwayHoldsBackOnlyItsOwn) {
  OpenAll();
  Write(40);
  Flush();
  EXPECT_EQ(PostgresHas("dag_task_activity_logs"), "20");
  proxy_.Refuse(true);
  proxy_.CutAll();
  WaitForHealth("pg", false);
  Write(100);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (StatsOf("maria").pending + StatsOf("lite").pending > 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(Milliseconds(10));
  }
  EXPECT_GT(StatsOf("pg").pending, 0u);  // tasks that are at home there
  EXPECT_EQ(PostgresHas("dag_task_activity_logs"), "20");
  proxy_.Refuse(false);
  WaitForHealth("pg", true);
  Write(40);
  Flush();
  ExpectExactlyOnce();
  EXPECT_EQ(PostgresHas("dag_task_activity_logs"), "40");
}

TEST_F(SeveralServers, ARebalanceMovesTasksBetweenThem) {
  OpenAll();
  Write(200);
  Flush();
  EXPECT_NE(PostgresHas("dag_tasks"), "0");
  ASSERT_OK(storage_->Close());
  storage_.reset();
  const RunOutcome moved = taskwal::Run(MoveOutOfPostgres());
  EXPECT_EQ(moved.exit.code, 0) << moved.err;
  EXPECT_EQ(PostgresHas("dag_tasks"), "0");
  OpenAll();
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage_->Count());
  EXPECT_EQ(counts.tasks, 200u);
  EXPECT_EQ(counts.activities, 200u);
  for (int i = 0; i < written_; ++i) {
    ASSERT_OK_AND_ASSIGN(const Task task, storage_->GetTask("t" + std::to_string(i)));
    EXPECT_EQ(task.status, TaskStatus::kCompleted);
  }
}

// Killed as soon as rows have left, and again behind each that follow.
TEST_F(SeveralServers, ARebalanceKilledInTheMiddleLeavesEveryTaskFindable) {
  OpenAll();
  Write(400);
  Flush();
  ASSERT_OK(storage_->Close());
  storage_.reset();
  proxy_.Delay(Milliseconds(5));  // each row is asked for once more before it is moved
  int killed = 0;
  for (int round = 0; round < 2; ++round) {
    const std::string before = PostgresHas("dag_tasks");
    ASSERT_OK_AND_ASSIGN(const auto child, Child::Start(MoveOutOfPostgres()));
    while (PostgresHas("dag_tasks") == before && !HasEnded(child->pid())) {
      std::this_thread::sleep_for(Milliseconds(1));
    }
    child->Kill();
    killed += child->Wait().signal == 9 ? 1 : 0;
    ExpectAllFound();
  }
  EXPECT_GT(killed, 0);
  EXPECT_NE(PostgresHas("dag_tasks"), "0");
  ASSERT_OK_AND_ASSIGN(const auto last, Child::Start(MoveOutOfPostgres()));
  while (!HasEnded(last->pid())) ExpectAllFound();
  EXPECT_EQ(last->Wait().code, 0) << last->errors();
  EXPECT_EQ(PostgresHas("dag_tasks"), "0");
  ExpectAllFound();
}

}  // namespace
}  // namespace taskwal
