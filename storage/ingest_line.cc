#include "storage/ingest_line.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/json_text.h"
#include "base/status_macros.h"

namespace taskwal::storage {
namespace {

// The members an object may have, each read into its place; a bit per member tells what was seen.
enum LineMember : unsigned {
  kOp = 1,
  kTask = 2,
  kActivity = 4,
  kTaskId = 8,
  kStatus = 16,
  kError = 32,
  kReset = 64,
  kDagId = 128,
  kTasks = 256
};

struct Line {
  unsigned seen = 0;
  std::string op;
  Task task;
  Activity activity;
  std::string task_id;
  std::string status;
  std::string error;
  std::string dag_id;
  std::vector<Task> tasks;
  bool reset = false;
};

template <typename Object, typename Value>
struct Member {
  std::string_view name;
  Value Object::*place;
};

constexpr Member<Line, std::string> kLineTexts[] = {{"op", &Line::op},
                                                    {"task_id", &Line::task_id},
                                                    {"status", &Line::status},
                                                    {"error", &Line::error},
                                                    {"dag_id", &Line::dag_id}};
constexpr unsigned kLineTextBits[] = {kOp, kTaskId, kStatus, kError, kDagId};

constexpr Member<Task, std::string> kTaskTexts[] = {
    {"id", &Task::id},
    {"dag_id", &Task::dag_id},
    {"node_id", &Task::node_id},
    {"current_node_id", &Task::current_node_id},
    {"sub_dag_path", &Task::sub_dag_path},
    {"processing_state", &Task::processing_state},
    {"error", &Task::error}};
constexpr Member<Task, std::int32_t> kTaskNumbers[] = {{"retry_count", &Task::retry_count},
                                                       {"max_retries", &Task::max_retries},
                                                       {"priority", &Task::priority}};
constexpr Member<Task, std::optional<Time>> kTaskTimes[] = {{"created_at", &Task::created_at},
                                                            {"updated_at", &Task::updated_at},
                                                            {"started_at", &Task::started_at},
                                                            {"completed_at", &Task::completed_at}};
constexpr Member<Activity, std::string> kActivityTexts[] = {
    {"id", &Activity::id},         {"task_id", &Activity::task_id},
    {"dag_id", &Activity::dag_id}, {"node_id", &Activity::node_id},
    {"action", &Activity::action}, {"message", &Activity::message}};

Status Bad(std::string_view field, std::string_view what) {
  std::string message(field);
  message += ": ";
  message += what;
  return Status::InvalidArgument(std::move(message));
}

template <typename Object, typename Value, std::size_t kCount>
const Member<Object, Value>* Find(const Member<Object, Value> (&members)[kCount],
                                  std::string_view name) {
  for (const auto& member : members) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

// Field names come from the line: shown whole they could be of any length.
std::string Shown(std::string_view object, std::string_view key) {
  std::string shown(object);
  if (!shown.empty()) shown += '.';
  if (key.size() <= 64) return shown + JsonQuote(key);
  return shown + "(a name of " + std::to_string(key.size()) + " bytes)";
}

Status ReadText(JsonCursor& in, std::string_view field, std::string* into) {
  auto value = in.ReadString();
  if (!value) return Bad(field, in.error());
  *into = std::move(*value);
  return Status::Ok();
}

Status ReadFlag(JsonCursor& in, std::string_view field, bool* into) {
  const auto value = in.ReadBool();
  if (!value) return Bad(field, in.error());
  *into = *value;
  return Status::Ok();
}

Status ReadNumber(JsonCursor& in, std::string_view field, std::int32_t* into) {
  const auto value = in.ReadInteger();
  if (!value) return Bad(field, in.error());
  using Limits = std::numeric_limits<std::int32_t>;
  if (*value < Limits::min() || *value > Limits::max()) {
    return Bad(field, "does not fit in 32 bits");
  }
  *into = static_cast<std::int32_t>(*value);
  return Status::Ok();
}

// null is an absent time.
Status ReadTime(JsonCursor& in, std::string_view field, std::optional<Time>* into) {
  if (in.ReadNull()) return Status::Ok();
  const auto text = in.ReadString();
  if (!text) return Bad(field, in.error());
  *into = ParseTime(*text);
  if (!*into) return Bad(field, "is not an RFC 3339 time with a zone");
  return Status::Ok();
}

// Every value counts, null too: it is the JSON text null. Only an absent member is no JSON.
Status ReadJson(JsonCursor& in, std::string_view field, std::optional<std::string>* into) {
  const auto raw = in.ReadRaw();
  if (!raw) return Bad(field, in.error());
  *into = std::string(*raw);
  return Status::Ok();
}

template <typename Enum>
Status ReadName(JsonCursor& in, std::string_view field,
                std::optional<Enum> (*parse)(std::string_view), Enum* into) {
  const auto name = in.ReadString();
  if (!name) return Bad(field, in.error());
  const auto value = parse(*name);
  if (!value) return Bad(field, "is none of the known ones");
  *into = *value;
  return Status::Ok();
}

Status ReadTaskMember(JsonCursor& in, std::string_view name, std::string_view field, Task* task) {
  if (const auto* text = Find(kTaskTexts, name)) return ReadText(in, field, &(task->*text->place));
  if (const auto* number = Find(kTaskNumbers, name)) {
    return ReadNumber(in, field, &(task->*number->place));
  }
  if (const auto* time = Find(kTaskTimes, name)) return ReadTime(in, field, &(task->*time->place));
  if (name == "payload") return ReadJson(in, field, &task->payload);
  if (name == "status") return ReadName(in, field, &ParseTaskStatus, &task->status);
  return Bad(field, "unknown field");
}

Status ReadActivityMember(JsonCursor& in, std::string_view name, std::string_view field,
                          Activity* activity) {
  if (const auto* text = Find(kActivityTexts, name)) {
    return ReadText(in, field, &(activity->*text->place));
  }
  if (name == "data") return ReadJson(in, field, &activity->data);
  if (name == "level") return ReadName(in, field, &ParseLevel, &activity->level);
  if (name == "created_at") return ReadTime(in, field, &activity->created_at);
  if (name == "priority") return ReadNumber(in, field, &activity->priority);
  return Bad(field, "unknown field");
}

// A task or an activity: every member once, in any order.
template <typename Object, typename ReadMember>
Status ReadObject(JsonCursor& in, std::string_view object, ReadMember read_member, Object* into) {
  std::vector<std::string> seen;
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    const std::string name = in.key();
    const std::string field = Shown(object, name);
    for (const std::string& other : seen) {
      if (other == name) return Bad(field, "given twice");
    }
    TASKWAL_TRY(read_member(in, name, field, into));
    seen.push_back(name);
  }
  return in.failed() ? Bad(object, in.error()) : Status::Ok();
}

Status ReadTasks(JsonCursor& in, std::vector<Task>* tasks) {
  for (bool more = in.EnterArray(); more; more = in.NextElement()) {
    const std::string field = "tasks[" + std::to_string(tasks->size()) + "]";
    TASKWAL_TRY(ReadObject(in, field, &ReadTaskMember, &tasks->emplace_back()));
  }
  return in.failed() ? Bad("tasks", in.error()) : Status::Ok();
}

unsigned BitOf(std::string_view name) {
  if (name == "task") return kTask;
  if (name == "activity") return kActivity;
  if (name == "reset") return kReset;
  if (name == "tasks") return kTasks;
  const auto* text = Find(kLineTexts, name);
  return text == nullptr ? 0 : kLineTextBits[text - kLineTexts];
}

Status ReadLineMember(JsonCursor& in, Line* line) {
  const std::string name = in.key();
  const std::string field = Shown("", name);
  const unsigned bit = BitOf(name);
  if (bit == 0) return Bad(field, "unknown field");
  if (line->seen & bit) return Bad(field, "given twice");
  line->seen |= bit;
  if (bit == kTask) return ReadObject(in, "task", &ReadTaskMember, &line->task);
  if (bit == kActivity) return ReadObject(in, "activity", &ReadActivityMember, &line->activity);
  if (bit == kTasks) return ReadTasks(in, &line->tasks);
  if (bit == kReset) return ReadFlag(in, field, &line->reset);
  return ReadText(in, field, &(line->*Find(kLineTexts, name)->place));
}

std::string_view NameOf(unsigned bit) {
  if (bit == kTask) return "task";
  if (bit == kActivity) return "activity";
  if (bit == kReset) return "reset";
  if (bit == kTasks) return "tasks";
  for (std::size_t i = 0; i < std::size(kLineTexts); ++i) {
    if (kLineTextBits[i] == bit) return kLineTexts[i].name;
  }
  return "";
}

// All of `required`, and nothing that is neither required nor `optional`.
Status CheckMembers(const Line& line, unsigned required, unsigned optional) {
  for (unsigned bit = kTask; bit <= kTasks; bit <<= 1) {
    const std::string_view name = NameOf(bit);
    if ((required & bit) && !(line.seen & bit)) return Bad(name, "missing");
    if ((line.seen & bit) && !((required | optional) & bit)) {
      return Bad(name, "not a field of " + line.op);
    }
  }
  return Status::Ok();
}

Result<OperationBody> StatusUpdateOf(Line line) {
  TASKWAL_TRY(CheckMembers(line, kTaskId | kStatus, kError | kReset));
  const auto status = ParseTaskStatus(line.status);
  if (!status) return Bad("status", "is none of the known ones");
  TASKWAL_TRY(CheckStatusUpdate(line.task_id, line.error, *status));
  return OperationBody(UpdateStatusOp{std::move(line.task_id), *status, std::move(line.error), {},
                                      !line.reset});
}

// On more than one task.
Result<OperationBody> BatchOf(Line line) {
  if (line.op == "save_tasks") {
    TASKWAL_TRY(CheckMembers(line, kTasks, 0));
    if (line.tasks.empty()) return Bad("tasks", "none");
    for (const Task& task : line.tasks) TASKWAL_TRY(CheckTask(task));
    return OperationBody(SaveTasksOp{std::move(line.tasks), {}});
  }
  if (line.op == "delete_dag") {
    TASKWAL_TRY(CheckMembers(line, kDagId, 0));
    TASKWAL_TRY(CheckId("dag_id", line.dag_id, true));
    return OperationBody(DeleteDagOp{std::move(line.dag_id), {}});
  }
  return Bad("op",
             "none of save_task, save_tasks, update_status, delete_task, delete_dag, log_activity");
}

Result<OperationBody> OperationOf(Line line) {
  if (!(line.seen & kOp)) return Bad("op", "missing");
  if (line.op == "save_task") {
    TASKWAL_TRY(CheckMembers(line, kTask, kReset));
    TASKWAL_TRY(CheckTask(line.task));
    return OperationBody(SaveTaskOp{std::move(line.task), {}, !line.reset});
  }
  if (line.op == "update_status") return StatusUpdateOf(std::move(line));
  if (line.op == "delete_task") {
    TASKWAL_TRY(CheckMembers(line, kTaskId, 0));
    TASKWAL_TRY(CheckId("task_id", line.task_id, true));
    return OperationBody(DeleteTaskOp{std::move(line.task_id), {}});
  }
  if (line.op == "log_activity") {
    TASKWAL_TRY(CheckMembers(line, kActivity, 0));
    TASKWAL_TRY(CheckActivity(line.activity));
    return OperationBody(LogActivityOp{std::move(line.activity)});
  }
  return BatchOf(std::move(line));
}

}  // namespace

Result<OperationBody> ParseIngestLine(std::string_view line) {
  JsonCursor in(line);
  if (in.Peek() == '\0') return Status::InvalidArgument("a blank line");
  Line parts;
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    TASKWAL_TRY(ReadLineMember(in, &parts));
  }
  if (!in.AtEnd()) return Bad("line", in.failed() ? in.error() : "something follows the object");
  return OperationOf(std::move(parts));
}

}  // namespace taskwal::storage
