// What the tool does when it is told to stop, and told again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "base/posix_file.h"
#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using SignalsTest = ToolTest;

TEST_F(SignalsTest, TheSecondEndsTheDrainAtOnceAndTheLogIsSealed) {
  const std::string tool = TASKWAL_TOOL;
  ASSERT_OK_AND_ASSIGN(const auto ingest,
                       Child::Start({tool, "ingest", "--wal", wal_, "--db", kNoDatabase,
                                     "--drain-timeout", "1h"}));
  ASSERT_TRUE(ingest->Write(Activities(1, 3)));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
  SendSignal(*ingest, SIGTERM);
  SendSignal(*ingest, SIGINT);
  const ChildExit end = ingest->Wait();
  EXPECT_EQ(end.code, 4) << ingest->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().activities, 3u);
}

TEST_F(SignalsTest, EndACallThatWaitsForRoom) {
  const std::string tool = TASKWAL_TOOL;
  ASSERT_OK_AND_ASSIGN(
      const auto ingest,
      Child::Start({tool, "ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "10ms",
                    "--set", "max_unflushed_records=2", "--set", "block_timeout=1h"}));
  ASSERT_TRUE(ingest->Write(Activities(1, 9)));
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
  SendSignal(*ingest, SIGTERM);
  const ChildExit end = ingest->Wait();
  EXPECT_EQ(end.code, 4) << ingest->errors();
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().activities, 2u);
}

class RunSignals : public ToolTest {
 protected:
  std::unique_ptr<Child> StartRun(const std::string& tasks) {
    std::ofstream(file_) << "{\"name\":\"w\",\"tasks\":[" << tasks << "]}";
    auto run = Child::Start({TASKWAL_TOOL, "run", file_, "--db", db_, "--wal", wal_});
    EXPECT_OK(run);
    if (!run.ok() || !(*run)->ReadLine()) return nullptr;
    return std::move(run).value();
  }

  const std::string file_ = dir_.File("workflow.json");
};

TEST_F(RunSignals, AStoppedRunIsDrainedAndGoesOnWhenResumed) {
  const std::string gate = dir_.File("gate");
  const auto run = StartRun(R"({"id":"a","kind":"noop"},)"
                            R"({"id":"b","kind":"shell","depends_on":["a"],"command":"test -e )" +
                            gate + R"( || sleep 600"})");
  ASSERT_NE(run, nullptr);
  SendSignal(*run, SIGTERM);
  const ChildExit end = run->Wait();
  EXPECT_EQ(end.code, 0) << run->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  EXPECT_THAT(Recover({"--dry-run"}).out, ::testing::HasSubstr(R"("replayed":0,)"));
  std::ofstream(gate) << "open";
  const auto resumed = Tool({"run", file_, "--resume", "--db", db_, "--wal", wal_, "--json"});
  EXPECT_EQ(resumed.exit.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, ::testing::HasSubstr(R"("completed":2,"failed":0)"));
}

// A workflow of one task makes six calls; `room` of them are acknowledged while there is no
// database.
class RunWithoutRoom : public RunSignals, public ::testing::WithParamInterface<int> {
 protected:
  // Returns once the call for which there is no room is the next one.
  std::unique_ptr<Child> StartFull(int room, const std::string& shutdown_timeout) {
    std::ofstream(file_) << R"({"name":"w","tasks":[{"id":"a","kind":"noop"}]})";
    const std::string acks = dir_.File("acks");
    auto run = Child::Start(
        {TASKWAL_TOOL, "run", file_, "--db", kNoDatabase, "--wal", wal_, "--acks", acks, "--set",
         "max_unflushed_records=" + std::to_string(room), "--set", "block_timeout=1h", "--set",
         "shutdown_timeout=" + shutdown_timeout});
    EXPECT_OK(run);
    if (!run.ok()) return nullptr;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (LinesOf(ContentOf(acks)).size() < static_cast<std::size_t>(room)) {
      if (std::chrono::steady_clock::now() > until) return nullptr;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return std::move(run).value();
  }
};

// Before the first task, at its beginning and at its end.
INSTANTIATE_TEST_SUITE_P(Calls, RunWithoutRoom, ::testing::Values(1, 2, 4));

TEST_P(RunWithoutRoom, TheFirstSignalEndsItInTime) {
  const auto run = StartFull(GetParam(), "10ms");
  ASSERT_NE(run, nullptr);
  SendSignal(*run, SIGTERM);
  const ChildExit end = run->Wait();
  EXPECT_EQ(end.code, 4) << run->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  const auto resumed = Tool({"run", file_, "--resume", "--db", db_, "--wal", wal_, "--json"});
  EXPECT_EQ(resumed.exit.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, ::testing::HasSubstr(R"("completed":1,"failed":0)"));
}

TEST_P(RunWithoutRoom, ASecondOneEndsItAtOnceAndTheLogIsSealed) {
  const auto run = StartFull(GetParam(), "1h");
  ASSERT_NE(run, nullptr);
  SendSignal(*run, SIGTERM);
  SendSignal(*run, SIGINT);
  const ChildExit end = run->Wait();
  EXPECT_EQ(end.code, 4) << run->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

// An unnamed end of the pipe is open, so that writing waits for it instead of failing.
TEST_F(RunSignals, EndARunWhoseAcknowledgementsNobodyReads) {
  const std::string pipe = dir_.File("acks");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const UniqueFd reader(::open(pipe.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_GE(reader.get(), 0);
  std::string tasks;
  for (int i = 0; i < 500; ++i) {
    tasks += (i == 0 ? "" : ",") + (R"({"kind":"noop","id":"t)" + std::to_string(i)) + R"("})";
  }
  std::ofstream(file_) << "{\"name\":\"w\",\"tasks\":[" << tasks << "]}";
  ASSERT_OK_AND_ASSIGN(const auto run, Child::Start({TASKWAL_TOOL, "run", file_, "--db", db_,
                                                     "--wal", wal_, "--acks", pipe}));
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  // Until it takes no more.
  for (pollfd room{reader.get(), POLLOUT, 0}; ::poll(&room, 1, 0) > 0;) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  SendSignal(*run, SIGTERM);
  SendSignal(*run, SIGINT);
  const ChildExit end = run->Wait();
  EXPECT_EQ(end.code, 1) << run->errors();
  EXPECT_THAT(run->errors(), ::testing::HasSubstr("nobody reads " + pipe));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

// Where its answers go nobody reads them: no more than a pipe's worth is taken.
TEST_F(SignalsTest, EndAnIngestWhoseAnswersNobodyReads) {
  const std::string pipe = dir_.File("answers");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const UniqueFd reader(::open(pipe.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_GE(reader.get(), 0);
  ASSERT_OK_AND_ASSIGN(
      const auto ingest,
      Child::Start({"sh", "-c", "exec \"$@\" >\"$0\"", pipe, TASKWAL_TOOL, "ingest", "--wal", wal_,
                    "--db", db_}));
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  int written = 0;
  for (int filled = 0; filled < 60'000;) {
    ASSERT_LT(std::chrono::steady_clock::now(), until) << filled;
    // Once it cannot answer it reads no more.
    const bool reads = ingest->Write(Activities(written + 1, written + 100),
                                     std::chrono::milliseconds(200));
    written += reads ? 100 : 0;
    ASSERT_EQ(::ioctl(reader.get(), FIONREAD, &filled), 0);
  }
  SendSignal(*ingest, SIGTERM);
  SendSignal(*ingest, SIGINT);
  const ChildExit end = ingest->Wait();
  EXPECT_EQ(end.signal, 0) << ingest->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_GE(Stored().activities, 2000u);
}

}  // namespace
}  // namespace taskwal
