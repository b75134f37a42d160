// 128-bit identities: of a log (wal_id), of a database (db_id), of a kernel boot.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace taskwal {

struct Uuid {
  std::array<std::uint8_t, 16> bytes{};

  // A random (version 4) uuid from the kernel's generator.
  static Uuid Make();
  // The usual 36 characters, in lower case; Parse takes either case.
  static std::optional<Uuid> Parse(std::string_view text);
  [[nodiscard]] std::string ToString() const;
  [[nodiscard]] bool IsZero() const { return *this == Uuid{}; }

  friend bool operator==(const Uuid&, const Uuid&) = default;
  friend auto operator<=>(const Uuid&, const Uuid&) = default;
};

}  // namespace taskwal
