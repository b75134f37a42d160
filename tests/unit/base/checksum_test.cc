#include "base/checksum.h"

#include <gtest/gtest.h>

#include <string_view>

namespace taskwal {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// Files on disk hold these: a change of algorithm must not pass unseen.
TEST(Checksum, IsXxh3) {
  EXPECT_EQ(Checksum({}), 0x2d06800538d394c2u);
  EXPECT_EQ(HashOf("", 0), 0x2d06800538d394c2u);
  EXPECT_EQ(Checksum(Bytes("task")), HashOf("task", 4));
}

TEST(Checksum, DependsOnEveryBitAndOnTheSeed) {
  std::string text(600, 'x');
  const std::uint64_t before = Checksum(Bytes(text), 1);
  EXPECT_NE(before, Checksum(Bytes(text), 2));
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] ^= 1;
    EXPECT_NE(Checksum(Bytes(text), 1), before) << i;
    text[i] ^= 1;
  }
}

}  // namespace
}  // namespace taskwal
