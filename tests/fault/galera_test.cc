// Three real Galera nodes, a log feeding each, one node killed and coming back: exactly once, and
// the same on every node.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/logger.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "taskwal/open.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kNodes = 3;

bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + seconds(120);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(50));
  }
  return true;
}

class GaleraCluster {
 public:
  GaleraCluster() {
    for (int i = 0; i < kNodes; ++i) group_ports_[i] = FreePort();
    std::vector<std::string> first = Arguments(0);
    first.emplace_back("--wsrep-new-cluster");
    nodes_[0] = MariadbServer::Start(first);
    // One after the other: each takes its data from one that has them.
    for (int i = 1; i < kNodes; ++i) {
      nodes_[i] = MariadbServer::Join(Arguments(i));
      EXPECT_TRUE(Eventually([&] { return IsSynced(i); })) << i;
    }
  }

  MariadbServer& node(int i) { return *nodes_[i]; }

  bool IsSynced(int i) {
    // While it takes its data it may answer and then not.
    const auto state = nodes_[i]->TryQuery(
        "SELECT variable_value FROM information_schema.global_status "
        "WHERE variable_name IN ('wsrep_local_state_comment', 'wsrep_ready') "
        "ORDER BY variable_name");
    return state == MariadbServer::Rows{{"Synced"}, {"ON"}};
  }

  // All hosts, this one first.
  std::string Dsn(int first, const std::string& database) {
    std::string dsn = nodes_[first]->Dsn(database);
    std::string others;
    for (int i = 1; i < kNodes; ++i) {
      others += ",127.0.0.1:" + std::to_string(nodes_[(first + i) % kNodes]->port());
    }
    dsn.insert(dsn.rfind('/'), others);
    return dsn;
  }

  // Commits that lost against one of another node.
  std::uint64_t Conflicts() {
    std::uint64_t conflicts = 0;
    for (const auto& node : nodes_) {
      conflicts += node->Status("wsrep_local_cert_failures") +
                   node->Status("wsrep_local_bf_aborts");
    }
    return conflicts;
  }

 private:
  std::vector<std::string> Arguments(int i) {
    const auto group = [&](int node) { return "127.0.0.1:" + std::to_string(group_ports_[node]); };
    return {"--wsrep-on=ON",
            "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
            "--wsrep-cluster-name=taskwal",
            "--wsrep-node-name=n" + std::to_string(i),
            "--wsrep-cluster-address=gcomm://" + group(0) + "," + group(1) + "," + group(2),
            "--wsrep-node-address=" + group(i),
            "--wsrep-sst-method=rsync",
            "--wsrep-sst-receive-address=127.0.0.1:" + std::to_string(FreePort()),
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-provider-options=gmcast.listen_addr=tcp://" + group(i) +
                ";ist.recv_addr=127.0.0.1:" + std::to_string(FreePort()) +
                ";gcache.size=16M;evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;"
                "evs.inactive_timeout=PT6S;evs.install_timeout=PT5S"};
  }

  std::array<std::uint16_t, kNodes> group_ports_{};
  std::array<std::unique_ptr<MariadbServer>, kNodes> nodes_;
};

class Galera : public ::testing::Test {
 protected:
  Galera() : database_(cluster_.node(0).NewDatabase()) {
    for (int i = 0; i < kNodes; ++i) Open(i);
  }

  void Open(int i) {
    Options options;
    options.wal_dir = dir_.File("wal" + std::to_string(i));
    options.durability = Durability::kProcess;
    options.database_timeout = seconds(20);
    options.initial_backoff = milliseconds(5);
    options.max_backoff = milliseconds(200);
    options.breaker_failures = 1000;
    // Often, over connections to several nodes: what one has not applied yet is not gone.
    options.health_check_interval = milliseconds(100);
    options.logger = std::make_shared<spdlog::logger>("quiet");
    auto storage = OpenTaskStorage(cluster_.Dsn(i, database_), options);
    EXPECT_OK(storage);
    storages_[i] = std::move(storage).value();
  }

  // From every log: a task of its own with two activities, and a save of one that all of them save.
  void Work(int rounds) {
    for (const int end = worked_ + rounds; worked_ < end; ++worked_) {
      for (int i = 0; i < kNodes; ++i) {
        TaskStorage& storage = *storages_[i];
        const std::string id = "t" + std::to_string(i) + "-" + std::to_string(worked_);
        Task own, shared;
        own.id = id;
        ASSERT_OK(storage.SaveTask(own));
        for (const TaskStatus status : {TaskStatus::kRunning, TaskStatus::kCompleted}) {
          ASSERT_OK(storage.UpdateTaskStatus(id, status));
          Activity activity;
          activity.task_id = id;
          activity.action = TaskStatusName(status);
          ASSERT_OK(storage.LogActivity(activity));
        }
        shared.id = "shared" + std::to_string(worked_ % 5);
        shared.error = id;
        ASSERT_OK(storage.SaveTask(shared));
      }
    }
  }

  std::string ContentOf(int i) {
    MariadbServer& node = cluster_.node(i);
    return node.Value("SELECT md5(group_concat(id, status, error, wal_id, wal_lsn ORDER BY id)) "
                      "FROM (SELECT * FROM dag_tasks) AS t", database_) +
           node.Value("SELECT bit_xor(crc32(concat(id, task_id, action))) FROM "
                      "dag_task_activity_logs", database_);
  }

  void ExpectExactlyOnceEverywhere() {
    for (const auto& storage : storages_) {
      ASSERT_OK(storage->Flush(seconds(120)));
      const Stats stats = storage->GetStats();
      EXPECT_EQ(stats.duplicates, 0u);
      EXPECT_EQ(stats.dead_lettered, 0u);
      EXPECT_EQ(stats.applied, stats.accepted);
    }
    const std::string own = std::to_string(kNodes * worked_);
    const std::string activities = std::to_string(2 * kNodes * worked_);
    for (int i = 0; i < kNodes; ++i) {
      const auto value = [&](const std::string& sql) {
        return cluster_.node(i).Value(sql, database_);
      };
      // A node applies what others committed a little later.
      EXPECT_TRUE(Eventually([&] {
        return value("SELECT count(*) FROM dag_task_activity_logs") == activities;
      })) << i;
      EXPECT_TRUE(Eventually([&] { return ContentOf(i) == ContentOf(0); })) << i;
      EXPECT_EQ(value("SELECT count(*) FROM dag_tasks WHERE status = 'completed' AND "
                      "started_at IS NOT NULL"),
                own);
      EXPECT_EQ(value("SELECT count(*) FROM dag_tasks"), std::to_string(kNodes * worked_ + 5));
      EXPECT_EQ(value("SELECT count(*) FROM dag_task_activity_logs"), activities);
      EXPECT_EQ(value("SELECT count(DISTINCT task_id, action) FROM dag_task_activity_logs"),
                activities);
    }
  }

  TempDir dir_;
  GaleraCluster cluster_;
  const std::string database_;
  std::array<std::unique_ptr<TaskStorage>, kNodes> storages_;
  int worked_ = 0;
};

TEST_F(Galera, WritersOnAllNodesAndOneNodeKilledGiveTheSameEverywhere) {
  // Until commits of several nodes have met.
  const std::uint64_t before = cluster_.Conflicts();
  EXPECT_TRUE(Eventually([&] {
    Work(5);
    return cluster_.Conflicts() > before;
  }));
  ExpectExactlyOnceEverywhere();

  cluster_.node(2).Kill();
  Work(20);
  // The others go on without it, and so does the log that fed it.
  for (const auto& storage : storages_) EXPECT_OK(storage->Flush(seconds(60)));
  cluster_.node(2).Launch();
  Work(20);
  EXPECT_TRUE(Eventually([&] { return cluster_.IsSynced(2); }));
  Work(5);
  ExpectExactlyOnceEverywhere();
}

}  // namespace
}  // namespace taskwal
