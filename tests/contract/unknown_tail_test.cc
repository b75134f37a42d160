// The end of a log after a power cut: a record that is whole, and that nothing names as synced.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "storage/operation.h"
#include "tests/contract/tool_fixture.h"
#include "tests/support/segment_builder.h"
#include "wal/log_directory.h"

namespace taskwal {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class UnknownTail : public ToolTest {
 protected:
  // Three tasks, a frame each; the last one is named by no frame behind it. Without a ring nobody
  // can tell whether this is the boot that wrote them.
  void SetUp() override {
    FileSystem& fs = FileSystem::Real();
    MakeLogDirectory(fs, wal_);
    SegmentBuilder segment({});
    for (std::uint64_t n = 1; n <= 3; ++n) {
      Task task;
      task.id = "t" + std::to_string(n);
      std::vector<std::byte> body(storage::EncodedBytes(task));
      storage::Encode(task, Time(std::chrono::seconds(n)), body);
      const auto type = static_cast<std::uint8_t>(storage::OperationType::kTaskUpdate);
      segment.AddRecord({type, 0, storage::KeyOf(task.id), n}, body);
    }
    WriteFile(fs, wal::JoinPath(wal_, wal::SegmentName(1)), segment.Unsealed());
  }
};

TEST_F(UnknownTail, IsNoDamageAndIsToldWithItsRange) {
  const auto text = Tool({"verify", wal_});
  EXPECT_EQ(text.exit.code, 0) << text.out;
  EXPECT_THAT(text.out, HasSubstr("tail of unknown standing, LSN 3 "));
  // What it means and what to do, in a line.
  EXPECT_THAT(text.out, HasSubstr("\nLSN 3 is whole and kept, but nothing tells whether "));
  EXPECT_THAT(text.out, HasSubstr("nothing to repair, the next open brings it to the database"));
  EXPECT_THAT(text.out, HasSubstr("\nclean: 3 records, LSN 1-3, 1 segment\n"));
  const json range = json::array({{{"from", 3}, {"to", 3}}});
  const json verified = json::parse(Tool({"verify", "--json", wal_}).out);
  EXPECT_EQ(verified["clean"], true);
  EXPECT_EQ(verified["unknown"], range);
  EXPECT_THAT(Tool({"inspect", wal_}).out, HasSubstr("tail of unknown standing, LSN 3 "));

  const auto rehearsed = Tool({"recover", "--wal", wal_, "--db", db_, "--dry-run"});
  EXPECT_EQ(rehearsed.exit.code, 0) << rehearsed.err;
  EXPECT_THAT(rehearsed.out, HasSubstr("unknown standing: LSN 3\n"));
  const auto recovered = Recover();
  EXPECT_EQ(recovered.exit.code, 0) << recovered.err;
  EXPECT_EQ(json::parse(recovered.out)["unknown"], range);
  EXPECT_EQ(json::parse(recovered.out)["replayed"], 3);
  EXPECT_EQ(Stored().tasks, 3u);

  const auto after = Tool({"verify", wal_});
  EXPECT_EQ(after.exit.code, 0) << after.out;
  EXPECT_THAT(after.out, Not(HasSubstr("unknown")));
}

}  // namespace
}  // namespace taskwal
