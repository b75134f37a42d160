// Reads a workflow file: our own format in YAML or JSON, or a WfFormat trace.
//
// WfFormat is known by its content. Of our own format, a file whose name ends in .json is JSON, in
// .yaml or .yml YAML; any other is JSON where its text begins with { or [.
#pragma once

#include <string>
#include <string_view>

#include "dag/workflow.h"
#include "taskwal/status.h"

namespace taskwal::dag {

// kInvalidArgument for what is wrong with the content, in one line: "FILE:LINE: …" where the line
// is known. kNotFound and kIoError for a file that cannot be read. The result makes a valid graph.
Result<Workflow> LoadWorkflow(const std::string& file);
// The same of a text; `file` is for messages and the default name.
Result<Workflow> ParseWorkflow(std::string_view text, const std::string& file);

}  // namespace taskwal::dag
