// Three real Galera nodes, a log feeding each without a pause and all of them some tasks in common;
// one node is killed meanwhile and comes back: exactly once, and the same on every node.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/logger.h>

#include <algorithm>
#include <array>
#include <atomic>
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
constexpr int kShared = 5;      // tasks that every log saves
constexpr int kBatchSize = 30;  // so that there are many commits, that meet those of other nodes
constexpr std::uint64_t kBacklog = 300;  // of each log, while its writer writes

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

// What one log was given, and how its flusher fared.
struct Writer {
  std::unique_ptr<TaskStorage> storage;
  std::atomic<int> rounds{0};
  std::array<std::string, kShared> last_saved;  // in each of the shared tasks
  std::atomic<int> failed{0};                   // attempts
  std::atomic<int> gave_way{0};                 // those of them that met another node's commit
};

class Galera : public ::testing::Test {
 protected:
  Galera() : database_(cluster_.node(0).NewDatabase()) {
    for (int i = 0; i < kNodes; ++i) Open(i);
    for (int i = 0; i < kNodes; ++i) threads_[i] = std::thread([this, i] { WriteOn(i); });
  }
  ~Galera() override { StopWriting(); }

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
    options.batch_size = kBatchSize;
    options.on_flush = [&writer = writers_[i]](const FlushEvent& event) {
      if (event.status.ok()) return;
      ++writer.failed;
      if (event.status.message().find("1213") != std::string::npos) ++writer.gave_way;
    };
    options.logger = std::make_shared<spdlog::logger>("quiet");
    auto storage = OpenTaskStorage(cluster_.Dsn(i, database_), options);
    EXPECT_OK(storage);
    writers_[i].storage = std::move(storage).value();
  }

  // Until told to stop, always ahead of the database.
  void WriteOn(int i) {
    while (!is_stopping_) {
      const Stats stats = writers_[i].storage->GetStats();
      if (stats.end_lsn - stats.flushed_lsn < kBacklog) {
        WriteRound(i);
      } else {
        std::this_thread::sleep_for(milliseconds(1));
      }
    }
  }

  // A task of the log's own with two activities, and a save of one that all of them save.
  void WriteRound(int i) {
    Writer& writer = writers_[i];
    TaskStorage& storage = *writer.storage;
    const std::string id = "t" + std::to_string(i) + "-" + std::to_string(writer.rounds);
    const int number = writer.rounds % kShared;
    Task own, shared;
    own.id = id;
    EXPECT_OK(storage.SaveTask(own));
    for (const TaskStatus status : {TaskStatus::kRunning, TaskStatus::kCompleted}) {
      EXPECT_OK(storage.UpdateTaskStatus(id, status));
      Activity activity;
      activity.task_id = id;
      activity.action = TaskStatusName(status);
      EXPECT_OK(storage.LogActivity(activity));
    }
    shared.id = "shared" + std::to_string(number);
    shared.error = id;
    EXPECT_OK(storage.SaveTask(shared));
    writer.last_saved[number] = id;
    ++writer.rounds;
  }

  void StopWriting() {
    is_stopping_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  // Every log has brought what it holds now.
  bool AllGoOn() {
    std::array<std::uint64_t, kNodes> ends{};
    for (int i = 0; i < kNodes; ++i) ends[i] = writers_[i].storage->GetStats().end_lsn;
    return Eventually([&] {
      for (int i = 0; i < kNodes; ++i) {
        if (writers_[i].storage->GetStats().flushed_lsn < ends[i]) return false;
      }
      return true;
    });
  }

  bool EveryWriterGaveWay() {
    return std::all_of(writers_.begin(), writers_.end(),
                       [](const Writer& writer) { return writer.gave_way > 0; });
  }

  // Of all rows and all columns that we wrote.
  std::string ContentOf(int i) {
    const auto sum_of = [&](const std::string& columns, const std::string& table) {
      return cluster_.node(i).Value(
          "SELECT concat(count(*), ' ', bit_xor(CAST(conv(left(md5(concat_ws('|', " + columns +
              ")), 16), 16, 10) AS UNSIGNED))) FROM " + table,
          database_);
    };
    return sum_of(
               "id, status, error, created_at, updated_at, ifnull(started_at, '-'), "
               "ifnull(completed_at, '-'), wal_id, wal_lsn, wal_stamp",
               "dag_tasks") +
           ", " + sum_of("id, task_id, action, created_at", "dag_task_activity_logs") + ", " +
           sum_of("wal_id, `partition`, lsn, epoch", "wal_checkpoints");
  }

  int AllRounds() {
    int rounds = 0;
    for (const Writer& writer : writers_) rounds += writer.rounds;
    return rounds;
  }

  void ExpectExactlyOnceEverywhere() {
    for (const Writer& writer : writers_) {
      ASSERT_OK(writer.storage->Flush(seconds(120)));
      const Stats stats = writer.storage->GetStats();
      EXPECT_EQ(stats.duplicates, 0u);
      EXPECT_EQ(stats.dead_lettered, 0u);
      EXPECT_EQ(stats.applied, stats.accepted);
      EXPECT_EQ(stats.flushed_lsn, stats.end_lsn);
    }
    for (int i = 0; i < kNodes; ++i) {
      // A node applies what others committed a little later.
      EXPECT_TRUE(Eventually([&] { return ContentOf(i) == ContentOf(0); }))
          << i << ": " << ContentOf(i) << " and " << ContentOf(0);
      ExpectExactlyOnce(i);
    }
  }

  void ExpectExactlyOnce(int i) {
    const auto value = [&](const std::string& sql) {
      return cluster_.node(i).Value(sql, database_);
    };
    const std::string own = std::to_string(AllRounds());
    const std::string activities = std::to_string(2 * AllRounds());
    EXPECT_EQ(value("SELECT count(*) FROM dag_tasks WHERE id LIKE 't%' AND status = 'completed' "
                    "AND started_at IS NOT NULL AND completed_at IS NOT NULL"),
              own);
    EXPECT_EQ(value("SELECT count(*) FROM dag_tasks"), std::to_string(AllRounds() + kShared));
    EXPECT_EQ(value("SELECT count(*) FROM dag_task_activity_logs"), activities);
    EXPECT_EQ(value("SELECT count(DISTINCT task_id, action) FROM dag_task_activity_logs"),
              activities);
    EXPECT_EQ(value("SELECT count(*) FROM dag_task_activity_logs AS a JOIN dag_tasks AS t "
                    "ON t.id = a.task_id WHERE a.action IN ('running', 'completed')"),
              activities);
    // Whichever log saved it last: that log's last save of it.
    for (int number = 0; number < kShared; ++number) {
      std::vector<std::string> last;
      for (const Writer& writer : writers_) last.push_back(writer.last_saved[number]);
      EXPECT_THAT(last, ::testing::Contains(value("SELECT error FROM dag_tasks WHERE id = 'shared" +
                                                  std::to_string(number) + "'")));
    }
  }

  TempDir dir_;
  GaleraCluster cluster_;
  const std::string database_;
  std::array<Writer, kNodes> writers_;
  std::atomic<bool> is_stopping_{false};
  std::array<std::thread, kNodes> threads_;
};

TEST_F(Galera, WritersOnAllNodesAndOneNodeKilledGiveTheSameEverywhere) {
  const std::uint64_t conflicts = cluster_.Conflicts();
  // Commits of all nodes have met those of others, as the servers and the flushers count it.
  EXPECT_TRUE(Eventually([&] { return EveryWriterGaveWay(); }));
  EXPECT_GT(cluster_.Conflicts(), conflicts);
  EXPECT_TRUE(AllGoOn());

  // Not the node that made the cluster: started again it would make another.
  Writer& bereft = writers_[2];
  const int failed = bereft.failed - bereft.gave_way;
  cluster_.node(2).Kill();
  // Its flusher was at work with it, and goes on at another node, as the others do.
  EXPECT_TRUE(Eventually([&] { return bereft.failed - bereft.gave_way > failed; }));
  EXPECT_TRUE(AllGoOn());
  cluster_.node(2).Launch();
  EXPECT_TRUE(Eventually([&] { return cluster_.IsSynced(2); }));
  EXPECT_TRUE(AllGoOn());
  StopWriting();
  ExpectExactlyOnceEverywhere();
  // A row of an array would be committed alone where another node has broken the transaction before
  // it: a change without those it rests on. So no rows go by arrays here.
  for (int i = 0; i < kNodes; ++i) EXPECT_EQ(cluster_.node(i).Status("Com_stmt_execute"), 0u) << i;
}

}  // namespace
}  // namespace taskwal
