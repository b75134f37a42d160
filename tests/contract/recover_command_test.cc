// `taskwal recover`, killed: whatever it had brought by then, it is brought once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using nlohmann::json;

using RecoverCommand = ToolTest;

TEST_F(RecoverCommand, KilledInTheMiddleAndRepeatedIsExactlyOnce) {
  constexpr int kRecords = 4000;
  const auto filled = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                           Activities(1, kRecords));
  ASSERT_EQ(filled.exit.code, 4) << filled.err;
  // Small batches, so that there is a middle.
  const std::vector<std::string> recover{TASKWAL_TOOL, "recover", "--wal", wal_,
                                         "--db",       db_,       "--set", "batch_size=20"};
  std::uint64_t before = 0;
  for (int kill = 0; kill < 5; ++kill) {
    auto child = Child::Start(recover);
    ASSERT_OK(child);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (StoredSoFar() < before + 100) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::yield();
    }
    (*child)->Kill();
    EXPECT_EQ((*child)->Wait().signal, 9) << (*child)->errors();
    before = StoredSoFar();
    ASSERT_LT(before, kRecords) << "too fast to be killed in the middle";
  }
  const auto last = Recover();
  EXPECT_EQ(last.exit.code, 0) << last.err;
  const json report = json::parse(last.out);
  EXPECT_EQ(report["scanned"], kRecords);
  EXPECT_EQ(report["replayed"], kRecords - before);
  EXPECT_EQ(report["already_there"], before);
  EXPECT_EQ(Stored().activities, static_cast<std::uint64_t>(kRecords));
  EXPECT_EQ(json::parse(Recover().out)["replayed"], 0);
}

}  // namespace
}  // namespace taskwal
