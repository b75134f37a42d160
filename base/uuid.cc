#include "base/uuid.h"

#include <sys/random.h>

#include <cerrno>

#include "base/check.h"

namespace taskwal {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::size_t kTextBytes = 36;

constexpr bool IsDash(std::size_t index) {
  return index == 8 || index == 13 || index == 18 || index == 23;
}

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Uuid Uuid::Make() {
  Uuid id;
  ssize_t got = -1;
  do {
    got = ::getrandom(id.bytes.data(), id.bytes.size(), 0);
  } while (got < 0 && errno == EINTR);
  TASKWAL_CHECK(got == static_cast<ssize_t>(id.bytes.size()));
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x40);  // version 4
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);  // RFC 4122's variant
  return id;
}

std::optional<Uuid> Uuid::Parse(std::string_view text) {
  if (text.size() != kTextBytes) return std::nullopt;
  Uuid id;
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (IsDash(i)) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int value = DigitValue(text[i]);
    if (value < 0) return std::nullopt;
    std::uint8_t& byte = id.bytes[nibble / 2];
    byte = static_cast<std::uint8_t>(byte << 4 | value);
    ++nibble;
  }
  return id;
}

std::string Uuid::ToString() const {
  std::string text;
  text.reserve(kTextBytes);
  for (const std::uint8_t byte : bytes) {
    if (IsDash(text.size())) text += '-';
    text += kDigits[byte >> 4];
    text += kDigits[byte & 0x0f];
  }
  return text;
}

}  // namespace taskwal
