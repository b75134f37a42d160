#include "wal/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/byte_codec.h"
#include "base/random.h"
#include "tests/support/segment_builder.h"

namespace taskwal::wal {
namespace {

constexpr std::uint64_t kNumber = 3;
constexpr std::uint64_t kEpoch = 9;
constexpr std::uint64_t kOffset = 4096;

FrameBuilder::Placement At(std::uint64_t offset) {
  FrameBuilder::Placement placement;
  placement.seed = FrameSeed(kTestWalId, kNumber, kEpoch);
  placement.offset = offset;
  placement.epoch = kEpoch;
  placement.synced_lsn = 41;
  return placement;
}

std::vector<std::byte> MakeFrame(const std::vector<std::string>& bodies, bool compress = false) {
  FrameBuilder builder;
  builder.Reset(42);
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    builder.Add(TestRecordHeader(42 + i), std::as_bytes(std::span(bodies[i])));
  }
  const std::uint64_t size = builder.Pack(compress);
  const auto bytes = builder.Finish(At(kOffset));
  EXPECT_EQ(bytes.size(), size);
  return {bytes.begin(), bytes.end()};
}

bool Parse(std::span<const std::byte> bytes, std::vector<std::string>* bodies) {
  FrameHeader header;
  if (!IsFrameHeader(bytes, kOffset, kTestWalId, kNumber, kEpoch, &header)) return false;
  const auto stored = bytes.subspan(sizeof header).first(header.body_bytes);
  std::vector<std::byte> raw;
  if (!IsFrameBody(header, kTestWalId, kNumber, stored)) return false;
  if (!UnpackFrameBody(header, stored, &raw)) return false;
  bodies->clear();
  FrameRecords records(header, raw);
  for (RecordView record; records.Next(&record);) {
    EXPECT_EQ(record.lsn, 42 + bodies->size());
    EXPECT_EQ(record.header.key, TestRecordHeader(record.lsn).key);
    EXPECT_EQ(record.header.type, TestRecordHeader(record.lsn).type);
    EXPECT_EQ(record.header.stamp, TestRecordHeader(record.lsn).stamp);
    bodies->emplace_back(reinterpret_cast<const char*>(record.body.data()), record.body.size());
  }
  return records.ok();
}

TEST(Frame, RecordsComeBackAsPutIn) {
  const std::vector<std::string> bodies = {"one", "", std::string(3000, 'x'), "four"};
  for (const bool compress : {false, true}) {
    const auto bytes = MakeFrame(bodies, compress);
    EXPECT_EQ(bytes.size() % kSectorBytes, 0u);
    std::vector<std::string> found;
    ASSERT_TRUE(Parse(bytes, &found));
    EXPECT_EQ(found, bodies);
  }
}

TEST(Frame, IsCompressedOnlyWhereThatSaves) {
  EXPECT_LT(MakeFrame({std::string(8000, 'x')}, true).size(), 1000u);
  Random random(1);
  std::string noise(8000, 0);
  for (char& c : noise) c = static_cast<char>(random.Next());
  const auto bytes = MakeFrame({noise}, true);
  EXPECT_EQ(LoadLittle<FrameHeader>(bytes.data()).flags & kFrameZstd, 0);
}

TEST(Frame, EveryChangedByteBeforeThePaddingIsSeen) {
  for (const bool compress : {false, true}) {
    auto bytes = MakeFrame({std::string(700, 'a'), "b"}, compress);
    const std::size_t used = sizeof(FrameHeader) + LoadLittle<FrameHeader>(bytes.data()).body_bytes;
    std::vector<std::string> found;
    for (std::size_t at = 0; at < used; ++at) {
      bytes[at] ^= std::byte{0x10};
      EXPECT_FALSE(Parse(bytes, &found)) << at;
      bytes[at] ^= std::byte{0x10};
    }
    EXPECT_TRUE(Parse(bytes, &found));
  }
}

TEST(Frame, CountsOnlyAtItsPlaceInItsSegment) {
  const auto bytes = MakeFrame({"x"});
  FrameHeader header;
  EXPECT_TRUE(IsFrameHeader(bytes, kOffset, kTestWalId, kNumber, kEpoch, &header));
  EXPECT_FALSE(IsFrameHeader(bytes, kOffset + 512, kTestWalId, kNumber, kEpoch, &header));
  EXPECT_FALSE(IsFrameHeader(bytes, kOffset, kTestWalId, kNumber + 1, kEpoch, &header));
  EXPECT_FALSE(IsFrameHeader(bytes, kOffset, kTestWalId, kNumber, kEpoch + 1, &header));
  EXPECT_FALSE(IsFrameHeader(bytes, kOffset, Uuid{{1}}, kNumber, kEpoch, &header));
  EXPECT_FALSE(
      IsFrameHeader(std::span(bytes).first(63), kOffset, kTestWalId, kNumber, kEpoch, &header));
}

TEST(Frame, BelievesItsOwnEpochWhereTheSegmentsIsNotKnown) {
  const auto bytes = MakeFrame({"x"});
  FrameHeader header;
  ASSERT_TRUE(IsFrameHeader(bytes, kOffset, kTestWalId, kNumber, 0, &header));
  EXPECT_EQ(header.epoch, kEpoch);
  EXPECT_EQ(header.synced_lsn, 41u);
  EXPECT_EQ(header.first_lsn, 42u);
}

TEST(Frame, AnEmptyOneNamesTheNextLsnAndTakesOneSector) {
  FrameBuilder builder;
  builder.Reset(42);
  const auto bytes = builder.Finish(At(kOffset));
  EXPECT_EQ(bytes.size(), kSectorBytes);
  FrameHeader header;
  ASSERT_TRUE(IsFrameHeader(bytes, kOffset, kTestWalId, kNumber, kEpoch, &header));
  EXPECT_EQ(header.count, 0u);
  EXPECT_EQ(header.first_lsn, 42u);
}

TEST(Frame, RecordsThatDoNotFillTheBodyAreNotOk) {
  FrameHeader header{};
  header.first_lsn = 1;
  header.count = 1;
  RecordView record;
  std::vector<std::byte> raw(sizeof(RecordPrefix) + 5);
  StoreLittle<std::uint32_t>(raw.data(), 5);
  {
    FrameRecords whole(header, raw);
    EXPECT_TRUE(whole.Next(&record));
    EXPECT_FALSE(whole.Next(&record));
    EXPECT_TRUE(whole.ok());
  }
  for (const std::uint32_t bytes : {4u, 6u, 0xffffffffu}) {
    StoreLittle<std::uint32_t>(raw.data(), bytes);
    FrameRecords records(header, raw);
    while (records.Next(&record)) {
    }
    EXPECT_FALSE(records.ok()) << bytes;
  }
  FrameRecords cut(header, std::span<const std::byte>(raw).first(10));
  EXPECT_FALSE(cut.Next(&record));
  EXPECT_FALSE(cut.ok());
}

TEST(Frame, ABodyThatDoesNotDecompressIsRefused) {
  FrameHeader header{};
  header.flags = kFrameZstd;
  header.raw_bytes = 100;
  std::vector<std::byte> stored(50, std::byte{7});
  std::vector<std::byte> raw;
  EXPECT_FALSE(UnpackFrameBody(header, stored, &raw));
}

}  // namespace
}  // namespace taskwal::wal
