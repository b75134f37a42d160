// What a document in our own format means, whatever syntax it was written in.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dag/workflow.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// One value of a parsed document, which outlives it.
class WorkflowNode {
 public:
  using Pointer = std::unique_ptr<const WorkflowNode>;
  using List = std::vector<Pointer>;
  using Map = std::vector<std::pair<Pointer, Pointer>>;

  virtual ~WorkflowNode() = default;
  [[nodiscard]] virtual bool IsMap() const = 0;
  [[nodiscard]] virtual bool IsList() const = 0;
  // Of a value that may be taken as text; of one that stands without quotes, as numbers do.
  [[nodiscard]] virtual std::optional<std::string> Text() const = 0;
  [[nodiscard]] virtual std::optional<std::string> BareText() const = 0;
  [[nodiscard]] virtual int line() const = 0;      // from 1; 0 where it is not known
  [[nodiscard]] virtual List Items() const = 0;    // of a list
  [[nodiscard]] virtual Map Members() const = 0;   // of a map, as often as a key stands there
};

// kInvalidArgument, "FILE:LINE: what". The graph is not checked for cycles here.
Result<Workflow> ReadWorkflow(const WorkflowNode& root, const std::string& file);
// Such an error; without the line where it is 0.
Status WorkflowError(const std::string& file, int line, const std::string& what);

}  // namespace taskwal::dag
