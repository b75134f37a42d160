#include "tests/golden/golden_text.h"

#include <chrono>
#include <cstdio>

#include "base/status_macros.h"
#include "storage/operation.h"
#include "wal/log_directory.h"
#include "wal/tail_reader.h"

namespace taskwal {

Time GoldenTime(std::int64_t microseconds) {
  return Time(std::chrono::microseconds(1795240800000000 + microseconds));
}

std::string Hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(b));
    text += digits;
  }
  return text;
}

std::string LineOf(const wal::RecordView& record) {
  char head[120];
  std::snprintf(head, sizeof head, "%llu type %u target %u key %016llx stamp %llu ",
                static_cast<unsigned long long>(record.lsn), unsigned{record.header.type},
                unsigned{record.header.target}, static_cast<unsigned long long>(record.header.key),
                static_cast<unsigned long long>(record.header.stamp));
  const auto type = static_cast<storage::OperationType>(record.header.type);
  const auto body = storage::Decode(type, record.body);
  return head + (body.ok() ? storage::OperationToJson(*body) : Hex(record.body)) + "\n";
}

Result<std::string> RecordsIn(FileSystem& fs, const std::string& directory,
                              const wal::LogState& state, wal::Lsn last) {
  wal::TailReader reader(fs, {directory, {state.wal_id}, state.first_lsn, state.lost}, 1);
  std::string all;
  wal::Frame frame;
  while (true) {
    TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(last, &frame));
    if (event.kind == wal::TailEvent::Kind::kEnd) return all;
    if (event.kind == wal::TailEvent::Kind::kLoss) {
      all += std::to_string(event.loss.from) + "-" + std::to_string(event.loss.to) + " " +
             event.detail + "\n";
      continue;
    }
    wal::FrameRecords records(frame.header, frame.raw);
    for (wal::RecordView record; records.Next(&record);) all += LineOf(record);
  }
}

}  // namespace taskwal
