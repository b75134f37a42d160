#include "tests/support/workflow_generator.h"

#include "base/json_text.h"

namespace taskwal {
namespace {

constexpr const char* kFirst = "split_ID000001";
constexpr const char* kLast = "merge all";

std::string Quoted(const std::vector<std::string>& names) {
  std::string list = "[";
  for (const std::string& name : names) list += (list.size() == 1 ? "" : ", ") + JsonQuote(name);
  return list + "]";
}

struct Generated {
  std::string id;
  std::vector<std::string> parents, children;
};

// Each edge of the fan in one of three ways.
std::vector<Generated> MakeTasks(std::size_t fan_out) {
  std::vector<Generated> tasks(fan_out + 2);
  Generated& first = tasks.front();
  Generated& last = tasks.back();
  first.id = kFirst;
  last.id = kLast;
  for (std::size_t i = 0; i < fan_out; ++i) {
    Generated& task = tasks[i + 1];
    task.id = OddId(i);
    const bool as_parent = i % 3 != 0;
    const bool as_child = i % 3 != 1;
    if (as_parent) {
      task.parents.push_back(first.id);
      last.parents.push_back(task.id);
    }
    if (as_child) {
      first.children.push_back(task.id);
      task.children.push_back(last.id);
    }
  }
  return tasks;
}

std::string GraphMembers(const Generated& task) {
  return "\"name\": " + JsonQuote(task.id) + ", \"id\": " + JsonQuote(task.id) +
         ", \"parents\": " + Quoted(task.parents) + ", \"children\": " + Quoted(task.children);
}

std::string RunMembers(double seconds) {
  return "\"runtimeInSeconds\": " + std::to_string(seconds) +
         ", \"command\": {\"program\": \"blast\\u0061ll\", \"arguments\": [\"-x\", \"\\n\"]}"
         ", \"avgCPU\": 98.5, \"priority\": null";
}

std::string Joined(const std::vector<std::string>& objects) {
  std::string list;
  for (const std::string& object : objects) list += (list.empty() ? "{" : ",\n {") + object + "}";
  return list;
}

}  // namespace

std::vector<std::string> DateForms() {
  return {"20200404T002403+0000", "2023-03-29T15:45:52-10:00", "12-21-20T19:29:55Z"};
}

std::string OddId(std::size_t n) {
  const std::string number = std::to_string(n);
  switch (n % 8) {
    case 0: return "blastall_ID" + number;
    case 1: return "with space " + number;
    case 2: return "a/b/../" + number;
    case 3: return "\"quoted\\\" '" + number + "'";
    case 4: return "Aufgabe-\xc3\xa4\xe6\x97\xa5\xf0\x9f\x9a\x80-" + number;
    case 5: return "tab\tand\nline " + number;
    case 6: return "-" + number + ": *&!%";
    default: return std::string(255 - number.size(), 'x') + number;
  }
}

std::string MakeWfFormat(const WfFormatOptions& options) {
  const std::string run = RunMembers(options.runtime_seconds);
  std::vector<std::string> specified, executed, mixed;
  for (const Generated& task : MakeTasks(options.fan_out)) {
    const std::string graph = GraphMembers(task);
    specified.push_back(graph + ", \"inputFiles\": [\"f1\"], \"outputFiles\": []");
    executed.push_back("\"id\": " + JsonQuote(task.id) + ", " + run);
    mixed.push_back(graph + ", \"type\": \"compute\", \"files\": [{\"link\": \"input\"}], " + run);
  }
  const std::string about = "\"executedAt\": " + JsonQuote(options.executed_at) +
                            ", \"makespanInSeconds\": 12, \"machines\": [{\"nodeName\": \"n\"}]";
  std::string workflow;
  if (options.version == WfVersion::k15) {
    workflow = "{\"execution\": {" + about + ", \"tasks\": [" + Joined(executed) +
               "]}, \"specification\": {\"files\": [{\"id\": \"f1\", \"sizeInBytes\": 1}], "
               "\"tasks\": [" + Joined(specified) + "]}}";
  } else {
    workflow = "{" + about + ", \"tasks\": [" + Joined(mixed) + "]}";
  }
  const std::string version = options.version == WfVersion::k15 ? "1.5" : "1.4";
  return "{\"name\": \"generated\", \"schemaVersion\": \"" + version +
         "\", \"author\": {\"name\": \"n\"}, \"workflow\": " + workflow + "}\n";
}

}  // namespace taskwal
