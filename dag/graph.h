// The inside of Graph, and the plan that a run follows.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "taskwal/dag.h"

namespace taskwal {

struct Graph::Impl {
  struct Node {
    std::string id;
    NodeFunction function;
    NodeOptions options;
  };
  std::string name;
  std::vector<Node> nodes;
  std::unordered_map<std::string, std::uint32_t> index;     // id -> place in nodes
  std::vector<std::pair<std::string, std::string>> edges;   // (before, after); nodes may come later
};

namespace dag {

// Edges by place in Impl::nodes, each once.
struct Plan {
  std::vector<std::vector<std::uint32_t>> successors;
  std::vector<std::uint32_t> waits_for;  // how many nodes come before
};

// kInvalidArgument names an edge's unknown node, or the cycle.
Result<Plan> MakePlan(const Graph::Impl& graph);

}  // namespace dag
}  // namespace taskwal
