#include "dag/workflow_file.h"

#include <gmock/gmock.h>

#include <fstream>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workflow_generator.h"

namespace taskwal::dag {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Kind = WorkflowTask::Kind;
using namespace std::chrono_literals;

constexpr const char* kYaml = R"(name: nightly
tasks:
  - id: fetch
    kind: shell
    command: "echo hello"
    retries: 2
    retry_delay: 500ms
    timeout: 2m
  - {id: wait, kind: sleep, seconds: 1.5, depends_on: [fetch]}
  - id: 7
    kind: noop
    depends_on: [fetch, wait]
)";

constexpr const char* kJson = R"({"name": "nightly", "tasks": [
  {"id": "fetch", "kind": "shell", "command": "echo hello", "retries": 2, "retry_delay": 0.5,
   "timeout": "120s"},
  {"id": "wait", "kind": "sleep", "seconds": "1500ms", "depends_on": ["fetch"]},
  {"id": "7", "kind": "noop", "depends_on": ["fetch", "wait"]}]})";

void ExpectNightly(std::string_view text) {
  ASSERT_OK_AND_ASSIGN(const Workflow workflow, ParseWorkflow(text, "nightly.yaml"));
  EXPECT_EQ(workflow.name, "nightly");
  EXPECT_FALSE(workflow.is_trace);
  ASSERT_EQ(workflow.tasks.size(), 3u);
  const WorkflowTask& fetch = workflow.tasks[0];
  EXPECT_EQ(fetch.id, "fetch");
  EXPECT_EQ(fetch.kind, Kind::kShell);
  EXPECT_EQ(fetch.command, "echo hello");
  EXPECT_EQ(fetch.retries, 2);
  EXPECT_EQ(fetch.retry_delay, 500ms);
  EXPECT_EQ(fetch.timeout, 2min);
  EXPECT_EQ(workflow.tasks[1].kind, Kind::kSleep);
  EXPECT_EQ(workflow.tasks[1].seconds, 1.5);
  EXPECT_EQ(workflow.tasks[2].id, "7");
  EXPECT_EQ(workflow.tasks[2].kind, Kind::kNoop);
  EXPECT_THAT(workflow.tasks[2].depends_on, ElementsAre("fetch", "wait"));
}

TEST(WorkflowFile, ReadsYaml) { ExpectNightly(kYaml); }
TEST(WorkflowFile, ReadsJson) { ExpectNightly(kJson); }

TEST(WorkflowFile, MayBeginWithAByteOrderMark) {
  const std::string mark = "\xef\xbb\xbf";
  ExpectNightly(mark + kYaml);
  ExpectNightly(mark + kJson);
  const auto json = ParseWorkflow(mark + kJson, "nightly.json");
  EXPECT_OK(json);
  const auto trace = ParseWorkflow(mark + MakeWfFormat({}), "t.json");
  ASSERT_OK(trace);
  EXPECT_TRUE(trace->is_trace);
}

struct BadFile {
  const char* text;
  const char* message;  // after "w.yaml"
};

class RefusedWorkflow : public ::testing::TestWithParam<BadFile> {};

TEST_P(RefusedWorkflow, NamesFileAndPlaceInOneLine) {
  const auto workflow = ParseWorkflow(GetParam().text, "w.yaml");
  EXPECT_THAT(workflow, StatusIs(StatusCode::kInvalidArgument,
                                 AllOf(StartsWith("w.yaml"), HasSubstr(GetParam().message))));
  EXPECT_EQ(workflow.status().message().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Own, RefusedWorkflow,
    ::testing::Values(
        BadFile{"", "the workflow is no map"},
        BadFile{"just text", ":1: the workflow is no map"},
        BadFile{"name: x", ":1: the workflow has no tasks"},
        BadFile{"tasks: 5", ":1: tasks is no list"},
        BadFile{"tasks:\n  - 5", ":2: a task is no map"},
        BadFile{"tasks: []\n---\ntasks: []", ": it holds more than one document"},
        BadFile{",", "document"}, BadFile{",'//", "document"},
        BadFile{"tasks: []\nowner: me", ":2: the workflow has the unknown key \"owner\""},
        BadFile{"tasks: []\ntasks: []", ":2: the workflow has the key \"tasks\" twice"},
        BadFile{"tasks: []\n[a]: b", ":2: the workflow has a key that is no text"},
        BadFile{"tasks: []\nname: [x]", ":2: name is no text"},
        BadFile{"tasks: [}", ":1: "},
        BadFile{"tasks:\n- kind: noop", ":2: a task has no id"},
        BadFile{"tasks:\n- id: \"\"\n  kind: noop", ":2: id is no text, or empty"},
        BadFile{"tasks:\n- id: ~\n  kind: noop", ":2: id is no text, or empty"},
        BadFile{"tasks:\n- id: [a]\n  kind: noop", ":2: id is no text"},
        BadFile{"tasks:\n- {id: a, kind: noop}\n- {id: a, kind: noop}",
                ":3: task \"a\" is there twice"},
        BadFile{"tasks:\n- id: a", ":2: task \"a\" has no kind"},
        BadFile{"tasks:\n- id: a\n  kind: python", ":3: kind is not shell, sleep or noop"},
        BadFile{"tasks:\n- id: a\n  kind: replay", ":3: kind is not shell, sleep or noop"},
        BadFile{"tasks:\n- id: a\n  kind: noop\n  color: red",
                ":4: a task has the unknown key \"color\" (known: command, depends_on, id"},
        BadFile{"tasks:\n- {id: a, kind: shell}", ":2: task \"a\", of kind shell, needs command"},
        BadFile{"tasks:\n- {id: a, kind: sleep}", ":2: task \"a\", of kind sleep, needs seconds"},
        BadFile{"tasks:\n- {id: a, kind: noop, command: x}", "of kind noop, takes no command"},
        BadFile{"tasks:\n- {id: a, kind: shell, command: x, seconds: 1}", "takes no seconds"},
        BadFile{"tasks:\n- {id: a, kind: sleep, seconds: -1}", "seconds is not between 0 and 1e9"},
        BadFile{"tasks:\n- {id: a, kind: sleep, seconds: .nan}", "seconds is no number"},
        BadFile{"tasks:\n- {id: a, kind: sleep, seconds: inf}", "seconds is not between"},
        BadFile{"tasks:\n- {id: a, kind: sleep, seconds: \"5\"}", "seconds is no number"},
        BadFile{"tasks:\n- {id: a, kind: sleep, seconds: 5 parsecs}", "seconds is no number"},
        BadFile{"tasks:\n- {id: a, kind: noop, retries: -1}", "retries is no count"},
        BadFile{"tasks:\n- {id: a, kind: noop, retries: 1.5}", "retries is no count"},
        BadFile{"tasks:\n- {id: a, kind: noop, retries: \"3\"}", "retries is no count"},
        BadFile{"tasks:\n- {id: a, kind: noop, retry_delay: [1]}", "retry_delay is no number"},
        BadFile{"tasks:\n- {id: a, kind: noop, timeout: soon}", "timeout is no number"},
        BadFile{"tasks:\n- {id: a, kind: noop, depends_on: b}", "depends_on is no list"},
        BadFile{"tasks:\n- {id: a, kind: noop, depends_on: [[b]]}",
                "an entry of depends_on is no text"},
        BadFile{"tasks:\n- id: a\n  kind: noop\n  depends_on: [b]",
                ":4: task \"a\" depends on \"b\", which is no task"},
        BadFile{"tasks:\n- {id: a, kind: noop, depends_on: [b]}\n"
                "- {id: b, kind: noop, depends_on: [a]}",
                ": the nodes form a cycle: a -> b -> a"},
        BadFile{"tasks:\n- {id: \"two\\nlines\", kind: noop, depends_on: [x]}", "two\\nlines"},
        BadFile{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"noop\", \"retries\": \"3\"}]}",
                ":1: retries is no count"},
        BadFile{"name: \"\xff\"", ": it is no UTF-8 text without NUL"}));

TEST(WorkflowFile, RefusesAnOverLongId) {
  const std::string text = "tasks:\n- {id: " + std::string(256, 'x') + ", kind: noop}";
  EXPECT_THAT(ParseWorkflow(text, "w.yaml"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("the id has not 1 to 255 bytes")));
}

TEST(WorkflowFile, RefusesDeepNestingInsteadOfOverflowing) {
  EXPECT_THAT(ParseWorkflow(std::string(100'000, '['), "w.yaml"),
              StatusIs(StatusCode::kInvalidArgument));
}

TEST(WorkflowFile, RoundsAShortTimeoutUp) {
  ASSERT_OK_AND_ASSIGN(
      const Workflow workflow,
      ParseWorkflow("tasks:\n- {id: a, kind: noop, timeout: 0.0001, retry_delay: 0}", "w.yaml"));
  EXPECT_EQ(workflow.tasks[0].timeout, 1ms);
  EXPECT_EQ(workflow.tasks[0].retry_delay, 0ms);
}

TEST(WorkflowFile, IsNamedAfterItsFileWhenItHasNoName) {
  ASSERT_OK_AND_ASSIGN(const Workflow workflow, ParseWorkflow("tasks: []", "/some/dir/ab.c.yaml"));
  EXPECT_EQ(workflow.name, "ab.c");
}

TEST(WorkflowFile, SameBytesMeanTheSameHash) {
  ASSERT_OK_AND_ASSIGN(const Workflow one, ParseWorkflow(kYaml, "one"));
  ASSERT_OK_AND_ASSIGN(const Workflow two, ParseWorkflow(kYaml, "two"));
  ASSERT_OK_AND_ASSIGN(const Workflow other, ParseWorkflow(std::string(kYaml) + " ", "one"));
  EXPECT_EQ(one.content_hash, two.content_hash);
  EXPECT_NE(one.content_hash, other.content_hash);
  EXPECT_EQ(one.content_hash.size(), 16u);
}

TEST(WorkflowFile, LoadsFromDisk) {
  const TempDir dir;
  const std::string path = dir.File("nightly.yaml");
  std::ofstream(path) << kYaml;
  ASSERT_OK_AND_ASSIGN(const Workflow workflow, LoadWorkflow(path));
  EXPECT_EQ(workflow.tasks.size(), 3u);
  EXPECT_THAT(LoadWorkflow(dir.File("missing")),
              StatusIs(StatusCode::kNotFound, HasSubstr(dir.File("missing"))));
  EXPECT_FALSE(LoadWorkflow(dir.path()).ok());
}

}  // namespace
}  // namespace taskwal::dag
