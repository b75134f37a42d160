// What the tool does when it is told to stop, and told again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <csignal>
#include <string>

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
