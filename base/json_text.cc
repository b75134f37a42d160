#include "base/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <vector>

namespace taskwal {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101u;
constexpr std::uint64_t kHighBits = 0x8080808080808080u;

std::uint64_t Load8(const char* from) {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// Whether any byte is zero ("Determine if a word has a zero byte", Bit Twiddling Hacks).
constexpr bool HasZero(std::uint64_t word) { return ((word - kOnes) & ~word & kHighBits) != 0; }

// Whether none of 8 bytes is above ASCII, a control character, a quote or a backslash. Exact for
// ASCII words, which are the only ones it is asked to let pass.
constexpr bool IsPlain(std::uint64_t word) {
  const bool ascii = (word & kHighBits) == 0;
  const bool control = ((word - kOnes * 0x20) & ~word & kHighBits) != 0;
  return ascii && !control && !HasZero(word ^ kOnes * '"') && !HasZero(word ^ kOnes * '\\');
}

constexpr unsigned char Byte(char c) { return static_cast<unsigned char>(c); }
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }
constexpr bool IsTail(char c) { return (Byte(c) & 0xc0) == 0x80; }

constexpr bool StandsForItself(char c) {
  return Byte(c) >= 0x20 && Byte(c) < 0x7f && c != '"' && c != '\\';
}

// Bytes of the well-formed sequence above ASCII that `text` starts with (RFC 3629); 0 for none.
std::size_t SequenceBytes(std::string_view text) {
  const unsigned char lead = Byte(text[0]);
  const unsigned char second = text.size() > 1 ? Byte(text[1]) : 0;
  std::size_t size = 0;
  unsigned char low = 0x80;   // bounds of the second byte, which rule out overlong forms,
  unsigned char high = 0xbf;  // surrogates and what lies beyond U+10FFFF
  if (lead >= 0xc2 && lead <= 0xdf) {
    size = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    size = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    size = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  }
  if (size == 0 || text.size() < size || second < low || second > high) return 0;
  for (std::size_t i = 2; i < size; ++i) {
    if (!IsTail(text[i])) return 0;
  }
  return size;
}

void AppendUtf8(std::string& to, std::uint32_t point) {
  const auto put = [&to](std::uint32_t byte) { to += static_cast<char>(byte); };
  if (point < 0x80) return put(point);
  if (point < 0x800) {
    put(0xc0 | point >> 6);
  } else if (point < 0x10000) {
    put(0xe0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3f));
  } else {
    put(0xf0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3f));
    put(0x80 | (point >> 6 & 0x3f));
  }
  put(0x80 | (point & 0x3f));
}

// The four digits of a \u escape; nothing when they are none.
std::optional<std::uint32_t> ReadHex4(std::string_view text) {
  if (text.size() < 4) return std::nullopt;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + 4, value, 16);
  if (error != std::errc{} || end != text.data() + 4) return std::nullopt;
  return value;
}

// What a one-letter escape stands for; 0 for \u and for what is no escape.
constexpr char SimpleEscape(char letter) {
  switch (letter) {
    case '"': case '\\': case '/': return letter;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return 0;
  }
}

constexpr bool IsHighSurrogate(std::uint32_t unit) { return unit >= 0xd800 && unit <= 0xdbff; }
constexpr bool IsLowSurrogate(std::uint32_t unit) { return unit >= 0xdc00 && unit <= 0xdfff; }

// The escape of one.
bool StartsWithLowSurrogate(std::string_view text) {
  if (!text.starts_with("\\u")) return false;
  const auto unit = ReadHex4(text.substr(2));
  return unit && IsLowSurrogate(*unit);
}

// Decodes the \u escape whose digits `text` starts with, a surrogate pair as one. The bytes eaten,
// or 0 for NUL and a lone surrogate, which no text may hold.
std::size_t DecodeUnicode(std::string_view text, std::string& to) {
  const auto first = ReadHex4(text);
  if (!first || *first == 0 || IsLowSurrogate(*first)) return 0;
  if (!IsHighSurrogate(*first)) {
    AppendUtf8(to, *first);
    return 4;
  }
  if (text.substr(4, 2) != "\\u") return 0;
  const auto second = ReadHex4(text.substr(6));
  if (!second || !IsLowSurrogate(*second)) return 0;
  AppendUtf8(to, 0x10000 + ((*first - 0xd800) << 10) + (*second - 0xdc00));
  return 10;
}

// `body` is the inside of a string literal whose grammar has been checked.
bool Decode(std::string_view body, std::string& to) {
  to.clear();
  while (true) {
    const std::size_t slash = body.find('\\');
    to.append(body.substr(0, slash));
    if (slash == std::string_view::npos) return true;
    const char simple = SimpleEscape(body[slash + 1]);
    body.remove_prefix(slash + 2);
    if (simple != 0) {
      to += simple;
      continue;
    }
    const std::size_t eaten = DecodeUnicode(body, to);
    if (eaten == 0) return false;
    body.remove_prefix(eaten);
  }
}

// Which containers a value stands in. No allocation for the first 64 levels.
class OpenContainers {
 public:
  [[nodiscard]] bool empty() const { return depth_ == 0; }
  [[nodiscard]] bool top_is_object() const { return (levels_ & 1) != 0; }
  void Push(bool is_object) {
    if (depth_ > 0 && depth_ % kWordBits == 0) outer_.push_back(levels_);
    levels_ = levels_ << 1 | (is_object ? 1 : 0);
    ++depth_;
  }
  void Pop() {
    levels_ >>= 1;
    if (--depth_ == 0 || depth_ % kWordBits != 0) return;
    levels_ = outer_.back();
    outer_.pop_back();
  }

 private:
  static constexpr std::size_t kWordBits = 64;
  std::uint64_t levels_ = 0;  // the innermost in the lowest bit
  std::size_t depth_ = 0;
  std::vector<std::uint64_t> outer_;
};

}  // namespace

bool IsCleanText(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {
      const std::uint64_t word = Load8(text.data() + at);
      if ((word & kHighBits) == 0 && !HasZero(word)) {
        at += 8;
        continue;
      }
    }
    if (text[at] == '\0') return false;
    const std::size_t size = Byte(text[at]) < 0x80 ? 1 : SequenceBytes(text.substr(at));
    if (size == 0) return false;
    at += size;
  }
  return true;
}

bool IsJson(std::string_view text) {
  JsonCursor cursor(text);
  return cursor.ReadRaw().has_value() && cursor.AtEnd() && !cursor.has_half_pair();
}

bool JsonCursor::Fail(std::string_view what) {
  if (error_.empty()) error_ = fmt::format("{} at byte {}", what, at_);
  return false;
}

void JsonCursor::SkipSpace() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' ||
                                text_[at_] == '\r')) {
    ++at_;
  }
}

char JsonCursor::Peek() {
  if (failed()) return 0;
  SkipSpace();
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonCursor::Enter(char open, char close, std::string_view what) {
  if (failed()) return false;
  if (Peek() != open) return Fail(what);
  ++at_;
  if (Peek() != close) return true;
  ++at_;
  return false;
}

bool JsonCursor::Next(char close, std::string_view what) {
  const char c = Peek();
  if (failed()) return false;
  if (c != ',' && c != close) return Fail(what);
  ++at_;
  return c == ',';
}

bool JsonCursor::EnterObject() { return Enter('{', '}', "expected an object") && ReadKey(); }
bool JsonCursor::EnterArray() { return Enter('[', ']', "expected an array"); }
bool JsonCursor::NextMember() { return Next('}', "expected ',' or '}'") && ReadKey(); }
bool JsonCursor::NextElement() { return Next(']', "expected ',' or ']'"); }

bool JsonCursor::ReadKey() {
  std::optional<std::string> key = ReadString();
  if (!key) return false;
  key_ = *std::move(key);
  return SkipColon();
}

bool JsonCursor::SkipColon() {
  if (Peek() != ':') return Fail("expected ':'");
  ++at_;
  return true;
}

std::optional<std::string> JsonCursor::ReadString() {
  if (Peek() != '"') {
    Fail("expected a string");
    return std::nullopt;
  }
  const std::size_t start = at_;
  if (!SkipString()) return std::nullopt;
  std::string value;
  if (Decode(text_.substr(start + 1, at_ - start - 2), value)) return value;
  at_ = start;
  Fail("NUL or half a surrogate pair in the string");
  return std::nullopt;
}

std::optional<std::int64_t> JsonCursor::ReadInteger() {
  const char c = Peek();
  const std::size_t start = at_;
  if (failed() || !(c == '-' || IsDigit(c)) || !SkipNumber()) {
    Fail("expected an integer");
    return std::nullopt;
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, value);
  if (error == std::errc{} && end == text_.data() + at_) return value;
  at_ = start;
  Fail(error == std::errc{} ? "expected an integer" : "the integer has more than 64 bits");
  return std::nullopt;
}

std::optional<bool> JsonCursor::ReadBool() {
  const char c = Peek();
  if (c == 't' && SkipLiteral("true")) return true;
  if (c == 'f' && SkipLiteral("false")) return false;
  Fail("expected true or false");
  return std::nullopt;
}

bool JsonCursor::ReadNull() { return Peek() == 'n' && SkipLiteral("null"); }

std::optional<std::string_view> JsonCursor::ReadRaw() {
  Peek();
  const std::size_t start = at_;
  if (failed() || !SkipValue()) return std::nullopt;
  return text_.substr(start, at_ - start);
}

bool JsonCursor::AtEnd() {
  if (failed()) return false;
  SkipSpace();
  return at_ == text_.size() || Fail("text after the value");
}

// However deep it is nested: without recursion.
bool JsonCursor::SkipValue() {
  OpenContainers open;
  for (;;) {
    const char c = Peek();
    if (c == '{' || c == '[') {
      const bool is_object = c == '{';
      const bool has_first = Enter(c, is_object ? '}' : ']', "expected a value");
      if (failed()) return false;
      if (has_first) {
        open.Push(is_object);
        if (is_object && !SkipKey()) return false;
        continue;
      }
    } else if (!SkipScalar(c)) {
      return false;
    }
    // Behind a value: the next one of its container, or the end of that, which is a value, too.
    bool has_next = false;
    while (!open.empty() && !has_next) {
      const bool is_object = open.top_is_object();
      has_next = is_object ? Next('}', "expected ',' or '}'") : Next(']', "expected ',' or ']'");
      if (failed() || (has_next && is_object && !SkipKey())) return false;
      if (!has_next) open.Pop();
    }
    if (!has_next) return true;
  }
}

bool JsonCursor::SkipScalar(char c) {
  switch (c) {
    case '"': return SkipString();
    case 't': return SkipLiteral("true");
    case 'f': return SkipLiteral("false");
    case 'n': return SkipLiteral("null");
    default: return c == '-' || IsDigit(c) ? SkipNumber() : Fail("expected a value");
  }
}

bool JsonCursor::SkipKey() {
  if (Peek() != '"') return Fail("expected a string");
  return SkipString() && SkipColon();
}

bool JsonCursor::SkipString() {
  ++at_;  // the quote
  while (at_ < text_.size()) {
    if (text_.size() - at_ >= 8 && IsPlain(Load8(text_.data() + at_))) {
      at_ += 8;
      continue;
    }
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      return true;
    }
    if (Byte(c) < 0x20) return Fail("control character in a string");
    if (c == '\\') {
      if (!SkipEscape()) return false;
      continue;
    }
    const std::size_t size = Byte(c) < 0x80 ? 1 : SequenceBytes(text_.substr(at_));
    if (size == 0) return Fail("invalid UTF-8");
    at_ += size;
  }
  return Fail("the string does not end");
}

bool JsonCursor::SkipEscape() {
  const std::string_view rest = text_.substr(at_ + 1);
  if (rest.empty()) return Fail("the string does not end");
  if (SimpleEscape(rest[0]) != 0) {
    at_ += 2;
    return true;
  }
  const auto unit = rest[0] == 'u' ? ReadHex4(rest.substr(1)) : std::nullopt;
  if (!unit) return Fail("invalid escape");
  at_ += 6;
  if (!IsHighSurrogate(*unit) && !IsLowSurrogate(*unit)) return true;
  if (IsHighSurrogate(*unit) && StartsWithLowSurrogate(text_.substr(at_))) {
    at_ += 6;
  } else {
    has_half_pair_ = true;
  }
  return true;
}

bool JsonCursor::SkipDigits() {
  const std::size_t start = at_;
  while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
  return at_ > start || Fail("expected a digit");
}

bool JsonCursor::SkipNumber() {
  const auto next_is = [this](std::string_view any) {
    return at_ < text_.size() && any.find(text_[at_]) != std::string_view::npos;
  };
  if (next_is("-")) ++at_;
  if (next_is("0")) {
    ++at_;
    if (next_is("0123456789")) return Fail("a number starts with 0");
  } else if (!SkipDigits()) {
    return false;
  }
  if (next_is(".")) {
    ++at_;
    if (!SkipDigits()) return false;
  }
  if (!next_is("eE")) return true;
  ++at_;
  if (next_is("+-")) ++at_;
  return SkipDigits();
}

bool JsonCursor::SkipLiteral(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) return Fail("expected a value");
  at_ += word.size();
  return true;
}

std::string JsonQuote(std::string_view text) {
  std::string quoted = "\"";
  quoted.reserve(text.size() + 2);
  while (!text.empty()) {
    const auto end = std::find_if_not(text.begin(), text.end(), StandsForItself);
    if (end != text.begin()) {
      const auto plain = static_cast<std::size_t>(end - text.begin());
      quoted += text.substr(0, plain);
      text.remove_prefix(plain);
      continue;
    }
    const char c = text[0];
    std::size_t eaten = 1;
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (Byte(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\u{:04x}", Byte(c));
    } else if (const std::size_t size = SequenceBytes(text); size > 0) {
      quoted += text.substr(0, size);
      eaten = size;
    } else {
      quoted += "\xef\xbf\xbd";  // U+FFFD: the result is JSON whatever the text is
    }
    text.remove_prefix(eaten);
  }
  quoted += '"';
  return quoted;
}

}  // namespace taskwal
