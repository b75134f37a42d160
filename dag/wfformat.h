// Reads WfCommons execution traces: WfFormat 1.5 (specification and execution apart), and 1.4,
// where one list of tasks holds both. Dates in them are not read: each engine spells them its way.
#pragma once

#include <string_view>

#include "dag/workflow.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// JSON with a member that only WfFormat has at the top.
bool IsWfFormat(std::string_view text);

// kInvalidArgument, "FILE: what and where": other JSON, a duplicate id, an edge to an unknown task.
// The graph is not checked for cycles here.
Result<Workflow> ParseWfFormat(std::string_view text, std::string_view file);

}  // namespace taskwal::dag
