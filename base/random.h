// Chance as an interface: seeded in tests.
#pragma once

#include <cstdint>
#include <string>

namespace taskwal {

// SplitMix64 (Steele, Lea, Flood 2014): small, fast, good enough for jitter and ids' random part.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  // Seeded by the kernel.
  static Random FromSystem();

  std::uint64_t Next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // 0 <= result < bound; bound > 0.
  std::uint64_t Below(std::uint64_t bound) { return Next() % bound; }
  // 0 <= result < 1.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  bool OneIn(std::uint64_t n) { return Below(n) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace taskwal
