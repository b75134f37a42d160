#include "dag/workflow_file.h"

#include "base/checksum.h"
#include "base/file_system.h"
#include "base/json_text.h"
#include "base/status_macros.h"
#include "dag/text.h"
#include "dag/wfformat.h"
#include "dag/workflow_json.h"
#include "dag/workflow_yaml.h"

namespace taskwal::dag {
namespace {

std::string NameOf(const std::string& file) {
  const std::size_t slash = file.rfind('/');
  return slash == std::string::npos ? file : file.substr(slash + 1);
}

std::string StemOf(const std::string& file) {
  const std::string name = NameOf(file);
  return name.substr(0, name.rfind('.'));
}

// By its name where that tells, else by how it begins.
bool IsJsonFile(std::string_view text, const std::string& file) {
  const std::string name = NameOf(file);
  if (name.ends_with(".json")) return true;
  if (name.ends_with(".yaml") || name.ends_with(".yml")) return false;
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && (text[first] == '{' || text[first] == '[');
}

// As some editors begin a file.
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

Result<Workflow> ParseAny(std::string_view text, const std::string& file) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (IsWfFormat(text)) return ParseWfFormat(text, file);
  return IsJsonFile(text, file) ? ParseJsonWorkflow(text, file) : ParseYamlWorkflow(text, file);
}

}  // namespace

Result<Workflow> LoadWorkflow(const std::string& file) {
  TASKWAL_ASSIGN(const std::string text, ReadFile(FileSystem::Real(), file));
  return ParseWorkflow(text, file);
}

Result<Workflow> ParseWorkflow(std::string_view text, const std::string& file) {
  if (!IsCleanText(text)) {
    return Status::InvalidArgument(file + ": it is no UTF-8 text without NUL");
  }
  TASKWAL_ASSIGN(Workflow workflow, ParseAny(text, file));
  if (workflow.name.empty()) workflow.name = StemOf(file);
  workflow.content_hash = Hex16(Checksum(std::as_bytes(std::span(text))));
  const Status valid = BuildGraph(workflow).status();
  if (!valid.ok()) return Status(valid.code(), file + ": " + valid.message());
  return workflow;
}

}  // namespace taskwal::dag
