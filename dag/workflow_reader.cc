#include "dag/workflow_reader.h"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <set>
#include <string_view>
#include <unordered_set>

#include "base/json_text.h"
#include "base/status_macros.h"

namespace taskwal::dag {
namespace {

using Kind = WorkflowTask::Kind;
using List = WorkflowNode::List;
using Map = WorkflowNode::Map;

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

std::chrono::milliseconds Milliseconds(double seconds) {
  // Rounded up: a short timeout must not become none.
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

class WorkflowReader {
 public:
  explicit WorkflowReader(const std::string& file) : file_(file) {}

  Result<Workflow> Read(const WorkflowNode& root);

 private:
  Status ReadTask(const WorkflowNode& node, WorkflowTask* task);
  Status ReadField(const std::string& key, const WorkflowNode& value, WorkflowTask* task);
  Status CheckFields(const WorkflowNode& node, const Map& members, const WorkflowTask& task) const;
  Status CheckDependencies(const List& list, const Workflow& workflow) const;
  // A map's members, each key once, and in `known`.
  Result<Map> Members(const WorkflowNode& map, const std::string& what,
                      const std::set<std::string>& known) const;
  // Null where the key is not there.
  static const WorkflowNode* Find(const Map& members, std::string_view key);

  Result<std::string> Text(const std::string& key, const WorkflowNode& value) const;
  Result<double> Seconds(const std::string& key, const WorkflowNode& value) const;
  Result<std::int32_t> Count(const std::string& key, const WorkflowNode& value) const;
  Result<Kind> KindOf(const WorkflowNode& value) const;
  Result<std::vector<std::string>> Names(const std::string& key, const WorkflowNode& value) const;
  [[nodiscard]] Status Error(const WorkflowNode& at, const std::string& what) const {
    return WorkflowError(file_, at.line(), what);
  }

  const std::string file_;
  std::unordered_set<std::string> ids_;
};

Result<Workflow> WorkflowReader::Read(const WorkflowNode& root) {
  TASKWAL_ASSIGN(const Map members, Members(root, "the workflow", {"name", "tasks"}));
  Workflow workflow;
  if (const WorkflowNode* name = Find(members, "name")) {
    TASKWAL_ASSIGN(workflow.name, Text("name", *name));
  }
  const WorkflowNode* tasks = Find(members, "tasks");
  if (tasks == nullptr) return Error(root, "the workflow has no tasks: it needs a list of them");
  if (!tasks->IsList()) return Error(*tasks, "tasks is no list");
  const List list = tasks->Items();
  for (const auto& node : list) TASKWAL_TRY(ReadTask(*node, &workflow.tasks.emplace_back()));
  TASKWAL_TRY(CheckDependencies(list, workflow));
  return workflow;
}

Status WorkflowReader::ReadTask(const WorkflowNode& node, WorkflowTask* task) {
  TASKWAL_ASSIGN(const Map members,
                 Members(node, "a task",
                         {"id", "kind", "command", "seconds", "depends_on", "retries",
                          "retry_delay", "timeout"}));
  for (const auto& [key, value] : members) {
    TASKWAL_TRY(ReadField(key->Text().value_or(""), *value, task));
  }
  return CheckFields(node, members, *task);
}

Status WorkflowReader::ReadField(const std::string& key, const WorkflowNode& value,
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

Status WorkflowReader::CheckFields(const WorkflowNode& node, const Map& members,
                                   const WorkflowTask& task) const {
  const WorkflowNode* id = Find(members, "id");
  if (id == nullptr) return Error(node, "a task has no id");
  const std::string named = "task " + JsonQuote(task.id);
  if (task.id.empty() || task.id.size() > kIdBytesMax) {
    return Error(*id, named + ": the id has not 1 to 255 bytes");
  }
  if (Find(members, "kind") == nullptr) {
    return Error(node, named + " has no kind (shell, sleep or noop)");
  }
  const auto check = [&](const char* key, Kind kind) -> Status {
    const bool needed = task.kind == kind;
    if ((Find(members, key) != nullptr) == needed) return {};
    return Error(node, named + ", of kind " + std::string(KindName(task.kind)) +
                           (needed ? ", needs " : ", takes no ") + key);
  };
  TASKWAL_TRY(check("command", Kind::kShell));
  return check("seconds", Kind::kSleep);
}

Status WorkflowReader::CheckDependencies(const List& list, const Workflow& workflow) const {
  for (std::size_t i = 0; i < list.size(); ++i) {
    const WorkflowTask& task = workflow.tasks[i];
    for (const std::string& before : task.depends_on) {
      if (ids_.contains(before)) continue;
      const Map members = list[i]->Members();
      return Error(*Find(members, "depends_on"), "task " + JsonQuote(task.id) + " depends on " +
                                                     JsonQuote(before) +
                                                     ", which is no task of this file");
    }
  }
  return {};
}

Result<Map> WorkflowReader::Members(const WorkflowNode& map, const std::string& what,
                                    const std::set<std::string>& known) const {
  if (!map.IsMap()) return Error(map, what + " is no map of keys and values");
  Map members = map.Members();
  std::set<std::string> seen;
  for (const auto& [node, value] : members) {
    const auto key = node->Text();
    if (!key) return Error(*node, what + " has a key that is no text");
    if (!known.contains(*key)) {
      std::string all;
      for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
      return Error(*node,
                   what + " has the unknown key " + JsonQuote(*key) + " (known: " + all + ")");
    }
    if (!seen.insert(*key).second) {
      return Error(*node, what + " has the key " + JsonQuote(*key) + " twice");
    }
  }
  return members;
}

const WorkflowNode* WorkflowReader::Find(const Map& members, std::string_view key) {
  for (const auto& member : members) {
    if (member.first->Text() == key) return member.second.get();
  }
  return nullptr;
}

Result<std::string> WorkflowReader::Text(const std::string& key, const WorkflowNode& value) const {
  auto text = value.Text();
  if (text && !text->empty()) return *std::move(text);
  return Error(value, key + " is no text, or empty");
}

Result<double> WorkflowReader::Seconds(const std::string& key, const WorkflowNode& value) const {
  std::optional<double> seconds;
  if (const auto bare = value.BareText()) seconds = ParseNumber<double>(*bare);
  if (const auto text = value.Text(); text && !seconds) seconds = ParseDurationText(*text);
  if (!seconds) {
    return Error(value, key + " is no number of seconds and no duration such as 500ms, 30s or 2m");
  }
  if (*seconds >= 0 && *seconds <= kSecondsMax) return *seconds;
  return Error(value, key + " is not between 0 and 1e9 seconds");
}

Result<std::int32_t> WorkflowReader::Count(const std::string& key,
                                           const WorkflowNode& value) const {
  std::optional<std::int32_t> count;
  if (const auto bare = value.BareText()) count = ParseNumber<std::int32_t>(*bare);
  if (count && *count >= 0 && *count < INT32_MAX) return *count;
  return Error(value, key + " is no count of 0 or more");
}

Result<Kind> WorkflowReader::KindOf(const WorkflowNode& value) const {
  const std::string name = value.Text().value_or("");
  for (const Kind kind : {Kind::kNoop, Kind::kSleep, Kind::kShell}) {
    if (name == KindName(kind)) return kind;
  }
  return Error(value, "kind is not shell, sleep or noop");
}

Result<std::vector<std::string>> WorkflowReader::Names(const std::string& key,
                                                       const WorkflowNode& value) const {
  if (!value.IsList()) return Error(value, key + " is no list");
  std::vector<std::string> names;
  for (const auto& item : value.Items()) {
    TASKWAL_ASSIGN(std::string name, Text("an entry of " + key, *item));
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

Result<Workflow> ReadWorkflow(const WorkflowNode& root, const std::string& file) {
  return WorkflowReader(file).Read(root);
}

Status WorkflowError(const std::string& file, int line, const std::string& what) {
  const std::string place = line > 0 ? ":" + std::to_string(line) : "";
  return Status::InvalidArgument(file + place + ": " + what);
}

}  // namespace taskwal::dag
