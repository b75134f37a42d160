// Which run `taskwal run` executes: a new one, or one that was begun before.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "dag/resume.h"
#include "dag/workflow.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::cli {

struct RunWish {
  std::string file;
  std::string wal_dir;
  std::string run_id;  // empty: any
  bool resume = false;
};

struct ChosenRun {
  std::string dag_id{};
  dag::EarlierRun earlier{};  // what is resumed; of a new run nothing
  bool is_stopped = false;    // told to stop before it was known: nothing else is set
};

// What a run that is resumed has completed is for the database to say: it is waited for, as long as
// a call may take (Options::database_timeout). Where a new run is given its id, the log must not
// hold a run of that id, nor the database, if it answers within a few seconds; where it does not,
// that is said on stderr. A new run without an id asks nobody. A stop ends all waiting.
// kRejected: the run is there already, or is of another file.
Result<ChosenRun> ChooseRun(const std::shared_ptr<TaskStorage>& storage, const RunWish& wish,
                            const dag::Workflow& workflow, const std::stop_token& stop);

}  // namespace taskwal::cli
