// What a command does that is told to stop while its database says nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "tests/contract/tool_fixture.h"
#include "tests/support/silent_port.h"

namespace taskwal {
namespace {

struct Command {
  const char* name;
  std::vector<std::string> words;
  int code;  // of the two records that the log holds, none is in the database
};

class SilentSignals : public ToolTest,
                      public ::testing::WithParamInterface<std::tuple<Command, int>> {
 protected:
  const std::string file_ = dir_.File("workflow.json");
};

// Each would wait for hours: nothing but the signals ends it, and the log is sealed.
TEST_P(SilentSignals, EndTheOpening) {
  const auto& [command, signals] = GetParam();
  ASSERT_EQ(Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                 Activities(1, 2))
                .exit.code,
            4);
  std::ofstream(file_) << R"({"name":"w","tasks":[{"id":"a","kind":"noop"}]})";
  const SilentPort silent;
  std::vector<std::string> words{TASKWAL_TOOL};
  words.insert(words.end(), command.words.begin(), command.words.end());
  if (command.words.front() == "run") {
    words.push_back(file_);
  } else {
    words.insert(words.end(), {"--drain-timeout", "1h"});
  }
  words.insert(words.end(), {"--wal", wal_, "--db", silent.dsn() + "?connect_timeout=3600"});
  for (const char* key : {"recovery_timeout", "database_timeout", "shutdown_timeout"}) {
    words.insert(words.end(), {"--set", std::string(key) + "=1h"});
  }
  ASSERT_OK_AND_ASSIGN(const auto child, Child::Start(words, {{}, dir_.path()}));
  ASSERT_TRUE(silent.AwaitCaller());
  // Two of a kind may come as one.
  for (int i = 0; i < signals; ++i) SendSignal(*child, i == 0 ? SIGTERM : SIGINT);
  const ChildExit end = child->Wait();
  EXPECT_FALSE(end.timed_out);
  EXPECT_EQ(end.signal, 0) << child->errors();
  EXPECT_EQ(end.code, command.code) << child->errors();
  const auto inspected = Tool({"inspect", wal_});
  EXPECT_THAT(inspected.out, ::testing::Not(::testing::HasSubstr("active")));
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().activities, 2u);
}

// With one signal a drain would go on, as it is told to, where the command drains.
INSTANTIATE_TEST_SUITE_P(
    One, SilentSignals,
    ::testing::Combine(::testing::Values(Command{"Recover", {"recover"}, 4},
                                         Command{"Rebalance", {"targets", "rebalance"}, 4},
                                         Command{"Retry", {"dlq", "retry", "--all"}, 4},
                                         Command{"Resume", {"run", "--resume"}, 4}),
                       ::testing::Values(1)),
    [](const auto& test) { return std::string(std::get<0>(test.param).name); });

INSTANTIATE_TEST_SUITE_P(
    Two, SilentSignals,
    ::testing::Combine(::testing::Values(Command{"Recover", {"recover"}, 4},
                                         Command{"Rebalance", {"targets", "rebalance"}, 4},
                                         Command{"Retry", {"dlq", "retry", "--all"}, 4},
                                         Command{"Resume", {"run", "--resume"}, 4},
                                         Command{"Ingest", {"ingest"}, 4}),
                       ::testing::Values(2)),
    [](const auto& test) { return std::string(std::get<0>(test.param).name); });

}  // namespace
}  // namespace taskwal
