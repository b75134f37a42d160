// `taskwal recover`, killed: whatever it had brought by then, it is brought once. And what it says
// of a database that has gone back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using nlohmann::json;

class RecoverCommand : public ToolTest {
 protected:
  // Two records each.
  static std::string TasksWithActivities(int from, int end) {
    std::string text;
    for (int n = from; n < end; ++n) {
      const std::string task = "t" + std::to_string(n);
      text += R"({"op":"save_task","task":{"id":")" + task + R"("}})" "\n";
      text += R"({"op":"log_activity","activity":{"task_id":")" + task + R"("}})" "\n";
    }
    return text;
  }
};

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

// A database from an old backup, in front of which the log has let go what came since.
TEST_F(RecoverCommand, NamesEveryRecordThatADatabaseLostForGoodAndNoOther) {
  constexpr int kBefore = 500, kAll = 3000;
  const std::vector<std::string> small = {"--set", "segment_bytes=64KiB", "--set",
                                          "retention_bytes=0",  "--set", "segment_retention=0",
                                          "--set", "frame_bytes=4KiB"};
  const auto filled = Ingest(TasksWithActivities(0, kBefore), small);
  ASSERT_EQ(filled.exit.code, 0) << filled.err;
  const std::string path = dir_.File("t.db"), backup = dir_.File("backup.db");
  std::filesystem::copy_file(path, backup);
  const auto more = Ingest(TasksWithActivities(kBefore, kAll), small);
  ASSERT_EQ(more.exit.code, 0) << more.err;
  for (const char* part : {"", "-wal", "-shm"}) std::filesystem::remove(path + part);
  std::filesystem::copy_file(backup, path);

  const auto rehearsed = Recover({"--dry-run"});
  EXPECT_EQ(rehearsed.exit.code, 2) << rehearsed.err;
  const auto recovered = Recover();
  EXPECT_EQ(recovered.exit.code, 2) << recovered.err;
  EXPECT_THAT(recovered.err, ::testing::HasSubstr("the database went back"));
  const json lost = json::parse(recovered.out)["lost"];
  EXPECT_EQ(json::parse(rehearsed.out)["lost"], lost);
  ASSERT_GT(lost.size(), 1u);
  std::vector<json> letters;
  for (const std::string& line : LinesOf(Tool({"dlq", "list", "--wal", wal_, "--json"}).out)) {
    letters.push_back(json::parse(line));
  }
  ASSERT_EQ(letters.size(), lost.size());
  for (std::size_t i = 0; i < letters.size(); ++i) {
    EXPECT_EQ(letters[i]["from"], lost[i]["from"]);
    EXPECT_EQ(letters[i]["to"], lost[i]["to"]);
    EXPECT_EQ(letters[i].contains("metadata"), lost[i].contains("partitions"));
  }
  const auto is_named = [&](std::uint64_t lsn, std::uint64_t partition) {
    return std::any_of(lost.begin(), lost.end(), [&](const json& range) {
      const json of = range.value("partitions", json::array({partition}));
      return range["from"] <= lsn && lsn <= range["to"] &&
             std::find(of.begin(), of.end(), json(partition)) != of.end();
    });
  };
  int missing = 0;
  for (int n = 0; n < kAll; ++n) {
    const std::string task = "t" + std::to_string(n);
    const std::uint64_t partition = HashOf(task.data(), task.size()) % 16;
    const bool is_missing = StoredTask(task).status().code() == StatusCode::kNotFound;
    EXPECT_EQ(is_named(2 * n + 1, partition), is_missing) << task;
    missing += is_missing ? 1 : 0;
  }
  EXPECT_GT(missing, 1000);
}

}  // namespace
}  // namespace taskwal
