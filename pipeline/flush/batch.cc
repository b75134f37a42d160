#include "pipeline/flush/batch.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace taskwal::pipeline {
namespace {

using storage::Origin;
using storage::StatusPatch;
using storage::TaskChange;
using storage::TimeChange;

enum class Before : std::uint8_t { kNothing, kPut, kPatch, kDelete, kReplace };
enum class Verb : std::uint8_t { kSave, kUpdate, kDelete };

// The table in the header.
constexpr std::array<std::array<Before, 3>, 5> kAfter = {{
    {Before::kPut, Before::kPatch, Before::kDelete},
    {Before::kPut, Before::kPut, Before::kDelete},
    {Before::kPut, Before::kPatch, Before::kDelete},
    {Before::kReplace, Before::kDelete, Before::kDelete},
    {Before::kReplace, Before::kReplace, Before::kDelete},
}};

// One operation on one task; borrows from the operations, which stay where they are meanwhile.
struct Step {
  std::string_view id;
  std::size_t order = 0;
  Verb verb = Verb::kSave;
  Origin origin;
  Time time{};
  Task* task = nullptr;                    // kSave
  storage::UpdateStatusOp* update = nullptr;  // kUpdate
  bool open_only = false;
};

StatusPatch PatchOf(storage::UpdateStatusOp& update) {
  StatusPatch patch;
  patch.status = update.status;
  patch.error = std::move(update.error);
  patch.updated_at = update.time;
  const TimeChange set{TimeChange::Kind::kSet, update.time};
  const TimeChange clear{TimeChange::Kind::kClear, Time{}};
  if (update.status == TaskStatus::kRunning) {
    patch.started_at = set;
    patch.completed_at = clear;
  } else if (IsTerminal(update.status)) {
    patch.completed_at = set;
  } else {
    patch.started_at = clear;
    patch.completed_at = clear;
  }
  return patch;
}

void Change(std::optional<Time>* field, const TimeChange& change) {
  if (change.kind == TimeChange::Kind::kSet) *field = change.value;
  if (change.kind == TimeChange::Kind::kClear) field->reset();
}

void EditTask(Task* task, StatusPatch patch) {
  task->status = patch.status;
  task->error = std::move(patch.error);
  task->updated_at = patch.updated_at;
  Change(&task->started_at, patch.started_at);
  Change(&task->completed_at, patch.completed_at);
}

void MergePatch(StatusPatch* patch, StatusPatch later) {
  if (later.started_at.kind == TimeChange::Kind::kKeep) later.started_at = patch->started_at;
  if (later.completed_at.kind == TimeChange::Kind::kKeep) later.completed_at = patch->completed_at;
  *patch = std::move(later);
}

// A created_at that is given wins; else what the batch wrote before stays, as it would in the row;
// else that of the call, which the row may know better.
void PutTask(TaskChange* change, Before before, Step& step, const Uuid& wal_id) {
  Task& task = *step.task;
  const bool given = task.created_at.has_value();
  const bool written = before == Before::kPut || before == Before::kReplace;
  if (!given) task.created_at = written ? change->task.created_at : std::optional<Time>(step.time);
  if (given || !written) {
    change->created_rank =
        storage::MakeCreatedRank(given, {step.origin.stamp, wal_id, step.origin.lsn});
  }
  if (!task.updated_at) task.updated_at = step.time;
  change->task = std::move(task);
}

TaskChange::Kind KindOf(Before state) {
  switch (state) {
    case Before::kPatch: return TaskChange::Kind::kPatch;
    case Before::kDelete: return TaskChange::Kind::kDelete;
    case Before::kReplace: return TaskChange::Kind::kReplace;
    default: return TaskChange::Kind::kPut;
  }
}

void Fold(TaskChange* change, Before* state, Step& step, const Uuid& wal_id) {
  const Before before = *state;
  *state = kAfter[static_cast<std::size_t>(before)][static_cast<std::size_t>(step.verb)];
  change->origin = step.origin;
  if (*state == Before::kDelete) {
    change->task = {};
    change->patch = {};
    return;
  }
  if (step.verb == Verb::kSave) {
    PutTask(change, before, step, wal_id);
    change->patch = {};
  } else if (*state == Before::kPatch) {
    MergePatch(&change->patch, PatchOf(*step.update));
  } else {
    EditTask(&change->task, PatchOf(*step.update));
  }
}

// Operations taken apart; rows are moved once they stand in order, for a row is hundreds of bytes.
struct Parts {
  std::vector<Step> steps;
  std::vector<std::pair<Activity*, storage::Lsn>> activities;
};

Parts TakeApart(std::vector<storage::Operation>& operations, ComposedRows* rows) {
  Parts parts;
  std::vector<Step>& steps = parts.steps;
  for (storage::Operation& operation : operations) {
    const Origin origin{operation.lsn, operation.stamp};
    const auto add_save = [&](Task& task, Time time, bool protects) {
      steps.push_back({task.id, steps.size(), Verb::kSave, origin, time, &task, nullptr,
                       protects && !IsTerminal(task.status)});
    };
    if (auto* save = std::get_if<storage::SaveTaskOp>(&operation.body)) {
      add_save(save->task, save->time, save->protects_terminal);
    } else if (auto* batch = std::get_if<storage::SaveTasksOp>(&operation.body)) {
      for (Task& task : batch->tasks) add_save(task, batch->time, batch->protects_terminal);
    } else if (auto* update = std::get_if<storage::UpdateStatusOp>(&operation.body)) {
      steps.push_back({update->task_id, steps.size(), Verb::kUpdate, origin, update->time, nullptr,
                       update, update->protects_terminal && !IsTerminal(update->status)});
    } else if (auto* gone = std::get_if<storage::DeleteTaskOp>(&operation.body)) {
      steps.push_back({gone->task_id, steps.size(), Verb::kDelete, origin, gone->time, nullptr,
                       nullptr, false});
    } else if (auto* dag = std::get_if<storage::DeleteDagOp>(&operation.body)) {
      rows->dag_deletes.push_back({std::move(dag->dag_id), origin});
    } else if (auto* logged = std::get_if<storage::LogActivityOp>(&operation.body)) {
      parts.activities.emplace_back(&logged->activity, operation.lsn);
    }
  }
  return parts;
}

void ComposeTasks(std::vector<Step>& steps, const Uuid& wal_id,
                  std::vector<TaskChange>* changes) {
  std::uint32_t last_turn = 0;
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
    return a.id != b.id ? a.id < b.id : a.order < b.order;
  });
  // One change at most for each: none is moved again, for a row is hundreds of bytes.
  changes->reserve(steps.size());
  for (std::size_t i = 0; i < steps.size();) {
    const TaskChange* const before = changes->empty() ? nullptr : &changes->back();
    TaskChange& change = changes->emplace_back();
    change.id = std::string(steps[i].id);
    change.open_only = steps[i].open_only;
    const bool follows = before != nullptr && before->id == change.id;
    change.turn = follows ? before->turn + 1 : 0;
    last_turn = std::max(last_turn, change.turn);
    Before state = Before::kNothing;
    // Folding moves the task out, and with it the bytes of the step's own id: compare with the
    // copy.
    std::size_t end = i;
    while (end < steps.size() && steps[end].id == change.id &&
           steps[end].open_only == change.open_only) {
      ++end;
    }
    for (; i < end; ++i) Fold(&change, &state, steps[i], wal_id);
    change.kind = KindOf(state);
  }
  if (last_turn == 0) return;
  std::stable_sort(changes->begin(), changes->end(), [](const auto& a, const auto& b) {
    return a.turn < b.turn;
  });
}

// The first of an id wins: what came later is the duplicate.
void SortActivities(std::vector<std::pair<Activity*, storage::Lsn>>& parts, ComposedRows* rows) {
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
    const int order = a.first->id.compare(b.first->id);
    return order != 0 ? order < 0 : a.second < b.second;
  });
  rows->activities.reserve(parts.size());
  for (auto& [activity, lsn] : parts) {
    if (!rows->activities.empty() && rows->activities.back().activity.id == activity->id) {
      ++rows->duplicates;
    } else {
      rows->activities.emplace_back(std::move(*activity), lsn);
    }
  }
}

}  // namespace

ComposedRows Compose(std::vector<storage::Operation> operations, const Uuid& wal_id) {
  ComposedRows rows;
  Parts parts = TakeApart(operations, &rows);
  ComposeTasks(parts.steps, wal_id, &rows.tasks);
  SortActivities(parts.activities, &rows);
  return rows;
}

}  // namespace taskwal::pipeline
