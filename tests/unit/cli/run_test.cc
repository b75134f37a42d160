// `taskwal run` as a user meets it: exit codes, output, and what a kill or Ctrl-C leaves behind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/posix_file.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workflow_generator.h"

namespace taskwal::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// The first task leaves a line per run; the second tells that it has begun and waits at a gate,
// unless there is a file named `go`.
constexpr const char* kGated = R"(name: gated
tasks:
  - {id: first, kind: shell, command: "echo ran >> first.log"}
  - id: second
    kind: shell
    command: "test -e go || { echo x > sign; read x < gate; }"
    depends_on: [first]
  - {id: third, kind: noop, depends_on: [second]}
)";

class RunCommand : public ::testing::Test {
 protected:
  void SetUp() override { options_.directory = dir_.path(); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.File(name)) << text;
  }
  std::string Read(const std::string& name) {
    std::stringstream text;
    text << std::ifstream(dir_.File(name)).rdbuf();
    return text.str();
  }
  std::vector<std::string> Command(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {TASKWAL_TOOL, "run"});
    return arguments;
  }
  RunOutcome RunTool(std::vector<std::string> arguments) {
    return taskwal::Run(Command(std::move(arguments)), {}, options_);
  }
  // One line on stderr, nothing on stdout.
  void ExpectRefusal(std::vector<std::string> arguments, int code, const std::string& message) {
    const RunOutcome outcome = RunTool(std::move(arguments));
    EXPECT_EQ(outcome.exit.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, AllOf(StartsWith("taskwal run: "), HasSubstr(message)));
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1);
  }
  // The tool with kGated, once its second task has begun.
  std::unique_ptr<Child> StartGated(const std::vector<std::string>& more = {}) {
    Write("gated.yaml", kGated);
    for (const char* fifo : {"sign", "gate"}) {
      EXPECT_EQ(::mkfifo(dir_.File(fifo).c_str(), 0600), 0);
    }
    const UniqueFd sign(::open(dir_.File("sign").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    std::vector<std::string> command = Command({"gated.yaml", "--json"});
    command.insert(command.end(), more.begin(), more.end());
    auto child = Child::Start(command, options_);
    EXPECT_OK(child);
    pollfd polled{sign.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&polled, 1, 30'000), 1) << "the second task did not begin";
    return child.ok() ? std::move(child).value() : nullptr;
  }
  void ExpectResumed(const std::vector<std::string>& more = {}) {
    Write("go", "");
    std::vector<std::string> arguments = {"gated.yaml", "--resume", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const RunOutcome resumed = RunTool(arguments);
    EXPECT_EQ(resumed.exit.code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("\"completed\":3,\"failed\":0}"));
    EXPECT_EQ(Read("first.log"), "ran\n");
  }

  TempDir dir_;
  ChildOptions options_;
};

TEST_F(RunCommand, CompletesAWorkflow) {
  Write("w.yaml", "name: flow\ntasks: [{id: a, kind: noop}, {id: b, kind: noop}]");
  const RunOutcome outcome = RunTool({"w.yaml"});
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("flow-"));
  EXPECT_THAT(outcome.out, HasSubstr("2 of 2 tasks completed, 0 failed"));
  EXPECT_EQ(outcome.err, "");
}

// As a shell hands over what a command prints: <(…).
TEST_F(RunCommand, ReadsAWorkflowFromAPipe) {
  const RunOutcome outcome = taskwal::Run(Command({"/dev/stdin", "--run-id", "r", "--json"}),
                                          "tasks: [{id: a, kind: noop}]", options_);
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "{\"dag_id\":\"r\",\"completed\":1,\"failed\":0}\n");
}

TEST_F(RunCommand, PrintsOneLineOfJson) {
  Write("w.yaml", "tasks: [{id: a, kind: noop}]");
  const RunOutcome outcome = RunTool({"w.yaml", "--run-id", "my \"run\"", "--json"});
  EXPECT_EQ(outcome.out, "{\"dag_id\":\"my \\\"run\\\"\",\"completed\":1,\"failed\":0}\n");
}

TEST_F(RunCommand, NamesWhatAFailedTaskHoldsUp) {
  std::string text = "tasks:\n- {id: bad, kind: shell, command: exit 3}\n";
  for (int i = 10; i < 22; ++i) {
    text += "- {id: n" + std::to_string(i) + ", kind: noop, depends_on: [bad]}\n";
  }
  Write("w.yaml", text);
  const RunOutcome outcome = RunTool({"w.yaml"});
  EXPECT_EQ(outcome.exit.code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("0 of 13 tasks completed, 1 failed"));
  EXPECT_THAT(outcome.out, HasSubstr("12: n10, n11, n12"));
  EXPECT_THAT(outcome.out, HasSubstr("n19 and 2 more"));
}

TEST_F(RunCommand, ResumeRunsFailedTasksAgain) {
  Write("w.yaml", "tasks: [{id: a, kind: shell, command: test -e go}]");
  EXPECT_EQ(RunTool({"w.yaml"}).exit.code, 1);
  EXPECT_EQ(RunTool({"w.yaml", "--resume"}).exit.code, 1);
  Write("go", "");
  EXPECT_EQ(RunTool({"w.yaml", "--resume"}).exit.code, 0);
}

TEST_F(RunCommand, ResumeStartsARunWhereThereIsNone) {
  Write("w.yaml", "tasks: [{id: a, kind: shell, command: echo ran >> log}]");
  EXPECT_EQ(RunTool({"w.yaml", "--resume"}).exit.code, 0);
  EXPECT_EQ(Read("log"), "ran\n");
}

TEST_F(RunCommand, ResumeDoesNothingWhenTheLastRunIsFinished) {
  Write("w.yaml", "tasks: [{id: a, kind: shell, command: echo ran >> log}]");
  const RunOutcome first = RunTool({"w.yaml", "--json"});
  const RunOutcome second = RunTool({"w.yaml", "--json", "--resume"});
  EXPECT_EQ(second.exit.code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  EXPECT_EQ(Read("log"), "ran\n");
  // Other content is another workflow.
  Write("w.yaml", "tasks: [{id: a, kind: shell, command: echo changed >> log}]");
  EXPECT_EQ(RunTool({"w.yaml", "--resume"}).exit.code, 0);
  EXPECT_EQ(Read("log"), "ran\nchanged\n");
}

TEST_F(RunCommand, RefusesAKnownRunIdUnlessResumed) {
  Write("w.yaml", "tasks: [{id: a, kind: noop}]");
  EXPECT_EQ(RunTool({"w.yaml", "--run-id", "mine"}).exit.code, 0);
  ExpectRefusal({"w.yaml", "--run-id", "mine"}, 1, "\"mine\" is there already: go on with it by "
                                                   "--resume");
  EXPECT_EQ(RunTool({"w.yaml", "--run-id", "mine", "--resume"}).exit.code, 0);
}

TEST_F(RunCommand, RefusesToGoOnWithTheRunOfAnotherFile) {
  Write("w.yaml", "name: w\ntasks: [{id: a, kind: noop}]\n");
  Write("other.yaml", "name: w\ntasks: [{id: b, kind: noop}]\n");
  ASSERT_EQ(RunTool({"w.yaml", "--run-id", "r"}).exit.code, 0);
  ExpectRefusal({"other.yaml", "--run-id", "r", "--resume"}, 1, "of another content");
}

TEST_F(RunCommand, GoesOnAfterAKillWithoutRunningACompletedTaskAgain) {
  const auto child = StartGated();
  ASSERT_NE(child, nullptr);
  child->Kill(SIGKILL);
  EXPECT_EQ(child->Wait().signal, SIGKILL);
  ExpectResumed();
}

// By which activities a run is known is no matter of their level.
class RunCommandFiltered : public RunCommand, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(WithAndWithoutLog, RunCommandFiltered,
                         ::testing::Values("wal_enabled=true", "wal_enabled=false"));

TEST_P(RunCommandFiltered, ARunIsResumedWhateverLevelIsKept) {
  const std::vector<std::string> filter = {"--set", "min_activity_level=fatal", "--set",
                                           GetParam()};
  const auto child = StartGated(filter);
  ASSERT_NE(child, nullptr);
  child->Kill(SIGKILL);
  EXPECT_EQ(child->Wait().signal, SIGKILL);
  ExpectResumed(filter);
  // And once it is finished, there is nothing to go on with.
  ExpectResumed(filter);
  const RunOutcome kept = taskwal::Run(
      {TASKWAL_TOOL, "query", "activity", "--db", "sqlite://taskwal.db", "--json"}, {}, options_);
  EXPECT_THAT(kept.out, HasSubstr("task_completed"));
  EXPECT_THAT(kept.out, Not(HasSubstr("task_started")));
  EXPECT_THAT(kept.out, Not(HasSubstr("dag_resumed")));
}

// Every call but the first has to wait for its turn.
class RunCommandShedding : public RunCommand, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Policies, RunCommandShedding,
                         ::testing::Values("drop_newest", "sample"));

TEST_P(RunCommandShedding, ShedActivitiesFailNoRun) {
  Write("w.yaml", "tasks: [{id: a, kind: noop}, {id: b, kind: noop}, {id: c, kind: noop}]");
  const std::string policy = "backpressure_strategy=" + std::string(GetParam());
  const std::vector<std::string> run = {
      "w.yaml", "--json", "--resume", "--set", policy, "--set", "sample_one_in=1000000000",
      "--set", "rate_limit=20", "--set", "rate_burst=1"};
  const RunOutcome outcome = RunTool(run);
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\"completed\":3,\"failed\":0}"));
  // Its end was kept, too.
  EXPECT_EQ(RunTool(run).out, outcome.out);
}

// Every process of the command has the FIFO open for writing: its end tells that all are gone.
TEST_F(RunCommand, AKillLeavesNoCommandRunning) {
  Write("w.yaml",
        "tasks:\n- {id: a, kind: shell, command: 'exec 9> alive; echo x >&9; sleep 600 & "
        "(trap \"\" TERM HUP; sleep 600; true); true'}\n"
        "- {id: b, kind: shell, command: 'exec 9> alive; echo x >&9; exec sleep 600'}\n");
  const std::string fifo = dir_.File("alive");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const UniqueFd alive(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto child = Child::Start(Command({"w.yaml"}), options_);
  ASSERT_OK(child);
  for (std::size_t begun = 0; begun < 4;) {  // two bytes of each command
    pollfd polled{alive.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&polled, 1, 30'000), 1) << "the commands did not begin";
    char sign[4];
    begun += static_cast<std::size_t>(std::max<ssize_t>(::read(alive.get(), sign, 4), 0));
  }
  (*child)->Kill(SIGKILL);
  EXPECT_EQ((*child)->Wait().signal, SIGKILL);
  pollfd polled{alive.get(), 0, 0};  // POLLHUP alone
  EXPECT_EQ(::poll(&polled, 1, 30'000), 1) << "something lives on";
}

class RunCommandSignal : public RunCommand, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Both, RunCommandSignal, ::testing::Values(SIGINT, SIGTERM));

TEST_P(RunCommandSignal, StopsAndDrains) {
  const auto child = StartGated();
  ASSERT_NE(child, nullptr);
  child->Kill(GetParam());
  EXPECT_EQ(child->Wait().code, 0);
  EXPECT_THAT(child->errors(), HasSubstr("stopping"));
  EXPECT_THAT(child->pending_output(), HasSubstr("\"completed\":1,\"failed\":0}"));
  ExpectResumed();
}

TEST_P(RunCommandSignal, EndsWith4WhereTheDatabaseIsAway) {
  const std::string database = "sqlite://" + dir_.File("later/runs.db");
  const auto child = StartGated({"--db", database, "--set", "shutdown_timeout=100ms"});
  ASSERT_NE(child, nullptr);
  child->Kill(GetParam());
  EXPECT_EQ(child->Wait().code, 4) << child->errors();
  EXPECT_THAT(child->errors(), HasSubstr("records are safe in taskwal.wal"));
  // What was logged is there once the database is.
  std::filesystem::create_directory(dir_.File("later"));
  Write("go", "");
  const RunOutcome resumed = RunTool({"gated.yaml", "--resume", "--json", "--db", database});
  EXPECT_EQ(resumed.exit.code, 0) << resumed.err;
  EXPECT_EQ(Read("first.log"), "ran\n");
}

TEST_F(RunCommand, SaysThatRecordsAreSafeWhenTheDatabaseIsAway) {
  Write("w.yaml", "tasks: [{id: a, kind: noop}]");
  const RunOutcome outcome =
      RunTool({"w.yaml", "--db", "sqlite://missing/x.db", "--set", "shutdown_timeout=100ms"});
  EXPECT_EQ(outcome.exit.code, 4);
  EXPECT_THAT(outcome.out, HasSubstr("1 of 1 tasks completed"));
  EXPECT_THAT(outcome.err, HasSubstr("7 records are safe in taskwal.wal"));
}

TEST_F(RunCommand, ReplaysATraceAsFastAsItGoes) {
  WfFormatOptions options;
  options.runtime_seconds = 1000;
  Write("trace.json", MakeWfFormat(options));
  const RunOutcome outcome = RunTool({"trace.json", "--speed", "0", "--run-id", "t", "--json"});
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "{\"dag_id\":\"t\",\"completed\":1002,\"failed\":0}\n");
}

TEST_F(RunCommand, RefusesBadUsageWith64) {
  Write("w.yaml", "tasks: [{id: a, kind: noop}]");
  ExpectRefusal({}, 64, "workflow is required");
  ExpectRefusal({"w.yaml", "--nonsense"}, 64, "--nonsense");
  ExpectRefusal({"w.yaml", "--speed", "-1"}, 64, "--speed");
  ExpectRefusal({"w.yaml", "--speed", "nan"}, 64, "--speed");
  ExpectRefusal({"w.yaml", "--workers", "0"}, 64, "--workers");
  ExpectRefusal({"w.yaml", "--run-id", ""}, 64, "--run-id");
  ExpectRefusal({"w.yaml", "--run-id", std::string(256, 'x')}, 64, "--run-id");
  ExpectRefusal({"w.yaml", "--durability", "total"}, 64, "--durability");
  ExpectRefusal({"w.yaml", "--set", "nothing=1"}, 64, "nothing");
  ExpectRefusal({"w.yaml", "--db", "oracle://x"}, 64, "oracle");
}

TEST_F(RunCommand, RefusesAFileThatIsNoWorkflowWith1) {
  ExpectRefusal({"missing.yaml"}, 1, "missing.yaml");
  Write("w.yaml", "tasks:\n- {id: a, kind: noop, depends_on: [a]}");
  ExpectRefusal({"w.yaml"}, 1, "w.yaml: the nodes form a cycle: a -> a");
  Write("w.yaml", "tasks:\n- {id: a, kind: magic}");
  ExpectRefusal({"w.yaml"}, 1, "w.yaml:2: kind is not shell, sleep or noop");
}

}  // namespace
}  // namespace taskwal::cli
