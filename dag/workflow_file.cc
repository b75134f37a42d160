#include "dag/workflow_file.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <optional>
#include <set>
#include <unordered_set>

#include "base/checksum.h"
#include "base/file_system.h"
#include "base/json_text.h"
#include "base/status_macros.h"
#include "base/yaml_text.h"
#include "dag/text.h"
#include "dag/wfformat.h"

namespace taskwal::dag {
namespace {

using Kind = WorkflowTask::Kind;

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "500ms", "30s", "2m", "1h", "0".
std::optional<double> ParseDurationText(std::string_view text) {
  if (text == "0") return 0;
  const std::size_t unit_at = text.find_first_not_of("0123456789.");
  if (unit_at == std::string_view::npos) return std::nullopt;
  const auto number = ParseNumber<double>(text.substr(0, unit_at));
  const std::string_view unit = text.substr(unit_at);
  if (!number) return std::nullopt;
  if (unit == "ms") return *number / 1000;
  if (unit == "s") return *number;
  if (unit == "m") return *number * 60;
  if (unit == "h") return *number * 3600;
  return std::nullopt;
}

// A scalar that stands without quotes: in JSON a number or a literal.
bool IsBare(const YAML::Node& node) { return node.Tag() == "?"; }

std::chrono::milliseconds Milliseconds(double seconds) {
  // Rounded up: a short timeout must not become none.
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

class WorkflowReader {
 public:
  explicit WorkflowReader(const std::string& file) : file_(file) {}

  Result<Workflow> Read(const YAML::Node& root);

 private:
  Status ReadTasks(const YAML::Node& list, Workflow* workflow);
  Status ReadTask(const YAML::Node& node, WorkflowTask* task);
  Status ReadField(const std::string& key, const YAML::Node& value, WorkflowTask* task);
  Status CheckFields(const YAML::Node& node, const WorkflowTask& task) const;
  Status CheckDependencies(const YAML::Node& list, const Workflow& workflow) const;
  // A map's keys, each once, in `known`.
  Status CheckKeys(const YAML::Node& map, const std::string& what,
                   const std::set<std::string>& known) const;

  Result<std::string> Text(const std::string& key, const YAML::Node& value) const;
  Result<double> Seconds(const std::string& key, const YAML::Node& value) const;
  Result<std::int32_t> Count(const std::string& key, const YAML::Node& value) const;
  Result<Kind> KindOf(const YAML::Node& value) const;
  Result<std::vector<std::string>> Names(const std::string& key, const YAML::Node& value) const;
  [[nodiscard]] Status Error(const YAML::Node& at, const std::string& what) const;

  const std::string file_;
  std::unordered_set<std::string> ids_;
};

Result<Workflow> WorkflowReader::Read(const YAML::Node& root) {
  TASKWAL_TRY(CheckKeys(root, "the workflow", {"name", "tasks"}));
  Workflow workflow;
  if (const YAML::Node name = root["name"]) {
    TASKWAL_ASSIGN(workflow.name, Text("name", name));
  }
  const YAML::Node tasks = root["tasks"];
  if (!tasks) return Error(root, "the workflow has no tasks");
  TASKWAL_TRY(ReadTasks(tasks, &workflow));
  TASKWAL_TRY(CheckDependencies(tasks, workflow));
  return workflow;
}

Status WorkflowReader::ReadTasks(const YAML::Node& list, Workflow* workflow) {
  if (!list.IsSequence()) return Error(list, "tasks is no list");
  for (const YAML::Node& node : list) {
    TASKWAL_TRY(ReadTask(node, &workflow->tasks.emplace_back()));
  }
  return {};
}

Status WorkflowReader::ReadTask(const YAML::Node& node, WorkflowTask* task) {
  TASKWAL_TRY(CheckKeys(node, "a task",
                        {"id", "kind", "command", "seconds", "depends_on", "retries", "retry_delay",
                         "timeout"}));
  for (const auto& member : node) {
    TASKWAL_TRY(ReadField(member.first.Scalar(), member.second, task));
  }
  return CheckFields(node, *task);
}

Status WorkflowReader::ReadField(const std::string& key, const YAML::Node& value,
                                 WorkflowTask* task) {
  if (key == "id") {
    TASKWAL_ASSIGN(task->id, Text(key, value));
    if (!ids_.insert(task->id).second) {
      return Error(value, "task " + JsonQuote(task->id) + " is there twice");
    }
  } else if (key == "kind") {
    TASKWAL_ASSIGN(task->kind, KindOf(value));
  } else if (key == "command") {
    TASKWAL_ASSIGN(task->command, Text(key, value));
  } else if (key == "seconds") {
    TASKWAL_ASSIGN(task->seconds, Seconds(key, value));
  } else if (key == "depends_on") {
    TASKWAL_ASSIGN(task->depends_on, Names(key, value));
  } else if (key == "retries") {
    TASKWAL_ASSIGN(task->retries, Count(key, value));
  } else if (key == "retry_delay") {
    TASKWAL_ASSIGN(const double seconds, Seconds(key, value));
    task->retry_delay = Milliseconds(seconds);
  } else {
    TASKWAL_ASSIGN(const double seconds, Seconds(key, value));
    task->timeout = Milliseconds(seconds);
  }
  return {};
}

Status WorkflowReader::CheckFields(const YAML::Node& node, const WorkflowTask& task) const {
  if (!node["id"]) return Error(node, "a task has no id");
  const std::string named = "task " + JsonQuote(task.id);
  if (task.id.empty() || task.id.size() > kIdBytesMax) {
    return Error(node["id"], named + ": the id has not 1 to 255 bytes");
  }
  if (!node["kind"]) return Error(node, named + " has no kind (shell, sleep or noop)");
  const bool needs_command = task.kind == Kind::kShell;
  const bool needs_seconds = task.kind == Kind::kSleep;
  const auto check = [&](const char* key, bool needed) -> Status {
    const bool given = static_cast<bool>(node[key]);
    if (given == needed) return {};
    return Error(node, named + ", of kind " + std::string(KindName(task.kind)) +
                           (needed ? ", needs " : ", takes no ") + key);
  };
  TASKWAL_TRY(check("command", needs_command));
  return check("seconds", needs_seconds);
}

Status WorkflowReader::CheckDependencies(const YAML::Node& list, const Workflow& workflow) const {
  auto node = list.begin();
  for (const WorkflowTask& task : workflow.tasks) {
    for (const std::string& before : task.depends_on) {
      if (ids_.contains(before)) continue;
      return Error((*node)["depends_on"], "task " + JsonQuote(task.id) + " depends on " +
                                              JsonQuote(before) + ", which is no task");
    }
    ++node;
  }
  return {};
}

Status WorkflowReader::CheckKeys(const YAML::Node& map, const std::string& what,
                                 const std::set<std::string>& known) const {
  if (!map.IsMap()) return Error(map, what + " is no map of keys and values");
  std::set<std::string> seen;
  for (const auto& member : map) {
    const YAML::Node& key = member.first;
    if (!key.IsScalar()) return Error(key, what + " has a key that is no text");
    if (!known.contains(key.Scalar())) {
      std::string all;
      for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
      return Error(key, what + " has the unknown key " + JsonQuote(key.Scalar()) + " (known: " +
                            all + ")");
    }
    if (!seen.insert(key.Scalar()).second) {
      return Error(key, what + " has the key " + JsonQuote(key.Scalar()) + " twice");
    }
  }
  return {};
}

Result<std::string> WorkflowReader::Text(const std::string& key, const YAML::Node& value) const {
  if (value.IsScalar() && !value.Scalar().empty()) return value.Scalar();
  return Error(value, key + " is no text, or empty");
}

Result<double> WorkflowReader::Seconds(const std::string& key, const YAML::Node& value) const {
  std::optional<double> seconds;
  if (value.IsScalar()) {
    if (IsBare(value)) seconds = ParseNumber<double>(value.Scalar());
    if (!seconds) seconds = ParseDurationText(value.Scalar());
  }
  if (!seconds) {
    return Error(value, key + " is no number of seconds and no duration such as 500ms, 30s or 2m");
  }
  if (*seconds >= 0 && *seconds <= kSecondsMax) return *seconds;
  return Error(value, key + " is not between 0 and 1e9 seconds");
}

Result<std::int32_t> WorkflowReader::Count(const std::string& key, const YAML::Node& value) const {
  std::optional<std::int32_t> count;
  if (value.IsScalar() && IsBare(value)) count = ParseNumber<std::int32_t>(value.Scalar());
  if (count && *count >= 0 && *count < INT32_MAX) return *count;
  return Error(value, key + " is no count of 0 or more");
}

Result<Kind> WorkflowReader::KindOf(const YAML::Node& value) const {
  if (value.IsScalar()) {
    for (const Kind kind : {Kind::kNoop, Kind::kSleep, Kind::kShell}) {
      if (value.Scalar() == KindName(kind)) return kind;
    }
  }
  return Error(value, "kind is not shell, sleep or noop");
}

Result<std::vector<std::string>> WorkflowReader::Names(const std::string& key,
                                                       const YAML::Node& value) const {
  if (!value.IsSequence()) return Error(value, key + " is no list");
  std::vector<std::string> names;
  for (const YAML::Node& item : value) {
    TASKWAL_ASSIGN(std::string name, Text("an entry of " + key, item));
    names.push_back(std::move(name));
  }
  return names;
}

Status WorkflowReader::Error(const YAML::Node& at, const std::string& what) const {
  const int line = at.Mark().line;
  const std::string place = line >= 0 ? ":" + std::to_string(line + 1) : "";
  return Status::InvalidArgument(file_ + place + ": " + what);
}

// The only function that meets yaml-cpp's exceptions.
Result<Workflow> ParseOwnFormat(std::string_view text, const std::string& file) {
  try {
    if (HasSecondYamlDocument(text)) {
      return Status::InvalidArgument(file + ": it holds more than one document");
    }
    return WorkflowReader(file).Read(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& e) {
    const std::string place = e.mark.is_null() ? "" : ":" + std::to_string(e.mark.line + 1);
    return Status::InvalidArgument(file + place + ": " + e.msg);
  }
}

std::string StemOf(const std::string& file) {
  const std::size_t slash = file.rfind('/');
  const std::string name = slash == std::string::npos ? file : file.substr(slash + 1);
  return name.substr(0, name.rfind('.'));
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
  TASKWAL_ASSIGN(Workflow workflow, IsWfFormat(text) ? ParseWfFormat(text, file)
                                                     : ParseOwnFormat(text, file));
  if (workflow.name.empty()) workflow.name = StemOf(file);
  workflow.content_hash = Hex16(Checksum(std::as_bytes(std::span(text))));
  const Status valid = BuildGraph(workflow).status();
  if (!valid.ok()) return Status(valid.code(), file + ": " + valid.message());
  return workflow;
}

}  // namespace taskwal::dag
