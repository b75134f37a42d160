// Runs a small DAG of three nodes, one of which needs a second attempt, and prints its history from
// the database.
#include <atomic>
#include <cstdio>
#include <string>

#include "taskwal/dag.h"
#include "taskwal/open.h"

namespace {

using taskwal::NodeContext;
using taskwal::Status;

int Fail(const Status& status) {
  std::fprintf(stderr, "dag_run: %s\n", status.ToString().c_str());
  return 1;
}

Status BuildGraph(taskwal::Graph* graph) {
  const Status statuses[] = {
      graph->AddNode("fetch",
                     [](const NodeContext& context) {
                       if (context.attempt == 1) return Status::Unavailable("connection refused");
                       return context.set_result(R"({"rows":3})");
                     },
                     {.kind = "function", .retries = 2}),
      graph->AddNode("transform",
                     [](const NodeContext& context) {
                       return context.log("transformed", "3 rows", taskwal::Level::kInfo, "");
                     }),
      graph->AddNode("report", [](const NodeContext&) { return Status::Ok(); }),
      graph->AddEdge("fetch", "transform"),
      graph->AddEdge("transform", "report"),
  };
  for (const Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return graph->Validate();
}

}  // namespace

int main() {
  taskwal::Options options;
  options.wal_dir = "dag_run.wal";
  options.durability = taskwal::Durability::kProcess;
  auto storage = taskwal::OpenTaskStorage("sqlite://dag_run.db", options);
  if (!storage.ok()) return Fail(storage.status());

  taskwal::Graph graph("example");
  if (const Status built = BuildGraph(&graph); !built.ok()) return Fail(built);
  const auto report = taskwal::TaskManager(**storage).Run(graph, {.workers = 2});
  if (!report.ok()) return Fail(report.status());
  std::printf("%s: %zu completed, %zu failed, %llu calls\n", report->dag_id.c_str(),
              report->completed, report->failed, static_cast<unsigned long long>(report->calls));

  taskwal::Paging paging;
  paging.consistency = taskwal::Consistency::kFlushed;
  const auto history = (*storage)->ActivitiesByDag(report->dag_id, paging);
  if (!history.ok()) return Fail(history.status());
  for (const taskwal::Activity& activity : history->activities) {
    std::printf("  %-15s %-10s %s\n", activity.action.c_str(), activity.node_id.c_str(),
                activity.message.c_str());
  }
  const Status closed = (*storage)->Close();
  if (!closed.ok()) return Fail(closed);
  return report->completed == graph.size() ? 0 : 1;
}
