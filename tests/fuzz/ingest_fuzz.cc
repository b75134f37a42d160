// Feeds lines to the ingest parser and the JSON validator. What the parser takes must survive the
// trip through its binary encoding and back to a line unchanged.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/json_text.h"
#include "storage/ingest_line.h"
#include "storage/operation.h"

namespace {

using namespace taskwal;  // NOLINT: one small program
using namespace taskwal::storage;

OperationBody ThroughBytes(const OperationBody& body) {
  std::vector<std::byte> bytes;
  OperationType type{};
  if (const auto* save = std::get_if<SaveTaskOp>(&body)) {
    type = OperationType::kTaskUpdate;
    bytes.resize(EncodedBytes(save->task));
    Encode(save->task, save->time, bytes);
  } else if (const auto* update = std::get_if<UpdateStatusOp>(&body)) {
    type = OperationType::kStatusUpdate;
    bytes.resize(EncodedStatusUpdateBytes(update->task_id, update->error));
    EncodeStatusUpdate(update->task_id, update->status, update->error, update->time, bytes);
  } else if (const auto* removal = std::get_if<DeleteTaskOp>(&body)) {
    type = OperationType::kTaskDelete;
    bytes.resize(EncodedNameBytes(removal->task_id));
    EncodeName(removal->task_id, removal->time, bytes);
  } else {
    const auto* log = std::get_if<LogActivityOp>(&body);
    TASKWAL_CHECK(log != nullptr);
    type = OperationType::kActivityLog;
    bytes.resize(EncodedBytes(log->activity, log->activity.id));
    Encode(log->activity, log->activity.id, log->activity.created_at.value_or(Time{}), bytes);
  }
  auto decoded = Decode(type, bytes);
  TASKWAL_CHECK(decoded.ok());
  return std::move(decoded).value();
}

// What an absent time became is not the parser's business.
OperationBody WithoutTimes(OperationBody body) {
  if (auto* log = std::get_if<LogActivityOp>(&body)) log->activity.created_at.reset();
  return body;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const bool is_json = IsJson(line);
  auto parsed = ParseIngestLine(line);
  if (!parsed.ok()) return 0;
  TASKWAL_CHECK(is_json);
  const OperationBody& body = parsed.value();
  const std::string text = OperationToJson(WithoutTimes(body));
  TASKWAL_CHECK(text == OperationToJson(WithoutTimes(ThroughBytes(body))));
  return 0;
}
