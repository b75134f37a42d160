// The seeded checksum of everything on disk: XXH3 with 64 bits (Yann Collet's xxHash).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace taskwal {

std::uint64_t Checksum(std::span<const std::byte> bytes, std::uint64_t seed = 0);

// A 64-bit hash of text, for task ids: stable across versions, machines and restarts.
std::uint64_t HashOf(const char* text, std::size_t size);

}  // namespace taskwal
