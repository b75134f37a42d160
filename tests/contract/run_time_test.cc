// What turns while the daemon runs: by SIGHUP, which makes it read its file again, and over HTTP.
#include <gmock/gmock.h>

#include <csignal>
#include <cstdlib>
#include <functional>

#include "tests/contract/http_client.h"
#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

class RunTimeContractTest : public ToolTest {
 protected:
  void WriteConfig(const std::string& more) {
    std::ofstream(file_) << "database: " << db_ << "\nwal:\n  dir: " << wal_
                         << "\nserver:\n  listen: 127.0.0.1:0\n" << more;
  }
  void Start(std::vector<std::string> arguments) {
    ::unsetenv("TASKWAL_LOG");
    arguments.insert(arguments.begin(), {TASKWAL_TOOL, "serve"});
    auto child = Child::Start(arguments, {{}, dir_.path()});
    ASSERT_OK(child);
    daemon_ = std::move(child).value();
    const std::string start = "taskwal serve: listening on ";
    const std::string line = daemon_->ReadLine().value_or("");
    ASSERT_TRUE(line.starts_with(start)) << daemon_->errors();
    client_ = HttpClient(line.substr(start.size()));
  }
  void StartWith(const std::string& database, std::vector<std::string> options) {
    std::vector<std::string> arguments{"--db", database, "--wal", wal_, "--listen", "127.0.0.1:0"};
    for (std::string& option : options) {
      arguments.emplace_back("--set");
      arguments.push_back(std::move(option));
    }
    Start(std::move(arguments));
  }
  void Await(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << daemon_->errors();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  void AwaitStats(const std::string& text) {
    Await([&] { return client_.Get("/buffer/stats").body.find(text) != std::string::npos; });
  }
  // Returns when its log says so.
  void HangUp(const std::string& until) {
    daemon_->Kill(SIGHUP);
    Await([&] { return daemon_->errors().find(until) != std::string::npos; });
  }
  // The status for fifty activities.
  int LogMany() {
    std::string operations;
    for (int i = 0; i < 50; ++i) {
      operations += operations.empty() ? "[" : ",";
      operations += R"({"op":"log_activity","activity":{"action":"a"}})";
    }
    return client_.Post("/api/v1/logs", operations + "]").status;
  }
  int Stop() {
    daemon_->Kill(SIGTERM);
    return daemon_->Wait().code;
  }

  const std::string file_ = dir_.File("taskwal.yaml");
  std::unique_ptr<Child> daemon_;
  HttpClient client_{""};
};

TEST_F(RunTimeContractTest, AHangupTakesWhatMayTurnAndNamesTheRest) {
  WriteConfig("buffer:\n  block_timeout: 0\n");
  Start({"--config", file_});
  EXPECT_EQ(LogMany(), 200);
  WriteConfig("buffer:\n  block_timeout: 0\n  rate_limit: 1\nlog:\n  metrics: false\n");
  HangUp("event=reloaded");
  EXPECT_THAT(daemon_->errors(), HasSubstr("event=applied key=buffer.rate_limit"));
  EXPECT_THAT(daemon_->errors(), HasSubstr("event=needs_restart key=log.metrics"));
  EXPECT_NE(LogMany(), 200);
  EXPECT_EQ(Stop(), 0);
}

TEST_F(RunTimeContractTest, AWrongFileIsToldAndTheOldOneHolds) {
  WriteConfig("");
  Start({"--config", file_});
  WriteConfig("bufer:\n  rate_limit: 1\n");
  HangUp("event=not_reloaded");
  EXPECT_THAT(daemon_->errors(), HasSubstr("did you mean \"buffer\"?"));
  EXPECT_EQ(LogMany(), 200);
  EXPECT_EQ(Stop(), 0);
}

TEST_F(RunTimeContractTest, AHangupWithoutAFileChangesNothing) {
  StartWith(db_, {});
  HangUp("event=not_reloaded");
  EXPECT_EQ(LogMany(), 200);
  EXPECT_EQ(Stop(), 0);
}

TEST_F(RunTimeContractTest, ARateThatIsPostedHolds) {
  StartWith(db_, {"block_timeout=0"});
  EXPECT_EQ(LogMany(), 200);
  EXPECT_EQ(client_.Post("/buffer/flow-control/rate", R"({"rate":1,"burst":1})").status, 200);
  EXPECT_NE(LogMany(), 200);
  EXPECT_EQ(client_.Post("/buffer/flow-control/rate", R"({"rate":0})").status, 200);
  EXPECT_EQ(LogMany(), 200);
}

TEST_F(RunTimeContractTest, ABatchSizeThatIsPostedHolds) {
  StartWith(db_, {});
  EXPECT_EQ(client_.Post("/buffer/batch-size", R"({"size":1})").status, 200);
  EXPECT_EQ(LogMany(), 200);
  AwaitStats(R"("flush":{"operations":50,)");
}

TEST_F(RunTimeContractTest, ABreakerThatIsResetAsksTheDatabaseAgain) {
  const std::string directory = dir_.File("later");
  StartWith("sqlite://" + directory + "/t.db",
            {"recovery_timeout=0", "initial_backoff=0", "breaker_failures=1",
             "breaker_open_time=1h"});
  EXPECT_EQ(LogMany(), 200);
  AwaitStats(R"("breaker":{"state":"open")");
  std::filesystem::create_directory(directory);
  EXPECT_EQ(client_.Post("/buffer/circuit-breaker/reset", "").status, 200);
  AwaitStats(R"("pending":0)");
}

}  // namespace
}  // namespace taskwal
