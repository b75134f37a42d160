#include "dag/graph_run.h"

#include <algorithm>
#include <utility>

#include "base/json_text.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "dag/text.h"

namespace taskwal::dag {
namespace {

Status CallCaught(const NodeFunction& function, const NodeContext& context) {
  try {
    return function(context);
  } catch (...) {
    return Status::Unavailable("the node's function threw: " + ThrownText());
  }
}

std::string Milliseconds(std::chrono::steady_clock::duration duration) {
  using std::chrono::milliseconds;
  return std::to_string(std::chrono::duration_cast<milliseconds>(duration).count()) + " ms";
}

std::string ErrorText(const Status& status) {
  return std::string(CutAtCharacter(CleanText(status.message()), kMessageBytesMax));
}

std::string CountsText(const RunReport& report, std::size_t all) {
  return std::to_string(report.completed) + " of " + std::to_string(all) + " tasks completed, " +
         std::to_string(report.failed) + " failed";
}

}  // namespace

GraphRun::GraphRun(TaskStorage& storage, const Graph::Impl& graph, Plan plan,
                   const RunOptions& options, std::optional<EarlierRun> earlier)
    : storage_(storage),
      graph_(graph),
      plan_(std::move(plan)),
      options_(options),
      earlier_(std::move(earlier)),
      journal_(storage, options.writes),
      nodes_(graph.nodes.size()) {
  task_ids_.reserve(graph_.nodes.size());
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    task_ids_.push_back(TaskManager::TaskId(options_.dag_id, graph_.nodes[i].id));
    nodes_[i].waits_for = plan_.waits_for[i];
  }
}

Result<RunReport> GraphRun::Execute() {
  const Status prepared = Prepare();
  if (IsGivenUp(prepared)) {
    StopRunning();
    RunReport report = MakeReport();
    report.calls = journal_.calls();
    return report;
  }
  TASKWAL_TRY(prepared);
  const auto threads = std::min<std::size_t>(options_.workers, graph_.nodes.size());
  TASKWAL_ASSIGN(timers_, Timers::Start());
  TASKWAL_ASSIGN(pool_, WorkerPool::Start(static_cast<std::uint32_t>(threads)));
  {
    const std::stop_callback on_stop(options_.stop, [this] { StopRunning(); });
    SubmitReady();
    WaitUntilDone();
  }
  pool_->Stop();
  timers_->Stop();
  return Finish();
}

Status GraphRun::Prepare() {
  const bool is_known = earlier_.has_value();
  EarlierRun earlier = std::exchange(earlier_, std::nullopt).value_or(EarlierRun{});
  if (options_.resume && !is_known) {
    TASKWAL_ASSIGN(earlier, LoadEarlierRun(storage_, options_.dag_id));
  }
  const bool is_new = !earlier.is_started;
  const Activity begins = DagActivity(is_new ? Action::kDagStarted : Action::kDagResumed,
                                      options_.dag_id, graph_.name, options_.run_payload);
  TASKWAL_TRY(is_new ? journal_.LogDag(begins) : journal_.NoteDag(begins));
  for (const std::string& id : earlier.to_complete) TASKWAL_TRY(journal_.Complete(id));
  {
    MutexLock lock(mutex_);
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
      if (!earlier.completed.contains(graph_.nodes[i].id)) continue;
      nodes_[i].state = NodeState::kCompleted;
      ++completed_;
      for (const std::uint32_t next : plan_.successors[i]) --nodes_[next].waits_for;
    }
    skipped_ = completed_;
  }
  return SaveRows();
}

Status GraphRun::SaveRows() {
  std::vector<Task> rows;
  {
    MutexLock lock(mutex_);
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].state == NodeState::kPending) rows.push_back(RowOf(i));
    }
  }
  return journal_.SaveTasks(rows);
}

Task GraphRun::RowOf(std::uint32_t node) const {
  const NodeOptions& options = graph_.nodes[node].options;
  Task task;
  task.id = task_ids_[node];
  task.dag_id = options_.dag_id;
  task.node_id = graph_.nodes[node].id;
  task.payload = options.payload.empty()
                     ? "{\"kind\":" + JsonQuote(CleanText(options.kind)) + "}"
                     : options.payload;
  task.max_retries = options.retries;
  task.priority = options.priority;
  return task;
}

TaskRef GraphRun::RefOf(std::uint32_t node) const {
  return {options_.dag_id, graph_.nodes[node].id, task_ids_[node]};
}

void GraphRun::RunNode(std::uint32_t node) {
  std::int32_t number = 0;
  {
    MutexLock lock(mutex_);
    --waiting_;
    if (stopping_) {
      changed_.NotifyAll();
      return;
    }
    ++running_;
    number = ++nodes_[node].attempts;
  }
  Outcome outcome = Outcome::kUnsaved;
  try {
    outcome = RunAttempt(node, number);
  } catch (...) {
    Fail(Status::Unavailable("running node " + JsonQuote(graph_.nodes[node].id) +
                             " threw: " + ThrownText()));
  }
  Settle(node, outcome);
}

GraphRun::Outcome GraphRun::RunAttempt(std::uint32_t node, std::int32_t number) {
  const std::int32_t attempts_max = graph_.nodes[node].options.retries + 1;
  const std::string message =
      "attempt " + std::to_string(number) + " of " + std::to_string(attempts_max);
  const Status started = journal_.Step(TaskActivity(Action::kTaskStarted, RefOf(node), message),
                                       TaskStatus::kRunning);
  if (!started.ok()) {
    Fail(started);
    return Outcome::kUnsaved;
  }
  const Attempt attempt = Invoke(node, number);
  const Outcome outcome = Judge(node, number, attempt);
  const Status saved = SaveOutcome(node, number, attempt, outcome);
  if (saved.ok()) return outcome;
  Fail(saved);
  return Outcome::kUnsaved;
}

GraphRun::Attempt GraphRun::Invoke(std::uint32_t node, std::int32_t number) {
  const Graph::Impl::Node& described = graph_.nodes[node];
  const auto begin = std::chrono::steady_clock::now();
  Attempt attempt;
  std::stop_source stop;
  const std::stop_callback link(stop_.get_token(), [&stop] { stop.request_stop(); });

  NodeContext context;
  context.dag_id = options_.dag_id;
  context.node_id = described.id;
  context.attempt = number;
  context.stop = stop.get_token();
  context.log = [this, node](std::string_view action, std::string_view message, Level level,
                             std::string_view data_json) {
    Activity activity = TaskActivity(Action::kTaskStarted, RefOf(node), message,
                                     std::string(data_json));
    activity.action = action;
    activity.level = level;
    activity.priority = Activity{}.priority;
    return journal_.LogForNode(activity);
  };
  context.set_result = [&attempt](std::string data_json) {
    if (!IsJson(data_json)) return Status::InvalidArgument("the result of a node is no JSON");
    attempt.data = std::move(data_json);
    return Status::Ok();
  };

  if (described.options.timeout.count() == 0) {
    attempt.status = CallCaught(described.function, context);
  } else {
    const Timers::Id timer = timers_->At(begin + described.options.timeout, [&attempt, &stop] {
      attempt.timed_out = true;
      stop.request_stop();
    });
    const Status status = CallCaught(described.function, context);
    timers_->Cancel(timer);  // after it nobody else touches the attempt
    attempt.status = status;
  }
  attempt.took = std::chrono::steady_clock::now() - begin;
  return attempt;
}

GraphRun::Outcome GraphRun::Judge(std::uint32_t node, std::int32_t number,
                                  const Attempt& attempt) const {
  if (attempt.status.ok()) return Outcome::kCompleted;
  if (!attempt.timed_out && stop_.stop_requested()) return Outcome::kCancelled;
  return number <= graph_.nodes[node].options.retries ? Outcome::kRetry : Outcome::kFailed;
}

Status GraphRun::SaveOutcome(std::uint32_t node, std::int32_t number, const Attempt& attempt,
                             Outcome outcome) {
  const TaskRef ref = RefOf(node);
  const std::string took = "after " + Milliseconds(attempt.took);
  if (outcome == Outcome::kCompleted) {
    return journal_.Step(TaskActivity(Action::kTaskCompleted, ref, took, attempt.data),
                         TaskStatus::kCompleted);
  }
  std::string error = ErrorText(attempt.status);
  if (outcome == Outcome::kCancelled) {
    return journal_.Step(TaskActivity(Action::kTaskCancelled, ref, error, attempt.data),
                         TaskStatus::kCancelled, error);
  }
  if (attempt.timed_out) {
    const auto timeout = graph_.nodes[node].options.timeout;
    error = "timed out after " + Milliseconds(timeout) + ": " + error;
  }
  if (outcome == Outcome::kFailed) {
    const Action action = attempt.timed_out ? Action::kTaskTimedOut : Action::kTaskFailed;
    return journal_.Step(TaskActivity(action, ref, error, attempt.data), TaskStatus::kFailed,
                         error);
  }
  if (attempt.timed_out) {
    TASKWAL_TRY(journal_.Note(TaskActivity(Action::kTaskTimedOut, ref, error, attempt.data)));
  }
  Task row = RowOf(node);
  row.retry_count = number;
  row.error = error;
  return journal_.Step(TaskActivity(Action::kTaskRetried, ref, error, attempt.data), row);
}

void GraphRun::Settle(std::uint32_t node, Outcome outcome) {
  std::vector<std::uint32_t> ready;
  std::size_t done = 0;
  bool again = false;
  {
    MutexLock lock(mutex_);
    switch (outcome) {
      case Outcome::kCompleted:
        ++completed_;
        nodes_[node].state = NodeState::kCompleted;
        ready = Release(node);
        break;
      case Outcome::kFailed:
        ++failed_;
        nodes_[node].state = NodeState::kFailed;
        break;
      case Outcome::kCancelled:
        nodes_[node].state = NodeState::kCancelled;
        break;
      case Outcome::kRetry:
        again = !stopping_;
        break;
      case Outcome::kUnsaved:
        break;
    }
    waiting_ += ready.size() + (again ? 1 : 0);
    done = completed_ + failed_;
  }
  for (const std::uint32_t next : ready) Submit(next);
  if (again) Retry(node);
  if (outcome == Outcome::kCompleted || outcome == Outcome::kFailed) ReportProgress(done);
  MutexLock lock(mutex_);
  --running_;
  changed_.NotifyAll();
}

std::vector<std::uint32_t> GraphRun::Release(std::uint32_t node) {
  std::vector<std::uint32_t> ready;
  for (const std::uint32_t next : plan_.successors[node]) {
    if (--nodes_[next].waits_for == 0 && nodes_[next].state == NodeState::kPending) {
      ready.push_back(next);
    }
  }
  return ready;
}

void GraphRun::Retry(std::uint32_t node) {
  const auto delay = graph_.nodes[node].options.retry_delay;
  if (delay.count() == 0) return Submit(node);
  timers_->At(std::chrono::steady_clock::now() + delay, [this, node] { Submit(node); });
}

void GraphRun::ReportProgress(std::size_t done) {
  if (!options_.on_progress) return;
  try {
    options_.on_progress(done, graph_.nodes.size());
  } catch (...) {
    Logger().error("event=on_progress_threw what=\"{}\"", ThrownText());
  }
}

void GraphRun::Submit(std::uint32_t node) {
  pool_->Submit(graph_.nodes[node].options.priority, [this, node] { RunNode(node); });
}

void GraphRun::SubmitReady() {
  std::vector<std::uint32_t> ready;
  {
    MutexLock lock(mutex_);
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].state == NodeState::kPending && nodes_[i].waits_for == 0) ready.push_back(i);
    }
    waiting_ = ready.size();
  }
  for (const std::uint32_t node : ready) Submit(node);
}

void GraphRun::WaitUntilDone() {
  MutexLock lock(mutex_);
  while (running_ > 0 || (waiting_ > 0 && !stopping_)) changed_.Wait(mutex_);
}

void GraphRun::StopRunning() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  // Without the lock: this calls the nodes' own stop callbacks.
  stop_.request_stop();
}

void GraphRun::Fail(const Status& status) {
  if (!IsGivenUp(status)) {
    MutexLock lock(mutex_);
    if (error_.ok()) error_ = status;
  }
  StopRunning();
}

// What could not be saved in the time that was left is for a resumed run to do again: no error.
bool GraphRun::IsGivenUp(const Status& status) const {
  const bool is_unsaved =
      status.code() == StatusCode::kOverloaded || status.code() == StatusCode::kInDoubt;
  return is_unsaved && options_.writes.stop.stop_requested();
}

Result<RunReport> GraphRun::Finish() {
  RunReport report = MakeReport();
  {
    MutexLock lock(mutex_);
    if (!error_.ok()) return error_;
  }
  const std::size_t all = graph_.nodes.size();
  Action action = report.cancelled ? Action::kDagCancelled : Action::kDagFailed;
  if (report.completed == all) action = Action::kDagCompleted;
  const Status logged =
      journal_.NoteDag(DagActivity(action, report.dag_id, CountsText(report, all)));
  if (!IsGivenUp(logged)) TASKWAL_TRY(logged);
  report.calls = journal_.calls();
  return report;
}

RunReport GraphRun::MakeReport() {
  MutexLock lock(mutex_);
  RunReport report;
  report.dag_id = options_.dag_id;
  report.completed = completed_;
  report.failed = failed_;
  report.skipped = skipped_;
  report.never_ran = NeverRan();
  const std::size_t settled = completed_ + failed_ + report.never_ran.size();
  report.cancelled = stopping_ && error_.ok() && settled < nodes_.size();
  return report;
}

std::vector<std::string> GraphRun::NeverRan() {
  std::vector<bool> reached(nodes_.size(), false);
  std::vector<std::uint32_t> open;
  for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].state == NodeState::kFailed) open.push_back(i);
  }
  while (!open.empty()) {
    const std::uint32_t node = open.back();
    open.pop_back();
    for (const std::uint32_t next : plan_.successors[node]) {
      if (reached[next]) continue;
      reached[next] = true;
      open.push_back(next);
    }
  }
  std::vector<std::string> names;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (reached[i] && nodes_[i].state == NodeState::kPending) names.push_back(graph_.nodes[i].id);
  }
  return names;
}

}  // namespace taskwal::dag
