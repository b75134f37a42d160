#include "dag/graph.h"

#include <algorithm>
#include <optional>

#include "base/json_text.h"
#include "base/status_macros.h"

namespace taskwal {
namespace dag {
namespace {

// A cycle longer than this is named by its two ends.
constexpr std::size_t kCycleNodesNamed = 20;

Result<std::uint32_t> PlaceOf(const Graph::Impl& graph, const std::string& id,
                              const std::string& role, const std::string& other) {
  const auto found = graph.index.find(id);
  if (found != graph.index.end()) return found->second;
  return Status::InvalidArgument("node " + JsonQuote(id) + ", " + role + " " + JsonQuote(other) +
                                 ", is not in the graph");
}

// Takes away, again and again, the nodes that wait for nothing. What is left waits for a cycle.
std::vector<bool> NodesBehindCycles(const Plan& plan) {
  std::vector<std::uint32_t> waits_for = plan.waits_for;
  std::vector<bool> left(waits_for.size(), true);
  std::vector<std::uint32_t> ready;
  for (std::uint32_t i = 0; i < waits_for.size(); ++i) {
    if (waits_for[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    const std::uint32_t node = ready.back();
    ready.pop_back();
    left[node] = false;
    for (const std::uint32_t next : plan.successors[node]) {
      if (--waits_for[next] == 0) ready.push_back(next);
    }
  }
  return left;
}

// In the order of the edges; empty when there is none. Every node left has a predecessor that is
// left too, so walking backwards must come round.
std::vector<std::uint32_t> FindCycle(const Plan& plan) {
  const std::vector<bool> left = NodesBehindCycles(plan);
  std::vector<std::uint32_t> before(left.size());
  std::optional<std::uint32_t> start;
  for (std::uint32_t node = 0; node < left.size(); ++node) {
    if (!left[node]) continue;
    if (!start) start = node;
    for (const std::uint32_t next : plan.successors[node]) before[next] = node;
  }
  if (!start) return {};

  std::vector<bool> seen(left.size(), false);
  std::uint32_t at = *start;
  while (!seen[at]) {
    seen[at] = true;
    at = before[at];
  }
  std::vector<std::uint32_t> cycle;
  const std::uint32_t entry = at;
  do {
    cycle.push_back(at);
    at = before[at];
  } while (at != entry);
  std::reverse(cycle.begin(), cycle.end());
  std::rotate(cycle.begin(), std::min_element(cycle.begin(), cycle.end()), cycle.end());
  return cycle;
}

// As it is, or quoted where it would break the line.
std::string Shown(const std::string& id) {
  std::string quoted = JsonQuote(id);
  return quoted.size() == id.size() + 2 ? id : quoted;
}

std::string NameCycle(const Graph::Impl& graph, const std::vector<std::uint32_t>& cycle) {
  const bool is_long = cycle.size() > kCycleNodesNamed;
  std::string text;
  for (std::size_t i = 0; i < cycle.size(); ++i) {
    if (is_long && i == kCycleNodesNamed / 2) {
      text += "(" + std::to_string(cycle.size() - kCycleNodesNamed) + " more) -> ";
      i = cycle.size() - kCycleNodesNamed / 2;
    }
    text += Shown(graph.nodes[cycle[i]].id) + " -> ";
  }
  return text + Shown(graph.nodes[cycle.front()].id);
}

}  // namespace

Result<Plan> MakePlan(const Graph::Impl& graph) {
  Plan plan;
  plan.successors.resize(graph.nodes.size());
  plan.waits_for.resize(graph.nodes.size());
  for (const auto& [before, after] : graph.edges) {
    TASKWAL_ASSIGN(const std::uint32_t from, PlaceOf(graph, before, "which comes before", after));
    TASKWAL_ASSIGN(const std::uint32_t to, PlaceOf(graph, after, "which comes after", before));
    plan.successors[from].push_back(to);
  }
  for (auto& successors : plan.successors) {
    std::sort(successors.begin(), successors.end());
    successors.erase(std::unique(successors.begin(), successors.end()), successors.end());
    for (const std::uint32_t next : successors) ++plan.waits_for[next];
  }
  const std::vector<std::uint32_t> cycle = FindCycle(plan);
  if (cycle.empty()) return plan;
  return Status::InvalidArgument("the nodes form a cycle: " + NameCycle(graph, cycle) +
                                 " (take out one of these dependencies)");
}

namespace {

Status CheckNode(const std::string& id, const NodeFunction& function, const NodeOptions& options) {
  const auto refuse = [&id](const std::string& why) {
    return Status::InvalidArgument("node " + JsonQuote(id.substr(0, kIdBytesMax)) + ": " + why);
  };
  if (id.empty()) return Status::InvalidArgument("a node's id is empty");
  if (!IsCleanText(id)) return Status::InvalidArgument("a node's id is no UTF-8 text without NUL");
  if (id.size() > kIdBytesMax) {
    return refuse("the id has " + std::to_string(id.size()) + " bytes, more than " +
                  std::to_string(kIdBytesMax));
  }
  if (!function) return refuse("it has no function");
  if (!options.payload.empty() && !IsJson(options.payload)) return refuse("the payload is no JSON");
  if (options.retries < 0) return refuse("retries is negative");
  if (options.retry_delay.count() < 0) return refuse("retry_delay is negative");
  if (options.timeout.count() < 0) return refuse("timeout is negative");
  return {};
}

}  // namespace
}  // namespace dag

Graph::Graph(std::string name) : impl_(std::make_unique<Impl>()) { impl_->name = std::move(name); }
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

Status Graph::AddNode(std::string id, NodeFunction function, NodeOptions options) {
  TASKWAL_TRY(dag::CheckNode(id, function, options));
  const auto place = static_cast<std::uint32_t>(impl_->nodes.size());
  if (!impl_->index.emplace(id, place).second) {
    return Status::InvalidArgument("node " + JsonQuote(id) + " is there already");
  }
  impl_->nodes.push_back({std::move(id), std::move(function), std::move(options)});
  return {};
}

Status Graph::AddEdge(std::string_view before, std::string_view after) {
  if (before.empty() || after.empty()) {
    return Status::InvalidArgument("an edge names an empty node id");
  }
  impl_->edges.emplace_back(before, after);
  return {};
}

Status Graph::Validate() const { return dag::MakePlan(*impl_).status(); }
std::size_t Graph::size() const { return impl_->nodes.size(); }
const std::string& Graph::name() const { return impl_->name; }

}  // namespace taskwal
