// What one run writes: rows, status changes and activities, in the order that makes it resumable,
// with the calls counted. Any thread may call it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "dag/activity_log.h"
#include "taskwal/task_storage.h"

namespace taskwal::dag {

// Every error is that of the storage. Where one function makes several calls, all but the last only
// get their place in the log: acknowledgements come in log order, waiting for the last is enough.
class Journal {
 public:
  Journal(TaskStorage& storage, WriteOptions writes);

  Status SaveTasks(std::span<const Task> tasks);
  // An activity of the run itself that must not be missing.
  Status LogDag(const Activity& activity);
  // One that may, where there is no room for it: what it tells has come about all the same.
  Status NoteDag(const Activity& activity);
  // The activity first and the new status last: no completed task lacks the activity that says so.
  // Crash in between: a resumed run sets the status of what the activity says is completed, and
  // takes any other step again.
  Status Step(const Activity& activity, TaskStatus status, std::string_view error = {});
  // The same where the row changes in more than its status.
  Status Step(const Activity& activity, const Task& task);
  // The second half of such a step, where only that is missing.
  Status Complete(std::string_view task_id);
  // An activity of a task that has another one for its end.
  Status Note(const Activity& activity);
  // An activity of a node's own; the result is the node's to judge.
  Status LogForNode(const Activity& activity);

  std::uint64_t calls();

 private:
  Status Log(const Activity& activity, const WriteOptions& options);
  [[nodiscard]] Status UnlessShed(Status logged) const;
  void Count();

  TaskStorage& storage_;
  const WriteOptions writes_;   // of the last call of a step
  const WriteOptions leading_;  // of those before it

  Mutex mutex_;
  std::uint64_t calls_ GUARDED_BY(mutex_) = 0;
};

}  // namespace taskwal::dag
