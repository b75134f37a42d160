// JSON as text: a validator and a small cursor that keep the bytes exactly as they stand (payload
// and data come back byte for byte, which no parsing library gives). RFC 8259, no allocation but
// for the strings read. Numbers are checked for grammar, not for range.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace taskwal {

// UTF-8 without NUL bytes (RFC 3629: no overlong forms, no surrogates).
bool IsCleanText(std::string_view text);

// One whole JSON value, white space around it allowed, UTF-8 checked. Half a surrogate pair in a
// string ("\ud800") is none: the grammar lets it pass, and not every database does.
bool IsJson(std::string_view text);

// Walks one JSON text. Any call that fails leaves error() set, and every later call fails too.
//   JsonCursor c(line);
//   for (bool more = c.EnterObject(); more; more = c.NextMember()) { c.key() … c.ReadX() }
//   if (!c.AtEnd()) … c.error()
class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : text_(text) {}

  // True when there is a first member (its key read); false for {} or an error.
  bool EnterObject();
  // After a member's value was read: true when another member follows.
  bool NextMember();
  bool EnterArray();   // true when there is a first element
  bool NextElement();
  [[nodiscard]] const std::string& key() const { return key_; }

  std::optional<std::string> ReadString();
  std::optional<std::int64_t> ReadInteger();
  std::optional<bool> ReadBool();
  bool ReadNull();                          // true and consumed when the value is null
  std::optional<std::string_view> ReadRaw();  // any value: its bytes as they stand
  char Peek();  // first character of the next value; 0 at the end

  // Where the next value begins once Peek was called; where it went wrong once failed().
  [[nodiscard]] std::size_t position() const { return at_; }
  // Only white space is left and nothing went wrong.
  bool AtEnd();
  [[nodiscard]] bool failed() const { return !error_.empty(); }
  [[nodiscard]] const std::string& error() const { return error_; }
  // In a string that was read or passed over so far.
  [[nodiscard]] bool has_half_pair() const { return has_half_pair_; }

 private:
  void SkipSpace();
  bool Fail(std::string_view what);
  bool Enter(char open, char close, std::string_view what);
  bool Next(char close, std::string_view what);
  bool SkipValue();
  bool SkipScalar(char c);
  bool SkipKey();
  bool SkipString();
  bool SkipEscape();
  bool SkipNumber();
  bool SkipDigits();
  bool SkipColon();
  bool SkipLiteral(std::string_view word);
  bool ReadKey();

  std::string_view text_;
  std::size_t at_ = 0;
  std::string key_;
  std::string error_;
  bool has_half_pair_ = false;
};

// `text` as a JSON string literal with its quotes; what is not UTF-8 becomes U+FFFD.
std::string JsonQuote(std::string_view text);

}  // namespace taskwal
