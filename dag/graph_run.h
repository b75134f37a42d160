// One run of a graph: which nodes are ready, running or waiting to be tried again, and what is
// saved of it. Made and executed by one thread; nodes run on a pool, a timer thread keeps times.
//
//   node:  pending ──▶ running ──▶ completed ──▶ its successors get ready
//             ▲           ├──────▶ failed          its descendants stay pending
//             └── delay ──┤
//                         └──────▶ cancelled
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "dag/graph.h"
#include "dag/journal.h"
#include "dag/resume.h"
#include "dag/timers.h"
#include "dag/worker_pool.h"
#include "taskwal/dag.h"

namespace taskwal::dag {

class GraphRun {
 public:
  // `graph` and `storage` outlive it. options.dag_id is set. `earlier`: what is known already of a
  // run that is resumed; where nothing is, the storage is asked.
  GraphRun(TaskStorage& storage, const Graph::Impl& graph, Plan plan, const RunOptions& options,
           std::optional<EarlierRun> earlier = {});

  // Once. See TaskManager::Run.
  Result<RunReport> Execute();

 private:
  enum class NodeState : std::uint8_t { kPending, kCompleted, kFailed, kCancelled };
  enum class Outcome : std::uint8_t { kCompleted, kFailed, kRetry, kCancelled, kUnsaved };
  struct Node {
    NodeState state = NodeState::kPending;
    std::uint32_t waits_for = 0;
    std::int32_t attempts = 0;
  };
  struct Attempt {
    Status status;
    bool timed_out = false;
    std::string data;  // JSON, or empty
    std::chrono::steady_clock::duration took{0};
  };

  Status Prepare();
  Status SaveRows();
  Task RowOf(std::uint32_t node) const;
  TaskRef RefOf(std::uint32_t node) const;

  // Steps of one node, on a worker.
  void RunNode(std::uint32_t node);
  Outcome RunAttempt(std::uint32_t node, std::int32_t number);
  Attempt Invoke(std::uint32_t node, std::int32_t number);
  Outcome Judge(std::uint32_t node, std::int32_t number, const Attempt& attempt) const;
  Status SaveOutcome(std::uint32_t node, std::int32_t number, const Attempt& attempt,
                     Outcome outcome);
  void Settle(std::uint32_t node, Outcome outcome);
  std::vector<std::uint32_t> Release(std::uint32_t node) REQUIRES(mutex_);
  void Retry(std::uint32_t node);
  void ReportProgress(std::size_t done);

  void Submit(std::uint32_t node);
  void SubmitReady();
  void WaitUntilDone();
  void StopRunning();
  void Fail(const Status& status);
  [[nodiscard]] bool IsGivenUp(const Status& status) const;
  Result<RunReport> Finish();
  RunReport MakeReport();
  std::vector<std::string> NeverRan() REQUIRES(mutex_);

  TaskStorage& storage_;
  const Graph::Impl& graph_;
  const Plan plan_;
  const RunOptions options_;
  std::optional<EarlierRun> earlier_;  // until Prepare has taken it
  std::vector<std::string> task_ids_;  // by node; not changed after construction

  Journal journal_;
  std::stop_source stop_;  // of every running node

  Mutex mutex_;
  CondVar changed_;
  std::vector<Node> nodes_ GUARDED_BY(mutex_);
  std::size_t waiting_ GUARDED_BY(mutex_) = 0;  // queued, or in a retry's delay
  std::size_t running_ GUARDED_BY(mutex_) = 0;
  std::size_t completed_ GUARDED_BY(mutex_) = 0;
  std::size_t failed_ GUARDED_BY(mutex_) = 0;
  std::size_t skipped_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;    // nothing starts any more
  Status error_ GUARDED_BY(mutex_);             // the first of the storage

  // Last, so that their threads end before what they use. The pool's jobs set timers and the timers
  // submit jobs; after Stop each ignores the other.
  std::unique_ptr<Timers> timers_;
  std::unique_ptr<WorkerPool> pool_;
};

// As TaskManager::Run, for a caller that has looked at what is resumed before: LoadEarlierRun's
// answer of options.dag_id.
Result<RunReport> ExecuteRun(TaskStorage& storage, const Graph& graph, const RunOptions& options,
                             std::optional<EarlierRun> earlier = {});

}  // namespace taskwal::dag
