// What the golden directories hold, as text: the form of their expected.txt.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "taskwal/task.h"
#include "wal/record.h"
#include "wal/state_file.h"

namespace taskwal {

// Microseconds behind 2026-11-21T06:00:00Z, the hour of all golden records.
Time GoldenTime(std::int64_t microseconds);

std::string Hex(std::span<const std::byte> bytes);
// LSN, envelope and body; one line.
std::string LineOf(const wal::RecordView& record);
// Every record from `state`'s first LSN up to `last`, and every loss met on the way.
Result<std::string> RecordsIn(FileSystem& fs, const std::string& directory,
                              const wal::LogState& state, wal::Lsn last);

}  // namespace taskwal
