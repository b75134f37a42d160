#include "base/yaml_text.h"

#include <yaml-cpp/yaml.h>

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

}  // namespace

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
