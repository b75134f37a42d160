#include "dag/resume.h"

#include "base/json_text.h"
#include "base/status_macros.h"
#include "dag/activity_log.h"

namespace taskwal::dag {
namespace {

constexpr std::uint32_t kPageRows = 1000;
constexpr std::string_view kHashKey = "content_hash";

Paging FlushedPages(std::uint32_t limit) {
  Paging paging;
  paging.limit = limit;
  paging.consistency = Consistency::kFlushed;
  return paging;
}

// Empty for data that is not what RunPayload makes.
std::string HashIn(const std::optional<std::string>& data) {
  if (!data) return {};
  JsonCursor cursor(*data);
  for (bool more = cursor.EnterObject(); more; more = cursor.NextMember()) {
    if (cursor.key() == kHashKey) return cursor.ReadString().value_or("");
    if (!cursor.ReadRaw()) return {};
  }
  return {};
}

Result<std::optional<Activity>> FirstActivity(TaskStorage& storage, std::string_view dag_id,
                                              Action action) {
  ActivityQuery query;
  query.dag_id = dag_id;
  query.action = ActionName(action);
  query.paging = FlushedPages(1);
  TASKWAL_ASSIGN(const ActivityPage page, storage.QueryActivities(query));
  return page.activities.empty() ? std::nullopt : std::optional(page.activities.front());
}

// A task that ended well and whose row still says running. The row may have been set to running
// since, by an operator who wants it run again: that came behind the activity.
Result<bool> HasCompleted(TaskStorage& storage, const Task& task) {
  if (task.status != TaskStatus::kRunning) return false;
  ActivityQuery query;
  query.task_id = task.id;
  query.action = ActionName(Action::kTaskCompleted);
  query.paging = FlushedPages(1);
  query.paging.newest_first = true;
  TASKWAL_ASSIGN(const ActivityPage page, storage.QueryActivities(query));
  return !page.activities.empty() && page.activities.front().created_at >= task.updated_at;
}

}  // namespace

std::string RunPayload(std::string_view content_hash, std::string_view file) {
  return "{\"" + std::string(kHashKey) + "\":" + JsonQuote(content_hash) +
         ",\"file\":" + JsonQuote(file) + "}";
}

Result<std::optional<std::string>> FindLastRun(TaskStorage& storage,
                                               std::string_view content_hash) {
  ActivityQuery query;
  query.action = ActionName(Action::kDagStarted);
  query.paging = FlushedPages(kPageRows);
  query.paging.newest_first = true;
  do {
    TASKWAL_ASSIGN(ActivityPage page, storage.QueryActivities(query));
    for (Activity& activity : page.activities) {
      if (HashIn(activity.data) == content_hash) return std::optional(std::move(activity.dag_id));
    }
    query.paging.after = std::move(page.next_page);
  } while (!query.paging.after.empty());
  return std::optional<std::string>();
}

Result<bool> IsKnownRun(TaskStorage& storage, std::string_view dag_id) {
  ActivityQuery started;
  started.dag_id = dag_id;
  started.action = ActionName(Action::kDagStarted);
  started.paging.limit = 1;
  TASKWAL_ASSIGN(const ActivityPage activities, storage.QueryActivities(started));
  if (!activities.activities.empty()) return true;
  TaskQuery rows;
  rows.dag_id = dag_id;
  rows.paging.limit = 1;
  TASKWAL_ASSIGN(const TaskPage tasks, storage.QueryTasks(rows));
  return !tasks.tasks.empty();
}

Result<EarlierRun> LoadEarlierRun(TaskStorage& storage, std::string_view dag_id) {
  EarlierRun run;
  TASKWAL_ASSIGN(const auto started, FirstActivity(storage, dag_id, Action::kDagStarted));
  TASKWAL_ASSIGN(const auto completed, FirstActivity(storage, dag_id, Action::kDagCompleted));
  run.is_started = started.has_value();
  run.is_finished = completed.has_value();
  if (started) run.content_hash = HashIn(started->data);
  TaskQuery query;
  query.dag_id = dag_id;
  query.paging = FlushedPages(kPageRows);
  do {
    TASKWAL_ASSIGN(TaskPage page, storage.QueryTasks(query));
    run.rows += page.tasks.size();
    for (Task& task : page.tasks) {
      TASKWAL_ASSIGN(const bool to_complete, HasCompleted(storage, task));
      if (to_complete) run.to_complete.push_back(task.id);
      if (to_complete || task.status == TaskStatus::kCompleted) {
        run.completed.insert(std::move(task.node_id));
      }
    }
    query.paging.after = std::move(page.next_page);
  } while (!query.paging.after.empty());
  return run;
}

}  // namespace taskwal::dag
