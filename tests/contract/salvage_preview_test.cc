// `recover --dry-run --salvage` tells what `recover --salvage` will then do and tell, and changes
// nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SalvagePreview : public ToolTest {
 protected:
  void SetUp() override {
    FillLog(50);
    ASSERT_GE(Segments().size(), 4u);
  }

  static void Overwrite(const fs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  }
  static void FlipByte(const fs::path& path, std::size_t at) {
    std::string content = ContentOf(path);
    content[at] = static_cast<char>(content[at] ^ 0x10);
    Overwrite(path, content);
  }

  // As the real run after it, whose exit code and report are returned.
  json ExpectForetold(int code) {
    const Snapshot before = SnapshotOf(dir_.path());
    const auto told = Recover({"--dry-run", "--salvage"});
    EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
    const auto done = Recover({"--salvage"});
    EXPECT_EQ(told.exit.code, code) << told.err;
    EXPECT_EQ(done.exit.code, code) << done.err;
    EXPECT_EQ(told.out, done.out);
    EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
    return json::parse(told.out, nullptr, false);
  }
};

TEST_F(SalvagePreview, OfADamagedRecord) {
  Damage();
  const json report = ExpectForetold(2);
  EXPECT_THAT(report["lost"], SizeIs(1));
  EXPECT_EQ(report["quarantined"], json::array({Segments()[1].filename().string()}));
  EXPECT_GT(report["replayed"], 0);
  const json after = ExpectForetold(0);
  EXPECT_THAT(after["lost"], IsEmpty());
  EXPECT_THAT(after["quarantined"], IsEmpty());
}

TEST_F(SalvagePreview, OfADamagedHeaderThatCostsNothing) {
  FlipByte(Segments()[1], 5);
  const json report = ExpectForetold(0);
  EXPECT_THAT(report["quarantined"], SizeIs(1));
  EXPECT_EQ(report["replayed"], 50);
}

TEST_F(SalvagePreview, OfAMissingSegmentAndOneThatIsNone) {
  fs::remove(Segments()[1]);
  Overwrite(Segments()[2], std::string(10000, 'x'));
  const json report = ExpectForetold(2);
  EXPECT_THAT(report["quarantined"], SizeIs(1));
  EXPECT_FALSE(report["lost"].empty());
}

TEST_F(SalvagePreview, OfAnEmptiedSegment) {
  Overwrite(Segments()[1], "");
  ExpectForetold(2);
}

TEST_F(SalvagePreview, OfALossThatWasToldBeforeAndAFileThatWasKeptBefore) {
  Damage();
  ASSERT_EQ(Recover().exit.code, 2);
  fs::create_directory(wal_ + "/quarantine");
  const std::string name = Segments()[1].filename().string();
  Overwrite(wal_ + "/quarantine/" + name, "of an earlier one");
  const json report = ExpectForetold(2);
  EXPECT_EQ(report["quarantined"], json::array({name + ".2"}));
  EXPECT_EQ(report["replayed"], 0);
  EXPECT_THAT(report["lost"], SizeIs(1));
}

TEST_F(SalvagePreview, OfALossThatAnEarlierSalvageDeclaredAndDidNotDrainPast) {
  Damage();
  ASSERT_EQ(Tool({"recover", "--wal", wal_, "--db", kNoDatabase, "--salvage", "--drain-timeout",
                  "0", "--set", "recovery_timeout=0"})
                .exit.code,
            2);
  const json report = ExpectForetold(2);
  EXPECT_THAT(report["lost"], SizeIs(1));
  EXPECT_THAT(report["quarantined"], IsEmpty());
}

TEST_F(SalvagePreview, WithoutADatabaseNothingCouldBeBrought) {
  const std::vector<std::string> words{"recover", "--wal", wal_, "--db", kNoDatabase};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    return Tool(more);
  };
  EXPECT_EQ(with({"--dry-run", "--salvage"}).exit.code, 4);
  Damage();
  const auto told = with({"--dry-run", "--salvage", "--json"});
  EXPECT_EQ(told.exit.code, 2) << told.err;
  EXPECT_EQ(json::parse(told.out)["replayed"], 0);
}

TEST_F(SalvagePreview, ForEyesNamesRangesAndFiles) {
  Damage();
  const Snapshot before = SnapshotOf(dir_.path());
  const auto told = Tool({"recover", "--wal", wal_, "--db", db_, "--dry-run", "--salvage"});
  EXPECT_EQ(told.exit.code, 2);
  EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
  EXPECT_THAT(told.out, HasSubstr("would be kept aside: quarantine/" +
                                  Segments()[1].filename().string() + "\n"));
  EXPECT_THAT(told.out, ContainsRegex("would be declared lost: LSN [0-9]+"));
}

}  // namespace
}  // namespace taskwal
