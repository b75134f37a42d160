// Text on its way into a record: always UTF-8 without NUL, within its limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace taskwal::dag {

// The longest beginning of clean text with at most `bytes_max` bytes that ends between characters.
std::string_view CutAtCharacter(std::string_view text, std::size_t bytes_max);
// The longest end with at most `bytes_max` bytes that does not begin inside a character.
std::string_view LastCharacters(std::string_view bytes, std::size_t bytes_max);
// Any bytes made clean: U+FFFD for what is no UTF-8, NUL left out.
std::string CleanText(std::string_view bytes);
// 16 hexadecimal digits.
std::string Hex16(std::uint64_t value);

}  // namespace taskwal::dag
