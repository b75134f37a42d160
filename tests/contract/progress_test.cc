// What a command shows on a terminal while it works for more than a second: what it waits for and
// for how long, and nothing of it in the end. The peer never answers, so a second passes for sure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/contract/tool_fixture.h"
#include "tests/support/silent_port.h"
#include "tests/support/terminal.h"

namespace taskwal {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kDatabase = "waiting for postgresql://user@127.0.0.1:";

struct Command {
  const char* name;
  std::vector<std::string> words;  // WAL, DSN, URL and FILE stand for what the test has
  std::string shown = kDatabase;
  int signals = 0;  // that end it; 0: the peer goes away
};

class Progress : public ToolTest, public ::testing::WithParamInterface<Command> {
 protected:
  void SetUp() override {
    for (const std::string& wal : {wal_, other_wal_}) {
      ASSERT_EQ(Tool({"ingest", "--wal", wal, "--db", kNoDatabase, "--drain-timeout", "0"},
                     Activities(1, 2))
                    .exit.code,
                4);
    }
    std::ofstream(file_) << R"({"name":"w","tasks":[{"id":"a","kind":"noop"}]})";
  }

  std::vector<std::string> Words(const std::vector<std::string>& words, const std::string& wal) {
    const std::string& dsn = silent_->dsn();
    const std::size_t port = dsn.rfind(':') + 1;
    std::vector<std::string> command{TASKWAL_TOOL};
    for (const std::string& word : words) {
      if (word == "WAL") {
        command.push_back(wal);
      } else if (word == "DSN") {
        command.push_back(dsn + "?connect_timeout=3600");
      } else if (word == "URL") {
        command.push_back("http://127.0.0.1:" + dsn.substr(port, dsn.rfind('/') - port));
      } else {
        command.push_back(word == "FILE" ? file_ : word);
      }
    }
    return command;
  }

  std::unique_ptr<Child> Start(const std::vector<std::string>& words) {
    auto child = Child::Start(words, {{}, dir_.path()});
    EXPECT_OK(child);
    if (!child.ok()) return nullptr;
    (*child)->CloseInput();
    return std::move(child).value();
  }

  void End(const Child& child) {
    // The same one at once would be the same wish.
    for (int i = 0; i < GetParam().signals; ++i) SendSignal(child, i == 0 ? SIGTERM : SIGINT);
  }

  const std::string other_wal_ = dir_.File("other");
  const std::string file_ = dir_.File("workflow.json");
  std::optional<SilentPort> silent_{std::in_place};
};

TEST_P(Progress, IsShownOnATerminalAloneAndClearedAtTheEnd) {
  const auto plain = Start(Words(GetParam().words, other_wal_));
  Terminal terminal;
  const auto child = Start(terminal.Around(Words(GetParam().words, wal_)));
  ASSERT_TRUE(child != nullptr && plain != nullptr);
  ASSERT_TRUE(terminal.Await(GetParam().shown)) << terminal.written();
  // Time goes on, and is told in the same place.
  ASSERT_TRUE(terminal.Await(" s"));
  ASSERT_TRUE(terminal.Await("\r"));
  ASSERT_TRUE(terminal.Await(GetParam().shown));
  End(*child);
  End(*plain);
  if (GetParam().signals == 0) silent_.reset();
  terminal.ReadToEnd();
  EXPECT_FALSE(child->Wait().timed_out);
  EXPECT_FALSE(plain->Wait().timed_out);
  // Whole lines are left, and none of them begins with what was shown.
  EXPECT_THAT(terminal.Screen(), Each(StartsWith("taskwal "))) << terminal.written();
  EXPECT_THAT(terminal.Screen(), Each(Not(HasSubstr("\r"))));
  EXPECT_THAT(plain->errors(), Not(HasSubstr("\r")));
  EXPECT_THAT(plain->errors(), Not(HasSubstr("waiting for ")));
}

std::vector<std::string> Patiently(std::vector<std::string> words) {
  words.insert(words.end(), {"--wal", "WAL", "--db", "DSN"});
  for (const char* key : {"recovery_timeout", "database_timeout", "shutdown_timeout"}) {
    words.insert(words.end(), {"--set", std::string(key) + "=1h"});
  }
  return words;
}

INSTANTIATE_TEST_SUITE_P(
    Of, Progress,
    ::testing::Values(
        Command{"Stats", {"query", "stats", "--db", "DSN", "--timeout", "1h"}},
        Command{"Tasks", {"query", "tasks", "--db", "DSN", "--timeout", "1h"}},
        Command{"Activity", {"query", "activity", "--db", "DSN", "--timeout", "1h"}},
        Command{"Migrate", {"schema", "migrate", "--db", "DSN", "--timeout", "1h"}},
        Command{"Adopt", Patiently({"adopt", "--moved"})},
        Command{"DryRun", Patiently({"recover", "--dry-run"})},
        Command{"Metrics", {"metrics", "--url", "URL"}, "waiting for http://127.0.0.1:"},
        Command{"Recover", Patiently({"recover"}), kDatabase, 1},
        Command{"Rebalance", Patiently({"targets", "rebalance"}), kDatabase, 1},
        Command{"Retry", Patiently({"dlq", "retry", "--all"}), kDatabase, 1},
        Command{"Resume", Patiently({"run", "FILE", "--resume"}), "asking the database for ", 1},
        Command{"Ingest", Patiently({"ingest", "--drain-timeout", "1h"}), "draining [...", 2}),
    [](const auto& test) { return std::string(test.param.name); });

class ProgressLine : public Progress {};

// A limit that is known is told beside the time, and so is how much there is to do.
TEST_P(ProgressLine, TellsHowMuchThereIsAndHowLongItMayTake) {
  Terminal terminal;
  const auto child = Start(terminal.Around(Words(GetParam().words, wal_)));
  ASSERT_NE(child, nullptr);
  ASSERT_TRUE(terminal.Await(GetParam().shown)) << terminal.written();
  ASSERT_TRUE(terminal.Await(" of at most 1 h 0 min")) << terminal.written();
}

INSTANTIATE_TEST_SUITE_P(
    Of, ProgressLine,
    ::testing::Values(Command{"Query", {"query", "stats", "--db", "DSN", "--timeout", "1h"}},
                      Command{"Ingest", Patiently({"ingest", "--drain-timeout", "1h"}),
                              "draining [..............................] 0 %  "}),
    [](const auto& test) { return std::string(test.param.name); });

class ProgressWidth : public Progress {};

// A line that is broken in two could not be cleared: its title is cut, and the time is left.
TEST_P(ProgressWidth, FitsIntoTheTerminal) {
  constexpr unsigned short kColumns = 30;
  Terminal terminal(kColumns);
  const auto child = Start(terminal.Around(Words(GetParam().words, wal_)));
  ASSERT_NE(child, nullptr);
  ASSERT_TRUE(terminal.Await("waiting for http")) << terminal.written();
  ASSERT_TRUE(terminal.Await(" s\033[K")) << terminal.written();
  EXPECT_LT(terminal.Screen().front().size(), kColumns);
  silent_.reset();
  terminal.ReadToEnd();
  EXPECT_THAT(terminal.Screen(), Each(StartsWith("taskwal ")));
}

INSTANTIATE_TEST_SUITE_P(Of, ProgressWidth,
                         ::testing::Values(Command{"Metrics", {"metrics", "--url", "URL"}}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace taskwal
