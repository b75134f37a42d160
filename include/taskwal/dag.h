// A DAG of tasks and the manager that runs it over any TaskStorage: every transition is saved,
// every step logged, and a run interrupted at any point is resumed without running a completed task
// again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal {

// What a node's function is told while it runs. Used by that one thread.
struct NodeContext {
  std::string_view dag_id;
  std::string_view node_id;
  std::int32_t attempt = 1;   // from 1
  std::stop_token stop;       // requested on timeout, cancel and shutdown
  // Logs an activity of this node through the storage; empty data is none.
  std::function<Status(std::string_view action, std::string_view message, Level level,
                       std::string_view data_json)> log;
  // JSON text that becomes the data of the activity which ends this attempt. kInvalidArgument: it
  // is no JSON.
  std::function<Status(std::string data_json)> set_result;
};

// OK completes the node. Anything else fails the attempt; what it throws counts as a failure too.
using NodeFunction = std::function<Status(const NodeContext&)>;

struct NodeOptions {
  std::string kind{};                        // stored in the task's payload: "shell", "sleep", …
  std::string payload{};                     // JSON text of the task; empty: {"kind":…}
  std::int32_t retries = 0;                  // attempts after the first
  std::chrono::milliseconds retry_delay{0};
  std::chrono::milliseconds timeout{0};      // of one attempt; 0: none
  std::int32_t priority = 0;                 // higher runs first among ready nodes
};

// Built by one thread, then run; not changed while it runs.
class Graph {
 public:
  explicit Graph(std::string name = {});
  ~Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;

  // kInvalidArgument: an id that is empty, over-long, no clean UTF-8 or known; no function; a
  // payload that is no JSON; a negative count or time.
  Status AddNode(std::string id, NodeFunction function, NodeOptions options = {});
  // `after` starts once `before` is completed. Nodes may be added later; Validate checks.
  Status AddEdge(std::string_view before, std::string_view after);
  // kInvalidArgument names an unknown node, or the cycle: "a -> b -> c -> a".
  Status Validate() const;

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] const std::string& name() const;

  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct RunOptions {
  std::string dag_id{};          // MakeDagId(name of the graph) when empty
  std::uint32_t workers = 4;     // nodes running at once, 1 to 1,024
  bool resume = false;           // completed nodes of dag_id are kept, the others start anew
  std::string run_payload{};     // JSON text kept in the run's own activity (hash and file name)
  std::stop_token stop{};        // cancels: running nodes are told, the rest stays pending
  // Of every save and log. Once their `stop` is requested none waits any more: the run is
  // cancelled, and a step that could not be saved is as if the process had ended before it.
  WriteOptions writes{};
  // After each finished node, on a worker thread: done (completed or failed), of all.
  std::function<void(std::size_t done, std::size_t all)> on_progress{};
};

struct RunReport {
  std::string dag_id;
  std::size_t completed = 0;     // in this run or before it
  std::size_t failed = 0;
  std::size_t skipped = 0;       // already completed before this run
  std::vector<std::string> never_ran;  // descendants of failed nodes: still pending
  bool cancelled = false;
  std::uint64_t calls = 0;       // saves, status updates and logs made
};

// Runs graphs; several runs at once are fine. The storage must outlive it.
class TaskManager {
 public:
  explicit TaskManager(TaskStorage& storage);
  ~TaskManager();

  // Blocks until the graph is done, or cancelled and its running nodes have ended. Errors: those of
  // Graph::Validate, and of the storage when a transition could not be saved.
  Result<RunReport> Run(const Graph& graph, const RunOptions& options = {});

  // A new id from the name, the time and chance: "montage-20261121T060000Z-1f2e3d4c".
  static std::string MakeDagId(std::string_view name);
  // dag_id/node_id; its end replaced by a hash when longer than an id may be.
  static std::string TaskId(std::string_view dag_id, std::string_view node_id);

 private:
  TaskStorage& storage_;
};

}  // namespace taskwal
