#include <gmock/gmock.h>

#include <string>

#include "dag/workflow_file.h"
#include "tests/support/status_matchers.h"

namespace taskwal::dag {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kWithPair =
    "{\"name\": \"\\ud83d\\ude00\", \"tasks\": [{\"id\": \"\\u00e9\\/1\", \"kind\": \"noop\"}]}";

TEST(WorkflowJson, ReadsEveryEscape) {
  ASSERT_OK_AND_ASSIGN(const Workflow workflow, ParseWorkflow(kWithPair, "w.json"));
  EXPECT_EQ(workflow.name, "\xf0\x9f\x98\x80");
  ASSERT_EQ(workflow.tasks.size(), 1u);
  EXPECT_EQ(workflow.tasks[0].id, "\xc3\xa9/1");
}

TEST(WorkflowJson, IsKnownByItsNameElseByItsBeginning) {
  constexpr const char* kLoose = "{name: w, tasks: [{id: 7, kind: noop},]}";
  EXPECT_THAT(ParseWorkflow(kLoose, "w.json"), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseWorkflow(kLoose, "dir.yaml/w"), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_OK(ParseWorkflow(kLoose, "w.yaml"));
  EXPECT_OK(ParseWorkflow(kLoose, "w.yml"));
  EXPECT_OK(ParseWorkflow(std::string(" \r\n\t") + kWithPair, "/dev/stdin"));
  EXPECT_OK(ParseWorkflow("tasks: [{id: 7, kind: noop}]", "/dev/stdin"));
  EXPECT_THAT(ParseWorkflow("tasks: [{id: 7, kind: noop}]", "w.json"),
              StatusIs(StatusCode::kInvalidArgument));
}

struct BadJson {
  const char* text;
  const char* message;  // after "w.json"
};

class RefusedJson : public ::testing::TestWithParam<BadJson> {};

TEST_P(RefusedJson, NamesFileAndPlaceInOneLine) {
  const auto workflow = ParseWorkflow(GetParam().text, "w.json");
  EXPECT_THAT(workflow, StatusIs(StatusCode::kInvalidArgument,
                                 AllOf(StartsWith("w.json"), HasSubstr(GetParam().message))));
  EXPECT_EQ(workflow.status().message().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Syntax, RefusedJson,
    ::testing::Values(
        BadJson{"", ":1: it is no JSON: "}, BadJson{"{\"tasks\": []", ":1: it is no JSON: "},
        BadJson{"{\"tasks\": []}\n{}", ":2: it is no JSON: text after the value"},
        BadJson{"{\"tasks\": [\n],\n}", ":3: it is no JSON: expected a string"},
        BadJson{"{\"tasks\": [\n{\"id\": \"a\", \"kind\": \"noop\"},\n]}", ":3: it is no JSON: "},
        BadJson{"{tasks: []}", ":1: it is no JSON: expected a string"},
        BadJson{"{\"tasks\": [{\"id\": a, \"kind\": \"noop\"}]}", ":1: it is no JSON: "},
        BadJson{"{'tasks': []}", ":1: it is no JSON: "},
        BadJson{"{\"tasks\": []} # end", ":1: it is no JSON: text after the value"},
        BadJson{"{\"name\": \"\\ud83d\", \"tasks\": []}", "half a surrogate pair"},
        BadJson{"{\"name\": \"a\tb\", \"tasks\": []}", "control character in a string"}));

INSTANTIATE_TEST_SUITE_P(
    Meaning, RefusedJson,
    ::testing::Values(
        BadJson{"[]", ":1: the workflow is no map"},
        BadJson{"{\"name\": \"x\"}", ":1: the workflow has no tasks"},
        BadJson{"{\"tasks\": 5}", ":1: tasks is no list"},
        BadJson{"{\"tasks\":\n[5]}", ":2: a task is no map"},
        BadJson{"{\"tasks\": [],\n \"owner\": \"me\"}",
                ":2: the workflow has the unknown key \"owner\" (known: name, tasks)"},
        BadJson{"{\"tasks\": [],\n \"tasks\": []}", ":2: the workflow has the key \"tasks\" twice"},
        BadJson{"{\"tasks\": [{\"id\": \"a\",\n\"id\": \"b\"}]}",
                ":2: a task has the key \"id\" twice"},
        BadJson{"{\"name\": null, \"tasks\": []}", ":1: name is no text, or empty"},
        BadJson{"{\"tasks\": [{\"id\": 7, \"kind\": \"noop\"}]}", ":1: id is no text, or empty"},
        BadJson{"{\"tasks\": [{\"id\": true, \"kind\": \"noop\"}]}", ":1: id is no text"},
        BadJson{"{\"tasks\": [{\"id\": [[[[1]]]], \"kind\": \"noop\"}]}", ":1: id is no text"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"magic\"}]}", "kind is not shell, sleep"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"noop\", \"retries\": \"3\"}]}",
                "retries is no count"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"noop\", \"retries\": 1.5}]}",
                "retries is no count"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"sleep\", \"seconds\": \"5\"}]}",
                "seconds is no number"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"sleep\", \"seconds\": 2e9}]}",
                "seconds is not between"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"noop\", \"depends_on\": [1]}]}",
                "an entry of depends_on is no text"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"noop\",\n\"depends_on\": [\"b\"]}]}",
                ":2: task \"a\" depends on \"b\", which is no task"},
        BadJson{"{\"tasks\": [{\"id\": \"a\", \"kind\": \"noop\", \"depends_on\": [\"a\"]}]}",
                "the nodes form a cycle: a -> a"}));

TEST(WorkflowJson, RefusesDeepNestingInsteadOfOverflowing) {
  std::string text = "{\"tasks\": ";
  text.append(1'000'000, '[').append(1'000'000, ']');
  EXPECT_THAT(ParseWorkflow(text + "}", "w.json"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("a task is no map")));
}

}  // namespace
}  // namespace taskwal::dag
