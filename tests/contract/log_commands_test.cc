// inspect, verify and dump as the contract has them, on copies of the golden directory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/contract/tool_fixture.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kGolden[] = TASKWAL_SOURCE_DIR "/tests/golden/v1";

class LogCommands : public ::testing::Test {
 protected:
  LogCommands() : log_(temp_.File("log")) { std::filesystem::copy(kGolden, log_); }

  RunOutcome Tool(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), TASKWAL_TOOL);
    return taskwal::Run(arguments);
  }
  // Changes a byte of the body of LSN 2.
  void DamageRecord() {
    std::fstream file(log_ + "/wal-00000001.log", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(0x1258);
    file.put('\x7f');
  }

  TempDir temp_;
  const std::string log_;
};

TEST_F(LogCommands, VerifyOfACleanLogIsZero) {
  const RunOutcome run = Tool({"verify", log_});
  EXPECT_EQ(run.exit.code, 0);
  EXPECT_THAT(run.out, AllOf(HasSubstr("clean: 9 records, LSN 1-11, 3 segments"),
                             HasSubstr("declared lost before: LSN 9-10")));
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(LogCommands, VerifyNamesDamageByFileOffsetAndLsn) {
  DamageRecord();
  const RunOutcome text = Tool({"verify", log_});
  EXPECT_EQ(text.exit.code, 2);
  EXPECT_THAT(text.out, HasSubstr("wal-00000001.log offset 4608: damage, LSN 2 (body checksum)\n"));
  const RunOutcome json = Tool({"verify", "--json", log_});
  EXPECT_EQ(json.exit.code, 2);
  EXPECT_THAT(json.out,
              AllOf(HasSubstr(R"("clean":false)"), HasSubstr(R"("lost":[{"from":2,"to":2}])"),
                    HasSubstr(R"("file":"wal-00000001.log","offset":4608,"from":2)")));
}

TEST_F(LogCommands, VerifyNamesTheLsnsOfDamageThatCostsNoRecord) {
  for (const std::streamoff at : {0x20, 0x300, 0x1400, 0x1820, 0x19ff}) {  // header to footer
    std::fstream file(log_ + "/wal-00000001.log", std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char byte = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 1)).flush();
    EXPECT_THAT(Tool({"verify", log_}).out, HasSubstr(", LSN 1-3")) << at;
    EXPECT_THAT(Tool({"verify", "--json", log_}).out, HasSubstr(R"("from":1,"to":3)")) << at;
    file.seekp(at);
    file.put(byte);
  }
}

TEST_F(LogCommands, VerifyOfAMissingSegmentOrStateIsTwo) {
  std::filesystem::remove(log_ + "/wal-00000002.log");
  EXPECT_EQ(Tool({"verify", log_}).exit.code, 2);
  std::filesystem::copy(std::string(kGolden) + "/wal-00000002.log", log_ + "/wal-00000002.log");
  std::filesystem::remove(log_ + "/STATE");
  EXPECT_EQ(Tool({"verify", log_}).exit.code, 2);
}

TEST_F(LogCommands, VerifyOfHalfMadeFilesIsZero) {
  std::ofstream(log_ + "/wal-00000005.log");
  std::ofstream(log_ + "/spare-00000001") << "anything";
  const RunOutcome run = Tool({"verify", log_});
  EXPECT_EQ(run.exit.code, 0);
  EXPECT_THAT(run.out, HasSubstr("wal-00000005.log offset 0: empty file"));
}

TEST_F(LogCommands, VerifyNamesBytesThatAreNoSegment) {
  std::ofstream(log_ + "/wal-00000099.log") << std::string(10'000, '\xee');
  const RunOutcome run = Tool({"verify", log_});
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("wal-00000099.log offset 0: not a segment"));
  EXPECT_THAT(Tool({"verify", "--json", log_}).out, HasSubstr(R"("file":"wal-00000099.log")"));
}

TEST_F(LogCommands, InspectTellsTheFindingsOfVerify) {
  std::ofstream(log_ + "/wal-00000005.log");
  std::ofstream(log_ + "/wal-00000099.log") << std::string(10'000, '\xee');
  const auto findings_of = [&](const std::string& command) {
    const std::string json = Tool({command, "--json", log_}).out;
    const std::size_t at = json.find(R"("findings":[{)");
    return at == std::string::npos ? command + " tells none" : json.substr(at);
  };
  for (const int code : {0, 2}) {
    const RunOutcome inspect = Tool({"inspect", log_});
    EXPECT_EQ(inspect.exit.code, code) << inspect.err;
    const std::vector<std::string> lines = LinesOf(Tool({"verify", log_}).out);
    EXPECT_GE(lines.size(), 3u);
    for (const std::string& line : lines) {
      if (line.find(" offset ") == std::string::npos) continue;
      EXPECT_THAT(inspect.out, HasSubstr(line + "\n"));
    }
    EXPECT_EQ(findings_of("inspect"), findings_of("verify"));
    DamageRecord();
  }
}

TEST_F(LogCommands, WhereThereIsNoLogItIsOneAndOneLine) {
  for (const char* command : {"verify", "inspect", "dump"}) {
    for (const std::string& place : {temp_.path(), temp_.File("none"), log_ + "/STATE"}) {
      const RunOutcome run = Tool({command, place});
      EXPECT_EQ(run.exit.code, 1) << command << " " << place;
      EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
      EXPECT_THAT(run.out, IsEmpty());
    }
  }
}

TEST_F(LogCommands, BadUsageIsSixtyFour) {
  EXPECT_EQ(Tool({"verify"}).exit.code, 64);
  EXPECT_EQ(Tool({"inspect", log_, "--nonsense"}).exit.code, 64);
  EXPECT_EQ(Tool({"dump", log_, "--type", "nonsense"}).exit.code, 64);
  EXPECT_EQ(Tool({"dump", log_, "--from", "x"}).exit.code, 64);
}

TEST_F(LogCommands, InspectShowsSegmentsAndCheckpoints) {
  const RunOutcome text = Tool({"inspect", log_});
  EXPECT_EQ(text.exit.code, 0);
  EXPECT_THAT(text.out, AllOf(HasSubstr("01020304-0506-0708-090a-0b0c0d0e0f10"),
                              HasSubstr("wal-00000001.log  flushed"),
                              HasSubstr("wal-00000002.log  flushing"), HasSubstr("checkpoint")));
  const RunOutcome json = Tool({"inspect", "--json", log_});
  EXPECT_THAT(json.out, AllOf(HasSubstr(R"("epoch":2)"), HasSubstr(R"("checkpoints":[3,3,)"),
                              HasSubstr(R"("file":"wal-00000004.log","state":"flushing")")));
  DamageRecord();
  const RunOutcome damaged = Tool({"inspect", log_});
  EXPECT_EQ(damaged.exit.code, 2);
  EXPECT_THAT(damaged.out, HasSubstr("wal-00000001.log  failed"));
}

TEST_F(LogCommands, DumpPrintsRecordsAsNdjson) {
  const RunOutcome run = Tool({"dump", log_, "--to", "3"});
  EXPECT_EQ(run.exit.code, 0);
  EXPECT_EQ(std::count(run.out.begin(), run.out.end(), '\n'), 3);
  EXPECT_THAT(run.out,
              HasSubstr(R"({"lsn":2,"type":"status_update","stamp":1795240800000002,"partition":3,)"
                        R"("key":"fb53120c76e383b3","op":"update_status","task_id":"t-1",)"
                        R"("status":"failed","error":"exit 1"})"));
  EXPECT_THAT(run.out, HasSubstr(R"("payload":{"rows": 12, "name": "größe"})"));
}

TEST_F(LogCommands, DumpFilters) {
  const auto lines = [&](std::vector<std::string> filter) {
    filter.insert(filter.begin(), {"dump", log_});
    const std::string out = Tool(filter).out;
    return std::count(out.begin(), out.end(), '\n');
  };
  EXPECT_EQ(lines({}), 7);  // of 9: a void and a lost one are left out
  EXPECT_EQ(lines({"--from", "3", "--to", "7"}), 3);
  EXPECT_EQ(lines({"--type", "activity_log"}), 2);
  EXPECT_EQ(lines({"--type", "void"}), 1);
  EXPECT_EQ(lines({"--task", "t-1"}), 3);
  EXPECT_EQ(lines({"--task", "t-7"}), 2);  // in a batch, and its delete
  EXPECT_EQ(lines({"--task", "t-7", "--type", "task_delete"}), 1);
  EXPECT_EQ(lines({"--task", ""}), 0);  // a filter like any other
}

TEST_F(LogCommands, DumpGoesOnBehindDamage) {
  DamageRecord();
  const RunOutcome run = Tool({"dump", log_});
  EXPECT_EQ(run.exit.code, 2);
  EXPECT_THAT(run.err, HasSubstr("LSN 2-2 lost: wal-00000001.log offset 4608: body checksum"));
  EXPECT_THAT(run.out, AllOf(HasSubstr("\"lsn\":1,"), Not(HasSubstr("\"lsn\":2,")),
                             HasSubstr("\"lsn\":3,"), HasSubstr("\"lsn\":11,")));
}

using LiveLog = ToolTest;

// Its reader is slower than the database: segments go while it reads.
TEST_F(LiveLog, WhatIsRetiredWhileDumpReadsIsNoLoss) {
  auto ingest = StartIngest({"--set", "segment_bytes=64KiB", "--set", "retention_bytes=0", "--set",
                             "segment_retention=0", "--set", "frame_bytes=4KiB"});
  ASSERT_NE(ingest, nullptr);
  constexpr int kRecords = 6000;
  ASSERT_TRUE(ingest->Write(Activities(1, kRecords)));
  for (int i = 0; i < kRecords / 2; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
  ASSERT_OK_AND_ASSIGN(const auto dump, Child::Start({TASKWAL_TOOL, "dump", wal_}));
  ASSERT_TRUE(dump->ReadLine().has_value());
  for (int i = kRecords / 2; i < kRecords; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
  ASSERT_TRUE(ingest->Write(Activities(kRecords + 1, 2 * kRecords)));
  for (int i = 0; i < kRecords; ++i) ASSERT_TRUE(ingest->ReadLine().has_value());
  ingest->CloseInput();
  EXPECT_EQ(ingest->Wait().code, 0) << ingest->errors();
  while (dump->ReadLine()) {
  }
  EXPECT_EQ(dump->Wait().code, 0) << dump->errors();
}

TEST_F(LogCommands, NoneOfThemChangesAnything) {
  DamageRecord();
  const auto listing = [&] {
    std::string all;
    for (const auto& entry : std::filesystem::directory_iterator(log_)) {
      std::ifstream file(entry.path(), std::ios::binary);
      all += entry.path().string() + std::string(std::istreambuf_iterator<char>(file), {});
    }
    return all;
  };
  const std::string before = listing();
  for (const char* command : {"verify", "inspect", "dump"}) Tool({command, log_});
  EXPECT_EQ(listing(), before);
}

}  // namespace
}  // namespace taskwal
