// `taskwal run --acks`: what was acknowledged is told as it happens, and is in the database in the
// end, whatever happened in between.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/posix_file.h"
#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class RunAcks : public ToolTest {
 protected:
  void SetUp() override {
    std::ofstream(dir_.File("w.yaml")) << R"(name: w
tasks:
  - {id: first, kind: noop}
  - {id: wait, kind: shell, command: "test -e go || { echo x > sign; sleep 600; }",
     depends_on: [first]}
  - {id: last, kind: noop, depends_on: [wait]}
)";
  }
  std::vector<std::string> Command(const std::string& acks) {
    return {"run", "w.yaml", "--db", db_, "--wal", wal_, "--acks", acks, "--run-id", "r"};
  }
  std::vector<json> Acks(const std::string& file) {
    std::vector<json> acks;
    for (const std::string& line : LinesOf(ContentOf(dir_.File(file)))) {
      acks.push_back(json::parse(line));
    }
    return acks;
  }
  std::set<std::string> StoredActivities() {
    const auto run = Tool({"query", "activity", "--db", db_, "--limit", "10000", "--json"});
    const json page = json::parse(run.out);
    std::set<std::string> ids;
    for (const json& activity : page["activity"]) ids.insert(activity["id"]);
    return ids;
  }
};

TEST_F(RunAcks, NameEveryCallOnce) {
  std::ofstream(dir_.File("go")) << "x";
  for (const char* level : {"process", "disk"}) {
    auto command = Command(level);
    command.back() = level;  // the run's id
    command.insert(command.end(), {"--durability", level});
    const auto run = Tool(command);
    ASSERT_EQ(run.exit.code, 0) << run.err;
    const auto acks = Acks(level);
    EXPECT_THAT(run.out, HasSubstr("with " + std::to_string(acks.size()) + " calls"));
    const auto stored = StoredActivities();
    std::set<std::uint64_t> lsns;
    std::size_t activities = 0;
    for (const json& ack : acks) {
      lsns.insert(ack["lsn"].get<std::uint64_t>());
      if (!ack.contains("activity_id")) continue;
      ++activities;
      EXPECT_TRUE(stored.contains(ack["activity_id"])) << ack;
    }
    EXPECT_EQ(lsns.size(), acks.size()) << level;
    EXPECT_EQ(activities, 8u) << level;  // two of the run, two of each task
    EXPECT_EQ(acks[acks.size() - 2]["status"], "completed");
  }
}

TEST_F(RunAcks, AreThereAfterAKillAndSoIsWhatTheyName) {
  ASSERT_EQ(::mkfifo(dir_.File("sign").c_str(), 0600), 0);
  const UniqueFd sign(::open(dir_.File("sign").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto command = Command("killed");
  command.insert(command.begin(), TASKWAL_TOOL);
  ASSERT_OK_AND_ASSIGN(const auto run, Child::Start(command, {{}, dir_.path()}));
  pollfd polled{sign.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&polled, 1, 60'000), 1) << "the second task did not begin";
  run->Kill();
  EXPECT_EQ(run->Wait().signal, 9);
  const auto killed = Acks("killed");
  // The start of the run, its rows, all of the first task, the start of the second.
  EXPECT_EQ(killed.size(), 1u + 3 + 4 + 2);
  std::ofstream(dir_.File("go")) << "x";
  auto resume = Command("resumed");
  resume.emplace_back("--resume");
  const auto resumed = Tool(resume);
  ASSERT_EQ(resumed.exit.code, 0) << resumed.err;
  const auto stored = StoredActivities();
  for (const json& ack : killed) {
    EXPECT_TRUE(!ack.contains("activity_id") || stored.contains(ack["activity_id"])) << ack;
  }
  EXPECT_GT(Acks("resumed").front()["lsn"], killed.back()["lsn"]);
}

TEST_F(RunAcks, ThatCannotBeWrittenFailTheRun) {
  std::ofstream(dir_.File("go")) << "x";
  const auto absent = Tool(Command("missing/acks"));
  EXPECT_EQ(absent.exit.code, 1);
  EXPECT_THAT(absent.err, HasSubstr("cannot open missing/acks"));
  const auto full = Tool(Command("/dev/full"));
  EXPECT_EQ(full.exit.code, 1);
  EXPECT_THAT(full.err, HasSubstr("cannot write /dev/full"));
}

}  // namespace
}  // namespace taskwal
