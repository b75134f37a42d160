#include "dag/workflow_yaml.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <memory>
#include <optional>

#include "base/yaml_text.h"
#include "dag/workflow_reader.h"

namespace taskwal::dag {
namespace {

// Of a document with aliases one value may stand in many places: nothing is copied out of it.
class YamlNode final : public WorkflowNode {
 public:
  explicit YamlNode(const YAML::Node& node) : node_(node) {}

  [[nodiscard]] bool IsMap() const override { return node_.IsMap(); }
  [[nodiscard]] bool IsList() const override { return node_.IsSequence(); }
  [[nodiscard]] std::optional<std::string> Text() const override {
    return node_.IsScalar() ? std::optional(node_.Scalar()) : std::nullopt;
  }
  [[nodiscard]] std::optional<std::string> BareText() const override {
    return node_.Tag() == "?" ? Text() : std::nullopt;
  }
  [[nodiscard]] int line() const override { return node_.Mark().line + 1; }
  [[nodiscard]] List Items() const override {
    List items;
    for (const YAML::Node& item : node_) items.push_back(std::make_unique<YamlNode>(item));
    return items;
  }
  [[nodiscard]] Map Members() const override {
    Map members;
    for (const auto& member : node_) {
      members.emplace_back(std::make_unique<YamlNode>(member.first),
                           std::make_unique<YamlNode>(member.second));
    }
    return members;
  }

 private:
  YAML::Node node_;
};

}  // namespace

// The only function that meets yaml-cpp's exceptions.
Result<Workflow> ParseYamlWorkflow(std::string_view text, const std::string& file) {
  try {
    if (HasSecondYamlDocument(text)) {
      return WorkflowError(file, 0, "it holds more than one document");
    }
    return ReadWorkflow(YamlNode(YAML::Load(std::string(text))), file);
  } catch (const YAML::DeepRecursion& e) {
    return WorkflowError(file, e.mark.line + 1,
                         "it is nested too deeply: write it on fewer levels");
  } catch (const YAML::Exception& e) {
    return WorkflowError(file, e.mark.is_null() ? 0 : e.mark.line + 1,
                         e.msg + QuotingAdvice(text, e.mark.line));
  }
}

}  // namespace taskwal::dag
