#include "base/checksum.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/status_macros.h"
#include "base/uuid.h"
#include "dag/graph.h"
#include "dag/graph_run.h"
#include "dag/text.h"
#include "taskwal/dag.h"

namespace taskwal {
namespace {

constexpr std::uint32_t kWorkersMax = 1024;
constexpr std::size_t kNameBytesInId = 64;
constexpr std::size_t kHashDigits = 16;
constexpr std::string_view kCutMark = "\xe2\x80\xa6#";  // "…#"

bool IsPlain(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
         c == '_' || c == '-';
}

Status CheckOptions(const RunOptions& options) {
  if (options.workers == 0 || options.workers > kWorkersMax) {
    return Status::InvalidArgument("workers is " + std::to_string(options.workers) +
                                   ", not 1 to " + std::to_string(kWorkersMax));
  }
  if (options.dag_id.size() > kIdBytesMax || !IsCleanText(options.dag_id)) {
    return Status::InvalidArgument("the dag_id is longer than 255 bytes, or no UTF-8 without NUL");
  }
  if (!options.run_payload.empty() && !IsJson(options.run_payload)) {
    return Status::InvalidArgument("the run_payload is no JSON");
  }
  return {};
}

}  // namespace

TaskManager::TaskManager(TaskStorage& storage) : storage_(storage) {}
TaskManager::~TaskManager() = default;

Result<RunReport> TaskManager::Run(const Graph& graph, const RunOptions& options) {
  return dag::ExecuteRun(storage_, graph, options);
}

Result<RunReport> dag::ExecuteRun(TaskStorage& storage, const Graph& graph,
                                  const RunOptions& options, std::optional<EarlierRun> earlier) {
  TASKWAL_TRY(CheckOptions(options));
  TASKWAL_ASSIGN(Plan plan, MakePlan(graph.impl()));
  RunOptions complete = options;
  if (complete.dag_id.empty()) complete.dag_id = TaskManager::MakeDagId(graph.name());
  GraphRun run(storage, graph.impl(), std::move(plan), complete, std::move(earlier));
  return run.Execute();
}

std::string TaskManager::MakeDagId(std::string_view name) {
  std::string id;
  for (const char c : name.substr(0, kNameBytesInId)) id += IsPlain(c) ? c : '_';
  if (id.empty()) id = "dag";
  std::string time;
  for (const char c : FormatTime(Clock::Real().WallNow())) {
    if (c == '.') break;
    if (c != '-' && c != ':') time += c;
  }
  return id + "-" + time + "Z-" + Uuid::Make().ToString().substr(0, 8);
}

std::string TaskManager::TaskId(std::string_view dag_id, std::string_view node_id) {
  std::string id = std::string(dag_id) + "/" + std::string(node_id);
  if (id.size() <= kIdBytesMax) return id;
  const std::string hash = dag::Hex16(HashOf(id.data(), id.size()));
  const std::size_t room = kIdBytesMax - kCutMark.size() - kHashDigits;
  return std::string(dag::CutAtCharacter(id, room)) + std::string(kCutMark) + hash;
}

}  // namespace taskwal
