// What all backends' queries share: paging by (created_at, id), and which statuses a clean-up may
// touch.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task.h"
#include "taskwal/task_storage.h"

namespace taskwal::storage {

inline constexpr std::uint32_t kPageLimitMax = 10000;

// Where a page starts: behind this row (in the page's direction); absent for the first page.
using PageStart = std::optional<std::pair<Time, std::string>>;

// kInvalidArgument for a limit outside 1 to 10,000 or a token that MakePageToken never made.
Result<PageStart> ParsePaging(const Paging& paging);

// The terminal ones of `statuses`; all three when it is empty.
std::vector<TaskStatus> TerminalOf(std::span<const TaskStatus> statuses);

}  // namespace taskwal::storage
