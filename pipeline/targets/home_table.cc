#include "pipeline/targets/home_table.h"

#include <algorithm>
#include <bit>
#include <string_view>

#include "base/check.h"
#include "base/checksum.h"

namespace taskwal::pipeline {
namespace {

constexpr int kFractionBits = 24;

// log2 of a number that is not 0, rounded down to kFractionBits binary places. By squaring: the
// bits fall out one by one, and no floating point unit has a say in where a task lives.
std::uint64_t Log2(std::uint64_t number) {
  const int whole = std::bit_width(number) - 1;
  std::uint64_t result = static_cast<std::uint64_t>(whole) << kFractionBits;
  std::uint64_t mantissa = number << (63 - whole) >> 32;  // in [2^31, 2^32)
  for (int bit = kFractionBits - 1; bit >= 0; --bit) {
    mantissa = mantissa * mantissa >> 31;
    const std::uint64_t carry = mantissa >> 32;  // no branch: every other one would be mispredicted
    mantissa >>= carry;
    result |= carry << bit;
  }
  return result;
}

// How far a uniform draw lies from the best one: exponentially distributed.
std::uint64_t Distance(std::string_view name, std::uint64_t slot) {
  const std::uint64_t draw = Checksum(std::as_bytes(std::span(name)), slot);
  return (std::uint64_t{64} << kFractionBits) - Log2(std::max<std::uint64_t>(draw, 1));
}

}  // namespace

HomeTable::HomeTable(std::span<const Share> shares) {
  const auto takes_part = [](const Share& share) { return share.weight > 0; };
  const auto first = std::find_if(shares.begin(), shares.end(), takes_part);
  TASKWAL_CHECK(first != shares.end());
  slots_.assign(std::size_t{1} << (64 - kSlotShift), first->target);
  // Alone it is at every place the nearest: most logs feed one database, and open at once.
  if (std::none_of(first + 1, shares.end(), takes_part)) return;
  for (std::uint64_t slot = 0; slot < slots_.size(); ++slot) {
    const Share* best = nullptr;
    std::uint64_t best_distance = 0;
    for (const Share& share : shares) {
      if (share.weight == 0) continue;
      const std::uint64_t distance = Distance(share.name, slot);
      // distance / weight, without dividing: the nearest wins with odds of its weight.
      if (best == nullptr || distance * best->weight < best_distance * share.weight) {
        best = &share;
        best_distance = distance;
      }
    }
    slots_[slot] = best->target;
  }
}

}  // namespace taskwal::pipeline
