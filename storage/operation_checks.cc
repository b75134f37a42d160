// What every call is checked for before it is acknowledged, alike for every database. On the append
// path: nothing is allocated while all is well.
#include <algorithm>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "storage/operation.h"

namespace taskwal::storage {
namespace {

// Years 1 to 9999: what every supported database's time type, and RFC 3339, can hold.
constexpr Time kTimeMin = std::chrono::sys_days(std::chrono::year(1) / 1 / 1);
constexpr Time kTimeEnd = std::chrono::sys_days(std::chrono::year(10000) / 1 / 1);

Status Bad(std::string_view field, std::string_view what) {
  std::string message(field);
  message += ' ';
  message += what;
  return Status::InvalidArgument(std::move(message));
}

Status CheckBytes(std::string_view field, std::string_view value, std::size_t bytes_max) {
  if (value.size() <= bytes_max) [[likely]] return Status::Ok();
  return Bad(field, "is " + std::to_string(value.size()) + " bytes, the limit is " +
                        std::to_string(bytes_max));
}

Status CheckText(std::string_view field, std::string_view value, std::size_t bytes_max) {
  if (value.empty()) return Status::Ok();
  TASKWAL_TRY(CheckBytes(field, value, bytes_max));
  if (IsCleanText(value)) [[likely]] return Status::Ok();
  return Bad(field, "is not UTF-8 text without NUL");
}

bool IsTooDeep(std::string_view json) {
  // PostgreSQL gives up at some 13,000, as its stack is then full; RFC 8259 leaves the limit to
  // each implementation.
  if (json.size() < 2 * kJsonDepthMax) return false;
  const auto opened = std::ranges::count(json, '[') + std::ranges::count(json, '{');
  if (static_cast<std::size_t>(opened) <= kJsonDepthMax) return false;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\') ++i;
    if (c == '"') in_string = !in_string;
    if (in_string) continue;
    if ((c == '[' || c == '{') && ++depth > kJsonDepthMax) return true;
    if (c == ']' || c == '}') --depth;
  }
  return false;
}

Status CheckJson(std::string_view field, const std::optional<std::string>& value) {
  if (!value) return Status::Ok();
  TASKWAL_TRY(CheckBytes(field, *value, kJsonBytesMax));
  if (IsJson(*value)) [[likely]] {
    if (!IsTooDeep(*value)) [[likely]] return Status::Ok();
    return Bad(field, "is nested deeper than " + std::to_string(kJsonDepthMax) + " levels");
  }
  JsonCursor cursor(*value);
  const bool is_grammatical = cursor.ReadRaw() && cursor.AtEnd();
  return Bad(field, is_grammatical ? "holds half a surrogate pair (as \\ud800 alone)"
                                   : "is not valid JSON");
}

Status CheckTime(std::string_view field, const std::optional<Time>& value) {
  if (!value || (*value >= kTimeMin && *value < kTimeEnd)) [[likely]] return Status::Ok();
  return Bad(field, "is not within the years 1 to 9999");
}

Status CheckStatus(std::string_view field, TaskStatus status) {
  if (status <= TaskStatus::kCancelled) [[likely]] return Status::Ok();
  return Bad(field, "is no known status");
}

}  // namespace

Status CheckId(std::string_view field, std::string_view id, bool required) {
  if (required && id.empty()) return Bad(field, "is required");
  return CheckText(field, id, kIdBytesMax);
}

Status CheckTask(const Task& task) {
  TASKWAL_TRY(CheckId("task.id", task.id, true));
  TASKWAL_TRY(CheckText("task.dag_id", task.dag_id, kIdBytesMax));
  TASKWAL_TRY(CheckText("task.node_id", task.node_id, kIdBytesMax));
  TASKWAL_TRY(CheckText("task.current_node_id", task.current_node_id, kIdBytesMax));
  TASKWAL_TRY(CheckText("task.sub_dag_path", task.sub_dag_path, kSubDagPathBytesMax));
  TASKWAL_TRY(CheckText("task.processing_state", task.processing_state, kIdBytesMax));
  TASKWAL_TRY(CheckStatus("task.status", task.status));
  TASKWAL_TRY(CheckJson("task.payload", task.payload));
  TASKWAL_TRY(CheckText("task.error", task.error, kMessageBytesMax));
  TASKWAL_TRY(CheckTime("task.created_at", task.created_at));
  TASKWAL_TRY(CheckTime("task.updated_at", task.updated_at));
  TASKWAL_TRY(CheckTime("task.started_at", task.started_at));
  return CheckTime("task.completed_at", task.completed_at);
}

Status CheckActivity(const Activity& activity) {
  TASKWAL_TRY(CheckId("activity.id", activity.id, false));
  TASKWAL_TRY(CheckText("activity.task_id", activity.task_id, kIdBytesMax));
  TASKWAL_TRY(CheckText("activity.dag_id", activity.dag_id, kIdBytesMax));
  TASKWAL_TRY(CheckText("activity.node_id", activity.node_id, kIdBytesMax));
  TASKWAL_TRY(CheckText("activity.action", activity.action, kIdBytesMax));
  TASKWAL_TRY(CheckText("activity.message", activity.message, kMessageBytesMax));
  TASKWAL_TRY(CheckJson("activity.data", activity.data));
  if (activity.level > Level::kFatal) return Bad("activity.level", "is no known level");
  TASKWAL_TRY(CheckTime("activity.created_at", activity.created_at));
  if (activity.priority < 1 || activity.priority > 5) {
    return Bad("activity.priority", "is not within 1 to 5");
  }
  return Status::Ok();
}

Status CheckStatusUpdate(std::string_view task_id, std::string_view error, TaskStatus status) {
  TASKWAL_TRY(CheckId("task_id", task_id, true));
  TASKWAL_TRY(CheckStatus("status", status));
  return CheckText("error", error, kMessageBytesMax);
}

}  // namespace taskwal::storage
