#include "base/byte_codec.h"

#include <gtest/gtest.h>

#include <array>

namespace taskwal {
namespace {

TEST(ByteCodec, ReadsWhatWasWritten) {
  std::array<std::byte, 64> room{};
  ByteWriter writer(room);
  writer.Put(std::uint16_t{0x1234});
  writer.Put(std::int64_t{-5});
  writer.PutText("hello");
  writer.PutText("");
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(room[0], std::byte{0x34});  // little-endian

  const std::span<const std::byte> written(room.data(), writer.used());
  ByteReader reader(written);
  EXPECT_EQ(reader.Get<std::uint16_t>(), 0x1234);
  EXPECT_EQ(reader.Get<std::int64_t>(), -5);
  EXPECT_EQ(reader.GetText(), "hello");
  EXPECT_EQ(reader.GetText(), "");
  EXPECT_EQ(reader.left(), 0u);
  EXPECT_TRUE(reader.ok());
}

TEST(ByteWriter, StaysBadOnceItRanOutOfRoom) {
  std::array<std::byte, 6> room{};
  ByteWriter writer(room);
  writer.Put(std::uint64_t{1});
  writer.Put(std::uint8_t{1});
  EXPECT_FALSE(writer.ok());
  EXPECT_EQ(writer.used(), 0u);
}

TEST(ByteReader, NeverTrustsALength) {
  std::array<std::byte, 8> bytes{};
  StoreLittle(bytes.data(), std::uint32_t{0xffffffff});
  ByteReader reader(bytes);
  EXPECT_EQ(reader.GetText(), "");
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.Get<std::uint8_t>(), 0);
  EXPECT_FALSE(reader.ok());
}

}  // namespace
}  // namespace taskwal
