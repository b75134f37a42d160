// Parses workflow files: ours in YAML and JSON, and WfFormat. What is taken can be made a graph, or
// is refused with a reason.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "dag/workflow.h"
#include "dag/workflow_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto workflow = taskwal::dag::ParseWorkflow(text, "fuzz.yaml");
  if (!workflow.ok()) {
    TASKWAL_CHECK(!workflow.status().message().empty());
    return 0;
  }
  const auto graph = taskwal::dag::BuildGraph(*workflow, {});
  TASKWAL_CHECK(graph.ok() || !graph.status().message().empty());
  return 0;
}
