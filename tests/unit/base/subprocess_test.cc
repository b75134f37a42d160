#include "tests/support/subprocess.h"

#include <csignal>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using namespace std::chrono_literals;

TEST(Subprocess, CapturesEverything) {
  const RunOutcome outcome = taskwal::Run({"sh", "-c", "cat; echo oops >&2; exit 3"}, "hello\n");
  EXPECT_EQ(outcome.exit.code, 3);
  EXPECT_EQ(outcome.exit.signal, 0);
  EXPECT_EQ(outcome.out, "hello\n");
  EXPECT_EQ(outcome.err, "oops\n");
}

TEST(Subprocess, MovesMoreThanAPipeHolds) {
  const std::string input(3 << 20, 'x');
  EXPECT_EQ(taskwal::Run({"cat"}, input).out.size(), input.size());
}

TEST(Subprocess, OutlivesAChildThatDoesNotRead) {
  EXPECT_EQ(taskwal::Run({"true"}, std::string(3 << 20, 'x')).exit.code, 0);
}

TEST(Subprocess, TellsWhatCannotBeStarted) {
  const RunOutcome outcome = taskwal::Run({"/no/such/program"});
  EXPECT_EQ(outcome.exit.code, -1);
  EXPECT_NE(outcome.err.find("/no/such/program"), std::string::npos);
}

TEST(Subprocess, KillsAtTheDeadline) {
  const RunOutcome outcome = taskwal::Run({"sleep", "60"}, {}, {}, 20ms);
  EXPECT_TRUE(outcome.exit.timed_out);
  EXPECT_EQ(outcome.exit.signal, SIGKILL);
}

TEST(Subprocess, StartsWhereAndAsTold) {
  const TempDir dir;
  const ChildOptions options{.environment = {"TASKWAL_X=1", "HOME=/h"}, .directory = dir.path()};
  const RunOutcome outcome = taskwal::Run({"sh", "-c", "pwd; echo $TASKWAL_X $HOME"}, {}, options);
  EXPECT_EQ(outcome.out, dir.path() + "\n1 /h\n");
}

TEST(Child, SpeaksInLines) {
  ASSERT_OK_AND_ASSIGN(const auto child, Child::Start({"cat"}));
  ASSERT_TRUE(child->WriteLine("one"));
  EXPECT_EQ(child->ReadLine(), "one");
  ASSERT_TRUE(child->Write("two\nlast"));
  EXPECT_EQ(child->ReadLine(), "two");
  EXPECT_EQ(child->ReadLine(10ms), std::nullopt);
  child->CloseInput();
  EXPECT_EQ(child->ReadLine(), "last");
  EXPECT_EQ(child->ReadLine(), std::nullopt);
  EXPECT_EQ(child->Wait().code, 0);
  EXPECT_FALSE(child->WriteLine("late"));
}

TEST(Child, DiesByItsSignal) {
  ASSERT_OK_AND_ASSIGN(const auto child, Child::Start({"cat"}));
  ASSERT_TRUE(child->WriteLine("printed"));
  ASSERT_EQ(child->ReadLine(), "printed");
  child->Kill();
  const ChildExit exit = child->Wait();
  EXPECT_EQ(exit.signal, SIGKILL);
  EXPECT_EQ(exit.code, -1);
  EXPECT_FALSE(exit.timed_out);
}

TEST(Child, MeetsABrokenPipeLikeAnyProcess) {
  ASSERT_OK_AND_ASSIGN(const auto child, Child::Start({"yes"}));
  child->CloseOutput();
  EXPECT_EQ(child->Wait().signal, SIGPIPE);
}

// A process that the child left behind holds its stdout open.
TEST(Child, WaitsForItselfAlone) {
  ASSERT_OK_AND_ASSIGN(const auto child, Child::Start({"sh", "-c", "sleep 5 & echo started"}));
  EXPECT_EQ(child->Wait().code, 0);
  EXPECT_EQ(child->ReadLine(), "started");
  EXPECT_EQ(child->ReadLine(), std::nullopt);
}

}  // namespace
}  // namespace taskwal
