#include "storage/created_rank.h"

#include <algorithm>
#include <array>

namespace taskwal::storage {
namespace {

// Six bits a character, in the order of their bytes.
constexpr std::string_view kDigits =
    "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
static_assert(kDigits.size() == 64);

constexpr std::size_t kNumberBytes = 8;
constexpr std::size_t kKeyBytes = kNumberBytes + 16 + kNumberBytes;
using Key = std::array<std::uint8_t, kKeyBytes>;
static_assert(1 + (kKeyBytes * 8 + 5) / 6 == kCreatedRankBytes);

// Most significant byte first.
void PutNumber(std::uint64_t number, std::uint8_t* at) {
  for (std::size_t i = 0; i < kNumberBytes; ++i) {
    at[i] = static_cast<std::uint8_t>(number >> (8 * (kNumberBytes - 1 - i)));
  }
}

}  // namespace

std::string MakeCreatedRank(bool gives_created_at, const SaveOrigin& origin) {
  Key key{};
  PutNumber(origin.stamp, key.data());
  std::copy(origin.wal_id.bytes.begin(), origin.wal_id.bytes.end(), key.data() + kNumberBytes);
  PutNumber(origin.lsn, key.data() + kKeyBytes - kNumberBytes);
  // The first of them stands.
  if (!gives_created_at) {
    for (std::uint8_t& byte : key) byte = static_cast<std::uint8_t>(~byte);
  }
  std::string rank(gives_created_at ? "2" : "0");
  rank.reserve(kCreatedRankBytes);
  std::uint32_t bits = 0;
  int held = 0;
  for (const std::uint8_t byte : key) {
    bits = (bits << 8) | byte;
    for (held += 8; held >= 6; held -= 6) rank += kDigits[(bits >> (held - 6)) & 63];
  }
  rank += kDigits[(bits << (6 - held)) & 63];
  return rank;
}

}  // namespace taskwal::storage
