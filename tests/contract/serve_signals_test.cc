// What the daemon does when it is told to stop while something is waited for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <future>
#include <string>
#include <thread>

#include "tests/contract/http_client.h"
#include "tests/contract/tool_fixture.h"
#include "tests/support/silent_port.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

class ServeSignalsTest : public ToolTest {
 protected:
  std::unique_ptr<Child> StartServe(const std::string& dsn, std::vector<std::string> settings) {
    const std::string config = dir_.File("taskwal.yaml");
    std::ofstream(config) << "server:\n  read_timeout: 1h\n";
    std::vector<std::string> command{TASKWAL_TOOL, "serve", "--config", config, "--listen",
                                     "127.0.0.1:0", "--wal", wal_, "--db", dsn};
    for (std::string& setting : settings) {
      command.insert(command.end(), {"--set", std::move(setting)});
    }
    auto child = Child::Start(command, {{}, dir_.path()});
    EXPECT_OK(child);
    return child.ok() ? std::move(child).value() : nullptr;
  }
  static HttpClient ClientOf(Child& daemon) {
    const std::string start = "taskwal serve: listening on ";
    const auto line = daemon.ReadLine();
    EXPECT_TRUE(line && line->starts_with(start)) << daemon.errors();
    return HttpClient(line ? line->substr(start.size()) : "");
  }
};

// The driver is told to wait for an hour: nothing but the signal ends it.
TEST_F(ServeSignalsTest, EndTheOpeningWhereTheDatabaseIsSilent) {
  const SilentPort silent;
  const auto daemon =
      StartServe(silent.dsn() + "?connect_timeout=3600",
                 {"recovery_timeout=1h", "database_timeout=1h", "shutdown_timeout=100ms"});
  ASSERT_NE(daemon, nullptr);
  ASSERT_TRUE(silent.AwaitCaller());
  SendSignal(*daemon, SIGTERM);
  const ChildExit end = daemon->Wait();
  EXPECT_FALSE(end.timed_out);
  EXPECT_EQ(end.signal, 0) << daemon->errors();
  EXPECT_EQ(end.code, 0) << daemon->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(ServeSignalsTest, TheFirstEndsARequestThatWaitsForRoom) {
  const auto daemon =
      StartServe(kNoDatabase, {"recovery_timeout=0", "shutdown_timeout=100ms", "block_timeout=1h",
                               "max_unflushed_records=2"});
  ASSERT_NE(daemon, nullptr);
  const HttpClient client = ClientOf(*daemon);
  const auto three = std::async(std::launch::async, [&] {
    return client.Post("/api/v1/logs",
                       R"([{"op":"save_task","task":{"id":"1"}},{"op":"save_task","task":)"
                       R"({"id":"2"}},{"op":"save_task","task":{"id":"3"}}])");
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (client.Get("/buffer/flow-control").body.find(R"("waiting":1)") == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  SendSignal(*daemon, SIGTERM);
  const ChildExit end = daemon->Wait();
  EXPECT_EQ(end.code, 4) << daemon->errors();
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().tasks, 2u);
}

// One that never sends the rest of its request has the time of the shutdown, and no more.
TEST_F(ServeSignalsTest, TheSecondEndsARequestThatStalls) {
  const auto daemon = StartServe(db_, {"shutdown_timeout=1h"});
  ASSERT_NE(daemon, nullptr);
  const HttpClient client = ClientOf(*daemon);
  EXPECT_EQ(client.Get("/healthz").status, 200);
  const UniqueFd caller(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string& url = client.url();
  const int port = std::stoi(url.substr(url.rfind(':') + 1));
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  ASSERT_EQ(::connect(caller.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::string half = "POST /api/v1/logs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n";
  ASSERT_EQ(::send(caller.get(), half.data(), half.size(), 0), static_cast<ssize_t>(half.size()));
  SendSignal(*daemon, SIGTERM);
  SendSignal(*daemon, SIGINT);
  const ChildExit end = daemon->Wait();
  EXPECT_EQ(end.signal, 0) << daemon->errors();
  EXPECT_EQ(end.code, 0) << daemon->errors();
}

}  // namespace
}  // namespace taskwal
