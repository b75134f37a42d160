#include "dag/workflow_json.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/json_text.h"
#include "dag/workflow_reader.h"

namespace taskwal::dag {
namespace {

// A workflow has four levels. What lies deeper is passed over without recursion, and then refused
// as a value of the wrong type: no nesting overflows the stack.
constexpr int kLevelsMax = 5;

struct JsonValue {
  enum class Kind : std::uint8_t { kOther, kNumber, kText, kList, kMap };
  Kind kind = Kind::kOther;
  int line = 0;
  std::string text;               // of a text; of a number as it stands
  std::vector<JsonValue> values;  // of a list; of a map, a key and its value in turn
};

class JsonNode final : public WorkflowNode {
 public:
  explicit JsonNode(const JsonValue& value) : value_(value) {}

  [[nodiscard]] bool IsMap() const override { return value_.kind == JsonValue::Kind::kMap; }
  [[nodiscard]] bool IsList() const override { return value_.kind == JsonValue::Kind::kList; }
  [[nodiscard]] std::optional<std::string> Text() const override {
    return TextOf(JsonValue::Kind::kText);
  }
  [[nodiscard]] std::optional<std::string> BareText() const override {
    return TextOf(JsonValue::Kind::kNumber);
  }
  [[nodiscard]] int line() const override { return value_.line; }
  [[nodiscard]] List Items() const override {
    List items;
    for (const JsonValue& item : value_.values) items.push_back(std::make_unique<JsonNode>(item));
    return items;
  }
  [[nodiscard]] Map Members() const override {
    Map members;
    for (std::size_t i = 0; i + 1 < value_.values.size(); i += 2) {
      members.emplace_back(std::make_unique<JsonNode>(value_.values[i]),
                           std::make_unique<JsonNode>(value_.values[i + 1]));
    }
    return members;
  }

 private:
  [[nodiscard]] std::optional<std::string> TextOf(JsonValue::Kind kind) const {
    return value_.kind == kind ? std::optional(value_.text) : std::nullopt;
  }

  const JsonValue& value_;
};

class JsonDocument {
 public:
  explicit JsonDocument(std::string_view text) : text_(text), cursor_(text) {}

  // What goes wrong is left in the cursor.
  JsonValue Read() {
    JsonValue root = ReadValue(1);
    cursor_.AtEnd();
    return root;
  }
  [[nodiscard]] const std::string& error() const { return cursor_.error(); }
  int line() {
    const std::size_t at = std::min(cursor_.position(), text_.size());
    for (; counted_ < at; ++counted_) lines_ += text_[counted_] == '\n' ? 1 : 0;
    return lines_ + 1;
  }

 private:
  JsonValue ReadValue(int level) {
    JsonValue value;
    const char first = cursor_.Peek();
    value.line = line();
    if (first == '"') {
      value.kind = JsonValue::Kind::kText;
      value.text = cursor_.ReadString().value_or("");
    } else if (first == '{' && level < kLevelsMax) {
      value.kind = JsonValue::Kind::kMap;
      for (bool more = cursor_.EnterObject(); more; more = cursor_.NextMember()) {
        value.values.push_back({JsonValue::Kind::kText, line(), cursor_.key(), {}});
        value.values.push_back(ReadValue(level + 1));
      }
    } else if (first == '[' && level < kLevelsMax) {
      value.kind = JsonValue::Kind::kList;
      for (bool more = cursor_.EnterArray(); more; more = cursor_.NextElement()) {
        value.values.push_back(ReadValue(level + 1));
      }
    } else {
      value.text = cursor_.ReadRaw().value_or("");
      const bool is_number = first == '-' || (first >= '0' && first <= '9');
      if (is_number) value.kind = JsonValue::Kind::kNumber;
    }
    return value;
  }

  const std::string_view text_;
  JsonCursor cursor_;
  std::size_t counted_ = 0;  // of the text, for lines_
  int lines_ = 0;
};

}  // namespace

Result<Workflow> ParseJsonWorkflow(std::string_view text, const std::string& file) {
  JsonDocument document(text);
  const JsonValue root = document.Read();
  if (!document.error().empty()) {
    return WorkflowError(file, document.line(), "it is no JSON: " + document.error());
  }
  return ReadWorkflow(JsonNode(root), file);
}

}  // namespace taskwal::dag
