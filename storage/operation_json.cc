// Operations as JSON, for people, `dump` and `query`.
#include <algorithm>

#include "base/json_text.h"
#include "storage/operation.h"

namespace taskwal::storage {
namespace {

// One JSON object, member by member.
class ObjectText {
 public:
  void Text(std::string_view key, std::string_view value) { Raw(key, JsonQuote(value)); }
  void Number(std::string_view key, std::int32_t value) { Raw(key, std::to_string(value)); }
  void Moment(std::string_view key, const std::optional<Time>& value) {
    if (value) Text(key, FormatTime(*value));
  }
  void Json(std::string_view key, const std::optional<std::string>& value) {
    if (!value) return;
    // Inside strings JSON has no raw line breaks, so these are white space: the line stays one
    // line.
    std::string line = *value;
    std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    Raw(key, line);
  }
  void Raw(std::string_view key, std::string_view json) {
    text_ += text_.size() == 1 ? "\"" : ",\"";
    text_ += key;
    text_ += "\":";
    text_ += json;
  }
  std::string Finish() {
    text_ += '}';
    return std::move(text_);
  }

 private:
  std::string text_ = "{";
};

void Describe(const SaveTaskOp& op, ObjectText* out) {
  out->Text("op", "save_task");
  out->Raw("task", TaskToJson(op.task));
}

void Describe(const UpdateStatusOp& op, ObjectText* out) {
  out->Text("op", "update_status");
  out->Text("task_id", op.task_id);
  out->Text("status", TaskStatusName(op.status));
  out->Text("error", op.error);
}

void Describe(const DeleteTaskOp& op, ObjectText* out) {
  out->Text("op", "delete_task");
  out->Text("task_id", op.task_id);
}

void Describe(const DeleteDagOp& op, ObjectText* out) {
  out->Text("op", "delete_dag");
  out->Text("dag_id", op.dag_id);
}

void Describe(const LogActivityOp& op, ObjectText* out) {
  out->Text("op", "log_activity");
  out->Raw("activity", ActivityToJson(op.activity));
}

void Describe(const SaveTasksOp& op, ObjectText* out) {
  out->Text("op", "save_tasks");
  std::string list = "[";
  for (const Task& task : op.tasks) {
    if (list.size() > 1) list += ',';
    list += TaskToJson(task);
  }
  list += ']';
  out->Raw("tasks", list);
}

}  // namespace

std::string TaskToJson(const Task& task) {
  ObjectText out;
  out.Text("id", task.id);
  out.Text("dag_id", task.dag_id);
  out.Text("node_id", task.node_id);
  out.Text("current_node_id", task.current_node_id);
  out.Text("sub_dag_path", task.sub_dag_path);
  out.Text("processing_state", task.processing_state);
  out.Json("payload", task.payload);
  out.Text("status", TaskStatusName(task.status));
  out.Moment("created_at", task.created_at);
  out.Moment("updated_at", task.updated_at);
  out.Moment("started_at", task.started_at);
  out.Moment("completed_at", task.completed_at);
  out.Text("error", task.error);
  out.Number("retry_count", task.retry_count);
  out.Number("max_retries", task.max_retries);
  out.Number("priority", task.priority);
  return out.Finish();
}

std::string ActivityToJson(const Activity& activity) {
  ObjectText out;
  out.Text("id", activity.id);
  out.Text("task_id", activity.task_id);
  out.Text("dag_id", activity.dag_id);
  out.Text("node_id", activity.node_id);
  out.Text("action", activity.action);
  out.Text("message", activity.message);
  out.Json("data", activity.data);
  out.Text("level", LevelName(activity.level));
  out.Moment("created_at", activity.created_at);
  out.Number("priority", activity.priority);
  return out.Finish();
}

std::string OperationToJson(const OperationBody& body) {
  ObjectText out;
  std::visit([&out](const auto& op) { Describe(op, &out); }, body);
  return out.Finish();
}

}  // namespace taskwal::storage
