#include "base/random.h"

#include "base/byte_codec.h"
#include "base/uuid.h"

namespace taskwal {

Random Random::FromSystem() {
  const Uuid entropy = Uuid::Make();
  const auto bytes = std::as_bytes(std::span(entropy.bytes));
  // Each half has a few fixed bits; not the same ones.
  return Random(LoadLittle<std::uint64_t>(bytes.data()) ^
                LoadLittle<std::uint64_t>(bytes.data() + 8) * 0x9e3779b97f4a7c15ull);
}

}  // namespace taskwal
