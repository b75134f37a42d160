// What the tool does when it is told to stop, and told again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <string>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

class SignalsTest : public ToolTest {
 protected:
  // Returns when the process has taken it: two that are pending at once would be one.
  static void Send(const Child& child, int signal) {
    child.Kill(signal);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (IsPending(child, signal)) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
  }
  static bool IsPending(const Child& child, int signal) {
    std::string path = "/proc/";
    path += std::to_string(child.pid());
    path += "/status";
    std::ifstream status(path);
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("ShdPnd:")) continue;
      return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
    }
    return false;
  }
};

TEST_F(SignalsTest, TheSecondEndsTheDrainAtOnceAndTheLogIsSealed) {
  const std::string tool = TASKWAL_TOOL;
  ASSERT_OK_AND_ASSIGN(const auto ingest,
                       Child::Start({tool, "ingest", "--wal", wal_, "--db", kNoDatabase,
                                     "--drain-timeout", "1h"}));
  ASSERT_TRUE(ingest->Write(Activities(1, 3)));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
  Send(*ingest, SIGTERM);
  Send(*ingest, SIGINT);
  const ChildExit end = ingest->Wait();
  EXPECT_EQ(end.code, 4) << ingest->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().activities, 3u);
}

}  // namespace
}  // namespace taskwal
