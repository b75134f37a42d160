// The bodies of records, as docs/FORMAT.md "Bodies" describes them byte for byte.
#include <utility>

#include "base/byte_codec.h"
#include "base/check.h"
#include "base/checksum.h"
#include "storage/operation.h"

namespace taskwal::storage {
namespace {

constexpr std::uint8_t kBodyVersion = 1;

// Which optional fields follow; a set bit this version does not know makes the body unreadable.
enum TaskField : std::uint8_t {
  kHasPayload = 1,
  kHasCreatedAt = 2,
  kHasUpdatedAt = 4,
  kHasStartedAt = 8,
  kHasCompletedAt = 16,
  kProtectsTerminal = 32,
  kAllTaskFields = 63,
};
// Beside the number of a status.
constexpr std::uint8_t kStatusProtects = 0x80;
enum ActivityField : std::uint8_t { kHasData = 1 };

// Tells the key of a DAG from that of a task of the same name. Part of the format.
constexpr std::uint64_t kDagKeySalt = 0x6461672d64656c65ull;

constexpr std::size_t kTimeBytes = sizeof(std::int64_t);
constexpr std::size_t kHeadBytes = 1 + kTimeBytes;  // body version, time

constexpr std::size_t TextBytes(std::string_view text) {
  return sizeof(std::uint32_t) + text.size();
}

void PutTime(ByteWriter& out, Time time) {
  out.Put(static_cast<std::int64_t>(time.time_since_epoch().count()));
}

Time GetTime(ByteReader& in) { return Time(std::chrono::microseconds(in.Get<std::int64_t>())); }

std::uint8_t FieldsOf(const Task& task, bool protects_terminal) {
  return static_cast<std::uint8_t>((protects_terminal ? kProtectsTerminal : 0) |
                                   (task.payload ? kHasPayload : 0) |
                                   (task.created_at ? kHasCreatedAt : 0) |
                                   (task.updated_at ? kHasUpdatedAt : 0) |
                                   (task.started_at ? kHasStartedAt : 0) |
                                   (task.completed_at ? kHasCompletedAt : 0));
}

// The task alone, as save_task and each entry of a batch hold it. The id comes first, so that the
// keys of a batch are found without reading the rest.
std::size_t TaskBlockBytes(const Task& task) {
  std::size_t bytes = TextBytes(task.id) + 2 + 3 * sizeof(std::int32_t) + TextBytes(task.dag_id) +
                      TextBytes(task.node_id) + TextBytes(task.current_node_id) +
                      TextBytes(task.sub_dag_path) + TextBytes(task.processing_state) +
                      TextBytes(task.error);
  if (task.payload) bytes += TextBytes(*task.payload);
  for (const auto* time :
       {&task.created_at, &task.updated_at, &task.started_at, &task.completed_at}) {
    if (*time) bytes += kTimeBytes;
  }
  return bytes;
}

void PutTask(ByteWriter& out, const Task& task, bool protects_terminal) {
  out.PutText(task.id);
  out.Put(static_cast<std::uint8_t>(task.status));
  out.Put(FieldsOf(task, protects_terminal));
  out.Put(task.retry_count);
  out.Put(task.max_retries);
  out.Put(task.priority);
  out.PutText(task.dag_id);
  out.PutText(task.node_id);
  out.PutText(task.current_node_id);
  out.PutText(task.sub_dag_path);
  out.PutText(task.processing_state);
  out.PutText(task.error);
  if (task.payload) out.PutText(*task.payload);
  for (const auto* time :
       {&task.created_at, &task.updated_at, &task.started_at, &task.completed_at}) {
    if (*time) PutTime(out, **time);
  }
}

Status Malformed(OperationType type, std::string_view what) {
  std::string message = "body of a ";
  message += OperationTypeName(type);
  message += " record: ";
  message += what;
  return Status::Corruption(std::move(message));
}

bool ToStatus(std::uint8_t value, TaskStatus* status) {
  *status = static_cast<TaskStatus>(value);
  return value <= static_cast<std::uint8_t>(TaskStatus::kCancelled);
}

// False for an unknown status or field; running out of bytes shows in `in`.
bool GetTask(ByteReader& in, Task* task, bool* protects_terminal) {
  task->id = in.GetText();
  const bool known_status = ToStatus(in.Get<std::uint8_t>(), &task->status);
  const auto fields = in.Get<std::uint8_t>();
  if (!known_status || (fields & ~kAllTaskFields) != 0) return false;
  *protects_terminal = (fields & kProtectsTerminal) != 0;
  task->retry_count = in.Get<std::int32_t>();
  task->max_retries = in.Get<std::int32_t>();
  task->priority = in.Get<std::int32_t>();
  task->dag_id = in.GetText();
  task->node_id = in.GetText();
  task->current_node_id = in.GetText();
  task->sub_dag_path = in.GetText();
  task->processing_state = in.GetText();
  task->error = in.GetText();
  if (fields & kHasPayload) task->payload = in.GetText();
  if (fields & kHasCreatedAt) task->created_at = GetTime(in);
  if (fields & kHasUpdatedAt) task->updated_at = GetTime(in);
  if (fields & kHasStartedAt) task->started_at = GetTime(in);
  if (fields & kHasCompletedAt) task->completed_at = GetTime(in);
  return true;
}

// Each returns false for a value this version does not know.
bool GetBody(ByteReader& in, SaveTaskOp* op) {
  op->time = GetTime(in);
  return GetTask(in, &op->task, &op->protects_terminal);
}

bool GetBody(ByteReader& in, UpdateStatusOp* op) {
  op->time = GetTime(in);
  const auto status = in.Get<std::uint8_t>();
  op->protects_terminal = (status & kStatusProtects) != 0;
  const bool known =
      ToStatus(static_cast<std::uint8_t>(status & ~kStatusProtects), &op->status);
  op->task_id = in.GetText();
  op->error = in.GetText();
  return known;
}

bool GetBody(ByteReader& in, DeleteTaskOp* op) {
  op->time = GetTime(in);
  op->task_id = in.GetText();
  return true;
}

bool GetBody(ByteReader& in, DeleteDagOp* op) {
  op->time = GetTime(in);
  op->dag_id = in.GetText();
  return true;
}

bool GetBody(ByteReader& in, LogActivityOp* op) {
  Activity& activity = op->activity;
  activity.created_at = GetTime(in);
  const auto level = in.Get<std::uint8_t>();
  const auto priority = in.Get<std::uint8_t>();
  const auto fields = in.Get<std::uint8_t>();
  activity.level = static_cast<Level>(level);
  activity.priority = priority;
  activity.id = in.GetText();
  activity.task_id = in.GetText();
  activity.dag_id = in.GetText();
  activity.node_id = in.GetText();
  activity.action = in.GetText();
  activity.message = in.GetText();
  if (fields & kHasData) activity.data = in.GetText();
  return level <= static_cast<std::uint8_t>(Level::kFatal) && priority >= 1 && priority <= 5 &&
         (fields & ~kHasData) == 0;
}

bool GetBody(ByteReader& in, SaveTasksOp* op) {
  op->time = GetTime(in);
  const auto count = in.Get<std::uint32_t>();
  // The count is not trusted for a reservation: every task takes bytes, so the loop ends with them.
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    ByteReader block(in.GetBytes(in.Get<std::uint32_t>()));
    if (!in.ok()) return true;
    Task task;
    if (!GetTask(block, &task, &op->protects_terminal) || !block.ok() || block.left() != 0) {
      return false;
    }
    op->tasks.push_back(std::move(task));
  }
  return true;
}

template <typename Op>
Status Get(OperationType type, std::span<const std::byte> body, Op* op) {
  ByteReader in(body);
  const auto version = in.Get<std::uint8_t>();
  if (in.ok() && version != kBodyVersion) {
    return Malformed(type, "version " + std::to_string(version) + ", this program reads 1");
  }
  const bool known = GetBody(in, op);
  if (!in.ok()) return Malformed(type, "it ends early");
  if (!known) return Malformed(type, "a value that version 1 does not have");
  if (in.left() != 0) return Malformed(type, "bytes behind its end");
  return Status::Ok();
}

// Where it is returned from, for a task is hundreds of bytes.
template <typename Op>
Result<OperationBody> DecodeAs(OperationType type, std::span<const std::byte> body) {
  Result<OperationBody> decoded{OperationBody(std::in_place_type<Op>)};
  Status status = Get(type, body, std::get_if<Op>(&*decoded));
  if (!status.ok()) decoded = std::move(status);
  return decoded;
}

// Starts a body; at its end the span must have been of exactly the size asked for.
class Body {
 public:
  Body(std::span<std::byte> into, Time time) : size_(into.size()), out_(into) {
    out_.Put(kBodyVersion);
    PutTime(out_, time);
  }
  ~Body() { TASKWAL_CHECK(out_.ok() && out_.used() == size_); }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  ByteWriter& out() { return out_; }

 private:
  std::size_t size_;
  ByteWriter out_;
};

}  // namespace

std::string_view OperationTypeName(OperationType type) {
  switch (type) {
    case OperationType::kTaskUpdate: return "task_update";
    case OperationType::kStatusUpdate: return "status_update";
    case OperationType::kTaskDelete: return "task_delete";
    case OperationType::kDagDelete: return "dag_delete";
    case OperationType::kActivityLog: return "activity_log";
    case OperationType::kBatchUpdate: return "batch_update";
    case OperationType::kRetry: return "retry";
    case OperationType::kRetryBarrier: return "retry_barrier";
  }
  return "unknown";
}

std::optional<OperationType> ParseOperationType(std::string_view name) {
  for (auto value = static_cast<int>(OperationType::kTaskUpdate);
       value <= static_cast<int>(OperationType::kRetryBarrier); ++value) {
    const auto type = static_cast<OperationType>(value);
    if (OperationTypeName(type) == name) return type;
  }
  return std::nullopt;
}

OperationType Operation::type() const {
  static constexpr OperationType kTypes[] = {
      OperationType::kTaskUpdate, OperationType::kStatusUpdate, OperationType::kTaskDelete,
      OperationType::kDagDelete,  OperationType::kActivityLog,  OperationType::kBatchUpdate};
  static_assert(std::size(kTypes) == std::variant_size_v<OperationBody>);
  return kTypes[body.index()];
}

std::uint64_t KeyOf(std::string_view task_id) { return HashOf(task_id.data(), task_id.size()); }

std::uint64_t DagKeyOf(std::string_view dag_id) { return KeyOf(dag_id) ^ kDagKeySalt; }

std::size_t EncodedBytes(const Task& task) { return kHeadBytes + TaskBlockBytes(task); }

void Encode(const Task& task, Time time, std::span<std::byte> into, bool protects_terminal) {
  Body body(into, time);
  PutTask(body.out(), task, protects_terminal);
}

std::size_t EncodedStatusUpdateBytes(std::string_view task_id, std::string_view error) {
  return kHeadBytes + 1 + TextBytes(task_id) + TextBytes(error);
}

void EncodeStatusUpdate(std::string_view task_id, NewStatus status, std::string_view error,
                        Time time, std::span<std::byte> into) {
  Body body(into, time);
  body.out().Put(static_cast<std::uint8_t>(static_cast<std::uint8_t>(status.to) |
                                           (status.protects_terminal ? kStatusProtects : 0)));
  body.out().PutText(task_id);
  body.out().PutText(error);
}

std::size_t EncodedNameBytes(std::string_view name) { return kHeadBytes + TextBytes(name); }

void EncodeName(std::string_view name, Time time, std::span<std::byte> into) {
  Body body(into, time);
  body.out().PutText(name);
}

std::size_t EncodedBytes(const Activity& activity, std::string_view id) {
  return kHeadBytes + 3 + TextBytes(activity.id.empty() ? id : std::string_view(activity.id)) +
         TextBytes(activity.task_id) + TextBytes(activity.dag_id) + TextBytes(activity.node_id) +
         TextBytes(activity.action) + TextBytes(activity.message) +
         (activity.data ? TextBytes(*activity.data) : 0);
}

void Encode(const Activity& activity, std::string_view id, Time created_at,
            std::span<std::byte> into) {
  Body body(into, activity.created_at.value_or(created_at));
  body.out().Put(static_cast<std::uint8_t>(activity.level));
  body.out().Put(static_cast<std::uint8_t>(activity.priority));
  body.out().Put(static_cast<std::uint8_t>(activity.data ? kHasData : 0));
  body.out().PutText(activity.id.empty() ? id : std::string_view(activity.id));
  body.out().PutText(activity.task_id);
  body.out().PutText(activity.dag_id);
  body.out().PutText(activity.node_id);
  body.out().PutText(activity.action);
  body.out().PutText(activity.message);
  if (activity.data) body.out().PutText(*activity.data);
}

std::size_t EncodedBytes(std::span<const Task> tasks) {
  std::size_t bytes = kHeadBytes + sizeof(std::uint32_t);
  for (const Task& task : tasks) bytes += sizeof(std::uint32_t) + TaskBlockBytes(task);
  return bytes;
}

void Encode(std::span<const Task> tasks, Time time, std::span<std::byte> into,
            bool protects_terminal) {
  Body body(into, time);
  body.out().Put(static_cast<std::uint32_t>(tasks.size()));
  for (const Task& task : tasks) {
    body.out().Put(static_cast<std::uint32_t>(TaskBlockBytes(task)));
    PutTask(body.out(), task, protects_terminal);
  }
}

Result<OperationBody> Decode(OperationType type, std::span<const std::byte> body) {
  switch (type) {
    case OperationType::kTaskUpdate: return DecodeAs<SaveTaskOp>(type, body);
    case OperationType::kStatusUpdate: return DecodeAs<UpdateStatusOp>(type, body);
    case OperationType::kTaskDelete: return DecodeAs<DeleteTaskOp>(type, body);
    case OperationType::kDagDelete: return DecodeAs<DeleteDagOp>(type, body);
    case OperationType::kActivityLog: return DecodeAs<LogActivityOp>(type, body);
    case OperationType::kBatchUpdate: return DecodeAs<SaveTasksOp>(type, body);
    case OperationType::kRetry:
    case OperationType::kRetryBarrier: return Malformed(type, "it is no operation of its own");
  }
  return Status::Corruption("record of unknown type " +
                            std::to_string(static_cast<unsigned>(type)));
}

void IndexKeys(OperationType type, std::uint64_t key, std::span<const std::byte> body,
               std::vector<std::uint64_t>* keys) {
  ByteReader in(body);
  const bool readable = in.Get<std::uint8_t>() == kBodyVersion;
  in.GetBytes(kTimeBytes);
  switch (type) {
    case OperationType::kTaskUpdate:
    case OperationType::kStatusUpdate:
    case OperationType::kTaskDelete:
      keys->push_back(key);
      return;
    case OperationType::kDagDelete: {
      const std::string_view dag_id = in.GetText();
      if (readable && in.ok()) keys->push_back(DagKeyOf(dag_id));
      return;
    }
    case OperationType::kBatchUpdate: {
      const auto count = in.Get<std::uint32_t>();
      for (std::uint32_t i = 0; i < count && readable && in.ok(); ++i) {
        ByteReader block(in.GetBytes(in.Get<std::uint32_t>()));
        const std::string_view id = block.GetText();
        if (in.ok() && block.ok()) keys->push_back(KeyOf(id));
      }
      return;
    }
    // A retried save shows to readers once it is in the database.
    case OperationType::kActivityLog:
    case OperationType::kRetry:
    case OperationType::kRetryBarrier:
      return;
  }
}

}  // namespace taskwal::storage
