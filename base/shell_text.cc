#include "base/shell_text.h"

#include <algorithm>

namespace taskwal {
namespace {

bool IsPlain(char c) {
  const bool is_letter_or_digit =
      (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return is_letter_or_digit || std::string_view("@%+=:,./_-").find(c) != std::string_view::npos;
}

}  // namespace

std::string ShellQuote(std::string_view word) {
  if (!word.empty() && std::all_of(word.begin(), word.end(), IsPlain)) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";  // nothing is special between single quotes, so they are left for it
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace taskwal
