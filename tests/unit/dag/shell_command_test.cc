#include "dag/shell_command.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/json_text.h"
#include "base/posix_file.h"
#include "dag/shell_guard.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::dag {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// Who ends at the first signal does not wait for it to pass.
constexpr std::chrono::milliseconds kLongGrace{30'000};

ShellOutcome MustRun(const std::string& command, const std::stop_token& stop = {},
                     std::chrono::milliseconds grace = kShellGrace) {
  auto outcome = RunShell(command, stop, grace);
  EXPECT_OK(outcome);
  return outcome.ok() ? std::move(outcome).value() : ShellOutcome{};
}

// A FIFO whose reader sees the end once nobody has it open for writing: processes hold it like a
// breath, so its end tells that all of them are gone.
class Breath {
 public:
  Breath() : path_(dir_.File("fifo")) {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    reader_ = UniqueFd(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  // Waits until something was written.
  bool AwaitSign() const { return Await(POLLIN); }
  // After AwaitSign: waits until everybody who holds it is gone.
  bool AwaitEnd() const {
    char sink[64];
    while (::read(reader_.get(), sink, sizeof sink) > 0) {
    }
    return Await(POLLHUP);
  }

 private:
  bool Await(short event) const {
    pollfd polled{reader_.get(), event, 0};
    return ::poll(&polled, 1, 30'000) == 1 && (polled.revents & event) != 0;
  }

  TempDir dir_;
  std::string path_;
  UniqueFd reader_;
};

TEST(ShellCommand, CapturesBothOutputsAndTheExitCode) {
  const ShellOutcome outcome = MustRun("echo out; echo err >&2; exit 3");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.output, "out\nerr\n");
  EXPECT_FALSE(outcome.stopped);
  EXPECT_THAT(ShellStatus(outcome), StatusIs(StatusCode::kUnavailable, "exit code 3"));
}

TEST(ShellCommand, SucceedsWithExitCode0) {
  const ShellOutcome outcome = MustRun("true");
  EXPECT_OK(ShellStatus(outcome));
  EXPECT_EQ(ShellResultJson(outcome), R"({"exit_code":0,"output":""})");
}

TEST(ShellCommand, NamesTheSignalThatEndedIt) {
  const ShellOutcome outcome = MustRun("kill -9 $$");
  EXPECT_EQ(outcome.signal, 9);
  EXPECT_EQ(outcome.exit_code, 137);
  EXPECT_THAT(ShellStatus(outcome), StatusIs(StatusCode::kUnavailable, "ended by signal 9"));
}

TEST(ShellCommand, KeepsTheLast4KiBOfTheOutput) {
  const ShellOutcome outcome =
      MustRun("i=0; while [ $i -lt 3000 ]; do echo 0123456789 line $i; i=$((i+1)); done");
  EXPECT_EQ(outcome.output.size(), 4096u);
  EXPECT_THAT(outcome.output, EndsWith("line 2999\n"));
}

TEST(ShellCommand, KeepsNoMoreThanThePipeHoldsOfAnEndlessPrinter) {
  const ShellOutcome outcome = MustRun("head -c 3000000 /dev/zero | tr '\\0' x; echo end");
  EXPECT_EQ(outcome.output, std::string(4092, 'x') + "end\n");
}

TEST(ShellCommand, CutsTheOutputBetweenCharacters) {
  const ShellOutcome outcome =
      MustRun("i=0; while [ $i -lt 2000 ]; do printf '\\342\\202\\254'; i=$((i+1)); done");
  EXPECT_EQ(outcome.output.size(), 4095u);
  EXPECT_TRUE(IsCleanText(outcome.output));
  EXPECT_EQ(outcome.output.substr(0, 3), "\xe2\x82\xac");
}

TEST(ShellCommand, MakesItsOutputCleanText) {
  const ShellOutcome outcome = MustRun("printf 'a\\377b\\000c\\n'");
  EXPECT_EQ(outcome.output, "a\xef\xbf\xbd" "bc\n");
  EXPECT_TRUE(IsJson(ShellResultJson(outcome)));
  EXPECT_LE(MustRun("head -c 5000 /dev/zero | tr '\\0' '\\377'").output.size(), 4096u);
}

TEST(ShellCommand, ReadsNothingFromItsInput) {
  EXPECT_EQ(MustRun("cat; readlink /proc/self/fd/0").output, "/dev/null\n");
}

TEST(ShellCommand, InheritsNoDescriptorButItsOutput) {
  const UniqueFd leaked(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC
  const std::string fd = std::to_string(leaked.get());
  EXPECT_EQ(MustRun("[ -e /proc/self/fd/" + fd + " ] && echo leaked || echo closed").output,
            "closed\n");
}

TEST(ShellCommand, SaysWhyItCannotStart) {
  const auto outcome = RunShell(std::string(1 << 20, 'x'), {});
  EXPECT_THAT(outcome, StatusIs(StatusCode::kUnavailable, HasSubstr("posix_spawn")));
}

TEST(ShellCommand, SiblingsRunAtTheSameTime) {
  const TempDir dir;
  const std::string there = dir.File("there");
  const std::string back = dir.File("back");
  ASSERT_EQ(::mkfifo(there.c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo(back.c_str(), 0600), 0);
  // Opening a FIFO blocks until the other side has it open too: each needs the other one alive.
  std::string answer;
  std::jthread sibling(
      [&] { answer = MustRun("read x < " + there + "; echo $x-back > " + back).output; });
  EXPECT_EQ(MustRun("echo ping > " + there + "; cat " + back).output, "ping-back\n");
}

TEST(ShellCommand, StopEndsTheWholeGroup) {
  const Breath breath;
  std::stop_source stop;
  ShellOutcome outcome;
  std::jthread runner([&] {
    // The shell, a child and a grandchild hold the breath; the grandchild does not print.
    outcome = MustRun("exec 3>" + breath.path() +
                          "; (sh -c 'echo x >&3; sleep 1000' >/dev/null 2>&1 & sleep 1000) & "
                          "sleep 1000",
                      stop.get_token(), kLongGrace);
  });
  ASSERT_TRUE(breath.AwaitSign());
  stop.request_stop();
  runner.join();
  EXPECT_TRUE(outcome.stopped);
  EXPECT_EQ(outcome.signal, SIGTERM);
  EXPECT_TRUE(breath.AwaitEnd());
}

TEST(ShellCommand, StopKillsWhoIgnoresTheFirstSignal) {
  const Breath breath;
  std::stop_source stop;
  ShellOutcome outcome;
  std::jthread runner([&] {
    outcome = MustRun("trap '' TERM; exec 3>" + breath.path() +
                          "; echo x >&3; while :; do sleep 1000; done",
                      stop.get_token());
  });
  ASSERT_TRUE(breath.AwaitSign());
  stop.request_stop();
  runner.join();
  EXPECT_EQ(outcome.signal, SIGKILL);
  EXPECT_TRUE(breath.AwaitEnd());
}

TEST(ShellCommand, StopLeavesTimeToCleanUp) {
  const Breath breath;
  std::stop_source stop;
  ShellOutcome outcome;
  std::jthread runner([&] {
    outcome = MustRun("trap 'echo cleaned; exit 5' TERM; echo x > " + breath.path() +
                          "; while :; do sleep 0.01; done",
                      stop.get_token(), kLongGrace);
  });
  ASSERT_TRUE(breath.AwaitSign());
  stop.request_stop();
  runner.join();
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_THAT(outcome.output, HasSubstr("cleaned\n"));
}

// A script that tidies up and exits with 0 when it is told to stop has not done its work.
TEST(ShellCommand, WhatIsStoppedHasNotSucceededWhateverItSays) {
  const Breath breath;
  std::stop_source stop;
  ShellOutcome outcome;
  std::jthread runner([&] {
    outcome = MustRun("trap 'echo half; exit 0' TERM; echo x > " + breath.path() +
                          "; while :; do sleep 0.01; done",
                      stop.get_token(), kLongGrace);
  });
  ASSERT_TRUE(breath.AwaitSign());
  stop.request_stop();
  runner.join();
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.output, HasSubstr("half\n"));
  EXPECT_THAT(ShellStatus(outcome), StatusIs(StatusCode::kUnavailable, HasSubstr("stopped")));
}

TEST(ShellCommand, AStopBeforeTheStartEndsItAtOnce) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_TRUE(MustRun("sleep 1000", stop.get_token()).stopped);
}

TEST(ShellCommand, DoesNotWaitForWhatRunsInTheBackground) {
  const TempDir dir;
  const std::string gate = dir.File("gate");
  ASSERT_EQ(::mkfifo(gate.c_str(), 0600), 0);
  const ShellOutcome outcome = MustRun("(read x < " + gate + ") & echo started");
  EXPECT_EQ(outcome.output, "started\n");
  // Fails unless somebody reads, so it shows that the process lives on; and lets it end.
  const UniqueFd writer(::open(gate.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_GE(writer.get(), 0);
}

TEST(ShellGuard, AGuardedCommandRunsAsAnyOther) {
  ShellGuard guard;
  const auto run = [&](const std::string& command, ShellGuard* with) {
    auto outcome = RunShell(command, {}, kShellGrace, with);
    EXPECT_OK(outcome);
    return outcome.ok() ? std::move(outcome).value() : ShellOutcome{};
  };
  for (const std::string command :
       {"echo out; echo err >&2; exit 3", "# nothing", "kill -TERM $$", "echo $?", "cat <<E\nx\nE",
        "trap", "echo x | head -1", "if", "ls /proc/self/fd | wc -l"}) {
    const ShellOutcome guarded = run(command, &guard);
    const ShellOutcome alone = run(command, nullptr);
    EXPECT_EQ(guarded.exit_code, alone.exit_code) << command;
    EXPECT_EQ(guarded.output, alone.output) << command;
  }
}

TEST(ShellGuard, WhatACommandLeftInTheBackgroundOutlivesTheGuard) {
  const Breath breath;
  const std::string& fifo = breath.path();
  ASSERT_EQ(::mkfifo((fifo + ".go").c_str(), 0600), 0);
  {
    ShellGuard guard;
    const auto outcome = RunShell("exec 9> " + fifo + "; (read x < " + fifo + ".go; echo x >&9) &",
                                  {}, kShellGrace, &guard);
    ASSERT_OK(outcome);
  }
  std::ofstream(fifo + ".go") << "go\n";
  EXPECT_TRUE(breath.AwaitSign());
}

}  // namespace
}  // namespace taskwal::dag
