// `taskwal run` on traces in WfFormat, end to end: what the database holds of each task, also where
// the run was killed in the middle. Generated traces, and the real ones that TASKWAL_WFINSTANCES
// names.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dag/workflow_file.h"
#include "tests/contract/tool_fixture.h"
#include "tests/support/workflow_generator.h"

namespace taskwal {
namespace {

constexpr const char* kNoTraces = "TASKWAL_WFINSTANCES does not name the folder of traces";

// Paths, the largest file first; nothing where the variable is not set.
std::vector<std::filesystem::path> RealTraces() {
  std::vector<std::filesystem::path> paths;
  const char* folder = std::getenv("TASKWAL_WFINSTANCES");
  if (folder == nullptr) return paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  EXPECT_FALSE(paths.empty()) << "no trace in " << folder;
  std::sort(paths.begin(), paths.end(), [](const auto& a, const auto& b) {
    return std::filesystem::file_size(a) > std::filesystem::file_size(b);
  });
  return paths;
}

// Every row that comes is noted before any key is looked at, in the transaction that brings it: the
// keys would swallow what is brought twice.
constexpr const char* kNoteWhatIsBrought = R"(
CREATE TABLE brought (id TEXT, lsn INTEGER);
CREATE TRIGGER brought_activity BEFORE INSERT ON dag_task_activity_logs
  BEGIN INSERT INTO brought VALUES (NEW.id, 0); END;
CREATE TRIGGER brought_task BEFORE INSERT ON dag_tasks
  BEGIN INSERT INTO brought VALUES (NEW.id, NEW.wal_lsn); END;
)";

struct Row {
  std::string status, started_at, completed_at;
  bool operator==(const Row&) const = default;
};

class RunTrace : public ToolTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(Tool({"schema", "migrate", "--db", db_}).exit.code, 0);
    Open(SQLite::OPEN_READWRITE).exec(kNoteWhatIsBrought);
  }

  std::string Generate(const WfFormatOptions& options) {
    const std::string path = dir_.File("generated.json");
    std::ofstream(path) << MakeWfFormat(options);
    return path;
  }
  std::vector<std::string> RunCommand(const std::string& file, const std::string& id) {
    return {"run", file, "--db", db_, "--wal", wal_, "--run-id", id, "--json"};
  }

  SQLite::Database Open(int flags = SQLite::OPEN_READONLY) {
    SQLite::Database database(dir_.File("t.db"), flags, /*aBusyTimeoutMs=*/60'000);
    return database;
  }
  std::map<std::string, Row> Rows(const std::string& id) {
    SQLite::Database database = Open();
    SQLite::Statement select(database,
                             "SELECT node_id, status, coalesce(started_at, ''), "
                             "coalesce(completed_at, '') FROM dag_tasks WHERE dag_id = ?");
    select.bind(1, id);
    std::map<std::string, Row> rows;
    while (select.executeStep()) {
      Row row{select.getColumn(1), select.getColumn(2), select.getColumn(3)};
      EXPECT_TRUE(rows.emplace(select.getColumn(0).getString(), row).second);
    }
    return rows;
  }
  std::map<std::string, Row> Completed(const std::string& id) {
    auto rows = Rows(id);
    std::erase_if(rows, [](const auto& row) { return row.second.status != "completed"; });
    return rows;
  }
  std::map<std::string, int> Activities(const std::string& id, const std::string& action) {
    SQLite::Database database = Open();
    SQLite::Statement select(database,
                             "SELECT node_id, count(*) FROM dag_task_activity_logs "
                             "WHERE dag_id = ? AND action = ? GROUP BY node_id");
    select.bind(1, id);
    select.bind(2, action);
    std::map<std::string, int> counts;
    while (select.executeStep()) counts[select.getColumn(0)] = select.getColumn(1);
    return counts;
  }

  // One row per task, begun behind the end of all it waits for; each with its start and one end.
  void ExpectAllCompleted(const dag::Workflow& workflow, const std::string& id) {
    const auto rows = Rows(id);
    const auto starts = Activities(id, "task_started");
    const auto ends = Activities(id, "task_completed");
    EXPECT_EQ(rows.size(), workflow.tasks.size());
    EXPECT_EQ(ends.size(), workflow.tasks.size());
    for (const dag::WorkflowTask& task : workflow.tasks) {
      ASSERT_TRUE(rows.contains(task.id)) << task.id;
      const Row& row = rows.at(task.id);
      EXPECT_EQ(row.status, "completed") << task.id;
      EXPECT_LE(row.started_at, row.completed_at) << task.id;
      for (const std::string& before : task.depends_on) {
        EXPECT_LE(rows.at(before).completed_at, row.started_at) << before << ", " << task.id;
      }
      EXPECT_TRUE(starts.contains(task.id)) << task.id;
      EXPECT_TRUE(ends.contains(task.id) && ends.at(task.id) == 1) << task.id;
    }
    SQLite::Database database = Open();
    EXPECT_EQ(database.execAndGet("SELECT count(*) FROM (SELECT 1 FROM brought GROUP BY id, lsn "
                                  "HAVING count(*) > 1)")
                  .getInt(),
              0);
  }

  void RunWhole(const std::string& file, const std::string& id) {
    ASSERT_OK_AND_ASSIGN(const dag::Workflow workflow, dag::LoadWorkflow(file));
    auto command = RunCommand(file, id);
    command.insert(command.end(), {"--speed", "0"});
    const RunOutcome outcome = Tool(command);
    ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "{\"dag_id\":\"" + id + "\",\"completed\":" +
                               std::to_string(workflow.tasks.size()) + ",\"failed\":0}\n");
    ExpectAllCompleted(workflow, id);
  }

  // Three fifths of the calls are taken at once and the rest over ten minutes, so that it is killed
  // with work before it: when a quarter of the tasks is completed in the database.
  void KillInTheMiddle(const dag::Workflow& workflow, const std::string& file,
                       const std::string& id) {
    std::vector<std::string> command = RunCommand(file, id);
    command.insert(command.begin(), TASKWAL_TOOL);
    const std::size_t calls = 5 * workflow.tasks.size();
    for (const std::string& setting :
         {"rate_limit=" + std::to_string(calls / 600 + 1), std::string("rate_window=0"),
          "rate_burst=" + std::to_string(calls * 3 / 5), std::string("block_timeout=1h")}) {
      command.insert(command.end(), {"--set", setting});
    }
    command.insert(command.end(), {"--speed", "0"});
    ASSERT_OK_AND_ASSIGN(const auto run, Child::Start(command));
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (Completed(id).size() < workflow.tasks.size() / 4) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << run->errors();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    run->Kill();
    ASSERT_EQ(run->Wait().signal, 9) << "it ended before it was killed: " << run->errors();
  }

  void RunKilled(const std::string& file, const std::string& id) {
    ASSERT_OK_AND_ASSIGN(const dag::Workflow workflow, dag::LoadWorkflow(file));
    ASSERT_NO_FATAL_FAILURE(KillInTheMiddle(workflow, file, id));
    ASSERT_EQ(Recover().exit.code, 0);
    const auto before = Completed(id);
    ASSERT_LT(before.size(), workflow.tasks.size());
    auto command = RunCommand(file, id);
    command.insert(command.end(), {"--speed", "0", "--resume"});
    const RunOutcome resumed = Tool(command);
    ASSERT_EQ(resumed.exit.code, 0) << resumed.err;
    ExpectAllCompleted(workflow, id);
    const auto after = Rows(id);
    for (const auto& [task, row] : before) {
      EXPECT_EQ(after.at(task), row) << task;
    }
    const auto starts = Activities(id, "task_started");
    for (const auto& [task, row] : before) EXPECT_EQ(starts.at(task), 1) << task;
  }
};

TEST_F(RunTrace, EveryTaskIsInTheDatabaseInOrderForEveryDateAndVersion) {
  int run = 0;
  for (const WfVersion version : {WfVersion::k14, WfVersion::k15}) {
    for (const std::string& date : DateForms()) {
      WfFormatOptions options;
      options.fan_out = run == 0 ? 1000 : 40;
      options.version = version;
      options.executed_at = date;
      options.runtime_seconds = 1000;
      RunWhole(Generate(options), "run-" + std::to_string(run++));
    }
  }
}

TEST_F(RunTrace, AKilledRunIsResumedAndKeepsTheTimesOfWhatWasCompleted) {
  RunKilled(Generate({}), "killed");
}

TEST_F(RunTrace, EveryTaskOfRealTracesIsInTheDatabaseInOrder) {
  const auto traces = RealTraces();
  if (traces.empty()) GTEST_SKIP() << kNoTraces;
  for (const auto& trace : traces) {
    SCOPED_TRACE(trace.filename());
    RunWhole(trace.string(), trace.stem().string());
  }
}

TEST_F(RunTrace, AKilledRunOfARealTraceIsResumedAndKeepsTimes) {
  const auto traces = RealTraces();
  if (traces.empty()) GTEST_SKIP() << kNoTraces;
  RunKilled(traces.front().string(), "killed");
}

}  // namespace
}  // namespace taskwal
