// The activities that the engine itself logs, by type.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "taskwal/task.h"

namespace taskwal::dag {

enum class Action : std::uint8_t {
  kDagStarted,
  kDagResumed,
  kDagCompleted,   // every node is completed
  kDagFailed,      // it ended with nodes that are not
  kDagCancelled,
  kTaskStarted,    // one per attempt, and one of those below for its end
  kTaskCompleted,
  kTaskFailed,     // no attempt is left
  kTaskRetried,    // the attempt failed, another follows
  kTaskTimedOut,   // before kTaskRetried where another attempt follows
  kTaskCancelled,
};

// "dag_started", "task_retried", …: what queries ask for.
std::string_view ActionName(Action action);
Level LevelOf(Action action);
// Whether a run is known by it: a resumed one would do again what it does not find.
bool IsNeededToResume(std::string_view action);

struct TaskRef {
  std::string_view dag_id;
  std::string_view node_id;
  std::string_view task_id;
};

// Empty data is none. Any bytes do as message: they are cleaned and cut to the limit.
Activity DagActivity(Action action, std::string_view dag_id, std::string_view message,
                     std::string data = {});
Activity TaskActivity(Action action, const TaskRef& task, std::string_view message,
                      std::string data = {});

}  // namespace taskwal::dag
