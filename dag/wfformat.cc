#include "dag/wfformat.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/json_text.h"
#include "base/status_macros.h"

namespace taskwal::dag {
namespace {

// Whatever a task of any version says. `id` is empty where only a name is given.
struct TraceTask {
  std::string id, name, program;
  std::vector<std::string> parents, children;
  std::optional<double> seconds;
};

class TraceReader {
 public:
  TraceReader(std::string_view text, std::string_view file) : cursor_(text), file_(file) {}

  Result<Workflow> Read();

 private:
  // Each reads one value; what goes wrong is left in cursor_ or problem_.
  void ReadWorkflow();
  void ReadPart(std::vector<TraceTask>* tasks);
  void ReadTasks(std::vector<TraceTask>* tasks);
  TraceTask ReadTask();
  std::string ReadProgram();
  std::optional<double> ReadSeconds();
  std::vector<std::string> ReadNames();
  std::string ReadText();

  Result<Workflow> Join();
  Status AddTask(const TraceTask& task, Workflow* workflow);
  Status AddRunTime(const TraceTask& task, Workflow* workflow);
  Status AddEdges(const TraceTask& task, Workflow* workflow);
  // The place of a task that `task` names: by id, in WfFormat 1.4 also by name.
  Result<std::size_t> Find(const std::string& named, const TraceTask& task, std::string_view role);
  [[nodiscard]] Status Error(const std::string& what) const;

  JsonCursor cursor_;
  const std::string file_;
  std::string problem_;
  std::string name_;
  bool has_tasks_ = false;
  std::vector<TraceTask> graph_;      // specification, or everything in 1.4
  std::vector<TraceTask> execution_;
  std::unordered_map<std::string, std::size_t> by_id_;
  std::unordered_map<std::string, std::size_t> by_name_;  // 1.4 only
};

Result<Workflow> TraceReader::Read() {
  for (bool more = cursor_.EnterObject(); more; more = cursor_.NextMember()) {
    if (cursor_.key() == "name") {
      name_ = ReadText();
    } else if (cursor_.key() == "workflow") {
      ReadWorkflow();
    } else {
      cursor_.ReadRaw();
    }
  }
  if (!cursor_.AtEnd()) return Error(cursor_.error());
  if (!problem_.empty()) return Error(problem_);
  if (!has_tasks_) return Error("no workflow.specification.tasks and no workflow.tasks");
  return Join();
}

void TraceReader::ReadWorkflow() {
  for (bool more = cursor_.EnterObject(); more; more = cursor_.NextMember()) {
    if (cursor_.key() == "specification") {
      has_tasks_ = true;
      ReadPart(&graph_);
    } else if (cursor_.key() == "execution") {
      ReadPart(&execution_);
    } else if (cursor_.key() == "tasks") {
      has_tasks_ = true;
      ReadTasks(&graph_);
      for (std::size_t i = 0; i < graph_.size(); ++i) by_name_.emplace(graph_[i].name, i);
    } else {
      cursor_.ReadRaw();
    }
  }
}

void TraceReader::ReadPart(std::vector<TraceTask>* tasks) {
  for (bool more = cursor_.EnterObject(); more; more = cursor_.NextMember()) {
    if (cursor_.key() == "tasks") {
      ReadTasks(tasks);
    } else {
      cursor_.ReadRaw();
    }
  }
}

void TraceReader::ReadTasks(std::vector<TraceTask>* tasks) {
  for (bool more = cursor_.EnterArray(); more; more = cursor_.NextElement()) {
    tasks->push_back(ReadTask());
  }
}

TraceTask TraceReader::ReadTask() {
  TraceTask task;
  for (bool more = cursor_.EnterObject(); more; more = cursor_.NextMember()) {
    const std::string& key = cursor_.key();
    if (key == "id") {
      task.id = ReadText();
    } else if (key == "name") {
      task.name = ReadText();
    } else if (key == "parents") {
      task.parents = ReadNames();
    } else if (key == "children") {
      task.children = ReadNames();
    } else if (key == "command") {
      task.program = ReadProgram();
    } else if (key == "runtimeInSeconds" || key == "runtime") {
      task.seconds = ReadSeconds();
    } else {
      cursor_.ReadRaw();
    }
  }
  return task;
}

std::string TraceReader::ReadProgram() {
  std::string program;
  if (cursor_.Peek() != '{') {
    cursor_.ReadRaw();
    return program;
  }
  for (bool more = cursor_.EnterObject(); more; more = cursor_.NextMember()) {
    if (cursor_.key() == "program") {
      program = ReadText();
    } else {
      cursor_.ReadRaw();
    }
  }
  return program;
}

std::optional<double> TraceReader::ReadSeconds() {
  if (cursor_.ReadNull()) return std::nullopt;
  const std::string_view text = cursor_.ReadRaw().value_or("");
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool is_number = error == std::errc{} && end == text.data() + text.size();
  if (is_number && seconds >= 0 && seconds <= kSecondsMax) return seconds;
  if (problem_.empty() && !cursor_.failed()) {
    problem_ = "a run time is " + std::string(text.substr(0, 32)) + ", not 0 to 1e9 seconds";
  }
  return std::nullopt;
}

std::vector<std::string> TraceReader::ReadNames() {
  std::vector<std::string> names;
  for (bool more = cursor_.EnterArray(); more; more = cursor_.NextElement()) {
    names.push_back(ReadText());
  }
  return names;
}

std::string TraceReader::ReadText() { return cursor_.ReadString().value_or(""); }

Result<Workflow> TraceReader::Join() {
  Workflow workflow;
  workflow.name = name_;
  workflow.is_trace = true;
  workflow.tasks.reserve(graph_.size());
  for (TraceTask& task : graph_) {
    if (task.id.empty()) task.id = task.name;
    TASKWAL_TRY(AddTask(task, &workflow));
  }
  for (const TraceTask& task : execution_) TASKWAL_TRY(AddRunTime(task, &workflow));
  for (const TraceTask& task : graph_) TASKWAL_TRY(AddEdges(task, &workflow));
  return workflow;
}

Status TraceReader::AddTask(const TraceTask& task, Workflow* workflow) {
  const std::size_t place = workflow->tasks.size();
  if (task.id.empty()) return Error("task " + std::to_string(place + 1) + " has no id");
  if (!by_id_.emplace(task.id, place).second) {
    return Error("task " + JsonQuote(task.id) + " is there twice");
  }
  WorkflowTask& added = workflow->tasks.emplace_back();
  added.id = task.id;
  added.kind = WorkflowTask::Kind::kReplay;
  added.name = task.name;
  added.program = task.program;
  added.seconds = task.seconds.value_or(0);
  return {};
}

Status TraceReader::AddRunTime(const TraceTask& task, Workflow* workflow) {
  const auto found = by_id_.find(task.id);
  if (found == by_id_.end()) {
    return Error("the executed task " + JsonQuote(task.id) + " is not in the specification");
  }
  WorkflowTask& known = workflow->tasks[found->second];
  if (!task.program.empty()) known.program = task.program;
  if (task.seconds) known.seconds = *task.seconds;
  return {};
}

Status TraceReader::AddEdges(const TraceTask& task, Workflow* workflow) {
  WorkflowTask& known = workflow->tasks[by_id_.at(task.id)];
  for (const std::string& parent : task.parents) {
    TASKWAL_ASSIGN(const std::size_t place, Find(parent, task, "parent"));
    known.depends_on.push_back(workflow->tasks[place].id);
  }
  for (const std::string& child : task.children) {
    TASKWAL_ASSIGN(const std::size_t place, Find(child, task, "child"));
    workflow->tasks[place].depends_on.push_back(task.id);
  }
  return {};
}

Result<std::size_t> TraceReader::Find(const std::string& named, const TraceTask& task,
                                      std::string_view role) {
  if (const auto found = by_id_.find(named); found != by_id_.end()) return found->second;
  if (const auto found = by_name_.find(named); found != by_name_.end()) return found->second;
  return Error("task " + JsonQuote(task.id) + " has the " + std::string(role) + " " +
               JsonQuote(named) + ", which is no task");
}

Status TraceReader::Error(const std::string& what) const {
  return Status::InvalidArgument(file_ + ": " + what);
}

}  // namespace

bool IsWfFormat(std::string_view text) {
  JsonCursor cursor(text);
  if (cursor.Peek() != '{') return false;
  for (bool more = cursor.EnterObject(); more; more = cursor.NextMember()) {
    if (cursor.key() == "workflow" || cursor.key() == "schemaVersion") return true;
    if (!cursor.ReadRaw()) return false;
  }
  return false;
}

Result<Workflow> ParseWfFormat(std::string_view text, std::string_view file) {
  return TraceReader(text, file).Read();
}

}  // namespace taskwal::dag
