// Our own format in JSON, strictly RFC 8259: no comment, no comma too many, no text without quotes.
#pragma once

#include <string>
#include <string_view>

#include "dag/workflow.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// As ParseYamlWorkflow.
Result<Workflow> ParseJsonWorkflow(std::string_view text, const std::string& file);

}  // namespace taskwal::dag
