#include "base/checksum.h"

#include <xxhash.h>

namespace taskwal {

std::uint64_t Checksum(std::span<const std::byte> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::uint64_t HashOf(const char* text, std::size_t size) { return XXH3_64bits(text, size); }

}  // namespace taskwal
