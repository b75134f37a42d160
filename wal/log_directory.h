// Names inside a log directory, and what is there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"

namespace taskwal::wal {

std::string SegmentName(
    std::uint64_t number);  // "wal-00000001.log"; longer once eight digits are used up
std::optional<std::uint64_t> ParseSegmentName(std::string_view name);
std::string SpareName(std::uint64_t number);    // "spare-00000001"
std::optional<std::uint64_t> ParseSpareName(std::string_view name);

// Room that is kept for a disk without any.
inline constexpr char kReserveFileName[] = "RESERVE";
// Figures of the process that has the log open; the first to go for the log's own sake.
inline constexpr char kMetricsFileName[] = "METRICS";

std::string JoinPath(std::string_view directory, std::string_view name);

// Numbers of the segments in the directory, ascending. One directory listing; opens no file.
Result<std::vector<std::uint64_t>> ListSegments(FileSystem& fs, const std::string& directory);

// Of an open that failed for want of room (kUnavailable): what is lacking there, and what to do.
// Any other status as it is.
Status WithAdviceOnRoom(FileSystem& fs, const std::string& directory, Status failed);

}  // namespace taskwal::wal
