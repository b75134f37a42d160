#include "dag/text.h"

#include <cstdio>

#include "base/json_text.h"

namespace taskwal::dag {
namespace {

constexpr bool IsInsideCharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// What the first byte promises; IsCleanText judges whether the promise is kept.
constexpr std::size_t CharacterBytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  if (byte < 0x80) return 1;
  if (byte < 0xe0) return 2;
  return byte < 0xf0 ? 3 : 4;
}

}  // namespace

std::string_view CutAtCharacter(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && IsInsideCharacter(text[end])) --end;
  return text.substr(0, end);
}

std::string_view LastCharacters(std::string_view bytes, std::size_t bytes_max) {
  if (bytes.size() <= bytes_max) return bytes;
  bytes.remove_prefix(bytes.size() - bytes_max);
  for (int i = 0; i < 3 && !bytes.empty() && IsInsideCharacter(bytes.front()); ++i) {
    bytes.remove_prefix(1);
  }
  return bytes;
}

std::string CleanText(std::string_view bytes) {
  if (IsCleanText(bytes)) return std::string(bytes);
  std::string clean;
  while (!bytes.empty()) {
    const std::string_view character = bytes.substr(0, CharacterBytes(bytes.front()));
    if (IsCleanText(character)) {
      clean += character;
      bytes.remove_prefix(character.size());
      continue;
    }
    if (bytes.front() != '\0') clean += "\xef\xbf\xbd";
    bytes.remove_prefix(1);
  }
  return clean;
}

std::string Hex16(std::uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

}  // namespace taskwal::dag
