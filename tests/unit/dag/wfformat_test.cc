#include "dag/wfformat.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "dag/workflow_file.h"
#include "tests/support/status_matchers.h"
#include "tests/support/workflow_generator.h"

namespace taskwal::dag {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

std::set<std::string> Unique(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

// Around tasks in either version, or a whole workflow object.
std::string Version15(const std::string& specified, const std::string& executed) {
  return R"({"schemaVersion":"1.5","workflow":{"specification":{"tasks":[)" + specified +
         R"(]},"execution":{"tasks":[)" + executed + "]}}}";
}
std::string Version14(const std::string& tasks) {
  return R"({"schemaVersion":"1.4","workflow":{"tasks":[)" + tasks + "]}}";
}

class GeneratedTrace : public ::testing::TestWithParam<WfVersion> {};

TEST_P(GeneratedTrace, IsReadWithEveryEdgeAndOddId) {
  WfFormatOptions options;
  options.version = GetParam();
  ASSERT_OK_AND_ASSIGN(const Workflow workflow, ParseWorkflow(MakeWfFormat(options), "t.json"));
  EXPECT_TRUE(workflow.is_trace);
  EXPECT_EQ(workflow.name, "generated");
  ASSERT_EQ(workflow.tasks.size(), 1002u);
  for (std::size_t i = 0; i < options.fan_out; ++i) {
    const WorkflowTask& task = workflow.tasks[i + 1];
    ASSERT_EQ(task.id, OddId(i));
    ASSERT_EQ(Unique(task.depends_on), std::set{workflow.tasks.front().id});
    ASSERT_EQ(task.kind, WorkflowTask::Kind::kReplay);
    ASSERT_EQ(task.seconds, 0.25);
    ASSERT_EQ(task.program, "blastall");
  }
  EXPECT_EQ(Unique(workflow.tasks.back().depends_on).size(), 1000u);
}

INSTANTIATE_TEST_SUITE_P(Versions, GeneratedTrace,
                         ::testing::Values(WfVersion::k14, WfVersion::k15));

TEST(WfFormat, TakesEverySpellingOfADate) {
  for (const std::string& date : DateForms()) {
    WfFormatOptions options;
    options.fan_out = 3;
    options.executed_at = date;
    EXPECT_OK(ParseWorkflow(MakeWfFormat(options), date));
  }
}

TEST(WfFormat, IsToldFromOurOwnFormat) {
  EXPECT_TRUE(IsWfFormat(Version14("")));
  EXPECT_TRUE(IsWfFormat(R"( {"name": "x", "workflow": )"));
  EXPECT_FALSE(IsWfFormat(R"({"name": "x", "tasks": [{"id": "workflow"}]})"));
  EXPECT_FALSE(IsWfFormat("{name: yaml, tasks: []}"));
  EXPECT_FALSE(IsWfFormat("workflow:"));
  EXPECT_FALSE(IsWfFormat(""));
}

TEST(WfFormat, FindsParentsByNameWhereOldFilesNameThemSo) {
  ASSERT_OK_AND_ASSIGN(
      const Workflow workflow,
      ParseWorkflow(Version14(R"({"name":"a_1","id":"1","runtime":2,"children":["b_2"]},
                                 {"name":"b_2","id":"2","runtimeInSeconds":null},
                                 {"name":"c","parents":["2","a_1"]})"),
                    "t.json"));
  ASSERT_EQ(workflow.tasks.size(), 3u);
  EXPECT_EQ(workflow.tasks[0].seconds, 2);
  EXPECT_EQ(workflow.tasks[1].id, "2");
  EXPECT_THAT(workflow.tasks[1].depends_on, UnorderedElementsAre("1"));
  EXPECT_EQ(workflow.tasks[2].id, "c");
  EXPECT_THAT(workflow.tasks[2].depends_on, UnorderedElementsAre("2", "1"));
}

struct BadTrace {
  std::string text;
  std::string message;
};

class RefusedTrace : public ::testing::TestWithParam<BadTrace> {};

TEST_P(RefusedTrace, NamesFileAndPlaceInOneLine) {
  const auto workflow = ParseWorkflow(GetParam().text, "t.json");
  EXPECT_THAT(workflow, StatusIs(StatusCode::kInvalidArgument,
                                 AllOf(StartsWith("t.json: "), HasSubstr(GetParam().message))));
  EXPECT_EQ(workflow.status().message().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedTrace,
    ::testing::Values(
        BadTrace{R"({"schemaVersion":"1.5"})", "no workflow.specification.tasks"},
        BadTrace{R"({"schemaVersion":"1.5","workflow":{}})", "no workflow.specification.tasks"},
        BadTrace{R"({"workflow":[]})", "expected an object at byte 12"},
        BadTrace{R"({"workflow":{"tasks":[{"id":"a"})", "at byte 32"},
        BadTrace{Version14("{\"id\":5}"), "expected a string"},
        BadTrace{Version14("{}") + "x", "text after the value"},
        BadTrace{Version14("{\"id\":\"a\"},{}"), "task 2 has no id"},
        BadTrace{Version14("{\"id\":\"a\"},{\"id\":\"a\"}"), "task \"a\" is there twice"},
        BadTrace{Version14("{\"id\":\"a\",\"parents\":[\"b\"]}"),
                 "task \"a\" has the parent \"b\", which is no task"},
        BadTrace{Version15("{\"id\":\"a\",\"children\":[\"b\"]}", ""),
                 "task \"a\" has the child \"b\", which is no task"},
        BadTrace{Version15("{\"id\":\"1\",\"name\":\"a\"},{\"id\":\"2\",\"parents\":[\"a\"]}", ""),
                 "task \"2\" has the parent \"a\", which is no task"},
        BadTrace{Version15("{\"id\":\"a\"}", "{\"id\":\"b\"}"),
                 "the executed task \"b\" is not in the specification"},
        BadTrace{Version14("{\"id\":\"a\",\"runtime\":-1}"), "a run time is -1"},
        BadTrace{Version14("{\"id\":\"a\",\"runtime\":1e999}"), "a run time is 1e999"},
        BadTrace{Version14("{\"id\":\"a\",\"runtime\":\"5\"}"), "a run time is \"5\""},
        BadTrace{Version14("{\"id\":\"a\",\"parents\":[\"b\"]},{\"id\":\"b\",\"parents\":[\"a\"]}"),
                 "the nodes form a cycle: a -> b -> a"},
        BadTrace{Version14("{\"id\":\"" + std::string(256, 'x') + "\"}"), "256 bytes"}));

TEST(WfFormat, TakesTasksThatWereNeverExecuted) {
  ASSERT_OK_AND_ASSIGN(const Workflow workflow,
                       ParseWorkflow(Version15("{\"id\":\"a\"}", ""), "t.json"));
  EXPECT_EQ(workflow.tasks.front().seconds, 0);
}

// Ten executions that really happened; see the table in their README.
TEST(WfFormat, LoadsRealFiles) {
  const char* folder = std::getenv("TASKWAL_WFINSTANCES");
  if (folder == nullptr) GTEST_SKIP() << "TASKWAL_WFINSTANCES does not name the folder of traces";
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    ASSERT_OK_AND_ASSIGN(const Workflow workflow, LoadWorkflow(entry.path().string()));
    EXPECT_TRUE(workflow.is_trace) << entry.path();
    EXPECT_GE(workflow.tasks.size(), 40u) << entry.path();
    double seconds = 0;
    std::size_t edges = 0;
    for (const WorkflowTask& task : workflow.tasks) {
      seconds += task.seconds;
      edges += Unique(task.depends_on).size();
    }
    EXPECT_GT(seconds, 300) << entry.path();
    if (workflow.tasks.size() == 2122) {  // montage
      EXPECT_EQ(edges, 6114u);
      EXPECT_NEAR(seconds, 78087.5, 0.1);
    }
  }
  EXPECT_GE(files, 1u);
}

}  // namespace
}  // namespace taskwal::dag
