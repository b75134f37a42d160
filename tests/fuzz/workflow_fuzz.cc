// Parses workflow files: ours in YAML and JSON, and WfFormat. What is taken makes a graph, in which
// every task can have its turn.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "dag/workflow.h"
#include "dag/workflow_file.h"

namespace {

using namespace taskwal;  // NOLINT: one small program

// Each task is named once, waits only for tasks that are there, and none for itself.
void ExpectAnOrder(const dag::Workflow& workflow) {
  std::map<std::string, std::size_t> waits_for;
  std::map<std::string, std::vector<std::string>> successors;
  for (const dag::WorkflowTask& task : workflow.tasks) {
    TASKWAL_CHECK(waits_for.emplace(task.id, task.depends_on.size()).second);
    for (const std::string& before : task.depends_on) successors[before].push_back(task.id);
  }
  std::vector<std::string> ready;
  for (const auto& [id, count] : waits_for) {
    if (count == 0) ready.push_back(id);
  }
  std::size_t done = 0;
  for (; done < ready.size(); ++done) {
    const std::string id = ready[done];
    for (const std::string& next : successors[id]) {
      if (--waits_for.at(next) == 0) ready.push_back(next);
    }
  }
  TASKWAL_CHECK(done == workflow.tasks.size());
}

void ParseAs(const char* file, std::string_view text) {
  const auto workflow = dag::ParseWorkflow(text, file);
  if (!workflow.ok()) {
    TASKWAL_CHECK(!workflow.status().message().empty());
    return;
  }
  ExpectAnOrder(*workflow);
  const auto graph = dag::BuildGraph(*workflow, {});
  TASKWAL_CHECK(graph.ok() && graph->size() == workflow->tasks.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ParseAs("fuzz.yaml", text);
  ParseAs("fuzz.json", text);
  return 0;
}
