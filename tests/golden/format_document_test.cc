// The bytes printed in docs/FORMAT.md are those of the golden segment, the product's own reader
// reads them, and what the page says beside them is what it reads: a wrong byte there is a wrong
// program elsewhere.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "base/file_system.h"
#include "storage/operation.h"
#include "tests/golden/golden_text.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/format.h"
#include "wal/frame.h"
#include "wal/segment_reader.h"

namespace taskwal {
namespace {

constexpr char kPage[] = TASKWAL_SOURCE_DIR "/docs/FORMAT.md";
constexpr char kSegment[] = TASKWAL_SOURCE_DIR "/tests/golden/v1/wal-00000001.log";
constexpr char kDirectory[] = "/log";
constexpr std::uint64_t kFrameOffset = 0x1200;

std::vector<std::byte> BytesOf(const std::string& hex) {
  std::vector<std::byte> bytes;
  std::istringstream words(hex);
  for (std::string word; words >> word;) {
    bytes.push_back(static_cast<std::byte>(std::stoul(word, nullptr, 16)));
  }
  return bytes;
}

// Of the page, from the line that begins with `from` up to the next heading.
std::vector<std::string> LinesFrom(const std::string& from) {
  const auto page = ReadFile(FileSystem::Real(), kPage);
  EXPECT_OK(page);
  std::vector<std::string> lines;
  bool is_inside = false;
  std::istringstream text(*page);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("## ")) is_inside = false;
    if (line.starts_with(from)) is_inside = true;
    if (is_inside) lines.push_back(line);
  }
  EXPECT_FALSE(lines.empty()) << from;
  return lines;
}

// The dump of a segment: what is printed at which offset, and what it is said to be.
struct Dump {
  struct Line {
    std::vector<std::byte> bytes;
    std::string says;
    bool zeros_follow = false;
  };
  std::map<std::uint64_t, Line> lines;
  std::vector<std::string> text;

  [[nodiscard]] std::string SaysAt(std::uint64_t offset) const {
    const auto line = lines.find(offset);
    return line == lines.end() ? "" : line->second.says;
  }
};

Dump ReadDump() {
  static const std::regex kLine("    ([0-9a-f]{8})  ((?:[0-9a-f]{2} ?){1,8}) *(.*)");
  Dump dump;
  dump.text = LinesFrom("## Worked example");
  std::smatch part;
  for (const std::string& line : dump.text) {
    if (std::regex_match(line, part, kLine)) {
      dump.lines[std::stoull(part[1], nullptr, 16)] = {BytesOf(part[2]), part[3]};
    } else if (line.starts_with("    ...       zeros")) {
      dump.lines.rbegin()->second.zeros_follow = true;
    }
  }
  return dump;
}

TEST(FormatDocument, ShowsTheBytesOfTheGoldenSegment) {
  const Dump dump = ReadDump();
  const std::vector<std::byte> golden = ReadBytes(FileSystem::Real(), kSegment);
  EXPECT_EQ(dump.lines.size(), 44u);  // else a line is not understood
  for (auto line = dump.lines.begin(); line != dump.lines.end(); ++line) {
    const auto& [offset, shown] = *line;
    const std::uint64_t end = offset + shown.bytes.size();
    ASSERT_LE(end, golden.size());
    EXPECT_EQ(Hex(shown.bytes), Hex(std::span(golden).subspan(offset, shown.bytes.size())))
        << fmt::format("at {:08x}", offset);
    const auto next = std::next(line);
    if (!shown.zeros_follow) continue;
    const std::uint64_t until = next == dump.lines.end() ? golden.size() : next->first;
    for (std::uint64_t at = end; at < until; ++at) {
      ASSERT_EQ(golden[at], std::byte{0}) << fmt::format("at {:08x}", at);
    }
  }
}

// From the page alone.
class ReadFromThePage : public ::testing::Test {
 protected:
  void SetUp() override {
    std::vector<std::byte> file(0x1a00);
    for (const auto& [offset, line] : dump_.lines) {
      ASSERT_LE(offset + line.bytes.size(), file.size());
      std::copy(line.bytes.begin(), line.bytes.end(),
                file.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    ASSERT_OK(fs_.MakeDirectories(kDirectory));
    WriteFile(fs_, std::string(kDirectory) + "/wal-00000001.log", file);
    ASSERT_OK_AND_ASSIGN(reader_, wal::SegmentReader::Open(fs_, kDirectory, 1, {kTestWalId}));
  }
  void ExpectSays(std::uint64_t offset, const std::string& what) {
    EXPECT_EQ(dump_.SaysAt(offset), what) << fmt::format("at {:08x}", offset);
  }

  SimulatedFileSystem fs_;
  const Dump dump_ = ReadDump();
  std::unique_ptr<wal::SegmentReader> reader_;
};

TEST_F(ReadFromThePage, TheHeaderBlock) {
  ASSERT_EQ(reader_->header_state(), wal::HeaderState::kValid);
  const wal::SegmentHeader& header = reader_->header();
  ExpectSays(0x08, fmt::format("version {}, header_bytes {}", header.version, header.header_bytes));
  ExpectSays(0x10, "wal_id " + header.wal_id.ToString());
  ExpectSays(0x20, fmt::format("number {}", header.number));
  ExpectSays(0x28, fmt::format("epoch {}", header.epoch));
  ExpectSays(0x30, fmt::format("first_lsn {}", header.first_lsn));
  ExpectSays(0x38, fmt::format("synced_lsn {}", header.synced_lsn));
  ExpectSays(0x40, fmt::format("stamp {}", header.stamp));
  ExpectSays(0x48, fmt::format("partitions {}", header.partitions));
}

TEST_F(ReadFromThePage, TheSecondFrame) {
  const std::string seed = fmt::format("{:016x}", wal::FrameSeed(kTestWalId, 1, 1));
  EXPECT_NE(dump_.text[2].find("S is `" + seed + "`"), std::string::npos) << seed;
  wal::Frame frame;
  reader_->SeekTo(kFrameOffset);
  ASSERT_OK_AND_ASSIGN(const wal::SegmentEvent event, reader_->NextHere(&frame));
  ASSERT_EQ(event.kind, wal::SegmentEvent::Kind::kFrame);
  const wal::FrameHeader& header = frame.header;
  ExpectSays(0x1208, fmt::format("first_lsn {}", header.first_lsn));
  ExpectSays(0x1210, fmt::format("{} record, {} bytes stored", header.count, header.body_bytes));
  ExpectSays(0x1218, fmt::format("{} bytes raw", header.raw_bytes));
  ExpectSays(0x1220, fmt::format("epoch {}", header.epoch));
  ExpectSays(0x1228, fmt::format("synced_lsn {}", header.synced_lsn));
}

TEST_F(ReadFromThePage, TheRecordInIt) {
  wal::Frame frame;
  reader_->SeekTo(kFrameOffset);
  ASSERT_OK(reader_->NextHere(&frame));
  wal::FrameRecords records(frame.header, frame.raw);
  wal::RecordView record;
  ASSERT_TRUE(records.Next(&record));
  EXPECT_EQ(record.lsn, 2u);
  EXPECT_EQ(record.header.key, storage::KeyOf("t-1"));
  ExpectSays(0x1240, fmt::format("the record: {} bytes, type {}, target {}", record.body.size(),
                                 record.header.type, record.header.target));
  ExpectSays(0x1248, fmt::format("key: XXH3-64 of \"t-1\"; partition {} of 16",
                                 record.header.key % 16));
  ExpectSays(0x1250, fmt::format("stamp {}", record.header.stamp));
  ASSERT_OK_AND_ASSIGN(const storage::OperationBody body,
                       storage::Decode(storage::OperationType::kStatusUpdate, record.body));
  const auto& update = std::get<storage::UpdateStatusOp>(body);
  EXPECT_EQ(update.status, TaskStatus::kFailed);
  ExpectSays(0x1258, fmt::format("body: version 1, time {},",
                                 update.time.time_since_epoch().count()));
  ExpectSays(0x1260, fmt::format("status 3 (failed), \"{}\",", update.task_id));
  ExpectSays(0x1268, '"' + update.error + '"');
  EXPECT_FALSE(records.Next(&record));
}

// The page leaves out some of its bytes; they are those of the golden segment, as shown above.
TEST_F(ReadFromThePage, TheFooter) {
  const std::string golden = TASKWAL_SOURCE_DIR "/tests/golden/v1";
  ASSERT_OK_AND_ASSIGN(const auto reader,
                       wal::SegmentReader::Open(FileSystem::Real(), golden, 1, {kTestWalId}));
  ASSERT_OK_AND_ASSIGN(const auto footer, reader->ReadFooter());
  ExpectSays(0x1840, fmt::format("first_lsn {}", footer.summary.first_lsn));
  ExpectSays(0x1848, fmt::format("last_lsn {}", footer.summary.last_lsn));
  ExpectSays(0x1850, fmt::format("{} frames", footer.summary.frames));
  ExpectSays(0x1858, fmt::format("stamp {}", footer.summary.stamp));
  ExpectSays(0x1860, fmt::format("synced_lsn {}", footer.summary.synced_lsn));
  ExpectSays(0x1868, fmt::format("{} entries", footer.index.size()));
  ASSERT_EQ(footer.index.size(), 3u);
  const char* const kIntroductions[] = {"in the frame at sector", "sector", "sector"};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto [key, sector] = footer.index[i];  // a copy: its fields stand at odd addresses
    EXPECT_EQ(key, storage::KeyOf("t-1"));
    ExpectSays(0x1878 + 12 * i, fmt::format("{} {} (0x{:x})", kIntroductions[i], sector,
                                            sector * wal::kSectorBytes));
  }
}

TEST(FormatDocument, ShowsABodyThatIsDecodedAndEncoded) {
  static const std::regex kLine("    ((?:[0-9a-f]{2} ?)+)  +.*");
  std::vector<std::byte> shown;
  std::smatch part;
  for (const std::string& line : LinesFrom("**Example.** The body of `update_status(\"ab\"")) {
    if (!std::regex_match(line, part, kLine)) continue;
    const std::vector<std::byte> bytes = BytesOf(part[1]);
    shown.insert(shown.end(), bytes.begin(), bytes.end());
  }
  ASSERT_OK_AND_ASSIGN(const storage::OperationBody body,
                       storage::Decode(storage::OperationType::kStatusUpdate, shown));
  const auto& update = std::get<storage::UpdateStatusOp>(body);
  EXPECT_EQ(update.task_id, "ab");
  EXPECT_EQ(update.status, TaskStatus::kCompleted);
  EXPECT_EQ(update.error, "");
  EXPECT_EQ(update.time, GoldenTime(5'000'001));
  EXPECT_FALSE(update.protects_terminal);
  std::vector<std::byte> encoded(storage::EncodedStatusUpdateBytes("ab", ""));
  storage::EncodeStatusUpdate("ab", TaskStatus::kCompleted, "", update.time, encoded);
  EXPECT_EQ(Hex(shown), Hex(encoded));
}

}  // namespace
}  // namespace taskwal
