// One call of several tasks, each as large as a task may be: more than the ring takes, and a
// segment.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "storage/backend.h"
#include "taskwal/open.h"
#include "tests/contract/tool_fixture.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"

namespace taskwal {
namespace {

constexpr int kTasks = 6;

std::vector<Task> LargeTasks() {
  std::vector<Task> tasks(kTasks);
  for (int i = 0; i < kTasks; ++i) {
    tasks[i].id = "t" + std::to_string(i);
    tasks[i].payload = '"' + std::string(kJsonBytesMax - 2, static_cast<char>('a' + i)) + '"';
  }
  return tasks;
}

class LargeBatch : public ToolTest {
 protected:
  Result<std::unique_ptr<TaskStorage>> Open(const std::string& dsn) {
    Options options;
    options.wal_dir = wal_;
    options.durability = Durability::kProcess;
    return OpenTaskStorage(dsn, options);
  }
  // Its one call is acknowledged; then it is killed.
  void SaveAndBeKilled() {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto storage = Open(kNoDatabase);
      if (storage.ok() && (*storage)->SaveTasks(LargeTasks()).ok()) ::kill(::getpid(), SIGKILL);
      ::_exit(1);
    }
    int how = 0;
    ASSERT_EQ(::waitpid(child, &how, 0), child);
    ASSERT_TRUE(WIFSIGNALED(how)) << "it was refused";
  }
  void Execute(const std::string& sql) {
    SQLite::Database file(dir_.File("t.db"), SQLite::OPEN_READWRITE, 5000);
    file.exec(sql);
  }
  static void ExpectAll(TaskStorage& storage) {
    for (const Task& task : LargeTasks()) {
      ASSERT_OK_AND_ASSIGN(const Task stored, storage.GetTask(task.id));
      EXPECT_TRUE(stored.payload == task.payload) << task.id;
    }
  }
};

TEST_F(LargeBatch, IsReadAfterAKillAndFlushedByTheNextOpen) {
  ASSERT_NO_FATAL_FAILURE(SaveAndBeKilled());
  {
    ASSERT_OK_AND_ASSIGN(const auto storage, Open(kNoDatabase));
    ExpectAll(*storage);
    EXPECT_THAT(storage->Shutdown(ShutdownMode::kImmediate, {}),
                StatusIs(StatusCode::kUnavailable));
  }
  ASSERT_OK_AND_ASSIGN(const auto storage, Open(db_));
  ASSERT_OK(storage->Flush(std::chrono::minutes(5)));
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage->Count());
  EXPECT_EQ(counts.tasks, std::uint64_t{kTasks});
  ExpectAll(*storage);
  EXPECT_OK(storage->Close());
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(LargeBatch, RefusedByTheDatabaseItIsOneDeadLetterThatCanBeRetried) {
  ASSERT_EQ(Tool({"schema", "migrate", "--db", db_}).exit.code, 0);
  Execute(
      "CREATE TRIGGER refuse BEFORE INSERT ON dag_tasks WHEN NEW.id = 't3' "
      "BEGIN SELECT RAISE(ABORT, 'not today'); END");
  {
    ASSERT_OK_AND_ASSIGN(const auto storage, Open(db_));
    ASSERT_OK(storage->SaveTasks(LargeTasks()));
    ASSERT_OK(storage->Flush(std::chrono::minutes(5)));
    ASSERT_OK_AND_ASSIGN(const StoredCounts counts, storage->Count());
    EXPECT_EQ(counts.tasks, 0u);
    EXPECT_OK(storage->Close());
  }
  Execute("DROP TRIGGER refuse");
  const RunOutcome retry = Tool({"dlq", "retry", "--all", "--wal", wal_, "--db", db_, "--set",
                                 "shutdown_timeout=300s", "--set", "database_timeout=300s"});
  EXPECT_EQ(retry.exit.code, 0) << retry.err;
  ASSERT_OK_AND_ASSIGN(const auto storage, Open(db_));
  ExpectAll(*storage);
}

// 20 MiB in one call, into a server.
class LargeBatchOnServer : public LargeBatch, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Servers, LargeBatchOnServer, ::testing::Values("postgres", "mariadb"),
                         [](const auto& server) { return std::string(server.param); });

TEST_P(LargeBatchOnServer, IsBroughtInOneTransactionByteForByte) {
  const bool is_postgres = GetParam() == std::string_view("postgres");
  db_ = is_postgres
            ? PostgresServer::Shared().Dsn(PostgresServer::Shared().NewDatabase())
            : MariadbServer::Shared().Dsn(MariadbServer::Shared().NewDatabase());
  std::vector<Task> tasks(5);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    tasks[i].id = "t" + std::to_string(i);
    tasks[i].payload = "{ \"n\" : \"" + std::string(4u << 20, static_cast<char>('a' + i)) + "\" }";
  }
  {
    ASSERT_OK_AND_ASSIGN(const auto storage, Open(db_));
    ASSERT_OK(storage->SaveTasks(tasks));
    ASSERT_OK(storage->Flush(std::chrono::minutes(5)));
    const Stats stats = storage->GetStats();
    EXPECT_EQ(stats.flush_operations, 1u);
    EXPECT_EQ(stats.dead_lettered, 0u);
    EXPECT_OK(storage->Close());
  }
  // As the database has them.
  ASSERT_OK_AND_ASSIGN(const auto backend, storage::MakeBackend(db_, {}));
  ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, session->Count());
  EXPECT_EQ(counts.tasks, tasks.size());
  for (const Task& task : tasks) {
    ASSERT_OK_AND_ASSIGN(const auto row, session->GetTask(task.id));
    EXPECT_TRUE(row.task.payload == task.payload) << task.id;
  }
}

}  // namespace
}  // namespace taskwal
