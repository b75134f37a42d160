#include "dag/activity_log.h"

#include <algorithm>
#include <array>

#include "dag/text.h"

namespace taskwal::dag {
namespace {

struct ActionTraits {
  std::string_view name;
  Level level;
};

constexpr std::array<ActionTraits, 11> kActions{{
    {"dag_started", Level::kInfo},
    {"dag_resumed", Level::kInfo},
    {"dag_completed", Level::kInfo},
    {"dag_failed", Level::kError},
    {"dag_cancelled", Level::kWarn},
    {"task_started", Level::kInfo},
    {"task_completed", Level::kInfo},
    {"task_failed", Level::kError},
    {"task_retried", Level::kWarn},
    {"task_timed_out", Level::kWarn},
    {"task_cancelled", Level::kWarn},
}};
static_assert(kActions.size() == static_cast<std::size_t>(Action::kTaskCancelled) + 1);

const ActionTraits& TraitsOf(Action action) { return kActions[static_cast<std::size_t>(action)]; }

// The history of a run is the last thing to be shed.
constexpr std::int32_t kPriority = 5;

}  // namespace

std::string_view ActionName(Action action) { return TraitsOf(action).name; }
Level LevelOf(Action action) { return TraitsOf(action).level; }

bool IsNeededToResume(std::string_view action) {
  constexpr std::array kNeeded{Action::kDagStarted, Action::kDagCompleted, Action::kTaskCompleted};
  return std::any_of(kNeeded.begin(), kNeeded.end(),
                     [&](Action needed) { return ActionName(needed) == action; });
}

Activity DagActivity(Action action, std::string_view dag_id, std::string_view message,
                     std::string data) {
  Activity activity;
  activity.dag_id = dag_id;
  activity.action = ActionName(action);
  activity.level = LevelOf(action);
  activity.message = CutAtCharacter(CleanText(message), kMessageBytesMax);
  if (!data.empty()) activity.data = std::move(data);
  activity.priority = kPriority;
  return activity;
}

Activity TaskActivity(Action action, const TaskRef& task, std::string_view message,
                      std::string data) {
  Activity activity = DagActivity(action, task.dag_id, message, std::move(data));
  activity.task_id = task.task_id;
  activity.node_id = task.node_id;
  return activity;
}

}  // namespace taskwal::dag
