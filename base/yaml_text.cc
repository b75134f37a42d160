#include "base/yaml_text.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>
#include <string>

// Behind yaml.h, which it needs.
#include <yaml-cpp/eventhandler.h>

namespace taskwal {
namespace {

class Ignorer final : public YAML::EventHandler {
 public:
  using Mark = YAML::Mark;
  using Anchor = YAML::anchor_t;
  using Style = YAML::EmitterStyle::value;

  void OnDocumentStart(const Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const Mark&, Anchor) override {}
  void OnAlias(const Mark&, Anchor) override {}
  void OnScalar(const Mark&, const std::string&, Anchor, const std::string&) override {}
  void OnSequenceStart(const Mark&, const std::string&, Anchor, Style) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const Mark&, const std::string&, Anchor, Style) override {}
  void OnMapEnd() override {}
};

// Behind "key: " or "- ", up to what ends it in a map of one line.
std::string_view UnquotedValue(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r";
  std::size_t begin = line.rfind(": ");
  begin = begin == std::string_view::npos ? line.find("- ") : begin;
  if (begin == std::string_view::npos) return {};
  std::string_view value = line.substr(begin + 2);
  value = value.substr(0, value.find_first_of(",}]#"));
  value.remove_prefix(std::min(value.find_first_not_of(kBlanks), value.size()));
  return value.substr(0, value.find_last_not_of(kBlanks) + 1);
}

std::string_view LineAt(std::string_view text, int line) {
  for (; line > 0; --line) {
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  return text.substr(0, text.find('\n'));
}

}  // namespace

std::string QuotingAdvice(std::string_view text, int line) {
  const std::string_view value = line < 0 || text.empty() ? "" : UnquotedValue(LineAt(text, line));
  if (value.empty()) return {};
  const bool is_none = std::string_view("@`%").find(value.front()) != std::string_view::npos ||
                       value.back() == ':';
  // It may hold a password: it is not shown.
  return is_none ? "; put the value in quotes, as in \"memory:\"" : "";
}

bool HasSecondYamlDocument(std::string_view text) {
  bool is_behind_first = false;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Ignorer ignorer;
    if (!parser.HandleNextDocument(ignorer)) return false;
    is_behind_first = true;
    return parser.HandleNextDocument(ignorer);
  } catch (const YAML::Exception&) {
    return is_behind_first;  // in the first, whoever parses it meets the same error
  }
}

}  // namespace taskwal
