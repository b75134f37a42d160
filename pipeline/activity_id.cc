#include "pipeline/activity_id.h"

#include <algorithm>
#include <cstdint>

namespace taskwal::pipeline {
namespace {

// Crockford's base 32, whose order is that of the values.
constexpr char kDigits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::size_t kTimeDigits = 10;  // 48 bits of milliseconds
constexpr std::size_t kHalfDigits = 8;   // 40 bits of chance, twice

void PutDigits(std::uint64_t value, char* to, std::size_t digits) {
  for (std::size_t i = digits; i-- > 0; value >>= 5) to[i] = kDigits[value & 31];
}

}  // namespace

std::string_view MakeActivityId(Time now, Random& random, ActivityIdText* text) {
  const auto micros = std::max<std::int64_t>(now.time_since_epoch().count(), 0);
  PutDigits(static_cast<std::uint64_t>(micros / 1000), text->data(), kTimeDigits);
  PutDigits(random.Next(), text->data() + kTimeDigits, kHalfDigits);
  PutDigits(random.Next(), text->data() + kTimeDigits + kHalfDigits, kHalfDigits);
  return {text->data(), text->size()};
}

}  // namespace taskwal::pipeline
