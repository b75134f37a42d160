#include "dag/journal.h"

#include <utility>

#include "base/status_macros.h"

namespace taskwal::dag {
namespace {

// Each step is taken on purpose, and a run that retries or goes on reopens what has ended.
WriteOptions AsReset(WriteOptions writes) {
  writes.reset = true;
  return writes;
}

// Tasks of several partitions are applied in no common order: there each call waits for itself.
WriteOptions LeadingOf(WriteOptions writes) {
  if (writes.wait == WaitFor::kAcknowledged) writes.wait = WaitFor::kAppended;
  return writes;
}

// What resume looks for is there whatever level is kept, and whatever is shed.
WriteOptions WritesOf(const Activity& activity, WriteOptions writes) {
  writes.keep = IsNeededToResume(activity.action);
  return writes;
}

}  // namespace

Journal::Journal(TaskStorage& storage, WriteOptions writes)
    : storage_(storage), writes_(AsReset(std::move(writes))), leading_(LeadingOf(writes_)) {}

Status Journal::SaveTasks(std::span<const Task> tasks) {
  for (const Task& task : tasks) {
    Count();
    const bool is_last = &task == &tasks.back();
    TASKWAL_TRY(storage_.SaveTask(task, is_last ? writes_ : leading_).status());
  }
  return {};
}

Status Journal::LogDag(const Activity& activity) {
  return Log(activity, WritesOf(activity, writes_));
}

Status Journal::NoteDag(const Activity& activity) { return UnlessShed(LogDag(activity)); }

Status Journal::Step(const Activity& activity, TaskStatus status, std::string_view error) {
  TASKWAL_TRY(Note(activity));
  Count();
  return storage_.UpdateTaskStatus(activity.task_id, status, error, writes_).status();
}

Status Journal::Step(const Activity& activity, const Task& task) {
  TASKWAL_TRY(Note(activity));
  Count();
  return storage_.SaveTask(task, writes_).status();
}

Status Journal::Complete(std::string_view task_id) {
  Count();
  return storage_.UpdateTaskStatus(task_id, TaskStatus::kCompleted, {}, writes_).status();
}

Status Journal::Note(const Activity& activity) {
  return UnlessShed(Log(activity, WritesOf(activity, leading_)));
}

// Activities may be shed where the operator has chosen so (and counted there): that stops no run.
// One that was given up is none of these, and its status must not be saved without it.
Status Journal::UnlessShed(Status logged) const {
  const bool is_shed = logged.code() == StatusCode::kOverloaded && !leading_.stop.stop_requested();
  return is_shed ? Status::Ok() : logged;
}

Status Journal::LogForNode(const Activity& activity) { return Log(activity, writes_); }

std::uint64_t Journal::calls() {
  MutexLock lock(mutex_);
  return calls_;
}

Status Journal::Log(const Activity& activity, const WriteOptions& options) {
  Count();
  return storage_.LogActivity(activity, options).status();
}

void Journal::Count() {
  MutexLock lock(mutex_);
  ++calls_;
}

}  // namespace taskwal::dag
