// `taskwal query` and `taskwal schema`, run as a user runs them.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/contract/batch_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using nlohmann::json;

class QueryCommand : public ::testing::Test {
 protected:
  RunOutcome Tool(std::vector<std::string> arguments, bool with_db = true) const {
    arguments.insert(arguments.begin(), TASKWAL_TOOL);
    if (with_db) arguments.insert(arguments.end(), {"--db", dsn_});
    return taskwal::Run(arguments);
  }

  // Three tasks a second apart, and an activity of each.
  void Fill() {
    ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(dsn_, {}));
    ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
    Batch batch;
    Task a = MakeTask("a", "run-1", TaskStatus::kPending, After(0));
    Task b = MakeTask("b", "run-1", TaskStatus::kFailed, After(1));
    Task c = MakeTask("c", "run-2", TaskStatus::kCompleted, After(2));
    a.payload = "{ \"k\" : 1.50 }";
    b.error = "line one\nline two";
    batch.tasks = {Put(a, {1, 1}), Put(b, {2, 2}), Put(c, {3, 3})};
    for (const char* id : {"a", "b", "c"}) {
      Activity activity = MakeActivity("log-" + std::string(id), id, After(0));
      if (activity.task_id == "b") activity.level = Level::kError;
      batch.activities.push_back({activity, 1});
    }
    ASSERT_OK(session->Apply(batch));
  }

  void Add(const std::string& id, const std::string& dag, const std::string& node,
           const std::string& action, Level level, Time at) {
    ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(dsn_, {}));
    ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
    Batch batch;
    Activity activity = MakeActivity(id, "z", at);
    activity.dag_id = dag;
    activity.node_id = node;
    activity.action = action;
    activity.level = level;
    batch.activities.push_back({activity, 1});
    ASSERT_OK(session->Apply(batch));
  }

  static std::vector<std::string> Ids(const json& page, const char* name) {
    std::vector<std::string> ids;
    for (const auto& row : page.at(name)) ids.push_back(row.at("id"));
    return ids;
  }
  json Json(const std::string& what, std::vector<std::string> filters) const {
    filters.insert(filters.begin(), {"query", what, "--json"});
    const RunOutcome run = Tool(filters);
    EXPECT_EQ(run.exit.code, 0) << run.err;
    return json::parse(run.out);
  }
  std::vector<std::string> TaskIds(const std::vector<std::string>& filters) const {
    return Ids(Json("tasks", filters), "tasks");
  }
  std::vector<std::string> ActivityIds(const std::vector<std::string>& filters) const {
    return Ids(Json("activity", filters), "activity");
  }

  TempDir dir_;
  const std::string path_ = dir_.File("test.db");
  const std::string dsn_ = "sqlite://" + path_;
};

TEST_F(QueryCommand, MissingDatabaseIsAnErrorAndStaysMissing) {
  for (const char* what : {"tasks", "activity", "stats"}) {
    const RunOutcome run = Tool({"query", what});
    EXPECT_EQ(run.exit.code, 1);
    EXPECT_THAT(run.err, HasSubstr("no such database"));
    EXPECT_EQ(run.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(QueryCommand, MigrateMakesTheTablesOnce) {
  const RunOutcome first = Tool({"schema", "migrate"});
  EXPECT_EQ(first.exit.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("schema version 2"));
  EXPECT_EQ(Tool({"schema", "migrate"}).out, first.out);
  EXPECT_EQ(Tool({"query", "tasks"}).exit.code, 0);
}

TEST_F(QueryCommand, SchemaIsPrintedAsSql) {
  const RunOutcome run = Tool({"schema", "print"}, false);
  EXPECT_EQ(run.exit.code, 0);
  EXPECT_THAT(run.out, HasSubstr("CREATE TABLE dag_tasks ("));
  EXPECT_EQ(Tool({"schema", "print"}).out, run.out);
  EXPECT_EQ(Tool({"schema", "print", "--dialect", "oracle"}, false).exit.code, 64);
}

TEST_F(QueryCommand, JsonHasRowsByteForByteAndTheNextPage) {
  Fill();
  const RunOutcome run = Tool({"query", "tasks", "--json", "--limit", "1"});
  EXPECT_THAT(run.out, HasSubstr("\"payload\":{ \"k\" : 1.50 }"));
  const json page = json::parse(run.out);
  EXPECT_THAT(Ids(page, "tasks"), ElementsAre("a"));
  EXPECT_THAT(TaskIds({"--after", page.at("next_page")}), ElementsAre("b", "c"));
}

TEST_F(QueryCommand, FiltersSelect) {
  Fill();
  EXPECT_THAT(TaskIds({}), ElementsAre("a", "b", "c"));
  EXPECT_THAT(TaskIds({"--newest"}), ElementsAre("c", "b", "a"));
  EXPECT_THAT(TaskIds({"--dag", "run-1"}), ElementsAre("a", "b"));
  EXPECT_THAT(TaskIds({"--status", "failed,completed"}), ElementsAre("b", "c"));
  EXPECT_THAT(TaskIds({"--status", "failed", "--status", "pending"}), ElementsAre("a", "b"));
  EXPECT_THAT(TaskIds({"--from", FormatTime(After(1)), "--until", FormatTime(After(2))}),
              ElementsAre("b"));
  EXPECT_THAT(TaskIds({"--id", "c"}), ElementsAre("c"));
  const RunOutcome activity = Tool({"query", "activity", "--json", "--level", "warn"});
  EXPECT_THAT(Ids(json::parse(activity.out), "activity"), ElementsAre("log-b"));
}

TEST_F(QueryCommand, ActivityFiltersSelect) {
  Fill();
  Add("log-d", "run-2", "node-d", "stop", Level::kWarn, After(3));
  Add("log-e", "run-2", "node-e", "start", Level::kFatal, After(4));
  EXPECT_THAT(ActivityIds({"--task", "b"}), ElementsAre("log-b"));
  EXPECT_THAT(ActivityIds({"--dag", "run-2"}), ElementsAre("log-d", "log-e"));
  EXPECT_THAT(ActivityIds({"--node", "node-e"}), ElementsAre("log-e"));
  EXPECT_THAT(ActivityIds({"--action", "stop"}), ElementsAre("log-d"));
  EXPECT_THAT(ActivityIds({"--level", "warn"}), ElementsAre("log-b", "log-d", "log-e"));
  EXPECT_THAT(ActivityIds({"--dag", "run-2", "--level", "error"}), ElementsAre("log-e"));
  EXPECT_THAT(ActivityIds({"--from", FormatTime(After(3)), "--until", FormatTime(After(4))}),
              ElementsAre("log-d"));
}

TEST_F(QueryCommand, PagesFollowEachOtherWithoutAGapInBothOrders) {
  Fill();
  for (int i = 0; i < 7; ++i) {  // at one moment: the id decides
    Add("same-" + std::to_string(i), "run-3", "n", "go", Level::kInfo, After(9));
  }
  for (const bool newest : {false, true}) {
    std::vector<std::string> filters{"--dag", "run-3"};
    if (newest) filters.emplace_back("--newest");
    const std::vector<std::string> whole = ActivityIds(filters);
    ASSERT_EQ(whole.size(), 7u);
    filters.insert(filters.end(), {"--limit", "2"});
    std::vector<std::string> paged;
    std::string after;
    for (int page = 0; page < 4; ++page) {
      std::vector<std::string> next = filters;
      if (!after.empty()) next.insert(next.end(), {"--after", after});
      const json found = Json("activity", next);
      for (const std::string& id : Ids(found, "activity")) paged.push_back(id);
      after = found.at("next_page");
      EXPECT_EQ(after.empty(), page == 3);
    }
    EXPECT_EQ(paged, whole);
  }
}

TEST_F(QueryCommand, AbsentTaskIsAFailure) {
  Fill();
  const RunOutcome run = Tool({"query", "tasks", "--id", "none"});
  EXPECT_EQ(run.exit.code, 1);
  EXPECT_THAT(run.err, HasSubstr("no such task"));
}

TEST_F(QueryCommand, TableKeepsARowOnOneLine) {
  Fill();
  const RunOutcome run = Tool({"query", "tasks", "--id", "b"});
  EXPECT_THAT(run.out, AllOf(HasSubstr("line one line two\n"), Not(HasSubstr("one\nline"))));
}

TEST_F(QueryCommand, StatsCount) {
  Fill();
  const json counts = json::parse(Tool({"query", "stats", "--json"}).out);
  EXPECT_EQ(counts.at("tasks"), 3);
  EXPECT_EQ(counts.at("activity"), 3);
  EXPECT_EQ(counts.at("tasks_by_status").at("failed"), 1);
}

TEST_F(QueryCommand, BadUsageIsSixtyFour) {
  Fill();
  for (const std::vector<std::string>& bad :
       {std::vector<std::string>{"query", "tasks", "--status", "done"},
        {"query", "tasks", "--limit", "0"},
        {"query", "tasks", "--after", "page 2"},
        {"query", "tasks", "--from", "yesterday"},
        {"query", "activity", "--level", "loud"},
        {"query", "tasks", "--id", "b", "--status", "failed"},
        {"query", "tasks", "--nonsense"}}) {
    const RunOutcome run = Tool(bad);
    EXPECT_EQ(run.exit.code, 64) << bad[2] << ": " << run.err;
    EXPECT_EQ(run.out, "");
  }
  EXPECT_EQ(taskwal::Run({TASKWAL_TOOL, "query", "tasks", "--db", "x.db"}).exit.code, 64);
}

}  // namespace
}  // namespace taskwal::storage
