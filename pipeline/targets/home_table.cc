#include "pipeline/targets/home_table.h"

#include <algorithm>
#include <bit>
#include <string_view>

#include "base/check.h"
#include "base/checksum.h"

namespace taskwal::pipeline {
namespace {

constexpr int kFractionBits = 24;

// log2 of a number that is not 0, rounded down to `bits` binary places, in units of the last of
// kFractionBits. By squaring: the bits fall out one by one, and no floating point unit has a say in
// where a task lives.
std::uint64_t Log2(std::uint64_t number, int bits) {
  const int whole = std::bit_width(number) - 1;
  std::uint64_t result = static_cast<std::uint64_t>(whole) << kFractionBits;
  std::uint64_t mantissa = number << (63 - whole) >> 32;  // in [2^31, 2^32)
  for (int bit = kFractionBits - 1; bit >= kFractionBits - bits; --bit) {
    mantissa = mantissa * mantissa >> 31;
    const std::uint64_t carry = mantissa >> 32;  // no branch: every other one would be mispredicted
    mantissa >>= carry;
    result |= carry << bit;
  }
  return result;
}

// A share's draw for a slot, and how far that lies from the best there is: exponentially
// distributed. Nearly always its first places tell which of two is nearer, and the others are not
// looked for.
class Draw {
 public:
  Draw(const HomeTable::Share& share, std::uint64_t slot)
      : share_(&share),
        drawn_(std::max<std::uint64_t>(
            Checksum(std::as_bytes(std::span(std::string_view(share.name))), slot), 1)),
        at_most_(kFarthest - Log2(drawn_, kFirstBits)) {}

  [[nodiscard]] std::uint16_t target() const { return share_->target; }
  // distance / weight, without dividing: the nearest wins with odds of its weight.
  [[nodiscard]] bool IsNearerThan(const Draw& other) const {
    if (at_most_ * other.weight() < (other.at_most_ - kRest) * weight()) return true;
    if ((at_most_ - kRest) * other.weight() >= other.at_most_ * weight()) return false;
    return distance() * other.weight() < other.distance() * weight();
  }

 private:
  static constexpr std::uint64_t kFarthest = std::uint64_t{64} << kFractionBits;
  static constexpr int kFirstBits = 6;
  // A distance is no further than this below the one that its first places tell.
  static constexpr std::uint64_t kRest = std::uint64_t{1} << (kFractionBits - kFirstBits);

  [[nodiscard]] std::uint64_t weight() const { return share_->weight; }
  [[nodiscard]] std::uint64_t distance() const { return kFarthest - Log2(drawn_, kFractionBits); }

  const HomeTable::Share* share_;
  std::uint64_t drawn_;
  std::uint64_t at_most_;
};

}  // namespace

HomeTable::HomeTable(std::span<const Share> shares) {
  const auto takes_part = [](const Share& share) { return share.weight > 0; };
  const auto first = std::find_if(shares.begin(), shares.end(), takes_part);
  TASKWAL_CHECK(first != shares.end());
  slots_.assign(std::size_t{1} << (64 - kSlotShift), first->target);
  // Alone it is at every place the nearest: most logs feed one database, and open at once.
  if (std::none_of(first + 1, shares.end(), takes_part)) return;
  for (std::uint64_t slot = 0; slot < slots_.size(); ++slot) {
    Draw best(*first, slot);
    for (auto share = first + 1; share != shares.end(); ++share) {
      if (!takes_part(*share)) continue;
      const Draw draw(*share, slot);
      if (draw.IsNearerThan(best)) best = draw;
    }
    slots_[slot] = best.target();
  }
}

}  // namespace taskwal::pipeline
