// A frame of many MiB is read where it is delivered, not by the reader's window; what is valid, and
// what is said of damage, is the same as for a small one.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/counting_file_system.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {
namespace {

using Kind = SegmentEvent::Kind;

constexpr char kPath[] = "/log/wal-00000001.log";
constexpr std::size_t kLarge = (3u << 20) + 7;

class LargeFrame : public ::testing::Test {
 protected:
  // A small record, a large one, a small one.
  void SetUp() override {
    ASSERT_OK(disk_.MakeDirectories("/log"));
    for (std::size_t i = 0; i < kLarge; ++i) body_.push_back(static_cast<std::byte>(i * 7));
    SegmentBuilder segment({});
    segment.AddFrame(1);
    place_ = segment.AddRecord(TestRecordHeader(2), body_);
    segment.AddFrame(1);
    bytes_ = segment.Sealed();
  }
  std::unique_ptr<SegmentReader> Open(std::span<const std::byte> bytes) {
    WriteFile(disk_, kPath, bytes);
    auto reader = SegmentReader::Open(fs_, "/log", 1, {kTestWalId});
    EXPECT_OK(reader);
    return std::move(reader).value();
  }
  SegmentEvent Next(SegmentReader& reader) {
    auto event = reader.Next(&frame_);
    EXPECT_OK(event);
    return *event;
  }

  SimulatedFileSystem disk_;
  CountingFileSystem fs_{disk_};
  std::vector<std::byte> body_, bytes_;
  FramePlace place_;
  Frame frame_;
};

TEST_F(LargeFrame, IsReadWithWhatStandsAroundIt) {
  const auto reader = Open(bytes_);
  EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
  ASSERT_EQ(Next(*reader).kind, Kind::kFrame);
  EXPECT_EQ(frame_.offset, place_.offset);
  EXPECT_EQ(frame_.end_offset, place_.end_offset);
  FrameRecords records(frame_.header, frame_.raw);
  RecordView record;
  ASSERT_TRUE(records.Next(&record));
  EXPECT_EQ(record.lsn, 2u);
  EXPECT_TRUE(std::ranges::equal(record.body, body_));
  EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
  EXPECT_EQ(frame_.header.first_lsn, 3u);
  EXPECT_EQ(Next(*reader).kind, Kind::kFooter);
  EXPECT_EQ(Next(*reader).kind, Kind::kEnd);
}

TEST_F(LargeFrame, IsReadFromTheFileOnce) {
  const auto reader = Open(bytes_);
  while (Next(*reader).kind != Kind::kEnd) {
  }
  EXPECT_LE(fs_.counts().bytes_read, bytes_.size() + kLarge / 2);
}

TEST_F(LargeFrame, WithAnyBitChangedIsDamaged) {
  for (const std::uint64_t at : {place_.offset + 64, place_.offset + (1u << 20),
                                 place_.offset + 64 + sizeof(RecordPrefix) + kLarge - 1}) {
    std::vector<std::byte> damaged = bytes_;
    damaged[at] ^= std::byte{1};
    const auto reader = Open(damaged);
    EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
    const SegmentEvent event = Next(*reader);
    EXPECT_EQ(event.kind, Kind::kBadBytes);
    EXPECT_EQ(event.detail, "body checksum");
    EXPECT_EQ(event.named_first, 2u);
    EXPECT_EQ(event.named_count, 1u);
    EXPECT_EQ(event.end_offset, place_.end_offset);
    EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
    EXPECT_EQ(frame_.header.first_lsn, 3u);
  }
}

TEST_F(LargeFrame, ThatTheFileEndsInIsCutOff) {
  for (const std::uint64_t left : {std::uint64_t{64}, std::uint64_t{5000}, std::uint64_t{kLarge}}) {
    const std::uint64_t end = place_.offset + left;
    const auto reader = Open(std::span(bytes_).first(end));
    EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
    const SegmentEvent event = Next(*reader);
    EXPECT_EQ(event.kind, Kind::kBadBytes);
    EXPECT_EQ(event.detail, "cut off");
    EXPECT_EQ(event.end_offset, end);
    EXPECT_EQ(Next(*reader).kind, Kind::kEnd);
  }
}

TEST_F(LargeFrame, WithoutAllOfItsPaddingSaysSo) {
  const std::uint64_t body_end = place_.offset + 64 + sizeof(RecordPrefix) + kLarge;
  ASSERT_LT(body_end + 1, place_.end_offset);
  const auto reader = Open(std::span(bytes_).first(body_end + 1));
  EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
  EXPECT_EQ(Next(*reader).kind, Kind::kFrame);
  const SegmentEvent event = Next(*reader);
  EXPECT_EQ(event.kind, Kind::kBadBytes);
  EXPECT_TRUE(event.is_padding);
}

}  // namespace
}  // namespace taskwal::wal
