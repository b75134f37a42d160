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
  // A last line without an end was cut by a kill.
  std::vector<json> Acks(const std::string& file) {
    const std::string text = ContentOf(dir_.File(file));
    std::vector<json> acks;
    for (const std::string& line : LinesOf(text.substr(0, text.rfind('\n') + 1))) {
      acks.push_back(json::parse(line));
    }
    return acks;
  }
  // With a FIFO for its acknowledgements that nobody reads: returns once its run is chosen.
  std::unique_ptr<Child> StartUnread(std::vector<std::string> more) {
    EXPECT_EQ(::mkfifo(dir_.File("acks").c_str(), 0600), 0);
    auto command = Command("acks");
    command.insert(command.begin(), TASKWAL_TOOL);
    command.insert(command.end(), more.begin(), more.end());
    auto run = Child::Start(command, {{}, dir_.path()});
    EXPECT_OK(run);
    EXPECT_TRUE(run.ok() && (*run)->ReadLine().has_value());
    return run.ok() ? std::move(run).value() : nullptr;
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

TEST_F(RunAcks, BeginALineOfTheirOwnBehindOneThatWasCut) {
  std::ofstream(dir_.File("go")) << "x";
  std::ofstream(dir_.File("acks")) << "{\"lsn\":1,\"activity_id\":\"0\"}\n{\"lsn\":2,\"task";
  const auto run = Tool(Command("acks"));
  ASSERT_EQ(run.exit.code, 0) << run.err;
  const auto lines = LinesOf(ContentOf(dir_.File("acks")));
  ASSERT_GT(lines.size(), 3u);
  EXPECT_EQ(lines[1], "{\"lsn\":2,\"task");
  EXPECT_THAT(run.out, HasSubstr("with " + std::to_string(lines.size() - 2) + " calls"));
  for (std::size_t i = 2; i < lines.size(); ++i) EXPECT_TRUE(json::accept(lines[i])) << lines[i];
}

TEST_F(RunAcks, GoNowhereButIntoAFileOfTheirOwn) {
  std::ofstream(dir_.File("go")) << "x";
  std::ofstream(dir_.File("dsn")) << db_ << "\n";
  ASSERT_EQ(Tool(Command("fine")).exit.code, 0);
  std::filesystem::create_symlink("w.yaml", dir_.File("link"));
  std::filesystem::create_hard_link(dir_.File("w.yaml"), dir_.File("other"));
  std::filesystem::create_directory(dir_.File("sub"));
  const Snapshot before = SnapshotOf(dir_.path());
  struct Case {
    std::string acks, db, wal, what;
  };
  const std::string log = "inside the log's directory";
  const std::string database = "a file of the database";
  for (const Case& one : {Case{"w.yaml", db_, wal_, "the workflow itself"},
                          {"sub/../w.yaml", db_, wal_, "the workflow itself"},
                          {"link", db_, wal_, "the workflow itself"},
                          {"other", db_, wal_, "the workflow itself"},
                          {"dsn", "@dsn", wal_, "the file that names the database"},
                          {"t.db", db_, wal_, database},
                          {"t.db-wal", db_, wal_, database},
                          {"later.db", "sqlite://later.db", wal_, database},
                          {wal_ + "/STATE", db_, wal_, log},
                          {wal_ + "/acks", db_, wal_, log},
                          {"later/sub/acks", db_, "later/", log}}) {
    const auto run = Tool({"run", "w.yaml", "--db", one.db, "--wal", one.wal, "--acks", one.acks});
    EXPECT_EQ(run.exit.code, 64) << one.acks << run.err;
    EXPECT_EQ(run.err, "taskwal run: --acks " + one.acks + " is " + one.what +
                           ": name a file of its own\n");
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(ChangedSince(before, dir_.path()), ::testing::IsEmpty()) << one.acks;
  }
  std::filesystem::create_symlink("later.db", dir_.File("dangling"));
  const auto run = Tool({"run", "w.yaml", "--db", "sqlite://later.db", "--acks", "dangling"});
  EXPECT_EQ(run.exit.code, 64);
  EXPECT_THAT(run.err, HasSubstr("--acks dangling is " + database));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("later.db")));
}

TEST_F(RunAcks, WaitForTheReaderOfAFifoUntilASignalComes) {
  const auto run = StartUnread({});
  ASSERT_NE(run, nullptr);
  SendSignal(*run, SIGTERM);
  EXPECT_EQ(run->Wait().code, 0) << run->errors();
  EXPECT_THAT(run->errors(), HasSubstr("stopped before a task was begun"));
  EXPECT_THAT(StoredActivities(), ::testing::IsEmpty());
}

TEST_F(RunAcks, WhoseReaderHasGoneFailTheRunAndEndItAsEver) {
  std::ofstream(dir_.File("w.yaml"))
      << "tasks: [{id: a, kind: shell, command: 'until test -e go; do sleep 0.01; done'}]\n";
  const auto run = StartUnread({});
  ASSERT_NE(run, nullptr);
  {
    const UniqueFd reader(::open(dir_.File("acks").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_GE(reader.get(), 0);
  }
  std::ofstream(dir_.File("go")) << "x";
  const ChildExit end = run->Wait();
  EXPECT_EQ(end.signal, 0);
  EXPECT_EQ(end.code, 1);
  EXPECT_THAT(run->errors(), HasSubstr("cannot write acks: Broken pipe"));
  EXPECT_EQ(StoredTask("r/a")->status, TaskStatus::kCompleted);
}

// What is completed was read when the run was chosen: nothing waits for the database behind that,
// deaf to signals.
TEST_F(RunAcks, AResumedRunThatIsChosenNeedsNoDatabase) {
  auto begun = Command("before");
  begun.insert(begun.end(), {"--set", "shutdown_timeout=100ms"});
  std::ofstream(dir_.File("w.yaml")) << "tasks: [{id: a, kind: shell, command: test -e go}]\n";
  ASSERT_EQ(Tool(begun).exit.code, 1);
  std::ofstream(dir_.File("go")) << "x";
  const auto run = StartUnread({"--resume", "--set", "shutdown_timeout=100ms"});
  ASSERT_NE(run, nullptr);
  std::filesystem::rename(dir_.File("t.db"), dir_.File("away.db"));
  std::filesystem::create_directory(dir_.File("t.db"));
  const UniqueFd reader(::open(dir_.File("acks").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_GE(reader.get(), 0);
  const ChildExit end = run->Wait();
  EXPECT_THAT(run->pending_output(), HasSubstr("1 of 1 tasks completed")) << run->errors();
  EXPECT_EQ(end.code, 4) << run->errors();
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
