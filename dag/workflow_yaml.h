// Our own format in YAML.
#pragma once

#include <string>
#include <string_view>

#include "dag/workflow.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// kInvalidArgument, "FILE:LINE: what". The graph is not checked for cycles here.
Result<Workflow> ParseYamlWorkflow(std::string_view text, const std::string& file);

}  // namespace taskwal::dag
